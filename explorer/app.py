"""The shell: the only file that knows every view."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import ssl
import sys
import time
import webbrowser
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import panel as pn
import param
from bokeh.application.handlers.handler import Handler
from bokeh.document import Document
from bokeh.server.util import bind_sockets
from bokeh.themes import Theme
from panel.io.application import build_applications
from panel.io.state import set_curdoc
from panel.util.parameters import edit_readonly
from panel.viewable import Viewer
from panel_material_ui import Page  # type: ignore[attr-defined]  # made at import time
from tornado.ioloop import PeriodicCallback

from explorer import ASSETS, raster
from explorer.caches import give_back, give_back_columns
from explorer.campaigns import campaign_routes
from explorer.classify import Door, classify_routes
from explorer.errors import SurveyError, VoorwerpError
from explorer.login import Login, install_socket, login_routes
from explorer.pages import InSlices, SlicedPage, remember_resources
from explorer.people import LOCAL, NOBODY, Person
from explorer.secret import secret_of
from explorer.server import Access, hosts_of, routes
from explorer.services import address, histograms, orders
from explorer.services.accounts import Accounts
from explorer.services.boundaries import Context
from explorer.services.classify import Classify, Settings
from explorer.services.compared import Pair
from explorer.services.desk import Desk
from explorer.services.explore import Plane
from explorer.services.providers import provider_of
from explorer.state import Draft, ExplorerState
from explorer.survey import counted
from explorer.vet import vet_routes
from explorer.views import map as map_view
from explorer.views.apart import ApartView
from explorer.views.boundary import BoundaryView
from explorer.views.components import Panes, link
from explorer.views.controls import ControlsView
from explorer.views.curves import CurvesView
from explorer.views.find import FindView
from explorer.views.gallery import GalleryView
from explorer.views.histograms import HistogramsView
from explorer.views.map import MapView
from explorer.views.shell import ShellView
from explorer.views.subject import SubjectView
from explorer.views.table import TableView
from explorer.views.vetting import VettingView
from explorer.views.volunteers import VolunteersView

if TYPE_CHECKING:
    from explorer.services.cluster import Scheduler  # a server without one does without what it needs
    from explorer.services.retraining import Schedule

#: What Panel's own parts are drawn with; ours take the variables of assets/voorwerp.css, which are the same colors.
THEME = {
    name: {
        "palette": {
            "primary": {"main": accent},
            "background": {"default": ground, "paper": panel},
            "text": {"primary": ink, "secondary": quiet},
            "divider": line,
        },
        "typography": {"fontFamily": 'Inter, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'},
    }
    for name, accent, ground, panel, ink, quiet, line in (
        ("dark", "#6fe3b1", "#0a0d12", "#10141b", "#dfe5ee", "#8a94a6", "#232a36"),
        ("light", "#08704f", "#ffffff", "#f6f7f9", "#1b2230", "#566072", "#dbe0e8"),
    )
}
#: The page's own frame: a low bar and three columns that fill the window; only their insides scroll.
FRAME = {
    ".MuiAppBar-root": {
        "backgroundColor": "var(--panel)",
        "backgroundImage": "none",
        "color": "var(--ink)",
        "boxShadow": "none",
        "borderBottom": "1px solid var(--line)",
    },
    ".MuiAppBar-root .MuiToolbar-root": {
        "minHeight": "52px",
        "height": "52px",
        "paddingLeft": "12px",
        "paddingRight": "8px",
    },
    ".MuiAppBar-root img": {"height": "30px"},
    ".MuiLinearProgress-root": {"display": "none"},
    ".MuiAppBar-root .title": {"fontSize": "17px", "fontWeight": 650, "letterSpacing": ".01em", "color": "var(--ink)"},
    ".main-content": {
        "position": "fixed",
        "inset": "53px 0 0 0",
        "padding": 0,
        "height": "calc(100vh - 53px)",
        "overflow": "hidden",
        "background": "var(--ground)",
    },
}
#: The side panels; the page hides and narrows them by these variables (assets/page.css).
COLUMN = {"flex": "none", "background": "var(--panel)", "height": "100%", "display": "var(--sides, flex)"}
LEFT = COLUMN | {
    "width": "var(--left)",
    "padding": "10px 14px",
    "border-right": "1px solid var(--line)",
    "overflow": "hidden auto",
}
RIGHT = COLUMN | {"width": "var(--right)", "border-left": "1px solid var(--line)", "position": "relative"}
LOWER = {
    "height": "var(--lower, clamp(220px, 36vh, 460px))",
    "flex": "none",
    "border-top": "1px solid var(--line)",
    "background": "var(--panel)",
}
#: The page's toolkit leaves plots and axes as they are where a document's own theme names them.
OWN_COLORS = Theme(json={"attrs": {"Plot": {}, "Axis": {}}})
POLL_MS = 1000
#: After so long a thread that computes lets the event loop have the interpreter; Python's own 5 ms are half a frame.
SWITCH_S = 0.001
VOTES_MS = 3000
GIVE_BACK_MS = 15_000


class Idle(param.Parameterized):
    """What the page's busy flag follows instead of Panel's global one.

    That one is watched by every page for ever, and flips with every callback of every session.
    """

    busy = param.Boolean(False)


class Session:
    """One browser tab: a state, the views on it, and what keeps them current.

    Made at once, or, without `at_once`, by `slices`.
    """

    def __init__(
        self,
        desk: Desk,
        selection: str | None = None,
        person: Person = LOCAL,
        again: Callable[[Person], Person | None] = lambda person: person,
        *,
        at_once: bool = True,
    ) -> None:
        self.desk, self.explore, self._again = desk, desk.explore, again
        self._asked, self._person = selection, person
        if at_once:
            for _ in self.slices():
                pass

    def slices(self) -> Iterator[None]:
        """Make the state and the views, a few milliseconds at a time: what is seen first comes first."""
        desk, explore, person = self.desk, self.explore, self._person
        self.state = state = ExplorerState(explore.survey.n, person=person)
        self._linked, self._drawn = "", ""
        lost = address.restore(
            state, explore, desk.remembered, desk.drafts, (pn.state.location and pn.state.location.search) or ""
        )
        self._draft = Draft()
        self.shell = ShellView(state, explore, desk.jobs)
        self.shell.hear("select", self._select_moved)
        self.shell.hear("focus", self._look_at)
        self.shell.hear("keep", self._keep)
        self._say(address.mode_trouble(state, explore))
        # before any view asks for a score that is not there
        state.param.watch(lambda *_: self._fit_to_run(), "run_id")
        state.param.watch(lambda *_: address.fit_to_run(state, explore), "map_id")
        yield
        self.map = MapView(state, explore, desk.notes, desk.judge)
        yield
        self.find = FindView(state, explore)
        self.find.box.message = lost
        self.controls = ControlsView(state, explore, desk.notes, desk.samp)
        self.controls.column.param.watch(lambda *_: self._tell_selected(), ["selected", "opened"])
        self._tell_selected()
        yield
        self.tabs = Panes(height=32, sizing_mode="stretch_width", margin=0)
        link(self.tabs, state, "pane")
        self.panes: dict[str, Any] = {"gallery": GalleryView(state, explore, desk.groups)}
        yield
        self.subject = SubjectView(state, explore, desk.notes, desk.samp, desk.vetting)
        yield
        self.boundary = BoundaryView(
            state, explore, desk.boundaries, desk.judge, desk.truths, desk.learning, self._report
        )
        yield
        self.volunteers = VolunteersView(state, explore, desk.crowd)
        yield
        campaigns = desk.campaign_view
        self._pinned: dict[str, str] = {}
        self.map.purity = lambda campaign: self._pinned.get(campaign, "")
        self.vetting = VettingView(
            state,
            explore,
            desk.judge,
            campaigns,
            drawn=lambda: self.map.drawn,
            named=lambda: self.controls.column.opened,
            made=self.map.refresh_places,
        )
        self.controls.column.param.watch(lambda *_: self.vetting.tell_selected(), "opened")
        self.controls.column.param.watch(lambda *_: self._tell_checked(), "opened")
        state.param.watch(lambda *_: self._tell_checked(), "draft")
        self._generation, self._last = explore.survey.generation, desk.notes.last
        self._graded = self._bounded = -1
        yield
        if self._asked is not None:
            self.controls.select(self._asked)
        if state.focus is None:  # the panel opens with the most anomalous, not with nothing
            with contextlib.suppress(VoorwerpError):  # scores that cannot be read: the map says how
                state.focus = self.panes["gallery"].first()
        state.param.watch(lambda *_: self._write_url(), list(address.WATCHED))
        state.param.watch(lambda *_: self._unlink(), "selection")

    async def _report(self, draft: Draft, context: Context) -> str:
        """Write a report of a boundary into the survey; where it is."""
        self.state.person.must("owner")
        # what draws figures is imported by whoever wants one
        from explorer.services.report import write_report

        return await write_report(self.desk, draft, context)

    def _say(self, text: str) -> None:
        self.shell.say(text)

    async def _select_moved(self, asked: dict[str, Any]) -> None:
        """Select who moved between two runs that were compared, and show them."""
        pair = Pair.of({name: value for name, value in asked.items() if name != "which"})
        found = await asyncio.to_thread(self.desk.changes.selected, pair, asked.get("which", ""))
        self.state.select(found, "replace")
        self.state.pane = "gallery"

    def _keep(self, name: str) -> None:
        """Keep the selection under a name, for a run of it."""
        self.controls.save(str(name))
        self._tell_selected()

    def _tell_selected(self) -> None:
        """What a new run may be of."""
        column = self.controls.column
        self.shell.bar.selected = {"k": column.selected["k"], "name": column.opened, "n": self.explore.survey.n}

    def _tell_checked(self) -> None:
        """What experts found stands beside the kept selection or the version of a boundary that they looked at."""
        column, draft = self.controls.column, self.state.draft
        column.checked = self._pinned.get(f"selection:{column.opened}", "") if column.opened else ""
        checked = self._pinned.get(f"boundary:{draft.name} v{draft.version}", "") if draft.name else ""
        if checked and self.desk.boundaries.get(draft.name, draft.version).keep != draft.keep:
            checked = ""
        self.boundary.panel.checked = checked

    def _look_at(self, row: int) -> None:
        """Bring a subject into focus."""
        if isinstance(row, int) and 0 <= row < self.explore.survey.n:
            self.state.param.update(focus=row, side="subject")

    def _fit_to_run(self) -> None:
        address.fit_to_run(self.state, self.explore)
        address.mix_as_run(self.state, self.explore)
        self._say(address.mode_trouble(self.state, self.explore))

    def _write_url(self) -> None:
        if pn.state.location is not None:
            pn.state.location.search = address.write(self.state, self.explore, self._linked, self._drawn)

    def _unlink(self) -> None:
        """No link names a selection that has changed."""
        if self._linked:
            self._linked = ""
            self._write_url()

    async def _remember(self) -> None:
        """Let the link carry the selection and the boundary at work, once they are on the disk."""
        if self.state.draft is not self._draft:
            self._draft, self._drawn = self.state.draft, ""
            if self._draft != Draft():
                with contextlib.suppress(OSError):
                    self._drawn = await asyncio.to_thread(self.desk.drafts.put, self._draft)
            self._write_url()
        selection, linked = self.state.selection, ""
        if selection.count:
            with contextlib.suppress(OSError):  # a full disk: the link goes without
                linked = await asyncio.to_thread(self.desk.remembered.put, selection)
        if linked != self._linked and selection is self.state.selection:
            self._linked = linked
            self._write_url()

    # ------------------------------------------------------------------------------------------- what is new
    def _poll_of(self, doc: Document) -> Callable[[], Coroutine[Any, Any, None]]:
        async def poll() -> None:
            with set_curdoc(doc):
                await self.poll()

        return poll

    async def poll(self) -> None:
        """Once a second: running jobs, finished runs, joined columns, the selection's place in the link."""
        person, marks = await asyncio.to_thread(lambda: (self._again(self.state.person), self.desk.pulse.look()))
        if person not in (None, self.state.person):  # none: the socket is about to be closed
            self.state.person = person
        self.shell.refresh()
        if marks.notes != self._last:  # decided in another tab, or from a script
            self._last = marks.notes
            self.subject.poll()
            self.controls.refresh()
            self.map.refresh_places()
            self.boundary.refresh()
            truth = self.state.draft.truth
            if "curves" in self.panes and truth is not None and truth.what == "tag":
                self.panes["curves"].refresh()
        if marks.graded != self._graded:  # what campaigns found stands on the map
            self._graded, before = marks.graded, self._pinned
            self._pinned = await asyncio.to_thread(self.vetting.campaigns.pinned)
            if self._pinned != before:
                self.map.refresh_places()
                self._tell_checked()
        if marks.boundaries != self._bounded:
            self._bounded = marks.boundaries
            self.boundary.poll()
        if n_added := self.explore.survey.n_added:
            self._say(f"{n_added:,} subjects were added: start `voorwerp serve` again to see them")
        if self._generation != self.explore.survey.generation:
            self._generation = self.explore.survey.generation
            self.controls.refresh()
            for view in (*self.panes.values(), self.subject, self.boundary, self.volunteers):
                view.refresh()
            self.map.refresh_places()
            self.state.param.trigger("color")
        await self._remember()

    def _makers(self) -> dict[str, Callable[[], Any]]:
        """How each pane is made."""
        state, desk = self.state, self.desk
        return {
            "histograms": lambda: HistogramsView(state, desk.explore, desk.histograms),
            "table": lambda: TableView(state, desk.explore, desk.listing),
            "apart": lambda: ApartView(state, desk.explore, self._show_histogram),
            "curves": self._curves,
        }

    def _curves(self) -> CurvesView:
        desk, boundary = self.desk, self.boundary

        def afford(hours: float, path: tuple[int, ...], is_over: bool) -> None:
            pn.state.execute(partial(boundary.afford, hours, path, settled=is_over))

        curves = CurvesView(self.state, desk.explore, desk.judge, desk.truths, desk.learning, afford)
        boundary.panel.param.watch(lambda event: curves.follow_numbers(event.new), "numbers")
        curves.follow_numbers(boundary.panel.numbers)
        return curves

    def _show_histogram(self, reference: str) -> None:
        self.state.pane = "histograms"
        self.panes["histograms"].bring(reference)

    # -------------------------------------------------------------------------------------------------- layout
    def page(self) -> SlicedPage:
        """The whole screen."""
        if pn.state.curdoc is not None:
            pn.state.curdoc.theme = OWN_COLORS
        if (doc := pn.state.curdoc) is not None:
            # Bokeh's own: Panel's tells a flag of its own before and after, which takes longer than the poll
            doc.add_periodic_callback(self._poll_of(doc), POLL_MS)  # type: ignore[arg-type]  # coroutines, too
        fill = {"sizing_mode": "stretch_both", "margin": 0}
        left = pn.Column(self.find, self.controls, styles=LEFT, margin=0)
        holder = pn.Column(**fill, styles={"min-height": "0", "flex": "1 1 0", "position": "relative"})
        upper, lower = pn.Column(self.map, **fill), pn.Column(self.tabs, holder, **fill)
        center = pn.Column(
            upper, lower, self.volunteers, self.vetting, styles={"min-width": "0", "height": "100%"}, **fill
        )

        def arrange() -> None:  # without a map what is below it has the room
            has_map = bool(self.map.shows)
            upper.styles = {"min-height": "0", "flex": "1 1 0"} if has_map else {"flex": "none", "height": "230px"}
            lower.styles = LOWER if has_map else LOWER | {"height": "auto", "flex": "1 1 0", "min-height": "0"}

        def turn_to() -> None:  # a pane is made when it is first asked for
            pane = self.state.pane
            if pane not in self.panes:
                self.panes[pane] = self._makers()[pane]()
            shown = {name: view.__panel__() for name, view in self.panes.items()}
            for name, component in shown.items():
                component.param.update(visible=name == pane, shown=name == pane)
                if component not in holder.objects:
                    holder.append(component)

        def show_side() -> None:
            self.subject.__panel__().visible = self.state.side == "subject"

        self.state.param.watch(lambda *_: show_side(), "side")
        self.state.param.watch(lambda *_: arrange(), ["map_id", "x", "y"])
        self.state.param.watch(lambda *_: turn_to(), "pane")
        arrange()
        turn_to()
        show_side()
        right = pn.Column(self.boundary.sides, self.subject, self.boundary, styles=RIGHT, margin=0)
        page = SlicedPage(
            title="Voorwerp",
            header=[self.shell],
            main=[pn.Row(left, center, right, styles={"height": "calc(100vh - 53px)", "overflow": "hidden"}, **fill)],
            main_width="100%",
            dark_theme=self.state.theme == "dark",
            theme_toggle=False,
            theme_config=THEME,
            sx=FRAME,
            busy_indicator=None,
            logo=ASSETS / "logo.svg",
            favicon=ASSETS / "logo.svg",
        )
        self.state.param.watch(lambda event: setattr(page, "dark_theme", event.new == "dark"), "theme")
        with edit_readonly(page):
            page.busy = Idle().param.busy
        return page

    def parts(self) -> list[pn.viewable.Viewable]:
        """What has most of the work of the page in it, in the order in which a person looks for it."""
        first = (self.shell, self.map, self.find, self.controls, self.tabs, self.panes[self.state.pane], self.subject)
        rest = (self.boundary.sides, self.boundary, self.volunteers, self.vetting)
        return [part.__panel__() if isinstance(part, Viewer) else part for part in (*first, *rest)]


@contextmanager
def only_server(survey: Path) -> Iterator[Callable[[str], object]]:
    """Hold the survey for one server; yields what notes in the lock where that server is.

    Raises
    ------
    SurveyError
        Another server has it.
    """
    handle = os.open(survey / "server.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 200).decode("utf-8", "replace").strip() or "unknown"
            raise SurveyError(f"{survey} is being served already ({holder}); open that one, or stop it first") from None
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()}".encode())
        yield lambda where: os.write(handle, f" at {where}".encode())
    finally:
        os.close(handle)


def setup() -> None:
    """Once a process: how Panel and HoloViews draw."""
    map_view.setup()
    remember_resources()
    pn.config.respect_explicit_sizing = True
    pn.config.raw_css = [
        *pn.config.raw_css,
        (ASSETS / "voorwerp.css").read_text(encoding="utf-8"),
        (ASSETS / "page.css").read_text(encoding="utf-8"),
        (ASSETS / "drop.css").read_text(encoding="utf-8"),
    ]
    pn.config.js_files = {
        name: f"assets/{name}.js" for name in ("keys", "shell", "pixels", "outlines", "map", "drop", "viewer")
    }


def serve(
    path: Path,
    *,
    address: str = "127.0.0.1",
    port: int = 5006,
    open_browser: bool = True,
    selection: str | None = None,
    open_links: bool = False,
    grids: Settings | None = None,
    retrain: Schedule | None = None,
    scheduler: Scheduler | None = None,
    workers: int | None = None,
    tls: tuple[Path, Path] | None = None,
    behind_proxy: bool = False,
    names: Sequence[str] = (),
) -> None:
    """Serve a survey until interrupted.

    Parameters
    ----------
    address
        What is listened on; whether it may be is `explorer.commands.serving`'s to say.
    selection
        Name of a kept selection to open with.
    open_links
        Whether links of `voorwerp invite` let volunteers in.
    grids
        How grids of ``/classify`` are made.
    retrain
        What is trained again, and when.
    scheduler, workers
        Who computes; see `explorer.services.jobs.JobService`.
    tls
        Certificate and key, PEM.
    behind_proxy
        Whether X-Forwarded-For and X-Forwarded-Proto are believed.
    names
        By which other names people come here: values of the Host header, with or without a port.

    Raises
    ------
    SurveyError
        The folder is no survey, or another server has it.
    VoorwerpError
        The port is taken, or the certificate cannot be read.
    """
    is_local = address == "localhost" or address.startswith("127.")
    has_samp = is_local and not behind_proxy  # it reaches this desktop
    give_back_columns()
    with only_server(Path(path)) as note, Desk.open(path, has_samp, scheduler, workers, retrain) as desk:
        sys.setswitchinterval(SWITCH_S)
        pool = ThreadPoolExecutor(max(4, os.cpu_count() or 2), thread_name_prefix="work")
        for module in (raster, orders, histograms):
            pool.submit(module.warm)
        pool.submit(desk.notes.counts)
        for map_id in list(desk.explore.maps())[:1]:
            pool.submit(desk.explore.index, Plane(map_id))
        setup()
        classify = Classify(desk.explore.survey, desk.ledger, grids)
        survey = desk.explore.survey
        access = Access(port, frozenset(), is_local=is_local, behind_proxy=behind_proxy)
        access.accounts = Accounts(survey.info.survey_id)
        desk.ledger.guard = access.accounts.guard

        def begin() -> Iterator[SlicedPage | None]:
            session = Session(desk, selection, _visitor(), access.again, at_once=False)
            yield from session.slices()
            page = session.page()
            yield None
            yield from page.slices(session.parts())
            yield page

        pages = InSlices(begin)
        doors = Doors(classify, open_links, tls, names)
        server = _listen(pages.page, address, access, desk, pool, doors, pages)
        url = server.url
        note(url.partition("?")[0].rstrip("/") + (" with open links" if open_links else ""))
        click.echo(f"{survey.info.name}: {counted(survey.n, 'subject')}\n\n  {url}\n")
        if access.asks:
            at = f" at https://{names[0]}" if behind_proxy and names else " there"
            click.echo(f"{counted(len(access.accounts.listed()), 'account')} may log in{at}.\n")
        if open_links:
            click.echo(f"Links of `voorwerp invite` are open at {url.partition('?')[0]}classify\n")
        if desk.retraining is not None:
            click.echo(f"{desk.retraining.about()['sentence']}\n")
            desk.retraining.start()
        click.echo("Ctrl-C stops it.")
        sys.stdout.flush()
        gc.freeze()  # what a start leaves stays: no collection walks it while a page is made
        desk.inference.warm()
        votes = CountVotes(desk)
        votes.start()
        ends = PeriodicCallback(server.login.close_ended, POLL_MS)
        ends.start()
        gives_back = PeriodicCallback(lambda: asyncio.get_running_loop().run_in_executor(pool, give_back), GIVE_BACK_MS)
        gives_back.start()
        if open_browser:
            server.bokeh.io_loop.call_later(0.2, webbrowser.open, url)
        server.bokeh.start()  # with it pages that are left end, and sockets are pinged
        try:
            server.bokeh.io_loop.start()
        finally:
            ends.stop()
            gives_back.stop()
            votes.stop()
            classify.close()
            pool.shutdown(wait=False, cancel_futures=True)


class CountVotes:
    """Counts votes again while the server runs, off its loop: a few seconds after they are cast, ingested or told."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="votes")
        self._at_work: Future[bool] | None = None
        self._callback = PeriodicCallback(self.look, VOTES_MS)
        self._said = ""
        self._rests_until = 0.0

    def start(self) -> None:
        self.look()
        self._callback.start()

    def look(self) -> None:
        """Begin a count where none is at work, and where the last one was not just now for how long it took."""
        if (self._at_work is None or self._at_work.done()) and time.monotonic() >= self._rests_until:
            self._at_work = self._thread.submit(self._count)

    def _count(self) -> bool:
        began = time.monotonic()
        try:
            return self._poll()
        finally:
            self._rests_until = time.monotonic() + 5 * (time.monotonic() - began)

    def _poll(self) -> bool:
        try:
            is_new = self._desk.volunteers.poll()
            return self._desk.graded.poll() or is_new
        except Exception as error:  # nobody else would hear of it
            if str(error) != self._said:
                self._said = str(error)
                is_ours = isinstance(error, VoorwerpError | OSError)
                logging.getLogger(__name__).error("votes are not counted: %s", error, exc_info=not is_ours)
            return False

    def stop(self) -> None:
        self._callback.stop()
        self._thread.shutdown(wait=False, cancel_futures=True)


def _visitor() -> Person:
    """Whose request the page that is being made answers; of the one made before the port opens, nobody's."""
    context = pn.state.curdoc.session_context if pn.state.curdoc is not None else None
    return getattr(getattr(context, "request", None), "person", None) or NOBODY


@dataclass(frozen=True)
class Doors:
    """By which ways one may come in besides the explorer's own; see `serve`."""

    classify: Classify
    open_links: bool = False
    tls: tuple[Path, Path] | None = None
    names: Sequence[str] = ()


class _Server:
    def __init__(self, bokeh: Any, login: Login, url: str) -> None:
        self.bokeh, self.login, self.url = bokeh, login, url


def _listen(
    session: Callable[[], Page],
    address: str,
    access: Access,
    desk: Desk,
    pool: ThreadPoolExecutor,
    doors: Doors,
    before: Handler | None = None,
) -> _Server:
    """Open the port: Panel's pages and our routes behind one door."""
    if ":" in address:
        raise VoorwerpError(f"{address} is an IPv6 address, which the web server does not take; use 127.0.0.1")
    try:
        sockets, port = bind_sockets(address, access.port)
    except OSError as error:
        raise VoorwerpError(
            f"port {access.port} on {address} cannot be opened ({error.strerror}); "
            "choose another with --port, or --port 0"
        ) from None
    for opened in sockets:
        opened.close()
    access.port, access.hosts = port, hosts_of(address, port, doors.names)
    info = desk.explore.survey.info
    with contextlib.suppress(OSError):  # where it cannot be kept, a restart ends the login
        access.session = secret_of(info.survey_id, "login")
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    login = Login(access, info.name, provider_of(os.environ))
    install_socket()
    given = {"access": access, "desk": desk, "pool": pool}
    certificate, key = doors.tls or (None, None)
    application = build_applications(session, title="Voorwerp")["/"]
    if before is not None:
        application.add(before)
    try:
        server = pn.serve(
            {"/": application},
            address=address,
            port=port,
            websocket_origin=sorted(host for host in access.hosts if not host.startswith("[")),  # Bokeh takes no IPv6
            title="Voorwerp",
            show=False,
            start=False,
            verbose=False,
            threaded=False,
            warm=True,  # one session before the port opens: the first of a process takes a second more
            auth_provider=login,
            extra_patterns=[
                *routes(access, desk, pool),
                *login_routes(login, given),
                *classify_routes(Door(access, doors.classify, doors.open_links)),
                *vet_routes(access, desk, pool, doors.classify.picture),
                *campaign_routes(access, desk, pool, desk.campaign_view),
            ],
            static_dirs={"assets": str(ASSETS)},
            unused_session_lifetime_milliseconds=120_000,
            keep_alive_milliseconds=30_000,
            exclude_cookies=[access.cookie],  # else the page has in its token what no script may read
            exclude_headers=["Cookie"],
            **({} if certificate is None else {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}),
        )
    except (ssl.SSLError, OSError) as error:
        if certificate is None:
            raise
        raise VoorwerpError(
            f"{certificate} and {key} cannot be used as certificate and key ({error}); both are PEM files"
        ) from None
    signal.signal(signal.SIGTERM, lambda *_: server.io_loop.add_callback_from_signal(server.io_loop.stop))
    scheme = "http" if certificate is None else "https"
    return _Server(server, login, f"{scheme}://{address}:{port}/" + ("" if access.asks else f"?token={access.token}"))
