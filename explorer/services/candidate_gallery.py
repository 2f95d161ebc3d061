"""A gallery of candidates to print or to mail: pages of cut-outs as PDF, or one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import math
import textwrap
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import numpy as np
from PIL import Image

from explorer import __version__

#: Longest side of a picture, px: in print some 100 dpi, on a screen about an inch and a half.
PDF_PX, HTML_PX = 144, 256
#: Pictures across and down a page of A4.
ACROSS, DOWN = 5, 6
_PAGE_MM = (210.0, 297.0)
_MARGIN_MM, _HEAD_MM, _FOOT_MM, _WORDS_MM = 12.0, 16.0, 30.0, 8.8
INK, QUIET, FOUND, DISPUTED = "#1b1f27", "#5b6472", "#0072b2", "#a8470d"
_drawing = threading.Lock()  # matplotlib's fonts are everyone's


@dataclass(frozen=True, slots=True)
class Card:
    """One candidate.

    Attributes
    ----------
    picture
        A JPEG or PNG; empty where there is none.
    name
        Its id, exact.
    grade, words
        In a line each: ``A · 2 of 3``, and what else must be said.
    """

    picture: bytes
    name: str
    grade: str
    words: str
    is_found: bool
    is_disputed: bool
    interesting: int = 0


def gallery_pdf(title: str, cards: Sequence[Card], caption: str, told: Mapping[str, Any], at: datetime) -> bytes:
    """Pages of A4, 30 candidates each, the caption below each page.

    Parameters
    ----------
    told
        Provenance, into the file's metadata.

    Returns
    -------
    bytes
        A PDF; text is text, and some 15 kB a picture.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    from explorer.services.figures import STYLE

    per_page = ACROSS * DOWN
    pages = [cards[i : i + per_page] for i in range(0, len(cards), per_page)] or [()]
    out = io.BytesIO()
    metadata = {"Title": title, "Subject": caption, "Creator": f"Voorwerp {__version__}", "CreationDate": at}
    metadata["Keywords"] = "; ".join(f"{name}: {value}" for name, value in told.items())
    width, height = _PAGE_MM
    with _drawing, mpl.rc_context(cast("Any", STYLE)), PdfPages(out, metadata=metadata) as file:
        for number, page in enumerate(pages, 1):
            figure = Figure(figsize=(width / 25.4, height / 25.4))
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            axes.set(xlim=(0, width), ylim=(height, 0))
            axes.text(_MARGIN_MM, _MARGIN_MM + 2, _printable(title), size=11, weight="bold")
            axes.text(width - _MARGIN_MM, _MARGIN_MM + 2, f"{number} of {len(pages)}", size=7, ha="right", color=QUIET)
            side = (width - 2 * _MARGIN_MM) / ACROSS
            tall = (height - 2 * _MARGIN_MM - _HEAD_MM - _FOOT_MM) / DOWN
            inner = min(side - 2.0, tall - _WORDS_MM)
            for i, card in enumerate(page):
                down, across = divmod(i, ACROSS)
                _draw(axes, card, _MARGIN_MM + across * side, _MARGIN_MM + _HEAD_MM / 2 + down * tall, inner)
            axes.text(
                _MARGIN_MM,
                height - _FOOT_MM - _MARGIN_MM + 10,
                "\n".join(_printable(line) for line in textwrap.wrap(caption, 190)),
                size=5.2,
                color=QUIET,
                va="top",
                linespacing=1.35,
            )
            axes.set(xlim=(0, width), ylim=(height, 0))
            file.savefig(figure)
    return out.getvalue()


def _draw(axes: Any, card: Card, x: float, y: float, inner: float) -> None:
    """One candidate on a page, its upper left corner at x, y mm."""
    if card.picture:
        with Image.open(io.BytesIO(card.picture)) as opened:
            image = opened.convert("RGB")
        image.thumbnail((PDF_PX, PDF_PX))
        # 256 colors: a PDF then keeps a byte a pixel, deflated
        pixels = np.asarray(image.quantize(256).convert("RGB"))
        h, w = pixels.shape[:2]
        scale = inner / max(h, w)
        left, top = x + (inner - w * scale) / 2, y + (inner - h * scale) / 2
        extent = (left, left + w * scale, top + h * scale, top)
        axes.imshow(pixels, extent=extent, aspect="auto", interpolation="none")
    else:
        axes.text(x + inner / 2, y + inner / 2, "no picture", size=6, ha="center", color=QUIET)
    name = _printable(card.name)
    size = min(5.4, 5.4 * 30 / max(30, len(name)))
    axes.text(x, y + inner + 2.4, name, size=size)
    color = DISPUTED if card.is_disputed else FOUND if card.is_found else INK
    axes.text(x, y + inner + 5.0, _printable(card.grade), size=5.4, weight="bold", color=color)
    if card.words:
        axes.text(x, y + inner + 7.2, _printable(card.words), size=4.4, color=QUIET)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def gallery_html(title: str, cards: Sequence[Card], caption: str, told: Mapping[str, Any]) -> bytes:
    """One page without any script, its pictures inside; it may fetch nothing from anywhere."""
    # it brings matplotlib, which takes half a second to import, and a server starts without
    from explorer.services.report import POLICY

    parts = []
    for card in cards:
        kind = "png" if card.picture.startswith(b"\x89PNG") else "jpeg"
        shown = '<p class="none">no picture</p>'
        if card.picture:
            body = base64.b64encode(card.picture).decode()
            shown = f'<img alt="{_t(card.name)}" src="data:image/{kind};base64,{body}">'
        mark = "disputed" if card.is_disputed else "found" if card.is_found else ""
        parts.append(
            f'<figure class="{mark}">{shown}<figcaption><b>{_t(card.name)}</b><br><span>{_t(card.grade)}</span>'
            f"<br>{_t(card.words)}</figcaption></figure>"
        )
    rows = "".join(f"<dt>{_t(name.replace('_', ' '))}</dt><dd>{_t(str(value))}</dd>" for name, value in told.items())
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">'
        f'<meta name="viewport" content="width=device-width"><title>{_t(title)}</title><style>{_STYLE}</style></head>'
        f"<body><h1>{_t(title)}</h1><p>{_t(caption)}</p><main>{''.join(parts)}</main>"
        f"<h2>Where it is from</h2><dl>{rows}</dl></body></html>\n"
    )
    return page.encode()


_STYLE = f"""
body{{font:15px/1.45 system-ui,sans-serif;color:{INK};background:#fff;max-width:80rem;margin:2rem auto;padding:0 1rem}}
h1{{font-size:1.4rem}}h2{{font-size:1.1rem}}
main{{display:grid;grid-template-columns:repeat(auto-fill,minmax(10rem,1fr));gap:1rem}}
figure{{margin:0;break-inside:avoid}}img{{width:100%;height:auto;display:block;background:#eee}}
.none{{aspect-ratio:1;margin:0;background:#eee;color:{QUIET};display:grid;place-items:center}}
figcaption{{font-size:.75rem;overflow-wrap:anywhere;color:{QUIET}}}figcaption b{{color:{INK}}}
.found span{{color:{FOUND};font-weight:700}}.disputed span{{color:{DISPUTED};font-weight:700}}
dt{{font-weight:600}}dd{{margin:0 0 .4rem;overflow-wrap:anywhere}}
"""


def _t(text: str) -> str:
    return html.escape(_printable(text))


def pages(n: int) -> int:
    """Pages of a PDF of so many candidates."""
    return max(1, math.ceil(n / (ACROSS * DOWN)))
