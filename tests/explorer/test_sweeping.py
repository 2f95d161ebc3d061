"""Kind ``sweep``: every number of a table is what judging the boundary at that value gives."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from sklearn.metrics import f1_score, precision_score, recall_score

from explorer.commands.running import run as run_command
from explorer.commands.sweeping import print_sweep
from explorer.errors import UsageError
from explorer.kinds.sweep import KIND, SweepConfig
from explorer.services.sweeping import SCHEMA, Sweeps, run
from explorer.state import Draft
from models.artifacts import Workspace
from models.boundary import And, Gate, Not, Term
from models.rates import wilson
from models.truth import Truth
from tests.explorer.judged import Judged, opened, write_judged
from tests.models.networks import finish

CHOSEN, FEATURE, IMAGE = "subjects.chosen_fraction", "scores.feature_score", "scores.image_score"
VOTES = Truth("column", CHOSEN, at_least=0.3)
BOTH = And((Gate(IMAGE, high=0.9), Not(Gate("subjects.magnitude", low=19.0))))


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_judged(tmp_path_factory.mktemp("sweep") / "survey")


@pytest.fixture(scope="module")
def at(survey: Path) -> Iterator[Judged]:
    with opened(survey) as found:
        for name, keep, truth in (
            ("gate", Gate(FEATURE, low=0.5), Truth("category", "subjects.kind", labels=("ring",))),
            ("both", BOTH, VOTES),
            ("circular", Gate(CHOSEN, low=0.2), VOTES),
            ("soft", Gate(IMAGE, low=0.4), replace(VOTES, is_soft=True)),
            ("aimless", Gate(IMAGE, low=0.4), None),
            ("twice", And((Gate(IMAGE, low=0.1), Gate(IMAGE, high=0.9))), VOTES),
        ):
            found.boundaries.save(name, Draft(keep, truth), found.context, "me")
        yield found


def swept(at: Judged, **settings: Any) -> tuple[Path, list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """The run's folder, its rows, what it says of itself, and its results."""
    folder = at.survey.path / "runs" / "20260101-000000-sweep"
    folder.mkdir(exist_ok=True)
    work = Workspace(folder, None, at.survey.subject_ids, {}, {}, survey=at.survey.path)
    _, results = finish(run(SweepConfig(**settings), work))
    table = pq.read_table(folder / "sweep.parquet")
    assert table.schema.equals(SCHEMA)
    return folder, table.to_pylist(), json.loads((folder / "sweep.json").read_bytes()), results


def directly(at: Judged, keep: Term, truth: Truth) -> dict[str, float]:
    """Rates of the tune half by scikit-learn."""
    codes, labels = at.survey.category("half")
    known, kept = at.truths.of(truth, at.context), at.boundaries.kept(keep, at.context)
    tune = codes == labels.index("tune")
    mine = tune & known.known
    found = {
        name: score(known.positive[mine], kept.yes[mine], zero_division=np.nan)
        for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score))
    }
    return found | {"kept": (kept.yes & tune).sum() / tune.sum(), "n_kept": kept.yes.sum()}


def check(row: dict[str, Any], expected: dict[str, float]) -> None:
    for name in ("precision", "recall", "kept"):
        if np.isnan(expected[name]):
            assert row[name] is None and row[f"{name}_low"] is None
            continue
        assert row[name] == pytest.approx(expected[name], abs=1e-12), name
        assert row[name] == row[f"{name}_k"] / row[f"{name}_n"]
        low, high = wilson(row[f"{name}_k"], row[f"{name}_n"])
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx((float(low), float(high)))
    assert row["f1"] == pytest.approx(expected["f1"], abs=1e-12)
    assert row["f1_low"] <= row["f1"] <= row["f1_high"]
    assert row["n_kept"] == expected["n_kept"]


def test_as_sigma_moves_the_rates_are_scikit_learns(at: Judged) -> None:
    _, rows, about, results = swept(at, boundary="both", n_points=12)
    assert len(rows) == results["n_sigma"] <= 12 and {row["moved"] for row in rows} == {"sigma"}
    for row in rows:
        check(row, directly(at, BOTH, replace(VOTES, at_least=row["at"])))
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    values = at.truths.base(VOTES, at.context).values
    assert values is not None
    values = values[at.truths.half("tune")]
    shares = [(values[np.isfinite(values)] >= row["at"]).mean() for row in (rows[0], rows[-1])]
    assert shares[0] >= 0.4 > 0.1 > shares[1]
    best = max(rows, key=lambda row: row["f1"])
    assert (results["best_f1_sigma"], results["sigma_of_best_f1"]) == (best["f1"], best["at"])
    assert about["half"] == results["half"] == "tune" and about["n"] == results["n_tune"]
    assert not about["circular"] and "not comparable" in about["note"]


def test_sigma_goes_over_what_was_told(at: Judged) -> None:
    _, rows, about, _ = swept(at, boundary="both", n_points=5, sigma_low=0.1, sigma_high=0.5)
    np.testing.assert_allclose([row["at"] for row in rows], [0.1, 0.2, 0.3, 0.4, 0.5])
    [moved] = about["moved"]
    assert (moved["first"], moved["last"], moved["n"]) == (0.1, 0.5, 5)


@pytest.mark.parametrize(("column", "limit", "path"), [("image_score", "high", 0), ("magnitude", "low", 1)])
def test_as_a_limit_moves_the_rates_are_scikit_learns(at: Judged, column: str, limit: str, path: int) -> None:
    _, rows, about, results = swept(at, boundary="both", n_points=7, gate=column)
    mine = [row for row in rows if row["moved"] != "sigma"]
    assert len(mine) == results["n_limits"] == 7 and about["moved"][1]["limit"] == limit
    for row in mine:
        terms = list(BOTH.terms)
        terms[path] = Gate(IMAGE, high=row["at"]) if path == 0 else Not(Gate("subjects.magnitude", low=row["at"]))
        check(row, directly(at, And(tuple(terms)), VOTES))


def test_a_truth_of_classes_has_no_sigma_but_a_gate_can_move(at: Judged) -> None:
    _, rows, _, results = swept(at, boundary="gate", gate="feature_score", gate_low=0.2, gate_high=0.8, n_points=4)
    assert {row["moved"] for row in rows} == {FEATURE} and "n_sigma" not in results
    for row in rows:
        check(row, directly(at, Gate(FEATURE, low=row["at"]), Truth("category", "subjects.kind", labels=("ring",))))
    with pytest.raises(UsageError, match="the truth of gate has no Σ to move; tell by gate which"):
        swept(at, boundary="gate")


def test_a_circular_sweep_says_so_and_has_no_headline(at: Judged) -> None:
    _, rows, about, results = swept(at, boundary="circular", n_points=5)
    assert len(rows) == 5 and about["circular"]
    assert results["circular"].startswith("boundary and truth share")
    assert not any("best" in name for name in results)


def test_votes_that_count_by_their_probability_have_rows_of_their_own(at: Judged) -> None:
    _, rows, _, _ = swept(at, boundary="soft", n_points=4)
    assert [row["counted"] for row in rows] == ["as seen", "soft"] * 4
    for seen, soft in zip(rows[::2], rows[1::2], strict=True):
        draft = Draft(Gate(IMAGE, low=0.4), Truth("column", CHOSEN, at_least=seen["at"], is_soft=True))
        told = at.judge.numbers(draft, at.context)
        assert soft["recall"] == pytest.approx(told["soft"]["recall"]["value"])
        assert seen["recall"] == told["rates"]["recall"]["value"]


def test_what_cannot_be_swept_is_a_sentence(at: Judged, survey: Path) -> None:
    for settings, words in (
        ({"boundary": "bot"}, "bot"),
        ({"boundary": "both", "version": 9}, "the boundary “both” has no version 9; it has 1"),
        ({"boundary": "aimless"}, "aimless, version 1, was saved without a truth; save it again"),
        ({"boundary": "both", "gate": "feature_score"}, "has no gates on scores.feature_score with a limit"),
        ({"boundary": "both", "gate": "classifier"}, "has no gates on classifier with a limit"),
        ({"boundary": "twice", "gate": "image_score"}, "has 2 gates on scores.image_score with a limit"),
        ({"boundary": "both", "gate": "image_scor"}, "did you mean"),
        ({"boundary": "both", "sigma_low": 5.0}, "is swept from 5 to .*; the first must be below the second"),
    ):
        with pytest.raises(UsageError, match=words):
            swept(at, **settings)
    with pytest.raises(ValueError, match=r"sigma_low is 0\.5 and sigma_high 0\.1"):
        SweepConfig(boundary="both", sigma_low=0.5, sigma_high=0.1)
    with pytest.raises(ValueError, match="limit is of a gate; tell which"):
        SweepConfig(boundary="both", limit="low")
    work = Workspace(survey, None, at.survey.subject_ids[:9], {}, {}, survey=survey)
    with pytest.raises(UsageError, match="a sweep is of the whole survey"):
        finish(run(SweepConfig(boundary="both"), work))
    assert KIND.check is not None
    with pytest.raises(UsageError, match="which boundary"):
        KIND.check({}, {})


def test_a_sweep_reveals_no_test_numbers_and_writes_no_ledger(at: Judged, survey: Path) -> None:
    before = at.ledger.entries()
    swept(at, boundary="both", n_points=3, gate="image_score")
    assert at.ledger.entries() == before
    with Sweeps.open(survey) as sweeps:
        assert sweeps.boundaries.get("both").is_frozen is False


def test_the_table_is_short_and_has_counts_and_intervals(at: Judged, capsys: pytest.CaptureFixture[str]) -> None:
    folder, rows, _, _ = swept(at, boundary="circular", n_points=40, gate="chosen_fraction")
    print_sweep(folder)
    out = capsys.readouterr().out
    assert "circular: boundary and truth share" in out and "of the tune half" in out
    assert f"all {len(rows)} rows are in" in out
    assert out.count(" of ") > 40 and len(out.splitlines()) < 50


def test_it_is_run_from_the_command_line(at: Judged, survey: Path) -> None:
    done = CliRunner().invoke(run_command, [str(survey), "sweep", "--boundary", "both", "--n-points", "4"])
    assert done.exit_code == 0, done.output
    assert "boundary: both" in done.output and "precision" in done.output and "best f1 sigma" in done.output
    refused = CliRunner().invoke(run_command, [str(survey), "sweep"])
    assert "which boundary? tell its name" in str(refused.exception)
