"""The shell: the only file that knows every view."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import html
import logging
import os
import signal
import sys
import webbrowser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import click
import numpy as np
import panel as pn
import param
from bokeh.server.util import bind_sockets
from panel.util.parameters import edit_readonly
from panel_material_ui import Page  # type: ignore[attr-defined]  # made at import time
from panel_material_ui.widgets import Select

from explorer import ASSETS
from explorer.errors import SurveyError, VoorwerpError
from explorer.ledger import Ledger
from explorer.raster import warm
from explorer.server import Access, Login, hosts_of, routes
from explorer.services.explore import Explore, Plane
from explorer.services.inference import Inference
from explorer.services.jobs import JobService
from explorer.services.originals import Originals
from explorer.services.runs import Runs
from explorer.services.samp import Samp
from explorer.state import ExplorerState
from explorer.survey import Survey, counted
from explorer.views import map as map_view
from explorer.views.controls import ControlsView
from explorer.views.find import FindView
from explorer.views.gallery import GalleryView
from explorer.views.map import MapView
from explorer.views.plots import ACCENT, GROUND, INK, LINE, QUIET, WARM
from explorer.views.runs import RunsView
from explorer.views.subject import SubjectView
from models.mixing import mixed_with

THEME = {
    "palette": {
        "primary": {"main": ACCENT, "contrastText": GROUND},
        "background": {"default": GROUND, "paper": "#10141b"},
        "text": {"primary": INK, "secondary": QUIET},
        "divider": LINE,
    },
    "typography": {
        "fontSize": 12.5,
        "fontFamily": 'Inter, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
        "button": {"textTransform": "none"},
    },
    "shape": {"borderRadius": 6},
}
#: The page's own frame: a low bar and three columns that fill the window; only their insides scroll.
FRAME = {
    ".MuiAppBar-root": {
        "backgroundColor": "#10141b",
        "backgroundImage": "none",
        "color": INK,
        "boxShadow": "none",
        "borderBottom": f"1px solid {LINE}",
    },
    ".MuiAppBar-root .MuiToolbar-root": {
        "minHeight": "52px",
        "height": "52px",
        "paddingLeft": "12px",
        "paddingRight": "8px",
    },
    ".MuiAppBar-root img": {"height": "30px"},
    ".MuiAppBar-root .title": {"fontSize": "17px", "fontWeight": 650, "letterSpacing": ".01em"},
    ".main-content": {
        "position": "fixed",
        "inset": "53px 0 0 0",
        "padding": 0,
        "height": "calc(100vh - 53px)",
        "overflow": "hidden",
    },
}
COLUMN = {"flex": "none", "background": "#10141b", "height": "100%"}
LEFT = COLUMN | {
    "width": "clamp(232px, 19vw, 276px)",
    "padding": "10px 14px",
    "border-right": f"1px solid {LINE}",
    "overflow": "hidden auto",
}
RIGHT = COLUMN | {"width": "clamp(268px, 25vw, 372px)", "border-left": f"1px solid {LINE}", "position": "relative"}
GALLERY = {
    "height": "clamp(200px, 33vh, 420px)",
    "flex": "none",
    "border-top": f"1px solid {LINE}",
    "background": "#10141b",
}
#: State that a link carries: name in the URL → name in the state.
IN_URL = {
    "map": "map_id",
    "run": "run_id",
    "color": "color",
    "aggregate": "aggregate",
    "norm": "norm",
    "sort": "sort",
    "lambda_mode": "lambda_mode",
}
POLL_MS = 1000


class Idle(param.Parameterized):
    """What the page's busy flag follows instead of Panel's global one.

    That one is watched by every page for ever, and flips with every callback of every session.
    """

    busy = param.Boolean(False)


class Session:
    """One browser tab: a state, the views on it, and what keeps them current."""

    def __init__(
        self, explore: Explore, ledger: Ledger, jobs: JobService, samp: Samp | None, selection: str | None
    ) -> None:
        self.explore = explore
        self.state = state = ExplorerState(explore.survey.n)
        styles = {"align-self": "center", "color": WARM, "font-size": "12px"}
        self._notice = pn.pane.HTML("", margin=(0, 12), styles=styles)
        lost = self._restore()
        state.param.watch(
            lambda event: self._fit_to_run(), "run_id"
        )  # before any view asks for a score that is not there
        self.map = MapView(state, explore)
        self.find = FindView(state, explore)
        self.find.box.message = lost
        self.controls = ControlsView(state, explore, ledger, samp)
        self.gallery = GalleryView(state, explore)
        self.subject = SubjectView(state, explore, samp)
        self.runs = RunsView(jobs)
        self._generation = explore.survey.generation
        self._run = Select(label="Scores", width=216, size="small", margin=(0, 6))
        self._map = Select(label="Map", width=216, size="small", margin=(0, 6))
        for widget, name in ((self._run, "run_id"), (self._map, "map_id")):
            widget.param.watch(lambda event, name=name: setattr(state, name, event.new), "value")
            state.param.watch(lambda event, widget=widget: setattr(widget, "value", event.new), name)
        if selection is not None:
            self.controls.select(selection)
            if state.focus is None:
                state.focus = self.gallery.first()
        self._offer()
        state.param.watch(lambda event: self._write_url(), [*IN_URL.values(), "lambda_", "focus", "descending", "view"])

    # ------------------------------------------------------------------------------------------------- the URL
    def _restore(self) -> str:
        """Newest run and map, then whatever the link says that exists; returns what a person must know of the rest."""
        state, explore = self.state, self.explore
        runs, maps = explore.runs(), explore.maps()
        info = explore.survey.info
        given = (
            {k: v[0] for k, v in parse_qs((pn.state.location.search or "").lstrip("?")).items()}
            if pn.state.location
            else {}
        )
        state.map_id = next((m for m in (given.get("map"), info.default_map, next(iter(maps), "")) if m in maps), "")
        of_map = maps[state.map_id].inputs.get("score", "") if state.map_id else ""
        wanted = (given.get("run"), info.default_run, of_map, next(iter(runs), ""))
        state.run_id = next((r for r in wanted if r in runs), "")
        colors, orders = explore.colors(state.run_id, state.map_id), explore.colors(state.run_id)
        default = explore.default_color(state.run_id)
        state.color = given["color"] if given.get("color") in colors else default
        self._mix_as_run()
        for name in ("aggregate", "norm", "lambda_mode"):
            if given.get(name) in state.param[name].objects:
                setattr(state, name, given[name])
        state.sort = given["sort"] if given.get("sort") in orders else ("" if default == "count" else default)
        with contextlib.suppress(ValueError):
            state.lambda_ = min(1.0, max(0.0, float(given.get("lambda", state.lambda_))))
        state.descending = given.get("order") != "lowest"
        with contextlib.suppress(ValueError):
            x0, x1, y0, y1 = (float(v) for v in given.get("view", "").split(","))
            if np.isfinite([x0, x1, y0, y1]).all() and x0 < x1 and y0 < y1:
                state.view = (x0, x1, y0, y1)
        self._fit_mode()
        if "subject" in given:
            state.focus = explore.survey.row_of_source(given["subject"])
        missing = [
            f"{what} {given[key]}"
            for key, what, known in (
                ("subject", "subject", state.focus is not None),
                ("run", "run", given.get("run") in runs),
                ("map", "map", given.get("map") in maps),
                ("color", "coloring", given.get("color") in colors),
            )
            if key in given and not known
        ]
        return f"The link names what this survey does not have: {', '.join(missing)}" if missing else ""

    def _fit_to_run(self) -> None:
        """Another run has other scores: a coloring and an order that it lacks give way to its default."""
        state, orders = self.state, self.explore.colors(self.state.run_id)
        default = self.explore.default_color(state.run_id)
        if state.color not in self.explore.colors(state.run_id, state.map_id):
            state.color = default
        if state.sort and state.sort not in orders:
            state.sort = "" if default == "count" else default
        self._mix_as_run()
        self._fit_mode()

    def _mix_as_run(self) -> None:
        """A run's scores are shown at the λ that it was scored with, until another is chosen."""
        run = self.explore.runs().get(self.state.run_id)
        if run is not None and self.explore.mixes(run.run_id):
            self.state.lambda_, self.state.lambda_mode = mixed_with(run.config)

    def _fit_mode(self) -> None:
        """Scores that cannot be standardised are mixed as they are."""
        state = self.state
        try:
            self.explore.check_mode(state.run_id, state.lambda_mode)
        except VoorwerpError as error:
            self._notice.object = html.escape(str(error))
            state.lambda_mode = "raw"

    def _write_url(self) -> None:
        location = pn.state.location
        if location is None:
            return
        state = self.state
        view = {key: getattr(state, name) for key, name in IN_URL.items() if getattr(state, name)}
        view["lambda"] = f"{state.lambda_:.3g}"
        view["order"] = "highest" if state.descending else "lowest"
        if state.view is not None:
            view["view"] = ",".join(f"{v:.6g}" for v in state.view)
        if state.focus is not None:
            view["subject"] = self.explore.survey.source_ids([state.focus])[0]
        location.search = f"?{urlencode(view)}"

    # ------------------------------------------------------------------------------------------- what is new
    def _offer(self) -> None:
        """List runs and maps; take the first that appears."""
        state = self.state
        runs, maps = self.explore.runs(), self.explore.maps()
        for widget, found, current in ((self._run, runs, state.run_id), (self._map, maps, state.map_id)):
            options = {_title(run): run_id for run_id, run in found.items()}  # ids differ, so titles do
            if widget.options != options:
                widget.options = options
                widget.value = current or None
            widget.visible = bool(options)
        if not state.run_id and runs:
            state.run_id = next(iter(runs))
            state.color = self.explore.default_color(state.run_id)
        if not state.map_id and maps:
            state.map_id = next(iter(maps))

    def poll(self) -> None:
        """Once a second: running jobs, finished runs, joined columns."""
        self.runs.refresh()
        self._offer()
        self.explore.survey.refresh()
        if n_added := self.explore.survey.n_added:
            self._notice.object = f"{n_added:,} subjects were added: start `voorwerp serve` again to see them"
        if self._generation != self.explore.survey.generation:
            self._generation = self.explore.survey.generation
            self.controls.refresh()
            self.gallery.refresh()
            self.subject.refresh()
            self.state.param.trigger("color")

    # -------------------------------------------------------------------------------------------------- layout
    def page(self) -> Page:
        """The whole screen."""
        info, n = self.explore.survey.info, self.explore.survey.n
        pn.state.add_periodic_callback(self.poll, POLL_MS)
        fill = {"sizing_mode": "stretch_both", "margin": 0}
        left = pn.Column(self.find, self.controls, styles=LEFT, margin=0)
        upper, lower = pn.Column(self.map, **fill), pn.Column(self.gallery, **fill)
        center = pn.Column(upper, lower, styles={"min-width": "0", "height": "100%"}, **fill)

        def arrange() -> None:  # without a map the gallery has the room
            has_map = bool(self.state.map_id)
            upper.styles = {"min-height": "0", "flex": "1 1 0"} if has_map else {"flex": "none", "height": "230px"}
            lower.styles = GALLERY if has_map else GALLERY | {"height": "auto", "flex": "1 1 0", "min-height": "0"}

        self.state.param.watch(lambda event: arrange(), "map_id")
        arrange()
        right = pn.Column(self.subject, styles=RIGHT, margin=0)
        page = Page(
            title="Voorwerp",
            header=[
                pn.pane.HTML(
                    f"<b>{html.escape(info.name)}</b>"
                    f"<span style='color:{QUIET};margin-left:12px'>{n:,} subjects</span>",
                    margin=(0, 0, 0, 8),
                    styles={"align-self": "center", "font-size": "13px", "white-space": "nowrap"},
                ),
                self.runs,
                self._notice,
                pn.Spacer(sizing_mode="stretch_width"),
                self._run,
                self._map,
            ],
            main=[pn.Row(left, center, right, styles={"height": "calc(100vh - 53px)", "overflow": "hidden"}, **fill)],
            main_width="100%",
            dark_theme=True,
            theme_toggle=False,
            theme_config=THEME,
            sx=FRAME,
            busy_indicator=None,
            logo=ASSETS / "logo.svg",
            favicon=ASSETS / "logo.svg",
        )
        with edit_readonly(page):
            page.busy = Idle().param.busy
        return page


def _title(run: Any) -> str:
    """A run as a person tells it from others: when, what (``score-2``, an imported run's name), and by which score."""
    words = [run.results["score_title"]] if "score_title" in run.results else []
    if run.kind == "score" and not words and "feature_weight" in run.config:
        weight, mode = mixed_with(run.config)
        told = {name: run.config.get(name) for name in ("latent_axes", "center", "feature_stage")}
        words = [run.config.get("preset", "paper"), f"λ = {weight:g}" + ("" if mode == "raw" else f" {mode}")]
        words += [f"{name.replace('_', ' ')} {value:g}" for name, value in told.items() if value is not None]
    score = f": {', '.join(words)}" if words else ""
    return f"{run.created_at[:19].replace('T', ' ')} {run.run_id.split('-', 2)[-1]}{score}"


@contextmanager
def only_server(survey: Path) -> Iterator[None]:
    """Hold the survey for one server.

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
        yield
    finally:
        os.close(handle)


def setup() -> None:
    """Once a process: how Panel and HoloViews draw."""
    map_view.setup()
    pn.config.respect_explicit_sizing = True
    pn.config.raw_css = [
        *pn.config.raw_css,
        (ASSETS / "voorwerp.css").read_text(),
        (ASSETS / "page.css").read_text(),
    ]
    pn.config.js_files = {"keys": "assets/keys.js", "voorwerp": "assets/map.js", "viewer": "assets/viewer.js"}


def serve(
    path: Path,
    *,
    address: str = "127.0.0.1",
    port: int = 5006,
    open_browser: bool = True,
    selection: str | None = None,
) -> None:
    """Serve a survey until interrupted.

    Parameters
    ----------
    selection
        Name of a kept selection to open with.

    Raises
    ------
    SurveyError
        The folder is no survey, or another server has it.
    VoorwerpError
        The port is taken.
    """
    with only_server(Path(path)):
        survey = Survey.open(path)
        ledger = Ledger(survey.path, survey.info.survey_id)
        jobs = JobService(survey, ledger)
        inference = Inference(survey)
        originals = Originals(survey)
        samp = Samp() if address == "localhost" or address.startswith("127.") else None  # it reaches this desktop
        explore = Explore(survey)
        pool = ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="frames")
        pool.submit(warm)
        for map_id in list(explore.maps())[:1]:
            pool.submit(explore.index, Plane(map_id))
        setup()

        def session() -> Page:
            return Session(explore, ledger, jobs, samp, selection).page()

        server = _listen(session, address, port, explore, originals, inference, Runs(jobs), pool)
        url = server.url
        click.echo(f"{survey.info.name}: {counted(survey.n, 'subject')}\n\n  {url}\n\nCtrl-C stops it.")
        sys.stdout.flush()
        gc.freeze()  # what a start leaves stays: no collection walks it while a page is made
        inference.warm()
        if open_browser:
            server.bokeh.io_loop.call_later(0.2, webbrowser.open, url)
        try:
            server.bokeh.io_loop.start()
        finally:
            jobs.stop()
            inference.close()
            originals.close()
            if samp is not None:
                samp.close()
            ledger.close()
            pool.shutdown(wait=False, cancel_futures=True)
            survey.close()


class _Server:
    def __init__(self, bokeh: Any, url: str) -> None:
        self.bokeh, self.url = bokeh, url


def _listen(
    session: Any,
    address: str,
    port: int,
    explore: Explore,
    originals: Originals,
    inference: Inference,
    runs: Runs,
    pool: ThreadPoolExecutor,
) -> _Server:
    """Open the port: Panel's pages and our routes behind one door."""
    if ":" in address:
        raise VoorwerpError(f"{address} is an IPv6 address, which the web server does not take; use 127.0.0.1")
    try:
        sockets, port = bind_sockets(address, port)
    except OSError as error:
        raise VoorwerpError(
            f"port {port} on {address} cannot be opened ({error.strerror}); choose another with --port, or --port 0"
        ) from None
    for opened in sockets:
        opened.close()
    access = Access(port, hosts_of(address, port))
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    server = pn.serve(
        {"/": session},
        address=address,
        port=port,
        websocket_origin=sorted(host for host in access.hosts if not host.startswith("[")),  # Bokeh takes no IPv6
        title="Voorwerp",
        show=False,
        start=False,
        verbose=False,
        threaded=False,
        warm=True,  # one session before the port opens: the first of a process takes a second more
        auth_provider=Login(access),
        extra_patterns=routes(access, explore, originals, inference, runs, pool),
        static_dirs={"assets": str(ASSETS)},
        unused_session_lifetime_milliseconds=120_000,
        keep_alive_milliseconds=30_000,
    )
    signal.signal(signal.SIGTERM, lambda *_: server.io_loop.add_callback_from_signal(server.io_loop.stop))
    return _Server(server, f"http://{address}:{port}/?token={access.token}")
