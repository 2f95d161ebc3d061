"""Figures for papers of what is on the screen: the map, histograms, a contact sheet; PNG, SVG and PDF at print size.

Drawn on white ground at 300 dpi; text stays text in SVG and PDF. What a figure shows, and where that came from, stands
below it and in the file's metadata. The same input at the same time gives the same bytes.

Nothing of matplotlib's global state is used but its settings, which are set under a lock: figures are drawn one at a
time.
"""

from __future__ import annotations

import io
import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, Protocol
from urllib.parse import urlencode

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextToPath
from matplotlib.ticker import NullFormatter
from PIL import Image

from explorer import __version__
from explorer.cells import View
from explorer.contours import contours
from explorer.errors import UsageError
from explorer.raster import MISSING, MISSING_DIM, Overlay
from explorer.services.colors import CATEGORIES, GREY, blend, palette, ramp
from explorer.services.explore import AXES, Color, Explore, Plane
from explorer.services.histograms import Counts, Histogram, Histograms, Scale, Source
from explorer.services.notes import Place
from explorer.state import Selection
from models.mixing import MODE_TITLES

Kind = Literal["map", "histograms", "sheet"]
Form = Literal["png", "svg", "pdf"]
Width = Literal["single", "double"]

#: Of one column of a journal's page and of the whole page, mm.
WIDTHS: dict[Width, float] = {"single": 88.0, "double": 180.0}
#: Name → content type.
FORMS: dict[Form, str] = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
KINDS: tuple[Kind, ...] = ("map", "histograms", "sheet")
DPI = 300
MM = 1 / 25.4  # inches
MOST_COLUMNS, MOST_TILES = 12, 60
#: Up to this many selected subjects are ringed, and up to this many named, as on the screen.
RINGED, NAMED = 40, 12
#: Up to this many that are off the map are drawn apart.
MOST_STRAYS = 2000

INK, QUIET, LINE, PICKED, STRAY = "#1b1f27", "#5b6472", "#9aa1ac", "#0072b2", "#c2185b"
CAPTION_PT, SOURCE_PT, LABEL_PT = 6.5, 4.6, 7.0
LEADING = 1.35  # of the font's size, from line to line
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
    "font.size": LABEL_PT,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in an id is a dollar
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": LABEL_PT,
    "axes.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 6.0,
    "ytick.labelsize": 6.0,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.width": 0.35,
    "ytick.minor.width": 0.35,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "image.interpolation": "nearest",
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "voorwerp",
}
_NORMS = {
    "percentile": "colors by percentile among the survey's subjects",
    "equalised": "each color for as many pixels of this view",
    "linear": "linear scale",
    "log": "logarithmic scale",
}
_AGGREGATES = {"max": "highest of a pixel", "mean": "mean of a pixel", "std": "standard deviation within a pixel"}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Screen:
    """What is on the screen.

    Attributes
    ----------
    map_id
        The map, whose own columns may be the coloring even where the plane is of other columns.
    view
        x0, x1, y0, y1 in data coordinates; None for all.
    selected_by
        How the selection came to be, in a few words for the caption: "lasso", "is_known and magnitude < 18".
    palette
        Name of a ramp, or "auto" (`explorer.services.colors.ramp`).
    size
        Width and height of the map on the screen, px: the figure has its shape, and its points their size.
    sort, descending
        Order of the gallery, and so of the contact sheet.
    columns
        References of the columns of the histograms; () for the coloring and the scores.
    contours
        Whether lines of equal density are drawn.
    overlays
        Subjects drawn as markers.
    places
        Named places of the plane.
    """

    plane: Plane = field(default_factory=Plane)
    color: Color = field(default_factory=Color)
    map_id: str = ""
    view: View | None = None
    selection: Selection | None = None
    selected_by: str = ""
    palette: str = "auto"
    size: tuple[int, int] = (880, 660)
    sort: str = ""
    descending: bool = True
    columns: tuple[str, ...] = ()
    contours: bool = False
    overlays: Sequence[Overlay] = ()
    places: Sequence[Place] = ()

    @property
    def picked(self) -> Selection | None:
        """The selection, if it is of anything."""
        return self.selection if self.selection is not None and self.selection.count else None

    def link(self) -> str:
        """The query of the page's URL that shows this again (all but the selection)."""
        plane, color = self.plane, self.color
        told = {"map": self.map_id, "run": color.run_id, "x": plane.x, "y": plane.y, "color": color.by}
        told |= {"aggregate": color.aggregate, "norm": color.norm, "palette": self.palette}
        told |= {"lambda": f"{color.lambda_:.3g}", "lambda_mode": color.mode, "sort": self.sort}
        if plane.turn is not None:
            told["turn"] = ",".join(f"{v:.4g}" for v in plane.turn)
        if self.view is not None:
            told["view"] = ",".join(f"{v:.10g}" for v in self.view)
        return "?" + urlencode({name: value for name, value in told.items() if value})


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure, and what is to be said of it.

    Attributes
    ----------
    caption
        What it shows, in sentences.
    provenance
        Where that came from, name → value.
    """

    figure: Figure
    title: str
    caption: str
    provenance: dict[str, str]
    at: datetime


def figure(
    explore: Explore,
    kind: Kind,
    screen: Screen,
    form: Form = "pdf",
    width: Width = "double",
    *,
    with_caption: bool = True,
    at: datetime | None = None,
    histograms: Histograms | None = None,
) -> bytes:
    """The file of a figure.

    Parameters
    ----------
    with_caption
        Whether caption and provenance stand below the figure; they are in the metadata in any case.
    at
        The date that the figure carries; now, if None.
    histograms
        Those of the server, which have most columns counted; new ones, if None.

    Raises
    ------
    UsageError
        Nothing to draw: no such column, a sheet without a selection or without images.
    """
    drawn = draw(explore, kind, screen, width, with_caption=with_caption, at=at, histograms=histograms)
    return written(drawn, form)


@contextmanager
def _styled() -> Iterator[None]:
    with _lock, mpl.rc_context(STYLE):  # type: ignore[arg-type]  # names of settings are literals there
        yield


@_styled()
def draw(
    explore: Explore,
    kind: Kind,
    screen: Screen,
    width: Width = "double",
    *,
    with_caption: bool = True,
    at: datetime | None = None,
    histograms: Histograms | None = None,
) -> Drawn:
    """A figure as an object, to look into; `figure` makes the file."""
    at = at or datetime.now(UTC).replace(microsecond=0)
    makers: dict[Kind, Callable[[Explore, Screen, float], Content]]
    panels = partial(_Panels, histograms or Histograms(explore))
    makers = {"map": _Map, "histograms": panels, "sheet": _Sheet}
    content = makers[kind](explore, screen, WIDTHS[width])
    simulated = _simulated(explore, kind, screen)
    title = ("Simulated: " if simulated else "") + f"{content.title}, {explore.survey.info.name}"
    caption = " ".join(
        [*([f"Simulated {simulated}."] if simulated else []), *content.said(), *explore.survey.info.notes]
    )
    provenance = _provenance(explore, screen, at)
    return _laid_out(content, title, caption, provenance, width, at, with_caption)


@_styled()
def laid_out(
    content: Content,
    title: str,
    caption: str,
    provenance: dict[str, str],
    width: Width = "double",
    *,
    with_caption: bool = True,
    at: datetime | None = None,
) -> Drawn:
    """A figure of content that another service makes, with caption and provenance below it, in the same style."""
    at = at or datetime.now(UTC).replace(microsecond=0)
    return _laid_out(content, title, caption, provenance, width, at, with_caption)


def _laid_out(
    content: Content,
    title: str,
    caption: str,
    provenance: dict[str, str],
    width: Width,
    at: datetime,
    with_caption: bool,
) -> Drawn:
    left = 2.0
    text_width = 0.98 * (WIDTHS[width] - 2 * left)  # as pixels, a line is up to 1.5 % wider than its outlines
    blocks: list[tuple[list[str], float, str]] = []
    if with_caption:
        source = " · ".join(f"{name} {value}" for name, value in provenance.items() if name != "view")
        for text, size, color in ((caption, CAPTION_PT, INK), (source, SOURCE_PT, QUIET)):
            blocks.append((_wrapped(_shown(text), text_width, size), size, color))
    below = sum(len(lines) * size * LEADING / 72 / MM + 1.5 for lines, size, _ in blocks)
    height = content.height + below + (1.5 if blocks else 0.0)
    page = Figure(figsize=(WIDTHS[width] * MM, height * MM), dpi=DPI, facecolor="white")
    content.draw(
        lambda x, y, w, h: page.add_axes((x / WIDTHS[width], 1 - (y + h) / height, w / WIDTHS[width], h / height))
    )
    top = content.height + 1.5
    for lines, size, color in blocks:
        step = size * LEADING / 72 / MM
        for i, line in enumerate(lines):
            place = left / WIDTHS[width], 1 - (top + (i + 0.8) * step) / height
            page.text(*place, line, size=size, color=color, va="baseline", ha="left")
        top += len(lines) * step + 1.5
    return Drawn(page, title, caption, provenance, at)


@_styled()
def written(drawn: Drawn, form: Form) -> bytes:
    """The bytes of a figure; title, caption and provenance are in the file's metadata."""
    told = json.dumps(drawn.provenance, ensure_ascii=False)
    title, caption, made = _clean(drawn.title), _clean(drawn.caption), f"Voorwerp {__version__}"
    metadata: dict[str, Any]
    if form == "png":
        metadata = {"Title": title, "Description": caption, "Software": made, "voorwerp": told}
        metadata["Creation Time"] = drawn.at.isoformat()
    elif form == "svg":
        metadata = {"Title": title, "Description": caption, "Creator": [made], "Source": _clean(told)}
        metadata["Date"] = drawn.at.isoformat()
    else:
        metadata = {"Title": title, "Subject": caption, "Creator": made, "Keywords": told}
        metadata["CreationDate"] = drawn.at
    out = io.BytesIO()
    drawn.figure.savefig(out, format=form, dpi=DPI, metadata=metadata)
    return out.getvalue()


# ------------------------------------------------------------------------------------------------------------ words
def _simulated(explore: Explore, kind: Kind, screen: Screen) -> str:
    """What of a figure is simulated: the "data" themselves, the "votes" that it shows or selects by, or nothing."""
    survey = explore.survey
    if any("simulated" in text.lower() for text in (survey.info.name, *survey.info.notes)):
        return "data"
    if not survey.about_crowd().get("is_simulated"):
        return ""
    seen: dict[Kind, tuple[str, ...]] = {
        "map": (screen.color.by, screen.plane.x, screen.plane.y),
        "histograms": screen.columns or (screen.color.by,),
        "sheet": (screen.sort,),
    }
    words = {reference.partition(".")[2] for reference in seen[kind] if reference.startswith("subjects.")}
    if screen.picked is not None:
        words.update(re.findall(r"\w+", screen.selected_by))
    of_talk = {"n_comments", "n_tags", "n_taggers", "tag_group"}
    return "votes" if words & (set(survey.columns_of_crowd()) - of_talk) else ""


def _provenance(explore: Explore, screen: Screen, at: datetime) -> dict[str, str]:
    """Where a figure came from; what there is none of is left out."""
    info, run_id = explore.survey.info, screen.color.run_id
    run, placed = explore.runs().get(run_id), explore.maps().get(screen.map_id)
    trained = next((r.inputs["train"] for r in (run, placed) if r is not None and "train" in r.inputs), "")
    checkpoints = {r.run_id: r.checkpoint_sha256 for r in explore.survey.runs("train")} if trained else {}
    told = {
        "survey": f"{info.name} ({info.survey_id})",
        "run": run_id,
        "map": screen.map_id,
        "checkpoint": (checkpoints.get(trained) or "")[:16],
        "selection": screen.picked.id[:16] if screen.picked is not None else "",
        "selected by": screen.selected_by if screen.picked is not None else "",
        "Voorwerp": __version__,
        "made": at.isoformat(timespec="seconds"),
        "view": screen.link(),
    }
    return {name: value for name, value in told.items() if value}


def _selected(explore: Explore, screen: Screen, rest: str, drawn: str = "") -> list[str]:
    """How many are selected, how, and how they are `drawn`; what `rest` says of the others."""
    if screen.picked is None:
        return []
    told = "; ".join(text for text in (screen.selected_by, drawn) if text)
    how = f" ({told})" if told else ""
    return [f"{screen.picked.count:,} of {explore.survey.n:,} subjects are selected{how}{rest}."]


def _of_color(explore: Explore, screen: Screen) -> str:
    """Title of the coloring, with what mixes it."""
    color = screen.color
    title = explore.color_title(color.by, color.run_id, screen.map_id)
    return f"{title} (λ = {color.lambda_:.3g})" if explore.is_mixed(color) else title


def _of_run(explore: Explore, screen: Screen, references: Sequence[str]) -> str:
    """Which run's scores a figure shows, and how they are mixed; "" where it shows none."""
    color = screen.color
    if not color.run_id or not any(r.startswith(("scores.", "learned.")) for r in references):
        return ""
    mixed = "scores.anomaly_score" in references and explore.mixes(color.run_id)
    how = f", with λ = {color.lambda_:.3g} of {MODE_TITLES[color.mode]}" if mixed else ""
    return f" Scores are of run {color.run_id}{how}."


def number(value: float) -> str:
    """A number as the page writes it: four digits that count, thousands apart."""
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{digits}×10{str(int(power)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}".replace("-", "−")
    decimals = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{min(6, decimals)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def _clean(text: str) -> str:
    """Text that every file may hold: nothing that XML does not have."""
    return "".join(c if c.isprintable() else " " for c in text)


def _shown(text: str) -> str:
    """Text that the font can draw; what it has not is U+FFFD. The metadata have it in full."""
    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in _clean(text))


def _text_width(text: str, size: float) -> float:
    """Of one line, mm."""
    width, _, _ = TextToPath().get_text_width_height_descent(text, FontProperties(size=size), False)
    return float(width) / 72 / MM


def _wrapped(text: str, width: float, size: float) -> list[str]:
    """Lines of at most `width` mm, broken at spaces; a longer word is broken anywhere."""
    lines, line = [], ""
    for word in text.split():
        while _text_width(word, size) > width:
            n = max(1, int(len(word) * width / _text_width(word, size)) - 1)
            if line:
                lines.append(line)
                line = ""
            lines.append(word[:n])
            word = word[n:]
        longer = f"{line} {word}" if line else word
        if line and _text_width(longer, size) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line] if line else lines


def elided(text: str, width: float, size: float) -> str:
    """Text of at most `width` mm: a longer one loses its middle, for ids differ at their ends."""
    text = _shown(text)
    if _text_width(text, size) <= width:
        return text
    for n in range(len(text) - 1, 0, -1):
        short = f"{text[: n // 3]}…{text[len(text) - (n - n // 3) :]}"
        if _text_width(short, size) <= width:
            return short
    return "…"


#: Adds axes at x, y (from the top left), width, height, all mm.
Add = Callable[[float, float, float, float], Axes]


class Content(Protocol):
    """What stands above the caption.

    Attributes
    ----------
    height
        mm.
    """

    title: str
    height: float

    def said(self) -> Iterator[str]:
        """The caption's sentences."""

    def draw(self, add: Add) -> None:
        """Draw into axes that `add` makes."""


# -------------------------------------------------------------------------------------------------------------- map
#: Line widths of the contours, the densest first, pt.
_WEIGHTS = (0.9, 0.6, 0.4)
#: Marker of each overlay.
_MARKERS = "os^D*Xhv"


def _on_white(overlay: Overlay) -> str:
    """The screen's color of an overlay, darker."""
    return blend(CATEGORIES[overlay.color], INK, 0.75)


class _Map:
    """The map in its view, with axes and color bar or legend."""

    def __init__(self, explore: Explore, screen: Screen, width: float) -> None:
        self.explore, self.screen = explore, screen
        color, plane = screen.color, screen.plane
        self.index = explore.index(plane)
        self.n = len(self.index)
        self.view = screen.view or _around(self.index.bounds)
        self.labels = explore.labels(color.by)
        self.title = "Map" if self._is_map() else "Plane"
        narrow = width < 100
        self.left, right, self.top = (11.0, 21.5, 2.0) if narrow else (14.0, 24.0, 2.5)
        self.wide = width - self.left - (2.5 if self.labels else right)
        self.high = self.wide * min(1.3, max(0.35, screen.size[1] / screen.size[0]))
        w, h = (round(side * MM * DPI) for side in (self.wide, self.high))
        selection_id = explore.keep(screen.picked) if screen.picked is not None else ""
        self.frame, self.paint = explore.frame(
            plane, self.view, w, h, color, selection_id, w / max(1, screen.size[0]), screen.map_id
        )
        self.colors = palette(color.by, len(self.labels), screen.palette, "light")
        self.strays = self._strays()
        self.items = self._items()
        self.rows = self._rows(width - self.left - 2.5)
        self.height = self.top + self.high + 9.5 + 3.4 * len(self.rows)

    def _strays(self) -> np.ndarray:
        """Where those lie that are off the map, (n, 2)."""
        if not self._is_map():
            return np.empty((0, 2))
        at = self.index.at(self.explore.off_map(self.screen.map_id)[:MOST_STRAYS])
        return np.asarray(at[_within(at, self.view)])

    def _is_map(self) -> bool:
        """Whether the axes are the map's components."""
        plane = self.screen.plane
        return plane.turn is not None or {plane.x, plane.y} <= {f"maps.{axis}" for axis in AXES}

    def _items(self) -> list[tuple[str, str, str]]:
        """The legend below: marker ("" for a patch of color), color, text."""
        found = [("", color, label) for color, label in zip(CATEGORIES, self.labels, strict=False)]
        if np.isin(self.frame.pixels, (MISSING, MISSING_DIM)).any():
            found.append(("", GREY, "no value"))
        if len(self.strays):
            found.append(("d", STRAY, "off the map"))
        for overlay, marker in zip(self.screen.overlays, _MARKERS, strict=False):
            some = f" ({len(overlay.rows):,} of {overlay.count:,})" if len(overlay.rows) < overlay.count else ""
            found.append((marker, _on_white(overlay), overlay.label + some))
        if self.screen.picked is not None and self.screen.picked.count <= RINGED:
            found.append(("o", INK, "selected"))
        return found

    def _rows(self, width: float) -> list[list[tuple[float, tuple[str, str, str]]]]:
        """The legend in rows: where each item begins, mm, and the item."""
        rows: list[list[tuple[float, tuple[str, str, str]]]] = []
        x = math.inf
        for marker, color, text in self.items:
            text = elided(text, 40, 6)
            w = 3.5 + _text_width(text, 6) + 4
            if x + w - 4 > width:
                rows.append([])
                x = 0.0
            rows[-1].append((x, (marker, color, text)))
            x += w
        return rows

    def said(self) -> Iterator[str]:
        explore, screen, color = self.explore, self.screen, self.screen.color
        plane = screen.plane
        titles = explore.axes(color.run_id, screen.map_id)
        if plane.turn is not None:
            yaw, pitch = (math.degrees(v) for v in plane.turn)
            what = f"The three components of map {screen.map_id}, turned by {yaw:.0f}° and {pitch:.0f}°"
        elif self._is_map():
            what = f"Map {screen.map_id}"
        else:
            what = f"{titles.get(plane.y, plane.y)} against {titles.get(plane.x, plane.x)}"
        on = "with both values" if not plane.map_id else "on the map"
        yield (
            f"{what}: {self.frame.n_in_view:,} of {self.n:,} subjects {on} are in view; "
            f"the survey has {explore.survey.n:,}."
        )
        if color.by in ("count", "share"):
            what = "subjects" if color.by == "count" else "share of the subjects that is selected,"
            discs = ", drawn as discs" if self.frame.radius else ""
            norm = _NORMS["equalised" if color.norm == "percentile" else color.norm]
            how = f"Color: {what} per pixel of {25.4 / DPI:.3f} mm{discs}, {norm}."
        elif self.labels:
            how = f"Color: {_of_color(explore, screen)}, the commonest of a pixel."
        else:
            clipped = self.paint.scale is not None and self.paint.scale.clipped
            of_pixel, norm, ends = f"the {_AGGREGATES[color.aggregate]}", color.norm, "at the 0.5 and 99.5 percentiles"
            if color.aggregate == "std":  # no subject has one: there are no percentiles of the survey
                norm, ends = ("equalised" if norm == "percentile" else norm), "at that of all subjects"
            told = f"{_NORMS[norm]}, ends {ends}" if clipped else _NORMS[norm]
            how = f"Color: {_of_color(explore, screen)}, {of_pixel}, {told}."
        yield how + _of_run(explore, screen, [color.by, plane.x, plane.y])
        few = screen.picked is not None and screen.picked.count <= RINGED
        yield from _selected(
            explore, screen, "; they are ringed, the others dimmed" if few else "; the others are dimmed"
        )
        if screen.contours:
            yield "Lines hold 50, 80 and 95 % of the subjects in view, where they are densest."
        if len(self.strays):
            n = f"{len(self.strays):,} subjects"
            yield f"Diamonds: {n} far from all others in latent space, whose place says little."

    def draw(self, add: Add) -> None:
        screen, color = self.screen, self.screen.color
        axes = add(self.left, self.top, self.wide, self.high)
        x0, x1, y0, y1 = self.view
        rgba = np.array([mpl.colors.to_rgba(c) for c in self.colors])
        rgba[0] = (1, 1, 1, 1)
        shades = np.rint(255 * rgba).astype(np.uint8)
        axes.imshow(shades[self.frame.pixels], extent=self.view, origin="lower", aspect="auto", resample=False)
        axes.set(xlim=(x0, x1), ylim=(y0, y1))
        if screen.plane.turn is not None:
            axes.set(xticks=[], yticks=[])
        else:
            titles = self.explore.axes(color.run_id, screen.map_id)
            for set_label, reference, room in (
                (axes.set_xlabel, screen.plane.x, self.wide),
                (axes.set_ylabel, screen.plane.y, self.high),
            ):
                set_label(elided(titles.get(reference, reference), room, LABEL_PT), labelpad=2)
        self._outline(axes)
        axes.scatter(
            self.strays[:, 0], self.strays[:, 1], s=9, marker="d", facecolors="none", edgecolors=STRAY, linewidths=0.6
        )
        self._ring(axes)
        if not self.labels:
            self._bar(add)
        for i, row in enumerate(self.rows):
            self._legend(add(self.left, self.top + self.high + 9.5 + 3.4 * i, self.wide, 3.4), row)

    def _outline(self, axes: Axes) -> None:
        """Contours of density, markers, and names of places."""
        for contour, width in zip(
            contours(self.index, self.view) if self.screen.contours else (), _WEIGHTS, strict=False
        ):
            for line in contour.lines:
                axes.plot(line[:, 0], line[:, 1], color=INK, linewidth=width, alpha=0.7)
        for overlay, marker in zip(self.screen.overlays, _MARKERS, strict=False):
            at = self.index.at(overlay.rows)
            axes.scatter(
                at[:, 0],
                at[:, 1],
                s=10,
                marker=marker,
                facecolors="none",
                edgecolors=_on_white(overlay),
                linewidths=0.7,
            )
        for place in self.screen.places:
            corners = np.array([*place.vertices, place.vertices[0]])
            axes.plot(corners[:, 0], corners[:, 1], color=QUIET, linewidth=0.5, dashes=(3, 2))
            above = place.label[0], corners[:, 1].max()
            if _within(np.array([above]), self.view)[0]:
                text = axes.text(*above, _shown(place.name), size=6, ha="center", va="bottom", clip_on=True)
                text.set_path_effects([withStroke(linewidth=1.4, foreground="white")])

    def _ring(self, axes: Axes) -> None:
        """Ring each of a small selection; name them where they are few."""
        picked = self.screen.picked
        if picked is None or picked.count > RINGED:
            return
        rows = picked.rows()
        at = self.index.at(rows)
        axes.scatter(at[:, 0], at[:, 1], s=26, facecolors="none", edgecolors=INK, linewidths=0.7)
        if len(rows) <= NAMED:
            self._name(axes, at, self.explore.survey.source_ids(rows))

    def _name(self, axes: Axes, at: np.ndarray, names: Sequence[str]) -> None:
        """Write names beside points, on the left where there is no room; one that would hide another is left out."""
        x0, x1, y0, y1 = self.view
        taken: list[tuple[float, float, float]] = []  # left, right, height in mm
        for (x, y), name in zip(at, names, strict=True):
            left, up = (x - x0) / (x1 - x0) * self.wide, (y - y0) / (y1 - y0) * self.high
            text = elided(name, 0.3 * self.wide, 5)
            wide = _text_width(text, 5)
            on_right = left + 1.6 + wide < self.wide
            begin = left + 1.6 if on_right else left - 1.6 - wide
            if not _within(np.array([[x, y]]), self.view)[0] or any(
                begin < right and begin + wide > other and abs(up - height) < 2.2 for other, right, height in taken
            ):
                continue
            taken.append((begin, begin + wide, up))
            axes.text(x0 + begin / self.wide * (x1 - x0), y, text, size=5, va="center_baseline")

    def _bar(self, add: Add) -> None:
        axes = add(self.left + self.wide + 2.5, self.top, 3.0, self.high)
        colors = ramp(self.screen.color.by, self.screen.palette, "light")
        shades = np.array([[mpl.colors.to_rgb(c)] for c in colors])
        axes.imshow(shades, extent=(0, 1, 0, 1), origin="lower", aspect="auto", resample=False)
        ticks = self.frame.ticks
        told = {number(value): at for at, value in reversed(ticks)}  # one label a value
        axes.set(xticks=[], xlim=(0, 1), ylim=(0, 1), yticks=list(told.values()))
        axes.set_yticklabels(list(told))
        axes.yaxis.tick_right()
        axes.yaxis.set_label_position("right")
        by = self.screen.color.by
        title = "Subjects per pixel" if by == "count" else _of_color(self.explore, self.screen)
        lines = [title] if by in ("count", "share") else [title, _AGGREGATES[self.screen.color.aggregate]]
        axes.set_ylabel("\n".join(elided(line, self.high, LABEL_PT) for line in lines), labelpad=2)

    def _legend(self, axes: Axes, row: list[tuple[float, tuple[str, str, str]]]) -> None:
        axes.set_axis_off()
        axes.set(xlim=(0, self.wide), ylim=(0, 1))
        for x, (marker, color, text) in row:
            face = "none" if marker else color
            axes.scatter([x + 1], [0.5], s=14, marker=marker or "s", facecolors=face, edgecolors=color, linewidths=0.6)
            axes.text(x + 3, 0.5, text, size=6, va="center_baseline")


def _around(bounds: View) -> View:
    """4 % more on every side."""
    x0, x1, y0, y1 = bounds
    mx, my = 0.04 * (x1 - x0), 0.04 * (y1 - y0)
    return x0 - mx, x1 + mx, y0 - my, y1 + my


def _within(at: np.ndarray, view: View) -> np.ndarray:
    """Which of (n, 2) points are in view: bool (n,)."""
    x0, x1, y0, y1 = view
    found: np.ndarray = (at[:, 0] >= x0) & (at[:, 0] <= x1) & (at[:, 1] >= y0) & (at[:, 1] <= y1)
    return found


# ------------------------------------------------------------------------------------------------------- histograms
class _Panels:
    """A histogram of each column: every subject, and the selected ones, with percentiles of all."""

    title = "Histograms"

    def __init__(self, counted: Histograms, explore: Explore, screen: Screen, width: float) -> None:
        self.explore, self.screen = explore, screen
        color = screen.color
        titles = explore.colors(color.run_id, screen.map_id) | explore.axes(color.run_id, screen.map_id)
        columns = screen.columns
        if not columns:
            scores = [r for r in titles if r.startswith("scores.")]
            columns = tuple(dict.fromkeys([c for c in (color.by, *scores) if c not in ("count", "share")]))[:6]
        if not columns:
            raise UsageError("there is no column to draw: color the map by one, or name some")
        if len(columns) > MOST_COLUMNS:
            raise UsageError(f"a figure has at most {MOST_COLUMNS} histograms, not {len(columns)}")
        self.columns = columns
        source = Source(color.run_id, color.lambda_, color.mode, screen.map_id)
        of = [screen.picked] if screen.picked is not None else []
        self.found = [counted.histogram(c, Scale(bins=60), source, of) for c in columns]
        self.names = [f"{titles.get(c, c)}" for c in columns]
        across = min(len(columns), 1 if width < 100 else 3 if len(columns) != 2 and len(columns) != 4 else 2)
        self.gap, self.left = 12.0, 11.0
        self.wide = (width - 3.0 - across * self.left - (across - 1) * (self.gap - self.left)) / across
        self.high, self.pitch, self.top = min(42.0, self.wide * 0.62), 0.0, 5.5
        self.pitch = self.high + self.top + 8.5
        self.across = across
        self.height = self.pitch * math.ceil(len(columns) / across)

    def said(self) -> Iterator[str]:
        n = self.explore.survey.n
        yield f"Number of subjects by {', '.join(_lower(name) for name in self.names)}: grey, all {n:,} of the survey."
        yield from _selected(self.explore, self.screen, "", "blue")
        yield "Counts are logarithmic. Dashed: percentiles of all subjects that have a value."
        if any(histogram.full.missing for histogram in self.found):
            yield "Subjects without a value are left out, and counted in the panel."
        if run := _of_run(self.explore, self.screen, self.columns):
            yield run.strip()

    def draw(self, add: Add) -> None:
        for i, (histogram, name) in enumerate(zip(self.found, self.names, strict=True)):
            row, column = divmod(i, self.across)
            x = self.left + column * (self.wide + self.gap)
            axes = add(x, row * self.pitch + self.top, self.wide, self.high)
            self._panel(axes, histogram)
            axes.set_xlabel(elided(name, self.wide + 6, LABEL_PT), labelpad=2)
            if column == 0:
                axes.set_ylabel("Subjects per bin", labelpad=2)

    def _panel(self, axes: Axes, histogram: Histogram) -> None:
        sets: list[tuple[Counts, str, str]] = [
            (histogram.full, "#c9ced6", "#7d8794"),
            *((counts, PICKED, PICKED) for counts in histogram.of),
        ]
        edges = histogram.edges if not histogram.labels else np.arange(len(histogram.labels) + 1) - 0.5
        if not len(edges):
            axes.text(0.5, 0.5, "no value", transform=axes.transAxes, ha="center", color=QUIET)
            axes.set(xticks=[], yticks=[])
            return
        for counts, face, edge in sets:
            shown = np.where(counts.bins > 0, counts.bins, 0.5)
            axes.stairs(shown, edges, baseline=0.5, fill=True, facecolor=face, alpha=0.85, edgecolor="none")
            axes.stairs(shown, edges, baseline=0.5, color=edge, linewidth=0.5)
        top = max(1, int(histogram.full.bins.max()))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: number(value))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0.5, top * 1.8))
        if histogram.labels:
            axes.set_xticks(np.arange(len(histogram.labels)))
            room = self.wide / len(histogram.labels)
            axes.set_xticklabels([elided(label, room * 1.0, 5) for label in histogram.labels], size=5)
            axes.tick_params(axis="x", length=0)
        last = -math.inf
        for line in histogram.lines:
            at = (line.value - edges[0]) / (edges[-1] - edges[0]) * self.wide
            if not 0 <= at <= self.wide:
                continue
            axes.axvline(line.value, color=INK, linewidth=0.5, dashes=(4, 2.5))
            text = f"{line.percentile:g} %"
            if at - last >= _text_width(text, 4.8) + 0.6:
                axes.text(line.value, 1.012, text, size=4.8, ha="center", transform=axes.get_xaxis_transform())
                last = at
        if histogram.full.missing:
            told = f"{histogram.full.missing:,} without a value"
            axes.text(0.985, 0.96, told, size=4.8, color=QUIET, ha="right", va="top", transform=axes.transAxes)


def _lower(title: str) -> str:
    """A title within a sentence; what is an abbreviation stays."""
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


# ------------------------------------------------------------------------------------------------------------ sheet
class _Sheet:
    """Thumbnails of the selection in the gallery's order, with their ids."""

    title = "Contact sheet"

    def __init__(self, explore: Explore, screen: Screen, width: float) -> None:
        if not explore.survey.has_images:
            raise UsageError("this survey has no images, so there is no contact sheet; draw the map or histograms")
        if screen.picked is None:
            raise UsageError("nothing is selected: a contact sheet shows the selected subjects")
        self.explore, self.screen, self.width = explore, screen, width
        color = screen.color
        told = (color.run_id, color.lambda_, screen.descending, color.mode, screen.map_id)
        order = explore.ordered(explore.keep(screen.picked), screen.sort, *told)
        self.rows = order[:MOST_TILES]
        self.ids = explore.survey.source_ids(self.rows)
        most = 5 if width < 100 else 10
        self.across = min(most, max(3, math.ceil(math.sqrt(1.7 * len(self.rows)))))
        self.side = (width - 4.0) / self.across
        self.height = 2.0 + math.ceil(len(self.rows) / self.across) * (self.side + 2.6)

    def said(self) -> Iterator[str]:
        screen, color = self.screen, self.screen.color
        yield from _selected(self.explore, screen, "")
        n, of = len(self.rows), screen.picked.count if screen.picked is not None else 0
        which = f"{'All' if n == of else 'The first'} {n:,}, " if n > 1 else ""
        title = self.explore.colors(color.run_id, screen.map_id).get(screen.sort, screen.sort)
        by = (
            f"by {_lower(title)}, {'highest' if screen.descending else 'lowest'} first"
            if screen.sort
            else "in the survey's order"
        )
        run = _of_run(self.explore, screen, [screen.sort])
        yield f"{which}{by}; each is the whole original, not the network's crop, above its id.{run}"

    def draw(self, add: Add) -> None:
        width, height = self.width - 4.0, self.height - 2.0
        axes = add(2.0, 2.0, width, height)
        axes.set_axis_off()
        axes.set(xlim=(0, width), ylim=(height, 0))
        inner = self.side - 0.8
        longest = max(_text_width(_shown(name), 4.6) for name in self.ids)
        size = min(4.6, max(4.0, 4.6 * inner / longest))  # whole ids, if they can be read at all
        for i, (content, name) in enumerate(zip(self.explore.survey.thumbnails(self.rows), self.ids, strict=True)):
            row, column = divmod(i, self.across)
            x, y = column * self.side, row * (self.side + 2.6)
            picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            h, w = picture.shape[:2]
            scale = inner / max(h, w)
            left, top = x + (inner - w * scale) / 2, y + (inner - h * scale) / 2
            axes.imshow(picture, extent=(left, left + w * scale, top + h * scale, top), aspect="auto")
            axes.text(
                x + inner / 2, y + inner + 1.9, elided(name, inner + 0.01, size), size=size, ha="center", va="baseline"
            )
        axes.set(xlim=(0, width), ylim=(height, 0))
