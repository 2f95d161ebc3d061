"""The subject panel: the focus, in full, and what people say of it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Any

import panel as pn
from panel.viewable import Viewer

from explorer.errors import UsageError, VoorwerpError
from explorer.ledger import Entry
from explorer.services.explore import Explore
from explorer.services.notes import Notes
from explorer.services.samp import Samp
from explorer.services.vetting import Vetting
from explorer.state import ExplorerState, Selection
from explorer.views.components import SubjectCard

#: Tags that are offered while one is typed, the most common of all.
OFFERED = 500
#: Nearest ones that can be selected at once.
MOST = 1_000
#: Nearest ones that are shown.
SHOWN = 12
LATENT = "latent"


class SubjectView(Viewer):
    """Follows `ExplorerState.focus`; the page reads the subject from ``/subject`` itself.

    Tags and notes come with the focus, what takes longer when the page asks. A decision is in the ledger before the
    page is told of it.
    """

    def __init__(
        self,
        state: ExplorerState,
        explore: Explore,
        notes: Notes,
        samp: Samp | None,
        vetting: Vetting | None = None,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.vetting = vetting
        self.state, self.explore, self.notes, self.samp = state, explore, notes, samp
        self._made: set[int] = set()  # entries of this session: no other can be undone from here
        self._last = notes.last
        self.panel = SubjectCard(
            sizing_mode="stretch_both",
            margin=0,
            has_images=explore.survey.has_images,
            has_samp=samp is not None,
            hint="Click a point on the map or a picture in the gallery to see the subject here.",
        )
        self.panel.asked = self.answer
        self.panel.param.watch(lambda event: setattr(state, "focus", event.new), "row")
        state.param.watch(lambda *_: self._show(), ["focus", "run_id", "map_id", "lambda_", "lambda_mode"])
        self._show()

    def refresh(self) -> None:
        """Read the focus again: the survey's columns have changed."""
        self.panel.param.update(read=self.panel.read + 1, axes=self._axes())

    def poll(self) -> None:
        """Show what others have decided meanwhile."""
        if (last := self.notes.last) != self._last:
            self._last = last
            self.panel.own = self._own()

    def _show(self) -> None:
        run = self.explore.runs().get(self.state.run_id)
        changed: dict[str, Any] = {}
        if self.panel.own.get("row") != self.state.focus:
            changed["own"] = self._own()
        if not self.panel.axes or (self.panel.run_id, self.panel.map_id) != (self.state.run_id, self.state.map_id):
            changed["axes"] = self._axes()
        self.panel.param.update(
            row=self.state.focus,
            run_id=self.state.run_id,
            map_id=self.state.map_id,
            lambda_=round(self.state.lambda_, 3),
            lambda_mode=self.state.lambda_mode,
            reconstructs=bool(run and "train" in run.inputs),
            **changed,
        )

    def _axes(self) -> dict[str, str]:
        return self.explore.axes(self.state.run_id, self.state.map_id)

    def _own(self) -> dict[str, Any]:
        row = self.state.focus
        if row is None:
            return {}
        subject_id = int(self.explore.survey.subject_ids[row])
        tags, notes, me = self.notes.tags(subject_id), self.notes.notes(subject_id), self.state.person.name
        if self._is_blind(subject_id):
            tags, notes = [tag for tag in tags if tag.who == me], [note for note in notes if note.who == me]
        return {
            "row": row,
            "tags": [asdict(tag) for tag in tags],
            "notes": [asdict(note) for note in notes],
            "known": dict(list(self.notes.counts().items())[:OFFERED]),
        }

    def _is_blind(self, subject_id: int) -> bool:
        """Whether what others wrote of a subject must wait for this person's own grade."""
        return self.vetting is not None and self.vetting.is_blind_to(subject_id, self.state.person)

    # -------------------------------------------------------------------------------------------- what is asked
    async def answer(self, msg: dict[str, Any]) -> None:
        """Do what the page asks; what it has no words for is left alone."""
        match msg:
            case {"point": True}:
                await self.point()
            case {"decide": str(), "id": str()}:
                await self.decide(msg)
            case {"alike": str(by), "row": int(row)} if self._is_row(row):
                await self.list_alike(by, row)
            case {"history": int(row)} if self._is_row(row):
                await self.tell_history(row)
            case {"nearest": str(by), "k": int(k), "row": int(row)} if self._is_row(row) and 0 < k <= MOST:
                await self.select_nearest(by, k, row)
            case {"talk": str(group)}:
                await self.select_talk(group)
            case {"tagged": str(tag)}:
                self._select(self.notes.selection(tag).rows(), f"with the tag “{tag}”")

    def _is_row(self, row: int) -> bool:
        return 0 <= row < self.explore.survey.n

    async def point(self) -> None:
        """Point TOPCAT, Aladin and DS9 at the focus."""
        record = self.explore.survey.subject(self.state.focus) if self.state.focus is not None else {}
        ra, dec = record.get("ra"), record.get("dec")
        if self.samp is None or not isinstance(ra, float) or not isinstance(dec, float):
            return
        try:
            clients = await asyncio.to_thread(self.samp.point_at, ra, dec)
            said = f"{', '.join(clients)} pointed here"
        except VoorwerpError as error:
            said = str(error)
        self.panel.param.update(said=said, answered=self.panel.answered + 1)

    # ------------------------------------------------------------------------------------------------ decisions
    async def decide(self, told: dict[str, Any]) -> None:
        """Keep a tag or a note; the page hears of it when it is on the disk, or why it is not."""
        answer: dict[str, Any] = {"id": told["id"]}
        try:
            entry, answer["said"] = await asyncio.to_thread(self._decide, told)
        except VoorwerpError as error:
            answer["error"] = str(error)
        else:
            if entry.client_id == told["id"]:  # what was there already is not this session's to take back
                self._made.add(entry.id)
                answer["undo"] = entry.id
        self.panel.param.update(own=self._own(), decided=answer)

    def _decide(self, told: dict[str, Any]) -> tuple[Entry, str]:
        notes, made = self.notes, {"who": self.state.person.name, "client_id": told["id"]}
        seen: dict[str, Any] = {"run_id": self.state.run_id or None, "map_id": self.state.map_id or None}
        row = told.get("row")
        if not isinstance(row, int) or not self._is_row(row):
            raise UsageError("the decision names no subject of this survey")
        subject_id = int(self.explore.survey.subject_ids[row])
        match told:
            case {"decide": "tag", "tag": str(tag)}:
                entry = notes.add_tag(subject_id, tag, **made, **seen)
                is_new = entry.client_id == told["id"]
                return entry, f"tag “{entry.payload['tag']}” kept" if is_new else "it has this tag already"
            case {"decide": "untag", "tag": str(tag)}:
                return notes.remove_tag(subject_id, tag, **made), f"tag “{tag}” taken away"
            case {"decide": "note", "text": str(text)}:
                return notes.add_note(subject_id, text, **made, **seen), "note kept"
            case {"decide": "edit", "text": str(text), "note": int(note)}:
                return notes.edit_note(note, text, **made, **seen), "change kept"
            case {"decide": "delete", "note": int(note)}:
                return notes.delete_note(note, **made), "note deleted"
            case {"decide": "undo", "entry": int(entry_id)} if entry_id in self._made:
                return notes.undo(entry_id, **made), "taken back"
        raise UsageError("this cannot be decided here")

    async def tell_history(self, row: int) -> None:
        """Everything that became of a subject."""
        subject_id = int(self.explore.survey.subject_ids[row])
        events = await asyncio.to_thread(self.notes.history, subject_id)
        if await asyncio.to_thread(self._is_blind, subject_id):
            me = self.state.person.name
            events = [event for event in events if event.who in (me, "") or event.kind not in ("tag", "note", "undo")]
        if self.vetting is not None:  # experts' votes, as far as this person may know them
            events = [*events, *await asyncio.to_thread(self.vetting.history, subject_id, self.state.person)]
            events.sort(key=lambda event: event.at)
        self.panel.history = {"row": row, "events": [asdict(event) for event in events]}

    # ------------------------------------------------------------------------------------------------ neighbors
    def _near(self, by: str, k: int, row: int) -> list[tuple[int, float]]:
        state = self.state
        if by == LATENT:
            return self.explore.neighbours(row, state.run_id, k)
        return self.explore.alike(by, row, k, state.run_id, state.lambda_, state.lambda_mode, state.map_id)

    async def list_alike(self, by: str, row: int) -> None:
        """Those whose latent vector, or whose value of a column, is nearest."""
        answer: dict[str, Any] = {"by": by, "row": row, "near": [], "n": self.panel.alike.get("n", 0) + 1}
        try:
            near = await asyncio.to_thread(self._near, by, SHOWN, row)
        except VoorwerpError as error:
            answer["error"] = str(error)
        else:
            names = self.explore.survey.source_ids([i for i, _ in near])
            answer["near"] = [
                {"row": i, "value": value, "source_id": name} for (i, value), name in zip(near, names, strict=True)
            ]
        self.panel.alike = answer

    async def select_nearest(self, by: str, k: int, row: int) -> None:
        """Let the k nearest meet the selection as a drawn region would."""
        try:
            near = await asyncio.to_thread(self._near, by, k, row)
        except VoorwerpError as error:
            self._say(str(error))
            return
        self._select([i for i, _ in near], "nearest" if near else "nearest: it has no value there")

    async def select_talk(self, group: str) -> None:
        """Let the subjects with a group of Talk's tags meet the selection."""
        try:
            rows = await asyncio.to_thread(self.explore.talk.rows, group)
        except VoorwerpError as error:
            self._say(str(error))
            return
        self._select(rows, f"with the tag “{group}” on Talk")

    def _select(self, rows: Any, words: str) -> None:
        if len(rows):  # what is asked runs beside the document's lock, and others change models of the document
            region = Selection.of_rows(rows, self.explore.survey.n)
            pn.state.execute(partial(self.state.select, region), schedule=True)
        mode = {"add": "added", "subtract": "taken out", "intersect": "kept of the selection"}
        self._say(f"{len(rows):,} {words}" + (f", {mode[self.state.mode]}" if self.state.mode in mode else ""))

    def _say(self, words: str) -> None:
        self.panel.found = {"said": words, "n": self.panel.found.get("n", 0) + 1}

    def __panel__(self) -> pn.viewable.Viewable:
        return self.panel
