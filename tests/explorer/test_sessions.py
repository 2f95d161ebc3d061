"""Sessions come and go: nothing global may remember them."""

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace

import panel as pn
import pytest
from bokeh.document import Document
from panel.io.document import _cleanup_doc
from panel.io.state import set_curdoc

from explorer.app import Session, setup
from explorer.ledger import Ledger
from explorer.services.explore import Explore
from explorer.services.jobs import JobService
from explorer.survey import Survey


def n_watchers() -> int:
    """Watchers of Panel's global state."""
    return sum(len(found) for by_name in pn.state.param.watchers.values() for found in by_name.values())


@pytest.fixture
def services(finished_survey: Path):
    survey = Survey.open(finished_survey)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        jobs = JobService(survey, ledger)
        yield Explore(survey), ledger, jobs
        jobs.stop()
    survey.close()


def test_closed_sessions_leave_no_watcher_and_no_session_behind(services, monkeypatch: pytest.MonkeyPatch):
    explore, ledger, jobs = services
    # after a browser's tests an event loop is there and would take the poll, which no server is here to stop
    monkeypatch.setattr(type(pn.state), "add_periodic_callback", lambda *_, **__: None)
    setup()

    def open_and_close() -> weakref.ref:
        document = Document()
        with set_curdoc(document):
            session = Session(explore, ledger, jobs, None, None)
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
