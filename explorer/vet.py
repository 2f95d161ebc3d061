"""The page where experts grade, ``/vet``: its routes. Plain HTML and two scripts: quick, also over a slow line.

==================================  ========================================================================
GET  /vet                           the campaigns of who asks
GET  /vet/ID                        the page of one campaign
GET  /vet/FILE                      its scripts, styles and logo: open to everyone
GET  /vet/campaigns                 the campaigns as JSON, with how far one is
GET  /vet/ID/queue                  a stretch of one's own queue: ``start`` or ``key``, ``count``; ``whole`` tells
                                    the state of every subject in it, a letter each, and how many are in each cluster
GET  /vet/ID/picture/KEY            its pixels, for the page's viewer
GET  /vet/ID/mosaic                 several as small pictures: ``key`` many times; uint32 length of a JSON header, the
                                    header, the pictures
GET  /vet/ID/reconstruction/KEY     the crop and what the campaign's model makes of it, as two PNGs in that same form
GET  /vet/ID/context/KEY            where it is on the sky and where else to look at it, and what the model finds alike
GET  /vet/ID/told/KEY               what machine, volunteers and others said, once one has graded it
POST /vet/ID/(vote|bulk|undo|redo|tag|note)  answered when it is on the disk
==================================  ========================================================================

A key says nothing of its subject, and is good for its owner alone: every image is looked up in the queue of who asks.
The headers of an answer are the same for every subject. A **reconstruction** is a machine's picture, not its judgement:
it shows no score, so it is there on demand while a campaign is blind; the vote keeps that it was looked at (``seen``,
``looked``), and so it does for places on the sky.
"""

from __future__ import annotations

import asyncio
import html
import json
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlencode

import numpy as np
import orjson
from tornado.web import HTTPError, RequestHandler, stream_request_body

from explorer import ASSETS
from explorer.classify import CONTENT_SECURITY_POLICY
from explorer.errors import AccessError, LedgerError, UsageError, VoorwerpError
from explorer.people import Role
from explorer.server import Access, Change, Route
from explorer.services.campaigns import Campaign
from explorer.services.classify import Look
from explorer.services.clusters import words
from explorer.services.desk import Desk
from explorer.services.explore import newest
from explorer.services.links import hms, links
from explorer.services.looks import Looks
from explorer.services.notes import tag_of
from explorer.services.originals import png
from explorer.services.pictures import reconstructs
from explorer.services.vetting import Item, Queue

FILES = {
    "vet.js": "text/javascript; charset=utf-8",
    "vet.css": "text/css; charset=utf-8",
    "keys.js": "text/javascript; charset=utf-8",
    "viewer.js": "text/javascript; charset=utf-8",
    "voorwerp.css": "text/css; charset=utf-8",
    "logo.svg": "image/svg+xml",
}
#: Of what is sent, bytes.
MAX_BODY = 65_536
#: Of a queue, at once; of a mosaic; and of those that are alike.
MOST_ITEMS, MOST_CELLS, N_ALIKE = 500, 160, 12
#: Sides of small pictures, px.
SMALL = (160, 320, 640)
#: What may have been looked at before a vote.
LOOKED = ("reconstruction", "context")
MAX_SECONDS = 86_400.0
TIGHTER = {"Cache-Control": "no-store", "Content-Security-Policy": CONTENT_SECURITY_POLICY}


class Refused(HTTPError):
    """What the page can do something about: "login", "closed", "role"."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(status, message.replace("%", "%%"))
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Room:
    """What the routes share. Votes that wait together share one commit; pictures wait for one process."""

    looks: Looks
    small: Callable[[int, int], Look]
    votes: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(32, thread_name_prefix="vet"))
    pictures: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(4, thread_name_prefix="vet-pictures")
    )


def json_of(told: object) -> tuple[bytes, str]:
    """An answer as JSON, and its content type."""
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY), "application/json"


class _Vet(Route):
    """Checked at the door; what goes wrong is one sentence, and of a kind where the page can do something about it."""

    needs: Role = "vetter"

    def initialize(  # type: ignore[override]  # each table of routes gives its own
        self, access: Access, desk: Desk, pool: ThreadPoolExecutor, room: Room
    ) -> None:
        super().initialize(access, desk, pool)
        self.room = room

    def prepare(self) -> None:
        super().prepare()
        for name, value in TIGHTER.items():
            self.set_header(name, value)

    async def get(self, *path: str) -> None:
        try:
            body, kind = await self.answer(*path)
        except LedgerError as error:
            raise HTTPError(503, str(error).replace("%", "%%")) from None
        except AccessError as error:
            raise Refused(403, "refused", str(error)) from None
        except VoorwerpError as error:
            raise Refused(400, "refused", str(error)) from None
        self.set_header("Content-Type", kind)
        self.finish(body)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        for name, value in TIGHTER.items():
            self.set_header(name, value)
        message = error.log_message if isinstance(error, HTTPError) and error.log_message else self._reason
        kind = "login" if not hasattr(self, "person") and status_code in (401, 403) else ""
        if isinstance(error, Refused):
            kind = error.kind
        self.finish({"error": message.replace("%%", "%"), "kind": kind})

    async def on(self, pool: ThreadPoolExecutor, function: Callable[..., Any], *args: Any) -> Any:
        """Run on one of the room's pools."""
        return await asyncio.get_running_loop().run_in_executor(pool, function, *args)

    def campaign(self, campaign_id: str) -> Campaign:
        """A campaign that there is."""
        try:
            return self.desk.campaigns.get(campaign_id)
        except UsageError as error:
            raise HTTPError(404, str(error)) from None

    def supply(self, campaign: Campaign) -> None:
        """Have the next batch made where one is due; nobody waits for it."""
        if campaign.plan.order == "acquisition":
            self.desk.acquiring.refresh(campaign.id)

    def item(self, campaign_id: str, key: str) -> Item:
        """What a key of one's own stands for."""
        return self.desk.vetting.item(campaign_id, self.person.name, key)


# ------------------------------------------------------------------------------------------------------------ pages
class FileRoute(RequestHandler):
    def initialize(self, access: Access) -> None:
        self.access = access

    def get(self, name: str) -> None:
        self.access.admit(self)
        for header, value in (TIGHTER | {"Cache-Control": "no-cache", "Content-Type": FILES[name]}).items():
            self.set_header(header, value)
        self.finish((ASSETS / name).read_bytes())


class PageRoute(_Vet):
    """One page for the list and for each campaign: its script asks for the rest."""

    needs: Role = "viewer"

    def prepare(self) -> None:
        if self.access.person(self) is None:  # Host and Origin first
            self.redirect(f"/login?{urlencode({'next': self.request.uri or '/vet'})}")
            return
        super().prepare()

    async def answer(self, *path: str) -> tuple[bytes, str]:
        if path:
            self.campaign(path[0])
        page = (ASSETS / "vet.html").read_text(encoding="utf-8")
        for name, value in {"survey": self.explore.survey.info.name, "id": path[0] if path else ""}.items():
            page = page.replace(f"{{{{{name}}}}}", html.escape(value))
        return page.encode(), "text/html; charset=utf-8"


class CampaignsRoute(_Vet):
    """What there is to grade, newest first."""

    needs: Role = "viewer"

    async def answer(self, *path: str) -> tuple[bytes, str]:
        return json_of(await self.on(self.room.votes, self.listed))

    def listed(self) -> dict[str, Any]:
        """Campaigns with how far the person is."""
        who = self.person.name
        told = []
        for campaign in sorted(self.desk.campaigns.listed(), key=lambda c: c.at, reverse=True):
            plan = campaign.plan
            told.append(
                {
                    "id": campaign.id,
                    "name": plan.name,
                    "scheme": plan.scheme.name,
                    "grades": [grade.key for grade in plan.scheme.grades],
                    "is_blind": plan.is_blind,
                    "is_open": campaign.is_open,
                    "graders": plan.graders,
                    "by": campaign.who,
                    "at": campaign.at,
                    **({"standing": self.desk.vetting.standing(campaign.id, who)} if self.person.may("vetter") else {}),
                }
            )
        return {"you": asdict(self.person), "campaigns": told}


# ------------------------------------------------------------------------------------------------------------ queue
class QueueRoute(_Vet):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        campaign = await self.on(self.room.votes, self.campaign, path[0])
        self.supply(campaign)
        told = await self.on(self.room.votes, self.told, campaign)
        return json_of(told)

    def told(self, campaign: Campaign) -> dict[str, Any]:
        """A stretch of the queue of who asks."""
        vetting, who = self.desk.vetting, self.person.name
        queue, standing = vetting.queue(campaign.id, who), vetting.standing(campaign.id, who)
        start, count = self.integer("start", 0, 2**31, 0), self.integer("count", 0, MOST_ITEMS, 120)
        if key := self.get_query_argument("key", ""):
            start = place_of(queue, key)
        keys = [item.key for item in queue.window(max(start, 0), count)]
        while True:
            version, n, marks = vetting.marks(campaign.id, who, bool(self.get_query_argument("whole", "")))
            same, spans = vetting.spans(campaign.id, who) if marks is not None else (version, [])
            if same == version:
                break
        told: dict[str, Any] = {
            "version": version,
            "n": n,
            "start": start,
            "last": place_of(queue, standing["at"]) if standing["at"] else -1,
            "standing": standing,
            "items": states_of(self.desk, campaign.id, who, keys),
        }
        if marks is None:
            return told
        given = vetting.given(campaign.id, who)
        return told | {"about": self.about(campaign), "marks": marks, "given": given, "spans": spans}

    def about(self, campaign: Campaign) -> dict[str, Any]:
        """What the page says of a campaign: nothing of what it was made of."""
        plan = campaign.plan
        return {
            "id": campaign.id,
            "name": plan.name,
            "scheme": {
                "name": plan.scheme.name,
                "grades": [{n: v for n, v in asdict(g).items() if n != "value"} for g in plan.scheme.grades],
                "reject": plan.scheme.reject.key,
            },
            "is_blind": plan.is_blind,
            "is_open": campaign.is_open,
            "order": plan.order,
            "graders": plan.graders,
            "idle_s": plan.idle_s,
            "you": asdict(self.person),
            "reconstructs": bool(model_of(self.desk, campaign)),
            "clusters": self.clusters(campaign),
            **self.acquired(campaign),
        }

    def clusters(self, campaign: Campaign) -> list[dict[str, Any]]:
        """In words how far each cluster is from what is labelled, in order; [] where the order is another.

        What its labels are is told only where nothing is blind.
        """
        if (frozen := campaign.clusters) is None:
            return []
        is_told = not campaign.plan.is_blind
        return [{"words": words(one, is_told, frozen.is_simulated), "novelty": one.novelty} for one in frozen.told]

    def acquired(self, campaign: Campaign) -> dict[str, Any]:
        """By what the last batch was chosen, and how many are left; {} where the order is another."""
        if campaign.plan.order != "acquisition":
            return {}
        self.desk.acquiring.refresh(campaign.id)  # the first batch, of a campaign that was made elsewhere
        told = self.desk.acquiring.about(campaign.id)
        return {"model": told["sentence"], "left": told["left"]["sentence"], "problem": told["problem"]}


def place_of(queue: Queue, key: str) -> int:
    """Where a key is in a queue; -1 where it is not there any more."""
    try:
        return queue.index_of(key)
    except AccessError:
        return -1


def states_of(desk: Desk, campaign_id: str, who: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """What one said oneself of subjects in the queue, and no more than that."""
    names = ("grade", "interesting", "kept", "tags", "note")
    states = desk.vetting.states(campaign_id, who, keys)
    return [{"key": key} | {name: state[name] for name in names} for key, state in zip(keys, states, strict=True)]


# --------------------------------------------------------------------------------------------------------- pictures
class PictureRoute(_Vet):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        item = await self.on(self.room.votes, self.item, *path)
        return await self.on(self.room.pictures, self.room.looks.picture, item.row), "application/octet-stream"


def packed(header: dict[str, Any], pictures: Sequence[bytes]) -> bytes:
    """uint32 length of a JSON header, the header with ``sizes``, the pictures."""
    head = json.dumps(header | {"sizes": [len(picture) for picture in pictures]}).encode()
    return b"".join([struct.pack("<I", len(head)), head, *pictures])


class MosaicRoute(_Vet):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        keys = self.get_query_arguments("key")[:MOST_CELLS]
        px = self.integer("px", SMALL[0], SMALL[-1], SMALL[1])
        if px not in SMALL:
            raise HTTPError(400, f"px must be one of {', '.join(map(str, SMALL))}")
        items = await self.on(self.room.votes, lambda: [self.item(path[0], key) for key in keys])
        found = await self.on(self.room.pictures, lambda: [self.room.small(item.row, px) for item in items])
        header = {
            "keys": keys,
            "arcsec": [look.arcsec and round(look.arcsec, 3) for look in found],
            "outlines": [look.outline and [round(share, 4) for share in look.outline] for look in found],
        }
        return packed(header, [look.content for look in found]), "application/octet-stream"


def model_of(desk: Desk, campaign: Campaign) -> str:
    """The score run whose network a campaign's subjects are seen by: its source's, else the survey's; "" for none."""
    explore = desk.explore
    for run_id in (campaign.source.get("run_id"), explore.survey.info.default_run, newest(explore.runs())):
        if run_id and reconstructs(explore, run_id):
            return str(run_id)
    return ""


class ReconstructionRoute(_Vet):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        item = await self.on(self.room.votes, self.item, *path)
        run_id, survey = model_of(self.desk, self.campaign(path[0])), self.explore.survey
        if not run_id:
            raise UsageError("no model stands behind this campaign's scores, so there is no reconstruction")
        made = np.asarray(await asyncio.wrap_future(self.desk.inference.reconstruct(run_id, item.row)))
        crop = await self.on(self.room.pictures, lambda: np.asarray(survey.images[item.row]))
        return packed({}, [png(picture, survey.info.rgb) for picture in (crop, made)]), "application/octet-stream"


class ContextRoute(_Vet):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        item = await self.on(self.room.votes, self.item, *path)
        return await self.on(
            self.room.pictures, self.told, self.campaign(path[0]), item.row
        ), "application/octet-stream"

    def told(self, campaign: Campaign, row: int) -> bytes:
        """Where it is, and pictures of what the model finds alike."""
        survey = self.explore.survey
        ra, dec = (float(survey.column(name)[row]) for name in ("ra", "dec"))
        near = self.explore.neighbours(row, model_of(self.desk, campaign), N_ALIKE)
        header = {"place": hms(ra, dec), "links": links(ra, dec)}
        return packed(header, [self.room.small(other, SMALL[0]).content for other, _ in near])


class ToldRoute(_Vet):
    async def answer(self, *path: str) -> tuple[bytes, str]:
        campaign = self.campaign(path[0])
        told = await self.on(self.room.votes, self.desk.vetting.told, campaign.id, self.person.name, path[1])
        return json_of(told | {"is_simulated": self.desk.volunteers.is_simulated})


# -------------------------------------------------------------------------------------------------------- decisions
@stream_request_body
class DecideRoute(_Vet, Change):
    """A POST: with our Origin, the page's token, and a small body; answered when it is on the disk."""

    def prepare(self) -> None:
        self.body = bytearray()
        self.request.connection.set_max_body_size(MAX_BODY)  # type: ignore[union-attr]
        super().prepare()

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk

    async def get(self, *path: str) -> None:
        raise HTTPError(405)

    async def post(self, *path: str) -> None:
        await _Vet.get(self, *path)

    async def answer(self, *path: str) -> tuple[bytes, str]:
        try:
            said = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise HTTPError(400, "what was sent is not JSON") from None
        if not isinstance(said, dict):
            raise HTTPError(400, "what was sent is not an object of JSON")
        campaign, told = await self.on(self.room.votes, self.decide, path, said)
        self.supply(campaign)
        return json_of(told)

    def decide(self, path: Sequence[str], said: dict[str, Any]) -> tuple[Campaign, dict[str, Any]]:
        """Off the event loop: a campaign may have to be read from the ledger first."""
        campaign = self.campaign(path[0])
        try:
            return campaign, getattr(self, path[1])(campaign, said)
        except VoorwerpError as error:
            if not isinstance(error, LedgerError) and not self.campaign(path[0]).is_open:
                raise Refused(409, "closed", str(error)) from None
            raise

    def vote(self, campaign: Campaign, said: dict[str, Any]) -> dict[str, Any]:
        """One grade."""
        self.desk.vetting.vote(
            campaign.id,
            self.person.name,
            text_of(said, "key"),
            text_of(said, "grade"),
            interesting=said.get("interesting") is True,
            seconds=seconds_of(said),
            client_id=text_of(said, "id"),
            looked=[name for name in LOOKED if name in texts_of(said, "looked")],
        )
        return self.standing(campaign)

    def bulk(self, campaign: Campaign, said: dict[str, Any]) -> dict[str, Any]:
        """A page of the mosaic, or a grid of a cluster."""
        self.desk.vetting.bulk(
            campaign.id,
            self.person.name,
            grades_of(said),
            kept=texts_of(said, "kept"),
            interesting=texts_of(said, "interesting"),
            seconds=seconds_of(said),
            client_id=text_of(said, "id"),
            via="grid" if said.get("via") == "grid" else "mosaic",
            n_keys=said.get("n_keys", 0),
            n_clicks=said.get("n_clicks", 0),
        )
        return self.standing(campaign)

    def undo(self, campaign: Campaign, said: dict[str, Any]) -> dict[str, Any]:
        """One step back."""
        return self.stepped(campaign, self.desk.vetting.undo(campaign.id, self.person.name, text_of(said, "id")))

    def redo(self, campaign: Campaign, said: dict[str, Any]) -> dict[str, Any]:
        """And forth again."""
        return self.stepped(campaign, self.desk.vetting.redo(campaign.id, self.person.name, text_of(said, "id")))

    def stepped(self, campaign: Campaign, told: dict[str, Any]) -> dict[str, Any]:
        """What changed, as it stands now."""
        return self.standing(campaign) | told | {"items": self.states(campaign, told["keys"])}

    def tag(self, campaign: Campaign, said: dict[str, Any]) -> dict[str, Any]:
        """Give the subject a tag, or take one's own away."""
        key, tag = text_of(said, "key"), tag_of(text_of(said, "tag"))
        item, ledger, who = self.item(campaign.id, key), self.desk.ledger, self.person.name
        subject_id, client_id = int(self.explore.survey.subject_ids[item.row]), text_of(said, "id")
        own = [e for e in ledger.entries("tag", subject_id=subject_id) if e.who == who and e.payload["tag"] == tag]
        if said.get("on") is not False and not own:
            ledger.append("tag", {"tag": tag}, who=who, client_id=client_id, subject_id=subject_id)
        elif said.get("on") is False and own:
            ledger.undo(own[-1].id, who=who, client_id=client_id)
        self.desk.vetting.wrote(campaign.id, who, key, tag=tag, on=said.get("on") is not False)
        return {"items": self.states(campaign, [key])}

    def note(self, campaign: Campaign, said: dict[str, Any]) -> dict[str, Any]:
        """Write one's note on the subject, change it, or take it away."""
        key, text = text_of(said, "key"), text_of(said, "text", empty=True).strip()
        item, notes, who = self.item(campaign.id, key), self.desk.notes, self.person.name
        subject_id, client_id = int(self.explore.survey.subject_ids[item.row]), text_of(said, "id")
        own = [note for note in notes.notes(subject_id) if note.who == who]
        if not text and own:
            notes.delete_note(own[-1].id, who=who, client_id=client_id)
        elif text and own and own[-1].text != text:
            notes.edit_note(own[-1].id, text, who=who, client_id=client_id)
        elif text and not own:
            notes.add_note(subject_id, text, who=who, client_id=client_id)
        self.desk.vetting.wrote(campaign.id, who, key, note=text)
        return {"items": self.states(campaign, [key])}

    def states(self, campaign: Campaign, keys: Sequence[str]) -> list[dict[str, Any]]:
        """What stands now."""
        return states_of(self.desk, campaign.id, self.person.name, keys)

    def standing(self, campaign: Campaign) -> dict[str, Any]:
        """How far the person is, after what they said was taken in."""
        if campaign.plan.order == "acquisition":
            self.desk.acquiring.refresh(campaign.id)
        return {"standing": self.desk.vetting.standing(campaign.id, self.person.name)}


def text_of(said: dict[str, Any], name: str, empty: bool = False) -> str:
    """A text of what was sent."""
    value = said.get(name)
    if not isinstance(value, str) or not (value or empty):
        raise UsageError(f'"{name}" is missing in what was sent; reload the page')
    return value


def texts_of(said: dict[str, Any], name: str) -> list[str]:
    """A list of texts of what was sent; [] where there is none."""
    value = said.get(name, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UsageError(f'"{name}" must be a list of texts')
    return value


def grades_of(said: dict[str, Any]) -> dict[str, str]:
    """Key → grade."""
    value = said.get("grades")
    if not isinstance(value, dict) or not all(isinstance(grade, str) for grade in value.values()):
        raise UsageError('"grades" must say which grade each picture has')
    return value


def seconds_of(said: dict[str, Any]) -> float:
    """Seconds that it was looked at."""
    value = said.get("seconds")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise UsageError(f"seconds must be a number from 0 to {MAX_SECONDS:,}")
    return round(float(value), 2)


def vet_routes(
    access: Access, desk: Desk, pool: ThreadPoolExecutor, small: Callable[[int, int], Look]
) -> list[tuple[Any, ...]]:
    """The table of handlers for `pn.serve(extra_patterns=…)`; `small` makes small pictures, as `Classify.picture`."""
    given = {
        "access": access,
        "desk": desk,
        "pool": pool,
        "room": Room(Looks(desk.explore.survey, desk.originals), small),
    }
    one, key = r"/vet/([0-9a-f]{12})", r"/([0-9a-f]{16})"
    names = "|".join(name.replace(".", r"\.") for name in FILES)
    return [
        (r"/vet/?", PageRoute, given),
        (rf"/vet/({names})", FileRoute, {"access": access}),
        (r"/vet/campaigns", CampaignsRoute, given),
        (one, PageRoute, given),
        (rf"{one}/queue", QueueRoute, given),
        (rf"{one}/mosaic", MosaicRoute, given),
        (rf"{one}/picture{key}", PictureRoute, given),
        (rf"{one}/reconstruction{key}", ReconstructionRoute, given),
        (rf"{one}/context{key}", ContextRoute, given),
        (rf"{one}/told{key}", ToldRoute, given),
        (rf"{one}/(vote|bulk|undo|redo|tag|note)", DecideRoute, given),
    ]
