"""What the address bar says of a view, and how a view is made of it again: a link shows a colleague the same.

A link carries run, map, axes, turn, colors, λ, range, order, panes, selection, boundary and focus. A selection is
carried by its id; its subjects stand in ``selections/recent/`` of the survey, written before a link names them. So is a
boundary at work (`explorer.services.drafts`).
"""

from __future__ import annotations

import contextlib
import math
import zlib
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import numpy as np

from explorer.errors import UsageError
from explorer.ledger import SELECTIONS
from explorer.services import talk
from explorer.services.drafts import Drafts
from explorer.services.explore import Explore, newest
from explorer.services.recent import SHORT, Recent
from explorer.state import ExplorerState, Selection
from models.mixing import mixed_with

#: What a link carries word for word: name there → name in the state.
WORDS = {
    "map": "map_id",
    "run": "run_id",
    "x": "x",
    "y": "y",
    "color": "color",
    "aggregate": "aggregate",
    "norm": "norm",
    "palette": "palette",
    "overlay": "overlay",
    "sort": "sort",
    "lambda_mode": "lambda_mode",
    "pane": "pane",
    "side": "side",
}
#: Changes of these are a change of the address.
WATCHED = (*WORDS.values(), "lambda_", "focus", "descending", "view", "solid", "turn", "contours", "places")
#: Where in a survey selections stand that links name.
RECENT = f"{SELECTIONS}/recent"


class Remembered:
    """Selections that links name, in files (`explorer.services.recent`).

    Parameters
    ----------
    survey_path
        The survey folder.
    """

    def __init__(self, survey_path: Path) -> None:
        self._recent = Recent(survey_path / RECENT)

    def put(self, selection: Selection) -> str:
        """Keep a selection; returns its id in a link. It is on the disk then.

        Raises
        ------
        OSError
            It cannot be written.
        """
        return self._recent.put(
            selection.id[:SHORT],
            lambda: selection.n.to_bytes(8, "little") + zlib.compress(selection.words.tobytes(), 1),
        )

    def get(self, name: str, n: int) -> Selection | None:
        """A selection by its id in a link, for a survey of n rows; None where it is not there, or damaged.

        Rows added to the survey since then are not selected.
        """
        content = self._recent.get(name)
        if content is None:
            return None
        try:
            size = int.from_bytes(content[:8], "little")
            bits = zlib.decompressobj().decompress(content[8:], Selection.n_words(n) * 8)
            if size > n or len(bits) != Selection.n_words(size) * 8:
                return None
        except zlib.error:
            return None
        found = Selection(np.frombuffer(bits, np.uint64).copy(), size)
        if found.id[:SHORT] != name:
            return None
        words = np.zeros(Selection.n_words(n), np.uint64)
        words[: len(found.words)] = found.words
        return Selection(words, n)


def write(state: ExplorerState, explore: Explore, selection: str = "", boundary: str = "") -> str:
    """The query of a view, with its question mark; `selection` is an id of `Remembered`, `boundary` one of `Drafts`."""
    defaults = ExplorerState.param
    view = {
        key: getattr(state, name)
        for key, name in WORDS.items()
        if getattr(state, name) and (key in ("map", "run", "color") or getattr(state, name) != defaults[name].default)
    }
    view["lambda"] = f"{state.lambda_:.3g}"
    view["order"] = "highest" if state.descending else "lowest"
    if state.solid:
        view["turn"] = ",".join(f"{v:.3f}" for v in state.turn)
    elif state.view is not None:
        view["view"] = ",".join(f"{v:.10g}" for v in state.view)
    if state.contours:
        view["contours"] = "1"
    if not state.places:
        view["places"] = "0"
    if selection:
        view["selection"] = selection
    if boundary:
        view["boundary"] = boundary
    if state.focus is not None:
        view["subject"] = explore.survey.source_ids([state.focus])[0]
    return f"?{urlencode(view)}"


def mix_as_run(state: ExplorerState, explore: Explore) -> None:
    """A run's scores are shown at the λ that it was scored with, until another is chosen."""
    run = explore.runs().get(state.run_id)
    if run is not None and explore.mixes(run.run_id):
        state.lambda_, state.lambda_mode = mixed_with(run.config)


def fit_to_run(state: ExplorerState, explore: Explore) -> None:
    """What the run on screen lacks (a coloring, an axis, an order) gives way to its default."""
    colors = explore.colors(state.run_id, state.map_id)
    default = explore.default_color(state.run_id)
    if not explore.can_color(state.color, state.run_id, state.map_id):
        state.color = default
    if state.sort and (state.sort not in colors or "." not in state.sort):
        state.sort = "" if default == "count" else default
    axes = explore.axes(state.run_id, state.map_id)
    if any(axis.partition(".")[0] != "maps" and axis not in axes for axis in (state.x, state.y)):
        state.param.update(x=state.param.x.default, y=state.param.y.default)


def mode_trouble(state: ExplorerState, explore: Explore) -> str:
    """Scores that cannot be standardised are mixed as they are; returns why, or nothing."""
    try:
        explore.check_mode(state.run_id, state.lambda_mode)
    except UsageError as error:
        state.lambda_mode = "raw"
        return str(error)
    return ""


def restore(state: ExplorerState, explore: Explore, remembered: Remembered, drafts: Drafts, search: str) -> str:
    """Make the view of a link: the newest run and map, then whatever it says that exists.

    Returns
    -------
    str
        What a person must know of the rest, a sentence, or nothing.
    """
    given = {key: values[0] for key, values in parse_qs(search.lstrip("?")).items()}
    info, runs, maps = explore.survey.info, explore.runs(), explore.maps()
    state.map_id = next((m for m in (given.get("map"), info.default_map, newest(maps)) if m in maps), "")
    of_map = maps[state.map_id].inputs.get("score", "") if state.map_id else ""
    state.run_id = next((r for r in (given.get("run"), info.default_run, of_map, newest(runs)) if r in runs), "")
    colors, axes = explore.colors(state.run_id, state.map_id), explore.axes(state.run_id, state.map_id)
    default = explore.default_color(state.run_id)
    color = given.get("color", "")
    state.color = color if explore.can_color(color, state.run_id, state.map_id) else default
    state.sort = (
        given["sort"] if given.get("sort") in colors and "." in given["sort"] else explore.default_sort(state.run_id)
    )
    state.x, state.y = explore.default_axes(state.run_id, state.map_id)
    for axis in ("x", "y"):
        if given.get(axis) in axes:
            setattr(state, axis, given[axis])
    mix_as_run(state, explore)
    for key in ("aggregate", "norm", "palette", "lambda_mode", "pane", "side"):
        if given.get(key) in state.param[WORDS[key]].objects:
            setattr(state, WORDS[key], given[key])
    overlay = given.get("overlay", "")
    is_drawn = overlay.startswith(("selection:", talk.PREFIX)) or explore.is_category(overlay)
    state.overlay = overlay if is_drawn else ""
    state.descending = given.get("order") != "lowest"
    state.contours, state.places = given.get("contours") == "1", given.get("places") != "0"
    with contextlib.suppress(ValueError):
        weight = float(given.get("lambda", state.lambda_))
        state.lambda_ = min(1.0, max(0.0, weight)) if math.isfinite(weight) else state.lambda_
    with contextlib.suppress(ValueError):
        x0, x1, y0, y1 = (float(v) for v in given.get("view", "").split(","))
        if np.isfinite([x0, x1, y0, y1]).all() and x0 < x1 and y0 < y1:
            state.view = (x0, x1, y0, y1)
    with contextlib.suppress(ValueError):
        yaw, pitch = (float(v) for v in given.get("turn", "").split(","))
        if np.isfinite([yaw, pitch]).all() and explore.is_solid(state.map_id):
            state.solid, state.turn = True, (yaw, pitch)
    if "subject" in given:
        state.focus = explore.survey.row_of_source(given["subject"])
    selection = remembered.get(given["selection"], explore.survey.n) if "selection" in given else None
    if selection is not None:
        state.selection = selection
    draft = drafts.get(given["boundary"]) if "boundary" in given else None
    if draft is not None:
        state.draft = draft
    missing = [
        f"{what} {given[key][:80]}"
        for key, what, is_known in (
            ("subject", "subject", state.focus is not None),
            ("selection", "selection", selection is not None),
            ("boundary", "boundary", draft is not None),
            ("run", "run", given.get("run") in runs),
            ("map", "map", given.get("map") in maps),
            ("color", "coloring", given.get("color") in colors),
            ("x", "axis", given.get("x") in axes),
            ("y", "axis", given.get("y") in axes),
            ("view", "view", state.view is not None),
        )
        if key in given and not is_known
    ]
    return f"The link names what this survey does not have: {', '.join(missing)}" if missing else ""
