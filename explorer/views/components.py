"""The browser-side pieces: each is a script in assets/, fed by these parameters and the routes of `explorer.server`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ClassVar

import panel as pn
import param
from panel.custom import JSComponent

from explorer import ASSETS

CSS = (ASSETS / "voorwerp.css").read_text()


def link(component: param.Parameterized, state: param.Parameterized, *names: str) -> None:
    """Let a component and the session's state follow each other in parameters of the same name."""

    def follow(source: param.Parameterized, target: param.Parameterized, name: str) -> None:
        source.param.watch(lambda event: setattr(target, name, event.new), name)

    for name in names:
        setattr(component, name, getattr(state, name))
        follow(component, state, name)
        follow(state, component, name)


class Later:
    """What is done once after what is at work, however often it was asked for: the event loop answers others between.

    Without a page, at once.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act, self._is_waiting = act, False

    def __call__(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            pn.state.execute(self._run, schedule=True)

    def _run(self) -> None:
        self._is_waiting = False
        self._act()


class Controls(JSComponent):
    """The left column; `asked` is called with what a person did there."""

    view = param.Dict({}, doc="What the map shows: names and values of the state.")
    can = param.Dict({}, doc="What may be chosen now: axes, colors and overlays in groups; what has no meaning here.")
    selected = param.Dict({}, doc="How many of how many, whether undo and redo lead anywhere, the query of an export.")
    kept = param.List([], doc="Kept selections, newest first: [name, subjects].")
    opened = param.String("", doc="The kept selection that is selected.")
    said = param.String("", doc="One sentence on what was kept, renamed, removed or sent.")
    can_take_back = param.Boolean(False, doc="Whether the sentence names something that can be undone.")
    answered = param.Integer(0, doc="Counts the sentences.")
    heard = param.Integer(0, doc="Counts what was set: the page then tells what came meanwhile.")
    checked = param.String("", doc="What experts found in the kept selection that is selected.")
    n_on_map = param.Integer(0, doc="Subjects on the map.")
    mixing = param.String("", doc="Why the scores are not mixed as asked.")
    about = param.List([], doc="What the map is worth, a sentence each.")
    n_off = param.Integer(0, doc="Subjects off the map.")
    asked: Callable[[dict[str, Any]], None] | None = None

    _esm = ASSETS / "controls.js"
    _stylesheets: ClassVar[list[str]] = [CSS]

    def _handle_msg(self, msg: Any) -> None:
        if self.asked is not None and isinstance(msg, dict):
            self.asked(msg)


class GalleryGrid(JSComponent):
    """The selection as pictures, in an order and in groups: only what is on screen exists."""

    selection_id = param.String("", doc="Id that the server knows; empty for every subject.")
    total = param.Integer(0, doc="Subjects in the gallery.")
    n = param.Integer(0, doc="Subjects of the survey.")
    sort = param.String("", doc="Reference of the ordering column.")
    descending = param.Boolean(True)
    orders = param.List([], doc="(reference, title) of what may order.")
    group = param.String("", doc="What cuts it into sections, as `explorer.services.groups` takes it.")
    groups = param.List([], doc="(heading, [(group, title), …]) of what may cut it.")
    run_id = param.String("")
    map_id = param.String("")
    lambda_ = param.Number(0.2)
    lambda_mode = param.String("raw")
    focus = param.Integer(None, allow_None=True, doc="Row in focus.")
    has_images = param.Boolean(True, doc="Without images the tiles are names.")
    reconstructs = param.Boolean(False, doc="Whether the run has a model that reconstructs.")
    read = param.Integer(0, doc="Grows when the same gallery is to be read anew.")
    shown = param.Boolean(True, doc="Nothing is fetched while it is hidden.")
    chosen: Callable[[str, str, int, int, str], None] | None = None

    _esm = ASSETS / "gallery.js"
    _stylesheets: ClassVar[list[str]] = [CSS, (ASSETS / "gallery.css").read_text()]

    def _handle_msg(self, msg: Any) -> None:
        match msg:
            case {"group": str(group), "title": str(title), "start": int(start), "k": int(k), "mode": str(mode)}:
                if self.chosen is not None:
                    self.chosen(group, title, start, k, mode)


class Finder(JSComponent):
    """A box to look up ids and coordinates in; `asked` is called with what was typed."""

    message = param.String("", doc="One sentence about what was found.")
    missing = param.List([], doc="What was not found, as typed.")
    n_missing = param.Integer(0, doc="How many were not found; `missing` may name only the first.")
    answered = param.Integer(0, doc="Counts the answers: the same sentence twice is an answer, too.")
    asked: Callable[[str], Coroutine[Any, Any, None]] | None = None

    _esm = ASSETS / "finder.js"
    _stylesheets: ClassVar[list[str]] = [CSS]

    def _handle_msg(self, msg: Any) -> None:
        if self.asked is not None and isinstance(msg, dict) and isinstance(msg.get("find"), str):
            pn.state.execute(partial(self.asked, msg["find"]))


class TopBar(JSComponent):
    """The bar on top. The dialog of runs, which it opens, is fetched when it is first asked for."""

    survey = param.String("", doc="Name of the survey.")
    n = param.Integer(0, doc="Its subjects.")
    line = param.String("", doc="The job that runs, in words; empty when none does.")
    notice = param.String("", doc="One sentence that a person must know.")
    runs = param.List([], doc="Score runs, newest first: [id, title].")
    maps = param.List([], doc="Maps, newest first: [id, title].")
    run_id = param.String("")
    map_id = param.String("")
    theme: str = param.Selector(default="dark", objects=["dark", "light"])  # type: ignore[assignment]
    selected = param.Dict({}, doc="What a run may be of: k selected, the name they are kept under or none, n in all.")
    offer = param.Dict({}, doc="What a run that has just ended offers: text, word, run_id and what the word does.")
    person = param.Dict({}, doc="Who is logged in: name, role, and what that means in words; empty without accounts.")
    asked: Callable[[dict[str, Any]], None] | None = None

    _esm = ASSETS / "topbar.js"
    _stylesheets: ClassVar[list[str]] = [CSS]

    def _handle_msg(self, msg: Any) -> None:
        if self.asked is not None and isinstance(msg, dict):
            self.asked(msg)


class SubjectCard(JSComponent):
    """One subject in full."""

    row = param.Integer(None, allow_None=True)
    run_id = param.String("")
    lambda_ = param.Number(0.2)
    lambda_mode = param.String("raw")
    has_images = param.Boolean(True)
    map_id = param.String("")
    reconstructs = param.Boolean(False, doc="Whether the run has a model that reconstructs.")
    hint = param.String("", doc="What is said when no subject is in focus.")
    read = param.Integer(0, doc="Grows when the same subject is to be read anew.")
    has_samp = param.Boolean(True, doc="Whether other programs on this machine may be pointed here.")
    said = param.String("", doc="What became of pointing other programs here.")
    answered = param.Integer(0, doc="Counts what was said.")
    axes = param.Dict({}, doc="Columns that others may be alike in: reference → what a person reads.")
    own = param.Dict({}, doc="Tags and notes of the row, and every known tag with its count.")
    decided = param.Dict({}, doc="What became of a decision, by its UUID: it is on the disk, or why it is not.")
    alike = param.Dict({}, doc="Those alike in a column, and which column and row that is.")
    found = param.Dict({}, doc="What became of selecting: counts its answers.")
    history = param.Dict({}, doc="Everything that became of a row.")
    asked: Callable[[dict[str, Any]], Coroutine[Any, Any, None]] | None = None

    _esm = ASSETS / "subject.js"
    _stylesheets: ClassVar[list[str]] = [CSS, (ASSETS / "subject.css").read_text()]

    def _handle_msg(self, msg: Any) -> None:
        if self.asked is not None and isinstance(msg, dict):
            pn.state.execute(partial(self.asked, msg))


class Panes(JSComponent):
    """The tabs of what stands below the map."""

    pane = param.String("gallery", doc="Name of the pane that is shown (`explorer.state.PANES`).")

    _esm = ASSETS / "panes.js"
    _stylesheets: ClassVar[list[str]] = [CSS]


class Table(JSComponent):
    """Lines of the selection, or of all, in an order: only what is on screen exists."""

    shown = param.Boolean(True, doc="Nothing is fetched while it is not.")
    columns = param.List([], doc="What `Listing.columns` says.")
    selection_id = param.String("", doc="Id that the server knows; empty for no selection.")
    n_selected = param.Integer(0)
    n = param.Integer(0, doc="Subjects of the survey.")
    sort = param.String("", doc="Reference of the ordering column; empty for the order of the survey.")
    descending = param.Boolean(True)
    run_id = param.String("")
    map_id = param.String("")
    lambda_ = param.Number(0.2)
    lambda_mode = param.String("raw")
    mixes = param.Boolean(False, doc="Whether λ means something.")
    mode = param.String("replace", doc="How what is listed meets the selection.")
    focus = param.Integer(None, allow_None=True, doc="Row in focus.")
    has_images = param.Boolean(True)
    survey_id = param.String("", doc="Columns are remembered by survey.")
    read = param.Integer(0, doc="Grows when the same columns are to be read anew.")
    asked: Callable[[dict[str, Any]], None] | None = None

    _esm = ASSETS / "table.js"
    _stylesheets: ClassVar[list[str]] = [CSS, (ASSETS / "table.css").read_text()]

    def _handle_msg(self, msg: Any) -> None:
        if self.asked is not None and isinstance(msg, dict):
            self.asked(msg)
