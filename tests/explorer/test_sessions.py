"""Sessions come and go: nothing global may remember them. What they show at first; what an export takes by itself."""

import gc
import logging
import shutil
import signal
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import panel as pn
import pyarrow.parquet as pq
import pytest
from bokeh.document import Document
from panel.io.document import _cleanup_doc
from panel.io.state import set_curdoc

from explorer import app
from explorer.app import Session, setup
from explorer.cli import main
from explorer.errors import UsageError
from explorer.server import Access, routes
from explorer.services.desk import Desk
from explorer.state import Selection
from explorer.views.shell import title
from models.artifacts import Run, write_scores
from models.mixing import mix, mixed_with
from tests.explorer.small_survey import write_survey


def n_watchers() -> int:
    """Watchers of Panel's global state."""
    return sum(len(found) for by_name in pn.state.param.watchers.values() for found in by_name.values())


@pytest.fixture
def desk(finished_survey: Path):
    with Desk.open(finished_survey) as opened:
        yield opened


def test_closed_sessions_leave_no_watcher_and_no_session_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    # after a browser's tests an event loop is there and would take the poll, which no server is here to stop
    monkeypatch.setattr(type(pn.state), "add_periodic_callback", lambda *_, **__: None)
    monkeypatch.setattr(logging.root.manager, "disable", logging.DEBUG)  # pytest keeps what a log line is told of
    setup()

    def open_and_close() -> weakref.ref:
        document = Document()
        with set_curdoc(document):
            session = Session(desk)
            session.page().server_doc(document)
            session.state.lambda_ = 0.4
        pn.state._destroy_session(SimpleNamespace(_document=document, id="closed"))  # as the server does
        _cleanup_doc(document, destroy=True)
        return weakref.ref(session)

    open_and_close()
    before = n_watchers()
    gone = [open_and_close() for _ in range(5)]
    gc.collect()
    assert n_watchers() == before
    assert sum(ref() is not None for ref in gone) <= 1  # the last may still be held by the frame


def test_a_server_that_runs_ends_pages_that_were_left(finished_survey: Path, monkeypatch: pytest.MonkeyPatch):
    keeps_house: list[bool] = []

    def listen(*given: object):
        server = listen_on(*given)  # type: ignore[arg-type]
        tornado = server.bokeh._tornado
        monkeypatch.setattr(
            type(server.bokeh.io_loop), "start", lambda _: keeps_house.append(tornado._cleanup_job.is_running())
        )
        servers.append(server.bokeh)
        return server

    listen_on, servers = app._listen, []
    monkeypatch.setattr(app, "_listen", listen)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(sys, "setswitchinterval", lambda _: None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        app.serve(finished_survey, port=0, open_browser=False)
    finally:
        signal.signal(signal.SIGTERM, before)
        for server in servers:
            server.stop()
    assert keeps_house == [True]


def test_frames_do_not_wait_for_comparisons_and_figures(desk: Desk):
    with ThreadPoolExecutor(1) as pool:
        given = {pattern: told["pool"] for pattern, _, told in routes(Access(1, frozenset()), desk, pool)}
    assert {pattern for pattern, own in given.items() if own is desk.frames} == {"/frame", "/nearest"}
    assert {pattern for pattern, own in given.items() if own not in (pool, desk.frames)} == {
        "/apart",
        "/boundary/(curves|budget|follows|lost)",
        "/export",
        "/figure",
        r"/volunteers(?:/(\w+))?",
        "/runs/(start|cancel|resume|delete)",
        "/runs/compare",
    }


@pytest.fixture
def scored(tmp_path: Path):
    """The services of a survey with score runs of several λ, one of ranks among them."""
    path = write_survey(tmp_path / "survey", n=20, size=4)
    for run_id, kind, config in (
        ("1-old", "score", {"feature_weight": 0.2}),
        ("2-half", "score", {"feature_weight": 0.5, "preset": "compact", "lambda_mode": "standardised", "center": 0.2}),
        ("3-ranks", "ranks", {}),
    ):
        folder = path / "runs" / run_id
        folder.mkdir(parents=True)
        results = {"score_title": "Mean rank percentile over 2 runs of λ = 0"} if kind == "ranks" else {}
        Run(
            run_id, kind, "0", config, state="done", created_at=f"2026-01-01T00:00:0{run_id[0]}+00:00",
            results=results, provides="score" if kind == "ranks" else "",
        ).write(folder / "run.json")  # fmt: skip
        image, feature = np.random.default_rng(int(run_id[0])).lognormal(size=(2, 20))
        missing = np.full(20, np.nan)
        columns = {
            "subject_id": np.arange(20) + 588848901523702001,
            "split": ["train"] * 20,
            "image_score": missing if kind == "ranks" else image,
            "feature_score": missing if kind == "ranks" else feature,
            "anomaly_score": mix(image, feature, *mixed_with(config)),
            "quality": ["ok"] * 20,
        }
        write_scores(folder, None, columns)
    with Desk.open(path) as opened:
        yield opened


def test_a_run_is_shown_at_the_lambda_that_it_was_scored_with_unless_the_link_says_otherwise(
    scored, monkeypatch: pytest.MonkeyPatch
):
    explore = scored.explore
    setup()
    location = SimpleNamespace(search="?run=2-half")
    monkeypatch.setattr(type(pn.state), "location", location)
    with set_curdoc(Document()):
        state = Session(scored).state
        assert (state.run_id, state.lambda_, state.lambda_mode) == ("2-half", 0.5, "standardised")
        shown = explore.values("scores.anomaly_score", "2-half", state.lambda_, state.lambda_mode)
        np.testing.assert_allclose(shown, explore.survey.scores("2-half")["anomaly_score"], rtol=1e-5)
        state.run_id = "1-old"
        assert (state.lambda_, state.lambda_mode) == (0.2, "raw")
        state.lambda_ = 0.7
        state.run_id = "3-ranks"  # it mixes nothing
        assert state.lambda_ == 0.7
        state.run_id = "2-half"
        assert (state.lambda_, state.lambda_mode) == (0.5, "standardised")
        location.search = "?run=2-half&lambda=0.9&lambda_mode=raw"
        state = Session(scored).state
        assert (state.lambda_, state.lambda_mode) == (0.9, "raw")


def test_the_picker_of_runs_says_by_which_score(scored):
    assert [title(run) for run in scored.explore.runs().values()] == [
        "2026-01-01 00:00:03 ranks: Mean rank percentile over 2 runs of λ = 0",
        "2026-01-01 00:00:02 half: compact, λ = 0.5 standardised, center 0.2",
        "2026-01-01 00:00:01 old: paper, λ = 0.2",
    ]


def finish(path: Path, run_id: str, kind: str = "score", **values: object) -> None:
    """Write a run that is over, without what it made."""
    folder = path / ("maps" if kind == "map" else "runs") / run_id
    folder.mkdir(parents=True, exist_ok=True)
    told = {"state": "done", "created_at": "2026-02-01T00:00:00+00:00"} | values
    Run(run_id, kind, "0", {}, **told).write(folder / ("map.json" if kind == "map" else "run.json"))  # type: ignore[arg-type]


def test_a_run_that_ends_offers_itself_and_takes_nothing(scored, monkeypatch: pytest.MonkeyPatch):
    setup()
    path, session = scored.explore.survey.path, Session(scored)
    monkeypatch.setattr(scored.jobs, "recent", scored.jobs.list)
    session.state.select(Selection.of_rows([2, 5], 20))
    session.state.focus = 7
    bar = session.shell.bar
    session.shell.refresh()
    assert bar.offer == {}  # what there was when the session began is no news
    finish(path, "4-new")
    session.shell.refresh()
    assert bar.offer == {
        "text": "Score every subject: is done",
        "word": "Color by it",
        "run_id": "4-new",
        "do": "color",
    }
    assert session.state.run_id == "3-ranks"
    session.shell.refresh()
    assert bar.offer["run_id"] == "4-new"  # until it is answered
    session.shell.color_by("4-new")
    assert bar.offer == {}
    assert (session.state.run_id, session.state.focus) == ("4-new", 7)
    assert session.state.selection.rows().tolist() == [2, 5]
    for run_id, kind, told, expected in (
        ("5-bad", "train", {"state": "failed", "error": "no"}, ("open", "See why")),
        ("6-ok", "train", {}, ("score", "Score with it …")),
        ("7-map", "map", {}, ("map", "Lay out on it")),
        ("8-inside", "score", {"series": "s"}, ("map", "Lay out on it")),  # the ranking of a series speaks for it
    ):
        finish(path, run_id, kind, **told)
        scored.explore.look_again()
        session.state.map_id = "other"
        session.shell.refresh()
        assert (bar.offer["do"], bar.offer["word"]) == expected
    shutil.rmtree(path / "maps" / "7-map")
    session.shell.refresh()
    assert bar.offer == {}  # deleted


def test_coloring_by_a_run_keeps_a_score_that_it_has_too(scored):
    setup()
    session = Session(scored)
    state = session.state
    session.shell.color_by("1-old")
    state.color = "scores.image_score"
    session.shell.color_by("2-half")
    assert (state.run_id, state.color) == ("2-half", "scores.image_score")
    assert (state.lambda_, state.lambda_mode) == (0.5, "standardised")
    state.color = "count"
    session.shell.color_by("2-half")
    assert state.color == "scores.anomaly_score"
    for refused in (session.shell.color_by, session.shell.lay_out):
        with pytest.raises(UsageError, match="9-none"):
            refused("9-none")
    assert state.run_id == "2-half"


def test_a_selection_is_kept_for_a_run_of_it(scored):
    setup()
    session = Session(scored)
    assert session.shell.bar.selected == {"k": 0, "name": "", "n": 20}
    session.state.select(Selection.of_rows([2, 5], 20))
    assert session.shell.bar.selected == {"k": 2, "name": "", "n": 20}
    session._keep("odd ones")
    assert session.shell.bar.selected == {"k": 2, "name": "odd ones", "n": 20}
    assert scored.ledger.selection_counts() == {"odd ones": 2}
    session.state.select(Selection.of_rows([1], 20))
    assert session.shell.bar.selected == {"k": 1, "name": "", "n": 20}


def test_an_export_mixes_as_the_run_did_unless_told(scored, tmp_path: Path):
    survey = scored.explore.survey
    file = tmp_path / "out.parquet"

    def exported(*options: str) -> tuple[np.ndarray, dict[str, object]]:
        assert main(["export", str(survey.path), str(file), *options]) == 0
        table = pq.read_table(file)
        about = {name: table.column(name)[0].as_py() for name in ("run_id", "lambda", "lambda_mode")}
        return table.column("anomaly_score").to_numpy(), about

    values, about = exported("--run", "2-half")
    assert about == {"run_id": "2-half", "lambda": 0.5, "lambda_mode": "standardised"}
    np.testing.assert_allclose(values, survey.scores("2-half")["anomaly_score"], rtol=1e-5)
    assert exported("--run", "2-half", "--lambda", "0")[1]["lambda_mode"] == "standardised"
    values, about = exported("--run", "2-half", "--lambda", "0", "--lambda-mode", "raw")
    np.testing.assert_array_equal(values, survey.scores("2-half")["image_score"])
    assert exported("--run", "1-old")[1] == {"run_id": "1-old", "lambda": 0.2, "lambda_mode": "raw"}
