"""Boundaries at work, kept for links."""

from pathlib import Path

import pytest

from explorer.services import drafts, recent
from explorer.services.drafts import Drafts
from explorer.state import Draft
from models.boundary import And, Gate, Not, Region
from models.truth import Truth

DRAFT = Draft(
    And((Gate("scores.anomaly_score", low=0.1), Not(Region("maps.umap_1", "maps.umap_2", ((0, 0), (1, 2)), "box")))),
    Truth("column", "subjects.chosen_fraction", at_least=0.5, is_soft=True),
    "arcs",
    3,
    follows=False,
)


@pytest.mark.parametrize("draft", [DRAFT, Draft()])
def test_a_draft_comes_back_as_it_was(tmp_path: Path, draft: Draft):
    name = Drafts(tmp_path).put(draft)
    assert Drafts(tmp_path).get(name) == draft
    assert Drafts(tmp_path).put(draft) == name


def test_what_is_no_draft_is_none(tmp_path: Path):
    kept = Drafts(tmp_path)
    name = kept.put(DRAFT)
    path = tmp_path / drafts.RECENT / name
    assert kept.get("../../survey.toml") is None
    assert kept.get("0" * recent.SHORT) is None
    path.write_bytes(path.read_bytes().replace(b"arcs", b"bars"))
    assert kept.get(name) is None


def test_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recent, "REMEMBERED", 2)
    kept = Drafts(tmp_path)
    names = [kept.put(Draft(Gate("scores.anomaly_score", low=float(low)))) for low in range(4)]
    assert len(list((tmp_path / drafts.RECENT).iterdir())) == 2
    assert kept.get(names[-1]) is not None
