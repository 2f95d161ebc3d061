"""Simulated experts: marked wherever they show, drawn from pixels or classes alone, and taken back."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from explorer.cli import main
from explorer.errors import UsageError
from explorer.services.labels import sources
from explorer.services.simulated import worth_by_column, worth_by_morphology
from explorer.services.simulated_grades import NAME, simulate_grades
from explorer.survey import PLANTED
from models.artifacts import RUN_JSON, Run, write_scores
from models.simulate import grades
from tests.explorer.graded import opened
from tests.explorer.labelled import N, write_labelled
from tests.explorer.making import finished


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_labelled(tmp_path / "survey")


def put_scores(folder: Path, values: np.ndarray) -> None:
    """A finished score run of these values."""
    where = folder / "runs" / "scored"
    where.mkdir(parents=True, exist_ok=True)
    ids = pq.read_table(folder / "subjects.parquet", columns=["subject_id"]).column(0).to_numpy()
    columns = {name: values.astype(np.float32) for name in ("image_score", "feature_score", "anomaly_score")}
    write_scores(
        where,
        values[:, None].astype(np.float32),
        {"subject_id": ids, **columns} | {"split": ["unseen"] * N, "quality": ["ok"] * N},
    )
    Run("scored", "score", "1", {}, state="done").write(where / RUN_JSON)


def said(folder: Path) -> dict[tuple[int, str], str]:
    with opened(folder) as desk:
        votes = desk.vetting.votes(desk.campaigns.get(NAME).id)
        who = [f"{name}" for name in votes["who"]]
        return dict(zip(zip(votes["row"].tolist(), who, strict=True), votes["grade"], strict=True))


def test_scores_say_nothing_about_simulated_grades(folder: Path) -> None:
    random = np.random.default_rng(1)
    scores = random.random(N)
    found = []
    for values in (scores, random.permutation(scores)):
        put_scores(folder, values)
        assert main(["simulate", str(folder), "--graders", "2", "--subjects", "120", "--replace"]) == 0
        found.append(said(folder))
    assert found[0] == found[1]
    assert len(found[0]) == pytest.approx(240, abs=4) and set(found[0].values()) == {"Y", "N"}


def test_everything_says_simulated(folder: Path) -> None:
    with opened(folder) as desk:
        survey = desk.explore.survey
        worth = worth_by_column(survey, "kind", ["odd"])
        made = simulate_grades(survey, desk.ledger, worth, "owner-1", n_graders=3, n_subjects=150)
        campaign = desk.campaigns.get(NAME)
        assert campaign.is_simulated and not campaign.is_open
        assert "simulated" in campaign.plan.name.lower() and "simulated from kind = odd" in campaign.source["region"]
        assert "the grades are simulated" in desk.graded.given(campaign.id).notes
        purity = desk.agreed.purity(campaign.id)["purity"]
        assert "the grades are simulated" in purity["notes"] and "simulated" in purity["region"]
        source = next(s for s in sources(survey, desk.ledger, desk.graded) if s.text == f"campaign:{NAME}")
        assert source.is_simulated and "simulated" in source.title.lower()
        assert all(
            told["who"].startswith("person-") or "simulated" in told["who"]
            for told in desk.agreed.report(campaign.id)["graders"]
        )
        desk.graded.write()
        assert all("simulated" in name for name in survey.columns_of_grades())
        is_odd = survey.column("kind")[campaign.rows] == "odd"
        outcomes = desk.vetting.outcomes(campaign.id)
        assert (outcomes["is_found"].to_numpy() == is_odd).mean() > 0.95
        assert made["n_votes"] == 3 * len(campaign.rows)
        given = desk.graded.given(campaign.id)
        assert given.inclusion[survey.frame()] == pytest.approx(150 / 198, abs=0.01)  # a draw of everything:
        assert not any("recall" in note for note in given.notes)  # recall can be estimated
        assert not (survey.planted() & np.isfinite(given.values)).any(), PLANTED


def test_twice_is_refused_and_they_can_be_taken_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(folder), "--graders", "1", "--class", "kind", "--worth", "odd"]) == 0
    assert "198 grades of 1 simulated expert on 198 subjects" in capsys.readouterr().out
    assert main(["simulate", str(folder), "--graders", "1"]) == 2
    assert "has simulated grades already" in capsys.readouterr().err
    assert main(["simulate", str(folder), "--remove"]) == 0
    assert "1 campaign of simulated grades taken back" in capsys.readouterr().out
    with opened(folder) as desk:
        assert not desk.campaigns.listed() and not desk.graded.names()
    assert main(["check", str(folder)]) in (0, 1)
    assert main(["simulate", str(folder), "--subjects", "5"]) == 2
    assert "tell --graders, too" in capsys.readouterr().err


def test_what_cannot_be_simulated_is_a_sentence(folder: Path) -> None:
    with opened(folder) as desk, pytest.raises(UsageError, match=r"999 subjects cannot be drawn of the 198 that count"):
        worth = finished(worth_by_morphology(desk.explore.survey))
        simulate_grades(desk.explore.survey, desk.ledger, worth, "owner-1", n_subjects=999)  # type: ignore[arg-type]


def test_experts_see_what_is_visible() -> None:
    is_worth = np.arange(4000) % 2 == 0
    yes = grades(is_worth, 3, 7)
    assert yes[is_worth].mean() == pytest.approx(0.95, abs=0.03) and yes[~is_worth].mean() == pytest.approx(
        0.02, abs=0.02
    )
    hidden = grades(is_worth, 3, 7, np.zeros(4000))
    assert hidden[is_worth].mean() == pytest.approx(hidden[~is_worth].mean(), abs=0.02)
    np.testing.assert_array_equal(yes, grades(is_worth, 3, 7))
    for wrong in ((is_worth, 0, 1, None), (is_worth[:0], 1, 1, None), (is_worth, 1, 1, np.full(4000, 2.0))):
        with pytest.raises(ValueError, match=r"grade|look at|visibility"):
            grades(*wrong)
