"""The browser-side pieces: each is a script in assets/, fed by these parameters and the routes of `explorer.server`."""

from __future__ import annotations

from typing import ClassVar

import param
from panel.custom import JSComponent

from explorer import ASSETS

CSS = (ASSETS / "voorwerp.css").read_text()


class ColorKey(JSComponent):
    """The colour bar of the frame that is painted."""

    colors = param.List([], doc="Colours of the levels or categories, lowest first.")
    n_placed = param.Integer(0, doc="Subjects on the map.")

    _esm = ASSETS / "legend.js"
    _stylesheets: ClassVar[list[str]] = [CSS]


class Thumbnails(JSComponent):
    """Thumbnails of the selection in an order: only what is on screen exists."""

    selection_id = param.String("", doc="Id that the server knows; empty for every subject.")
    total = param.Integer(0, doc="Subjects in the gallery.")
    sort = param.String("", doc="Reference of the ordering column.")
    descending = param.Boolean(True)
    run_id = param.String("")
    lambda_ = param.Number(0.2)
    size = param.Integer(96, bounds=(48, 256), doc="Side of a tile, px.")
    focus = param.Integer(None, allow_None=True, doc="Row in focus.")
    message = param.String("", doc="What is said when there is nothing to show.")

    _esm = ASSETS / "gallery.js"
    _stylesheets: ClassVar[list[str]] = [CSS]


class SubjectCard(JSComponent):
    """One subject in full."""

    row = param.Integer(None, allow_None=True)
    run_id = param.String("")
    lambda_ = param.Number(0.2)
    has_images = param.Boolean(True)
    reconstructs = param.Boolean(False, doc="Whether the run has a model that reconstructs.")
    hint = param.String("", doc="What is said when no subject is in focus.")

    _esm = ASSETS / "subject.js"
    _stylesheets: ClassVar[list[str]] = [CSS]
