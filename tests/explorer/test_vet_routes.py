"""The routes of the page where experts grade, asked of the real server: who may what, and what tells nothing."""

import io
import json
import os
import shutil
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from explorer.errors import SurveyError
from explorer.ledger import Entry, Ledger
from explorer.services.campaigns import Plan
from explorer.services.looks import bare
from explorer.survey import Survey
from models.grades import SCHEMES
from tests.explorer.clustered import write_run
from tests.explorer.logging_in import Visitor, ask, log_in, with_accounts
from tests.explorer.vetted import campaigns_of, vetting_of
from tests.ui.serving import serve


@dataclass
class Place:
    url: str
    path: Path
    open: str
    closed: str
    people: dict[str, Visitor]

    def entries(self) -> list[Entry]:
        survey = Survey.open(self.path)
        survey.close()
        with Ledger(self.path, survey.info.survey_id) as ledger:
            return ledger.entries("vote", include_undone=True)


@pytest.fixture(scope="module")
def place(image_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A survey with accounts and a campaign of 30 subjects, known objects and duds among them; and a closed one."""
    folder, before = tmp_path_factory.mktemp("vet"), os.environ["VOORWERP_CONFIG"]
    os.environ["VOORWERP_CONFIG"] = str(folder / "config")
    try:
        path = Path(shutil.copytree(image_survey, folder / "survey"))
        with_accounts(path)
        survey = Survey.open(path)
        with Ledger(path, survey.info.survey_id) as ledger:
            ledger.save_selection("known", np.arange(100, 103), survey.subject_ids, who="owner-1")
            ledger.save_selection("duds", np.arange(103, 105), survey.subject_ids, who="owner-1")
            campaigns = campaigns_of(survey, ledger)
            source = {"selection": "all of it"}
            plan = Plan("Rings", SCHEMES["abcx"], graders=2, known="known", duds="duds")
            opened = campaigns.make(plan, np.arange(60), source, "owner-1")
            closed = campaigns.make(Plan("Over", SCHEMES["yes-no"]), np.arange(5), source, "owner-1")
            campaigns.close(closed.id, "owner-1")
        survey.close()
        with serve(path, folder / "log") as url:
            people = {name: log_in(url, name) for name in ("owner-1", "grader-1", "grader-2", "viewer-1")}
            yield Place(url, path, opened.id, closed.id, people)
    finally:
        os.environ["VOORWERP_CONFIG"] = before


@pytest.fixture
def fresh(place: Place) -> Place:
    """The same place with a campaign of its own in which nobody has done anything, whichever tests ran before."""
    survey = Survey.open(place.path)
    with Ledger(place.path, survey.info.survey_id) as ledger:
        plan = Plan(f"Rings {uuid.uuid4()}", SCHEMES["abcx"], graders=2, known="known", duds="duds")
        made = campaigns_of(survey, ledger).make(plan, np.arange(60), {"selection": "all of it"}, "owner-1")
    survey.close()
    return replace(place, open=made.id)


def told(answer: tuple[int, dict[str, str], bytes], status: int = 200) -> Any:
    assert answer[0] == status, answer[2]
    return json.loads(answer[2])


def queue(place: Place, who: str, **asked: Any) -> Any:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    return told(place.people[who].get(f"/vet/{place.open}/queue?{query}"))


def send(place: Place, who: str, path: str, campaign: str = "", **said: Any) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"id": str(uuid.uuid4()), **said})
    return place.people[who].post(f"/vet/{campaign or place.open}/{path}", body)


def vote(place: Place, who: str, key: str, grade: str = "B", **said: Any) -> tuple[int, dict[str, str], bytes]:
    return send(place, who, "vote", **({"key": key, "grade": grade, "seconds": 2.5, "interesting": False} | said))


def unpacked(body: bytes) -> tuple[Any, bytes]:
    (length,) = struct.unpack_from("<I", body)
    return json.loads(body[4 : 4 + length]), body[4 + length :]


def test_who_is_not_logged_in_gets_no_picture_and_is_led_to_the_door(place: Place) -> None:
    key = queue(place, "grader-1")["items"][0]["key"]
    for part in ("queue", f"picture/{key}", f"mosaic?key={key}", f"told/{key}", f"context/{key}"):
        status, headers, body = ask(place.url, f"/vet/{place.open}/{part}")
        assert status in (401, 403)
        assert json.loads(body)["kind"] == "login"
        assert headers["cache-control"] == "no-store"
    for page in ("/vet", f"/vet/{place.open}"):
        status, headers, _ = ask(place.url, page)
        assert (status, headers["location"].partition("?")[0]) == (302, "/login")
    assert ask(place.url, "/vet/vet.css")[0] == 200


def test_a_viewer_sees_which_campaigns_there_are_and_grades_nothing(place: Place) -> None:
    key = queue(place, "grader-1")["items"][0]["key"]
    listed = told(place.people["viewer-1"].get("/vet/campaigns"))
    assert {"Over", "Rings"} <= {c["name"] for c in listed["campaigns"]}
    assert listed["you"]["role"] == "viewer"
    assert all("standing" not in c for c in listed["campaigns"])
    for part in ("queue", f"picture/{key}", f"mosaic?key={key}"):
        assert "takes a vetter" in told(place.people["viewer-1"].get(f"/vet/{place.open}/{part}"), 403)["error"]
    n = len(place.entries())
    for part in ("vote", "bulk", "undo", "redo", "tag", "note"):
        assert "takes a vetter" in told(send(place, "viewer-1", part, key=key, grade="A", seconds=1), 403)["error"]
    assert len(place.entries()) == n


def test_a_key_is_good_for_its_owner_alone(place: Place) -> None:
    mine, other = (queue(place, who)["items"][3]["key"] for who in ("grader-1", "grader-2"))
    assert mine != other
    for part in (f"picture/{other}", f"mosaic?key={other}", f"context/{other}", f"told/{other}"):
        assert "reload the page" in told(place.people["grader-1"].get(f"/vet/{place.open}/{part}"), 403)["error"]
    n = len(place.entries())
    assert told(vote(place, "grader-1", other), 403)["kind"] == "refused"
    told(send(place, "grader-1", "bulk", grades={mine: "X", other: "X"}, kept=[], seconds=3), 403)
    told(send(place, "grader-1", "tag", key=other, tag="ring", on=True), 403)
    told(send(place, "grader-1", "note", key=other, text="look"), 403)
    assert len(place.entries()) == n
    assert place.people["grader-1"].get(f"/vet/{place.open}/picture/{mine}")[0] == 200
    assert place.people["grader-2"].get(f"/vet/{place.open}/picture/{other}")[0] == 200


def test_nothing_of_a_look_tells_which_subject_it_is_or_why_it_is_there(fresh: Place) -> None:
    found = queue(fresh, "grader-2", whole=1, count=500)
    assert found["n"] == len(found["items"]) == len(found["marks"]) > 60  # known objects, duds and repeats, too
    assert set(found["marks"]) == {"."}
    survey = Survey.open(fresh.path)
    ids, files = survey.source_ids(np.arange(survey.n)), [str(v) for v in survey.arrow("image").to_pylist()]
    survey.close()
    assert found["about"].pop("you") == {"name": "grader-2", "role": "vetter"}
    text = json.dumps(found)
    told_of = ("known", "dud", "repeat", "audit", "role", "row", "all of it")
    assert not any(word in text for word in (*told_of, *ids, *files))
    assert {frozenset(item) for item in found["items"]} == {
        frozenset(("key", "grade", "interesting", "kept", "tags", "note"))
    }
    heads = set()
    for item in found["items"][:24]:
        status, headers, body = fresh.people["grader-2"].get(f"/vet/{fresh.open}/picture/{item['key']}")
        assert status == 200
        heads.add(tuple(sorted((k, v) for k, v in headers.items() if k not in ("date", "content-length", "etag"))))
        header, _ = unpacked(body)
        assert not any(word.encode() in body for word in (*ids, *files))
        assert {"width", "height", "pixel_scale"} <= set(header)
    assert len(heads) == 1
    (only,) = heads
    assert ("cache-control", "no-store") in only
    assert "script-src 'self';" in dict(only)["content-security-policy"]


def test_what_others_said_is_told_after_ones_own_grade_only(fresh: Place) -> None:
    first, second = (queue(fresh, who, whole=1, count=500)["items"] for who in ("grader-1", "grader-2"))
    for item in first[:12]:
        told(vote(fresh, "grader-1", item["key"], "A"))
    key = second[0]["key"]
    assert "blind" in told(fresh.people["grader-2"].get(f"/vet/{fresh.open}/told/{key}"), 403)["error"]
    assert all(item["grade"] is None for item in queue(fresh, "grader-2", count=500)["items"])
    told(vote(fresh, "grader-2", key, "C"))
    after = told(fresh.people["grader-2"].get(f"/vet/{fresh.open}/told/{key}"))
    assert {"scores", "votes", "volunteers", "is_simulated"} <= set(after)
    assert all(said["who"] == "grader-1" for said in after["votes"])


def test_a_vote_is_on_the_disk_when_it_is_answered_and_counts_once(place: Place) -> None:
    n, key, name = len(place.entries()), queue(place, "grader-1")["items"][20]["key"], str(uuid.uuid4())
    for _ in range(2):
        answer = told(vote(place, "grader-1", key, "B", id=name, interesting=True, looked=["context", "moon"]))
    (entry,) = place.entries()[n:]
    assert (entry.who, entry.client_id, entry.payload["grade"]) == ("grader-1", name, "B")
    assert (entry.payload["looked"], entry.payload["seconds"]) == (["context"], 2.5)
    assert answer["standing"]["at"] == key
    (item,) = queue(place, "grader-1", key=key, count=1)["items"]
    assert (item["grade"], item["interesting"]) == ("B", True)
    assert queue(place, "grader-1", start=5, count=3)["last"] == 20


def test_a_page_of_the_mosaic_is_one_step(place: Place) -> None:
    before = queue(place, "grader-2", whole=1, count=500)
    keys = [item["key"] for item, mark in zip(before["items"], before["marks"], strict=True) if mark == "."][:10]
    n = len(place.entries())
    down = dict.fromkeys(keys[:7], "X") | {keys[7]: "A"}
    said = {"grades": down, "kept": keys[8:], "interesting": keys[9:], "seconds": 12.0}
    told(send(place, "grader-2", "bulk", **said))
    assert len(place.entries()) == n + 1
    after = queue(place, "grader-2", whole=1, count=500)
    state = {item["key"]: item for item in after["items"]}
    assert [state[key]["grade"] for key in keys] == ["X"] * 7 + ["A", None, None]
    assert [(state[key]["kept"], state[key]["interesting"]) for key in keys[8:]] == [(True, False), (True, True)]
    where = [i for i, item in enumerate(after["items"]) if item["key"] in keys]
    assert "".join(after["marks"][i] for i in where) == "m" * 8 + "kk"
    undone = told(send(place, "grader-2", "undo"))
    assert set(undone["keys"]) == set(keys)
    assert queue(place, "grader-2", whole=1, count=500)["marks"] == before["marks"]
    redone = told(send(place, "grader-2", "redo"))
    assert {item["key"]: item["grade"] for item in redone["items"]} == {key: state[key]["grade"] for key in keys}


def test_tags_and_notes_are_ones_own(place: Place) -> None:
    key = queue(place, "grader-1")["items"][30]["key"]
    for who_else in ("grader-1", "grader-2"):  # the same tag twice is each one's own
        mine = queue(place, who_else)["items"][30]["key"]
        assert told(send(place, who_else, "tag", key=mine, tag="Ring ", on=True))["items"][0]["tags"].count("ring") == 1
    assert told(send(place, "grader-1", "note", key=key, text=" odd "))["items"][0]["note"] == "odd"
    assert told(send(place, "grader-1", "note", key=key, text="very odd"))["items"][0]["note"] == "very odd"
    assert told(send(place, "grader-1", "note", key=key, text=""))["items"][0]["note"] == ""
    assert told(send(place, "grader-1", "tag", key=key, tag="ring", on=False))["items"][0]["tags"].count("ring") == 0


def test_what_is_written_beside_a_hidden_repeat_stands_there_and_what_was_written_before_does_not(fresh: Place) -> None:
    survey = Survey.open(fresh.path)
    with Ledger(fresh.path, survey.info.survey_id) as ledger:
        items = list(vetting_of(survey, ledger).queue(fresh.open, "grader-2"))
    survey.close()
    repeat = next(item for item in items if item.role == "repeat")
    first = next(item for item in items if item.row == repeat.row)

    def at_repeat() -> tuple[list[str], str]:
        (state,) = [item for item in queue(fresh, "grader-2")["items"] if item["key"] == repeat.key]
        return state["tags"], state["note"]

    send(fresh, "grader-2", "tag", key=first.key, tag="arc", on=True)
    send(fresh, "grader-2", "note", key=first.key, text="seen before")
    assert at_repeat() == ([], "")
    for tag in ("jet", "arc"):
        told(send(fresh, "grader-2", "tag", key=repeat.key, tag=tag, on=True))
    told(send(fresh, "grader-2", "note", key=repeat.key, text="blue"))
    assert at_repeat() == (["jet", "arc"], "blue")
    told(send(fresh, "grader-2", "tag", key=repeat.key, tag="jet", on=False))
    assert at_repeat() == (["arc"], "blue")


def test_the_mosaics_pictures_come_in_one_answer(place: Place) -> None:
    keys = [item["key"] for item in queue(place, "grader-1")["items"][:5]]
    query = "&".join(["px=160", *(f"key={key}" for key in keys)])
    status, _, body = place.people["grader-1"].get(f"/vet/{place.open}/mosaic?{query}")
    header, pictures = unpacked(body)
    assert (status, header["keys"], len(pictures)) == (200, keys, sum(header["sizes"]))
    for size in header["sizes"]:
        assert max(Image.open(io.BytesIO(pictures[:size])).size) <= 160
        pictures = pictures[size:]


def test_what_cannot_be_is_one_sentence(place: Place) -> None:
    key = queue(place, "grader-1")["items"][0]["key"]
    n = len(place.entries())
    for said, sentence in (
        ({"grade": "Z"}, "is no grade"),
        ({"seconds": -1}, "seconds must be a number"),
        ({"seconds": True}, "seconds must be a number"),
        ({"id": None}, '"id" is missing'),
        ({"looked": "all"}, '"looked" must be a list'),
    ):
        error = told(vote(place, "grader-1", key, **said), 400)
        assert sentence in error["error"]
        assert error["kind"] == "refused"
    for body, sentence in (("[]", "not an object"), ("{", "not JSON"), ('{"key": 3}', '"key" is missing')):
        assert sentence in told(place.people["grader-1"].post(f"/vet/{place.open}/vote", body), 400)["error"]
    assert place.people["grader-1"].get(f"/vet/{place.open}/queue?start=-1")[0] == 400
    assert place.people["grader-1"].get(f"/vet/{place.open}/mosaic?px=17&key={key}")[0] == 400
    assert place.people["grader-1"].get("/vet/0123456789ab/queue")[0] == 404
    assert place.people["grader-1"].get("/vet/0123456789ab")[0] == 404
    assert queue(place, "grader-1", key="0" * 16)["start"] == -1
    large = json.dumps({"key": key, "grade": "A" * 100_000})
    with pytest.raises((AssertionError, OSError)):
        told(place.people["grader-1"].post(f"/vet/{place.open}/vote", large))
    assert len(place.entries()) == n


def test_a_closed_campaign_takes_nothing_and_says_so(place: Place) -> None:
    grader = place.people["grader-1"]
    found = told(grader.get(f"/vet/{place.closed}/queue?whole=1"))
    assert found["about"]["is_open"] is False
    said = {"key": found["items"][0]["key"], "grade": "Y", "seconds": 1}
    error = told(send(place, "grader-1", "vote", place.closed, **said), 409)
    assert error["kind"] == "closed"
    assert "is closed" in error["error"]


def test_a_change_comes_from_our_page_alone(place: Place) -> None:
    grader, n = place.people["grader-1"], len(place.entries())
    key = queue(place, "grader-1")["items"][0]["key"]
    body = json.dumps({"id": str(uuid.uuid4()), "key": key, "grade": "A", "seconds": 1})
    path = f"/vet/{place.open}/vote"
    for headers in ({"Origin": "http://evil.example"}, {"X-Voorwerp-Token": "wrong"}, {"Host": "evil.example"}):
        assert grader.post(path, body, **headers)[0] == 403
    assert ask(place.url, path, body, Cookie=grader.cookie, **{"X-Voorwerp-Token": grader.token()})[0] == 403
    assert grader.get(path)[0] in (403, 405)
    assert len(place.entries()) == n


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "png"])
def test_a_picture_keeps_its_pixels_and_loses_what_it_says(kind: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    out = io.BytesIO()
    if kind == "png":
        text = PngInfo()
        text.add_text("Title", "NGC 1")
        image.save(out, "png", pnginfo=text, exif=b"Exif\0\0NGC 1")
    else:
        image.save(out, "jpeg", comment=b"NGC 1", exif=b"Exif\0\0NGC 1", progressive=kind == "progressive")
    content = out.getvalue() + (b"NGC 1" if kind != "png" else b"")
    assert b"NGC 1" in content
    told_by = f"image/{'png' if kind == 'png' else 'jpeg'}"
    found = bare(content, told_by)
    assert b"NGC 1" not in found
    assert np.array_equal(Image.open(io.BytesIO(found)), Image.open(io.BytesIO(content)))
    with pytest.raises(SurveyError, match="cut short"):
        bare(content[: len(found) // 2], told_by)


def test_a_grid_is_kept_as_one_entry_and_its_page_is_told_of_clusters_and_no_class(place: Place) -> None:
    survey = Survey.open(place.path)
    write_run(survey, np.where(np.arange(survey.n) < 40, 0, 1), [0.0, 1.5], f"cluster-{uuid.uuid4().hex[:6]}")
    with Ledger(place.path, survey.info.survey_id) as ledger:
        plan = Plan(f"Grids {uuid.uuid4()}", SCHEMES["yes-no"], graders=2, repeats=0, order="clusters")
        made = campaigns_of(survey, ledger).make(plan, np.arange(60), {"selection": "all of it"}, "owner-1")
    survey.close()
    here = replace(place, open=made.id)
    asked = queue(here, "grader-1", whole=1, count=60)
    assert asked["spans"] == [20, 40]
    assert [one["words"] for one in asked["about"]["clusters"]] == [
        "far from everything labelled so far",
        "labelled ones are among them",
    ]
    assert "spiral" not in json.dumps(asked)  # which class it is would say what to grade
    keys = [item["key"] for item in asked["items"][:20]]
    grid = {"grades": dict.fromkeys(keys, "N"), "seconds": 8.0, "via": "grid", "n_keys": 1, "n_clicks": 0}
    same = str(uuid.uuid4())
    for _ in range(2):  # the answer to the first one is lost
        answer = told(send(here, "grader-1", "bulk", **grid, id=same))
    assert answer["standing"]["effort"] == {"n": 20, "n_grid": 20, "n_keys": 1, "n_clicks": 0, "saved": 0.95}
    (entry,) = [e for e in place.entries() if e.payload["campaign"] == made.id]
    assert (entry.payload["via"], entry.payload["cluster"]) == ("grid", 1)
    over = [asked["items"][i]["key"] for i in (19, 20)]
    refused = told(send(here, "grader-1", "bulk", **{**grid, "grades": dict.fromkeys(over, "N")}), 400)
    assert "a grid is of one cluster" in refused["error"]
    assert "whole numbers" in told(send(here, "grader-1", "bulk", **{**grid, "n_keys": "1"}), 400)["error"]
