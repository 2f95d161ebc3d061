"""Pages made in slices, so that whoever drags a map meanwhile waits for a slice and not for a page.

Panel makes a page in one go, some tenths of a second in which the event loop answers nobody. Here it is made by a
coroutine that gives way after every component; and what is the same on every page is worked out once.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import panel as pn
from bokeh.application.handlers.handler import Handler
from bokeh.embed.bundle import _use_mathjax
from panel.io import server as panel_server
from panel.io.resources import _panel_use_mathjax, bundle_resources
from panel.io.state import set_curdoc
from panel_material_ui import Page  # type: ignore[attr-defined]  # made at import time

if TYPE_CHECKING:
    from bokeh.document import Document
    from bokeh.model import Model


class SlicedPage(Page):  # type: ignore[misc]  # made at import time
    """A page whose components can be drawn up one by one, before the page itself is asked for."""

    _is_bare = False

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self._made: dict[Document, Model] = {}

    def slices(self, parts: list[pn.viewable.Viewable]) -> Iterator[None]:
        """Make the models of `parts`, a slice each, and then the page's from them; `server_doc` takes what is there.

        All for the document that is the current one.

        Parameters
        ----------
        parts
            What is anywhere within the page's areas and has most of the work in it.
        """
        doc = _current()
        self._is_bare = True
        try:
            root = super()._get_model(doc)
        finally:
            self._is_bare = False
        yield
        for part in parts:
            part._get_model(doc, root, root, None)
            yield
        children, _ = super()._get_children(root.data, doc, root, root, None)
        for area in (*self.header, *self.main):
            _adopt(area, root)
        yield
        root.data.update(**children)
        root.children = list(children)
        self._made[doc] = root

    def _get_children(self, data_model: Any, doc: Any, root: Any, parent: Any, comm: Any) -> tuple[dict, list]:
        return ({}, []) if self._is_bare else super()._get_children(data_model, doc, root, parent, comm)

    def _get_model(self, doc: Document, root: Any = None, parent: Any = None, comm: Any = None) -> Model:
        made = self._made.pop(doc, None)
        return super()._get_model(doc, root, parent, comm) if made is None else made


def _current() -> Document:
    doc = pn.state.curdoc
    assert doc is not None, "a page is made for a document"
    return doc


def _adopt(container: Any, root: Model) -> None:
    """Tell the parts within a layout which model they lie in; they were made before it."""
    ref = root.ref["id"]
    for child in getattr(container, "objects", ()):
        if ref in child._models:
            child._models[ref] = (child._models[ref][0], container._models[ref][0])
            _adopt(child, root)


class InSlices(Handler):
    """Makes the pages of an application before Panel asks for them, slice by slice on the event loop.

    Parameters
    ----------
    begin
        A generator of None after each slice and of the page at last; the document that it is for is the current one.
    """

    def __init__(self, begin: Callable[[], Iterator[SlicedPage | None]]) -> None:
        super().__init__()
        self._begin = begin
        self._made: WeakKeyDictionary[Document, SlicedPage] = WeakKeyDictionary()

    def page(self) -> SlicedPage:
        """The page of the current document: made by now, or made here and at once; for `pn.serve`."""
        made = self._made.pop(_current(), None)
        return made or next(filter(None, self._begin()))

    def modify_document(self, doc: Document) -> None:
        """Nothing: Panel's own handler asks `page`."""

    async def on_session_created(self, session_context: Any) -> None:
        """Make the page; after an error Panel makes it at once, and says what is wrong where it always does."""
        doc = session_context._document
        pn.state._thread_id_[doc] = threading.get_ident()  # as Panel's `initialize_document` has it, too late for this
        steps = self._begin()
        while doc not in self._made:
            with set_curdoc(doc):
                page = next(steps)
            if page is not None:
                self._made[doc] = page
            await asyncio.sleep(0)


def remember_resources() -> None:
    """Let every page after the first take its list of scripts and style sheets from that: they are the same.

    Panel asks the file system for the bundles of every class that it knows, for every page: a fifth of its making.
    """
    known: dict[tuple[Any, ...], Any] = {}

    def remembered(roots: Any, resources: Any, *given: Any, **named: Any) -> Any:
        mathjax = _use_mathjax(roots) or _panel_use_mathjax(roots)
        state = pn.state
        key = (resources.mode, resources.root_url, resources.absolute, state.rel_path, state.base_url, mathjax)
        if given or named:
            return bundle_resources(roots, resources, *given, **named)
        if key not in known:
            known[key] = bundle_resources(roots, resources)
        found = copy.copy(known[key])
        found.js_files, found.js_raw = [*found.js_files], [*found.js_raw]  # Bokeh may add to them
        return found

    panel_server.bundle_resources = remembered  # type: ignore[attr-defined]
