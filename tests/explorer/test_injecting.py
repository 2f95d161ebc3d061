"""Injection and recovery: planted into real originals, scored by the frozen run, counted against boundaries."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from explorer import cli
from explorer.errors import JobError, UsageError
from explorer.kinds.score import KIND, ScoreConfig
from explorer.ledger import Ledger
from explorer.services import injecting
from explorer.services.boundaries import Boundaries, Context
from explorer.services.crowd import wilson
from explorer.services.explore import Explore
from explorer.services.figures import written
from explorer.services.foreign import Foreign
from explorer.services.injecting import Hosts, Length, Plan, Planted, Scored, copies, plant, run_of, score, sheet
from explorer.services.learned import CLASSIFIERS
from explorer.services.planted import add_planted
from explorer.services.recovered import Line, as_csv, as_json, cells_of, figure, recovered, top_line
from explorer.state import Draft
from explorer.survey import Survey
from explorer.worker import workspace_of
from models import detectors
from models.artifacts import SCORES
from models.boundary import And, Gate, Learned, Not, Region, evaluate
from models.classifier import Basis, fit
from models.images import QUALITY_COLUMNS
from tests.explorer.making import finished, make
from tests.galaxies import write_fits_galaxies, write_galaxies

PLAN = Plan("ring", (0.1, 1.0, 10.0), (Length(4.0), Length(8.0)), Length(2.0), n_hosts=30, half="all", seed=1)


@pytest.fixture(scope="module")
def explore(finished_survey: Path) -> Iterator[Explore]:
    survey = Survey.open(finished_survey)
    yield Explore(survey)
    survey.close()


@pytest.fixture(scope="module")
def context(explore: Explore) -> Context:
    (run_id,), (map_id,) = explore.runs(), explore.maps()
    return Context(run_id, map_id, 0.2, "raw")


@pytest.fixture(scope="module")
def scored(explore: Explore, context: Context, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """`PLAN`, planted and scored."""
    folder = tmp_path_factory.mktemp("planted") / "rings"
    planted: Planted = finished(plant(explore, context.run_id, PLAN, folder))  # type: ignore[arg-type,assignment]
    found: Scored = finished(score(explore, context.run_id, planted))  # type: ignore[arg-type,assignment]
    return found


@pytest.fixture
def boundaries(explore: Explore, tmp_path: Path) -> Iterator[Boundaries]:
    with Ledger(tmp_path, explore.survey.info.survey_id) as ledger:
        yield Boundaries(explore, ledger)


# ------------------------------------------------------------------------------------------------------------ foreign
def test_foreign_answers_as_the_survey_does(explore: Explore, boundaries: Boundaries, context: Context) -> None:
    """The same values as arrays and as a survey: the same answers, for terms of every kind."""
    own = boundaries.source(context)
    references = ["scores.feature_score", "scores.anomaly_score", "maps.umap_1", "maps.umap_2", "subjects.magnitude"]
    numbers = {reference: own.column(reference) for reference in references}
    foreign = Foreign(own.n, numbers, {"subjects.shape": own.codes("subjects.shape")})
    x, y = numbers["maps.umap_1"], numbers["maps.umap_2"]
    rng = np.random.default_rng(0)
    star = np.column_stack([rng.uniform(x.min(), x.max(), 9), rng.uniform(y.min(), y.max(), 9)])  # crosses itself
    region = Region("maps.umap_1", "maps.umap_2", tuple(map(tuple, star.tolist())))
    gate = Gate("subjects.magnitude", low=18.0)
    terms = (region, gate, Not(And((region, gate))), Gate("subjects.shape", labels=("spiral",)))
    for term in (*terms, Region("subjects.magnitude", "scores.feature_score", ((17, 0), (20, 1e9)), "box")):
        ours, theirs = evaluate(term, foreign), evaluate(term, own)
        np.testing.assert_array_equal(ours.yes, theirs.yes)
        np.testing.assert_array_equal(ours.unknown, theirs.unknown)
    assert 0 < evaluate(region, foreign).yes.sum() < own.n
    assert evaluate(gate, foreign).unknown.sum() == 1  # the magnitude that is missing


def test_foreign_says_what_it_lacks() -> None:
    foreign = Foreign(2, {"maps.umap_1": np.zeros(2)})
    sha = "a" * 64
    term = And((Gate("scores.odd", low=1), Region("maps.umap_1", "maps.umap_2", ((0, 0), (1, 1)), "box"), Learned(sha)))
    assert foreign.missing(term) == ["scores.odd", "maps.umap_2", "classifier aaaaaaaa"]
    with pytest.raises(UsageError, match=r"scores\.odd"):
        foreign.column("scores.odd")
    with pytest.raises(UsageError, match="classifier"):
        foreign.balanced(sha)
    with pytest.raises(ValueError, match="2 subjects"):
        Foreign(2, {"maps.umap_1": np.zeros(3)})


def test_foreign_asks_a_classifier_only_of_who_has_latents() -> None:
    class Sum:
        def balanced(self, latents: np.ndarray) -> np.ndarray:
            assert np.isfinite(latents).all()
            return np.asarray(latents.sum(1))

        def probability(self, latents: np.ndarray) -> np.ndarray:
            return np.asarray(latents.sum(1) / 2)

    latents = np.array([[0.1, 0.2], [np.nan, 1], [0.4, 0.5]], np.float32)
    foreign = Foreign(3, {}, latents=latents, classifier=lambda sha: Sum())
    kept = evaluate(Learned("b" * 64, low=0.5), foreign)
    assert kept.yes.tolist() == [False, False, True] and kept.unknown.tolist() == [False, True, False]
    np.testing.assert_allclose(foreign.probability("b" * 64), [0.15, np.nan, 0.45], rtol=1e-6)


# ---------------------------------------------------------------------------------------------------------- planting
def test_hosts_come_out_as_the_survey_has_them(explore: Explore, tmp_path: Path) -> None:
    """Of pictures and of linear values, cut out, averaged, stretched: to the last bit."""
    surveys = [explore.survey]
    galaxies = write_galaxies(tmp_path / "pictures", 3, size=60)
    grey = tmp_path / "grey"
    grey.mkdir()
    for i, path in enumerate(galaxies):
        deep = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 200
        Image.fromarray(deep).save(grey / f"{i}.png")
    cubes = write_fits_galaxies(tmp_path / "cubes", 3)
    made = [
        ("resized", galaxies, {"crop": "resize", "size": 24}),
        ("extent", galaxies, {"extent": 41, "size": 16}),
        ("deep", [grey], {"extent": 30}),
        ("linear", cubes, {"extent": 40, "size": 20}),
        ("arcsec", cubes, {"extent_arcsec": 6.0}),
    ]
    for name, sources, options in made:
        make(tmp_path / name, *sources, **options)
        surveys.append(Survey.open(tmp_path / name))
    for survey in surveys:
        with Hosts(survey) as hosts:
            for row in range(2):
                host = hosts.read(row)  # raises where the crop is another
                records = list(copies(hosts, host, replace(PLAN, fluxes=(2.0,), psf=Length(3.0))))
                assert len(records) == 3
                (first, before, crop), (second, after, planted), _ = records
                np.testing.assert_array_equal(crop, survey.images[row])
                assert not np.array_equal(planted, crop)
                assert "flux" not in first and second["flux"] == 2 and second["size"] == 4
                assert (np.nan_to_num(after) >= np.nan_to_num(before)).all()
                if host.linear.top is None:  # nothing is clipped: the flux is there to the per cent
                    gained = np.nansum(after.astype(np.float64) - before)
                    assert gained == pytest.approx(second["counts"], rel=0.02)
                    assert second["contrast"] == pytest.approx(2, rel=1e-6)


def test_the_same_plan_plants_the_same_and_seeds_differ(explore: Explore) -> None:
    with Hosts(explore.survey) as hosts:
        host = hosts.read(3)
        one, same, other = (
            [values for _, values, _ in copies(hosts, host, replace(PLAN, seed=seed))] for seed in (1, 1, 2)
        )
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any(np.array_equal(a, b) for a, b in zip(one[1:], other[1:], strict=True))


def test_units_of_flux_say_the_same(explore: Explore, tmp_path: Path) -> None:
    make(tmp_path / "linear", *write_fits_galaxies(tmp_path / "cubes", 3), extent=40, size=20)
    survey = Survey.open(tmp_path / "linear")
    with Hosts(survey) as hosts:
        host = hosts.read(0)
        counts = replace(PLAN, unit="counts", fluxes=(500.0,), colors=(1.0, 0.0, 2.0), sizes=(Length(1.0, "arcsec"),))
        magnitudes = replace(counts, unit="mag", zeropoint=25.0, fluxes=(25 - 2.5 * np.log10(500),))
        (_, before, _), (record, by_counts, _) = copies(hosts, host, counts)
        _, (_, by_magnitude, _) = copies(hosts, host, magnitudes)
    np.testing.assert_allclose(by_counts, by_magnitude, rtol=1e-5)
    added = np.nansum(by_counts.astype(np.float64) - before, axis=(0, 1))
    np.testing.assert_allclose(added, [500, 0, 1000], rtol=0.02, atol=1e-3)
    assert record["counts"] == pytest.approx(1500) and record["size"] == 1  # 5 px of 0.2 arcsec
    with pytest.raises(UsageError, match="magnitudes need physical values"), Hosts(explore.survey) as pictures:
        list(copies(pictures, pictures.read(0), replace(PLAN, unit="mag", zeropoint=20.0)))


def test_impossible_plans_are_refused(explore: Explore, context: Context, tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"fluxes": ()}, "nothing to plant"),
        ({"fluxes": (1.0, 1.0)}, "given twice"),
        ({"fluxes": (0.0,)}, "above 0"),
        ({"fluxes": (float("nan"),)}, "finite"),
        ({"unit": "mag"}, "zero point"),
        ({"zeropoint": 22.0}, "zero point"),
        ({"colors": (1.0, 2.0)}, "3 bands"),
        ({"gain": -1.0}, "gain"),
        ({"sizes": (Length(1.0), Length(2.0, "arcsec"))}, "all in px or all in arcsec"),
        ({"psf": Length(0.0)}, "above 0"),
        ({"sizes": (Length(1.0, "arcsec"),)}, "pixel scale is unknown"),
        ({"sizes": (Length(1e7),)}, "cannot be drawn"),
    ]
    for change, said in wrong:
        with pytest.raises(UsageError, match=said):
            finished(plant(explore, context.run_id, replace(PLAN, **change), tmp_path / "x"))  # type: ignore[arg-type]
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
    with pytest.raises(UsageError, match="no finished score run"):
        finished(plant(explore, "nothing", PLAN, tmp_path / "x"))  # type: ignore[arg-type]
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "thesis.txt").write_text("keep")
    with pytest.raises(UsageError, match="holds no injection"):
        finished(plant(explore, context.run_id, PLAN, tmp_path / "y"))  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------------- scoring
def test_hosts_keep_the_scores_that_the_run_stored(scored: Scored, explore: Explore) -> None:
    stored, n = explore.survey.scores(scored.run.run_id), scored.planted.n_hosts
    assert n == 30 and scored.n == 30 * 7
    rows = scored.hosts[:n]
    assert len(set(rows)) == n
    np.testing.assert_allclose(scored.image_score[:n], stored["image_score"][rows], rtol=1e-4)
    np.testing.assert_allclose(scored.anomaly_score(0.2, "raw")[:n], stored["anomaly_score"][rows], rtol=1e-4)
    own = explore.values("scores.anomaly_score", scored.run.run_id, 0.7, "standardised")
    np.testing.assert_allclose(scored.anomaly_score(0.7, "standardised")[:n], own[rows], rtol=1e-3, atol=1e-3)


def test_a_host_lands_on_its_own_place_of_the_map(scored: Scored, explore: Explore, context: Context) -> None:
    placed, rows = scored.placed(context.map_id), scored.hosts[: scored.planted.n_hosts]
    at = np.stack([placed[f"umap_{k}"][: len(rows)] for k in (1, 2, 3)], axis=1)
    np.testing.assert_allclose(at, explore.survey.coordinates(context.map_id)[rows], atol=1e-3)
    assert np.isfinite(placed["knn_percentile"]).all()


def test_the_same_call_takes_up_what_is_there(scored: Scored, explore: Explore, context: Context) -> None:
    folder = scored.planted.folder
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again: Planted = finished(plant(explore, context.run_id, PLAN, folder))  # type: ignore[arg-type,assignment]
    twice: Scored = finished(score(explore, context.run_id, again))  # type: ignore[arg-type,assignment]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    np.testing.assert_array_equal(twice.image_score, scored.image_score)
    with pytest.raises(UsageError, match="seed differs"):
        finished(plant(explore, context.run_id, replace(PLAN, seed=9), folder))  # type: ignore[arg-type]


def test_a_run_whose_network_has_changed_is_refused(scored: Scored, explore: Explore, tmp_path: Path) -> None:
    folder = shutil.copytree(scored.planted.folder, tmp_path / "changed")
    np.savez(folder / injecting.SCORES, image_score=2 * scored.image_score, feature_score=2 * scored.feature_score)
    with pytest.raises(JobError, match="other scores than it has stored"):
        finished(score(explore, scored.run.run_id, replace(scored.planted, folder=folder)))  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- recovery
def test_cells_are_counted_as_one_by_one() -> None:
    rng = np.random.default_rng(5)
    hosts, fluxes, sizes = [7, 9, 4, 2], [1.0, 3.0], [5.0, 2.0]
    rows = [(host, None, None) for host in hosts]
    rows += [(host, flux, size) for host in hosts for size in sizes for flux in fluxes]
    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    table = pa.table([*columns, pa.array(rng.random(len(rows)))], ["host_row", "flux", "size", "inside"])
    for _ in range(20):
        kept, unknown = rng.random(len(rows)) < 0.5, rng.random(len(rows)) < 0.1
        kept &= ~unknown
        of_hosts, cells = cells_of(table, len(hosts), kept, unknown)
        assert of_hosts["k"] == kept[:4].sum() and of_hosts["n"] == 4
        assert [(cell.size, cell.flux) for cell in cells] == [(s, f) for s in sizes for f in fluxes]
        for cell in cells:
            here = [i for i, row in enumerate(rows) if row[1:] == (cell.flux, cell.size)]
            new = [i for i in here if not kept[hosts.index(rows[i][0])]]
            assert (cell.kept["k"], cell.kept["n"]) == (sum(kept[i] for i in here), 4)
            assert (cell.gained["k"], cell.gained["n"]) == (sum(kept[i] for i in new), len(new))
            assert (cell.kept["low"], cell.kept["high"]) == wilson(cell.kept["k"], 4)
            assert cell.n_unknown == sum(unknown[i] for i in here)


def test_brighter_ones_are_recovered_at_least_as_often(
    scored: Scored, explore: Explore, context: Context, boundaries: Boundaries
) -> None:
    """By the image score around the center, which a bright ring of 4 px cannot but raise."""
    limit = float(np.quantile(explore.values("scores.image_score", context.run_id), 0.9))
    (found,) = recovered(scored, [Line("image", Gate("scores.image_score", low=limit), context)], boundaries)
    near = {c.flux: c.kept for c in found.cells if c.size == 4}
    assert near[10.0]["k"] >= near[1.0]["k"] >= near[0.1]["k"]
    assert near[10.0]["low"] > max(near[0.1]["high"], found.hosts["high"])  # not by chance
    kept = scored.image_score >= limit
    assert found.hosts["k"] == kept[:30].sum()
    bright = np.nan_to_num(scored.planted.table.column("flux").to_numpy()) == 10
    assert sum(c.kept["k"] for c in found.cells if c.flux == 10) == (kept & bright).sum()


def test_boundaries_that_cannot_be_told_say_why(
    scored: Scored, context: Context, boundaries: Boundaries, explore: Explore
) -> None:
    corner = np.nanmedian(explore.survey.coordinates(context.map_id), axis=0)
    region = Region("maps.umap_1", "maps.umap_2", ((-1e3, -1e3), (float(corner[0]), 1e3)), "box")
    lines = [
        Line("votes", And((Gate("scores.feature_score", low=0), Gate("subjects.chosen_fraction", low=0.5))), context),
        Line("other run", Gate("scores.feature_score", low=0), replace(context, run_id="20200101-000000-score")),
        Line("no column", Gate("scores.isolation", low=0), context),
        Line("no classifier", Learned("c" * 64), context),
        Line("host", And((Gate("subjects.magnitude", low=0), Gate("subjects.shape", labels=("spiral",)))), context, 3),
        Line("map", region, context),
        Line("quality", Gate("subjects.background_rms", low=0), context),
    ]
    votes, other, column, classifier, host, on_map, quality = recovered(scored, lines, boundaries)
    assert votes.refused.startswith("not deployable: gate on chosen_fraction")
    assert "run 20200101-000000-score" in other.refused and "--run" in other.refused
    assert "scores.isolation" in column.refused
    assert "classifier" in classifier.refused
    assert not (host.refused or on_map.refused or quality.refused)
    assert host.of_hosts == ("subjects.magnitude", "subjects.shape") and quality.of_hosts == ()
    assert {c.kept["k"] for c in host.cells} == {host.hosts["k"]}  # nothing planted changes what is the host's
    assert 0 < on_map.hosts["k"] < 30
    assert quality.hosts["k"] == 30


def test_a_classifier_scores_a_host_as_it_did_in_the_survey(
    scored: Scored,
    explore: Explore,
    context: Context,
    boundaries: Boundaries,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    latents, rows = explore.survey.latents(context.run_id)
    bright = explore.values("scores.image_score", context.run_id)[rows] > 0
    bright[: len(rows) // 2] = False
    basis = Basis.fit(latents, 5)
    made = fit(basis, basis.project(latents), bright)
    monkeypatch.setattr(explore.survey, "path", tmp_path)
    (refused,) = recovered(scored, [Line("gone", Learned(made.sha256), context)], boundaries)
    assert "classifier" in refused.refused
    (tmp_path / CLASSIFIERS).mkdir()
    (tmp_path / CLASSIFIERS / f"{made.sha256}.json").write_bytes(made.to_bytes())
    own = np.empty(explore.survey.n)
    own[rows] = made.balanced(latents)
    limit = float(np.median(own[scored.hosts[:30]])) + 1e-4
    (found,) = recovered(scored, [Line("learned", Learned(made.sha256, low=limit), context)], boundaries)
    assert not found.refused
    assert found.hosts["k"] == (own[scored.hosts[:30]] >= limit).sum() > 0


def test_flags_and_words_of_the_planted_are_their_own(scored: Scored, context: Context, boundaries: Boundaries) -> None:
    gates = [("subjects.is_known", "false"), ("scores.split", "unseen"), ("scores.quality", "ok")]
    lines = [Line(reference, Gate(reference, labels=(label,)), context) for reference, label in gates]
    for one in recovered(scored, lines, boundaries):
        assert not one.refused and {cell.kept["k"] for cell in one.cells} == {30}, one.line.name


def test_files_hold_what_was_counted(
    scored: Scored, explore: Explore, context: Context, boundaries: Boundaries
) -> None:
    refused = Line("votes", Gate("subjects.chosen_fraction", low=0.5), context)
    risky = Line("=HYPERLINK(1)", Gate("scores.feature_score", low=0), context, 2)
    functions = recovered(scored, [top_line(explore, context, 0.05), risky, refused], boundaries)
    told = json.loads(json.dumps(as_json(scored, functions, "voorwerp inject"), allow_nan=False))
    assert [one["name"] for one in told["boundaries"]] == ["top 5 % by anomaly score", "=HYPERLINK(1)", "votes"]
    assert "refused" in told["boundaries"][2] and told["n_hosts"] == 30 and len(told["checkpoint_sha256"]) == 64
    assert told["unit_of_counts"] == "8-bit values" and told["plan"]["fluxes"] == [0.1, 1.0, 10.0]
    rows = list(csv.DictReader(io.StringIO(as_csv(scored, functions))))
    assert len(rows) == 12 and rows[6]["boundary"] == "'=HYPERLINK(1)"
    for row, cell in zip(rows, [*functions[0].cells, *functions[1].cells], strict=True):
        assert (int(row["k"]), int(row["n"])) == (cell.kept["k"], cell.kept["n"])
        assert float(row["fraction"]) == pytest.approx(cell.kept["k"] / cell.kept["n"], abs=1e-6)
    drawn = figure(scored, functions)
    assert "planted ring" in drawn.caption and drawn.provenance["run"] == context.run_id
    assert len(drawn.figure.axes) == 3  # two panels and the legend
    assert written(drawn, "png").startswith(b"\x89PNG") and b"Kept of planted" in written(drawn, "svg")
    with pytest.raises(UsageError, match="nothing to draw"):
        figure(scored, functions[2:])
    page = np.asarray(Image.open(io.BytesIO(sheet(explore.survey, scored.planted))))
    assert page.shape == (3 * 2 * 98, 4 * 98, 3)


def test_top_is_of_the_sky_alone(explore: Explore, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    line = top_line(explore, context, 0.05)
    assert isinstance(line.keep, Gate) and line.keep.low is not None
    scores = explore.values("scores.anomaly_score", context.run_id)
    assert (scores >= line.keep.low).sum() == 10  # of 200
    assert line.keep.low_percentile == 95
    frame = scores < np.sort(scores)[-20]  # as if the 20 highest were planted, or withdrawn
    monkeypatch.setattr(explore.survey, "frame", lambda: frame)
    sky = top_line(explore, context, 0.05).keep
    assert isinstance(sky, Gate) and sky.low is not None and ((scores >= sky.low) & frame).sum() == 9  # of 180


def test_only_runs_of_the_network_score_what_is_new(explore: Explore, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = explore.runs().values()
    other = replace(run, config={**run.config, "method": "pca"})
    monkeypatch.setattr(Explore, "runs", lambda self: {run.run_id: other})
    with pytest.raises(UsageError, match="no run of the trained model"):
        run_of(explore, run.run_id)


# ------------------------------------------------------------------------------------------------------------ adding
def test_planted_become_known_subjects_for_ever(
    finished_survey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command, twice: nothing is added twice. In this process, which has torch and the map's code already."""

    def voorwerp(*arguments: object) -> str:
        assert cli.main([str(one) for one in arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    survey = shutil.copytree(finished_survey, tmp_path / "survey")
    plan = ["--kind", "double", "--contrast", "0.5,2", "--size", "5px", "--psf", "2px", "--hosts", "4"]
    opened = Survey.open(survey)
    context = Context(opened.runs("score")[0].run_id, opened.maps()[0].run_id)
    with Ledger(survey, opened.info.survey_id) as ledger:
        keep = Gate("scores.feature_score", low=0.0)
        Boundaries(Explore(opened), ledger).save("All of [it]", Draft(keep), context, "ada")
    opened.close()
    said = voorwerp("inject", survey, *plan, "--out", tmp_path / "out", "--add")
    assert "All of [it], version 1" in said and "4 of 4  1.00 [.51, 1.00]" in said
    assert "4 images, each with 2 sources: double" in said and "top 1 % by anomaly score" in said
    assert "8 of 8 planted sources added" in said and "8 are known objects now" in said
    opened = Survey.open(survey)
    assert opened.n == 208
    new = np.arange(200, 208)
    assert (opened.column("is_known")[new] == "true").all() and not (opened.column("is_known")[:200] == "true").any()
    assert opened.column("half")[new].tolist() == [None] * 8  # counted in no rate
    assert set(opened.column("half")[:200]) == {"tune", "test"}
    assert opened.column("injected_kind")[new].tolist() == ["double"] * 8
    assert opened.column("injected_flux")[new].tolist() == [0.5, 2.0] * 4
    hosts = set(opened.column("injected_host")[new])
    assert len(hosts) == 4 and hosts <= set(opened.source_ids(np.arange(200)))
    assert all(isinstance(host, str) for host in hosts)
    crops = np.load(tmp_path / "out" / "crops.npy")[4:]
    np.testing.assert_array_equal(opened.images[200:], crops)
    assert all(int(name) >= 9 * 10**18 for name in opened.source_ids(new))  # SDSS ids are integers
    assert opened.planted().tolist() == [False] * 200 + [True] * 8
    table = pq.read_table(tmp_path / "out" / "planted.parquet")
    assert set(QUALITY_COLUMNS) <= set(table.column_names)
    opened.close()
    again = voorwerp("inject", survey, *plan, "--out", tmp_path / "out", "--add")
    assert "0 of 8 planted sources added, 8 were there; 8 are known" in again
    assert "no problem found" in voorwerp("check", survey)
    opened = Survey.open(survey)
    (folder := tmp_path / "pca").mkdir()
    workspace = workspace_of(opened, KIND, opened.runs("score")[0], folder)
    finished(detectors.run(ScoreConfig(method="pca", n_components=4), workspace))  # type: ignore[arg-type]
    newest = pq.read_table(folder / SCORES).to_pydict()
    assert newest["subject_id"] == opened.subject_ids.tolist() and np.isfinite(newest["anomaly_score"]).all()
    assert newest["split"] == ["train"] * 200 + ["unseen"] * 8  # nothing is fitted to them
    opened.close()


def test_cut_outs_cannot_be_added(scored: Scored, explore: Explore, monkeypatch: pytest.MonkeyPatch) -> None:
    info = replace(explore.survey.info, reading={"is_cut_out": True})
    monkeypatch.setattr(explore.survey, "info", info)
    with pytest.raises(UsageError, match="--cut-out"):
        finished(add_planted(explore.survey, scored.planted))


def test_linear_values_are_added_as_they_were_planted(
    tmp_path: Path, explore: Explore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FITS, with a stretch and a place on the sky: the same crops, in one group with the host."""
    make(tmp_path / "linear", *write_fits_galaxies(tmp_path / "cubes", 12), extent=40, size=20)
    survey = Survey.open(tmp_path / "linear")
    monkeypatch.setattr(injecting, "candidates", lambda explore, run_id, half: np.array([0, 1, 3]))
    monkeypatch.setattr(injecting, "run_of", lambda explore, run_id: next(iter(explore_runs)))
    explore_runs = list(explore.runs().values())
    plan = replace(PLAN, unit="counts", fluxes=(300.0,), sizes=(Length(1.0, "arcsec"),), n_hosts=3, gain=3.0)
    planted: Planted = finished(plant(Explore(survey), "any", plan, tmp_path / "out"))  # type: ignore[arg-type,assignment]
    assert planted.unit == "nJy" and planted.n_hosts == 3
    made = finished(add_planted(survey, planted))
    assert made == {"n": 3, "n_added": 3, "n_there": 0, "n_flagged": 3}
    survey.close()
    after = Survey.open(tmp_path / "linear")
    np.testing.assert_array_equal(after.images[12:], np.load(tmp_path / "out" / "crops.npy")[3:])
    groups = after.column("duplicate_group")
    hosts = [after.row_of_source(host) for host in after.column("injected_host")[12:]]
    assert groups[12:].tolist() == groups[hosts].tolist()
    after.close()
