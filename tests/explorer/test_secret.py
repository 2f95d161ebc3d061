"""Secrets outside the survey: made once, for nobody else's eyes; a login outlives a restart."""

import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from explorer.errors import SurveyError
from explorer.secret import CONFIG, secret_of
from explorer.survey import Survey
from tests.explorer.small_survey import write_survey
from tests.ui.serving import serve


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CONFIG, str(tmp_path / "config"))
    return tmp_path / "config"


def test_a_secret_is_made_once_and_is_nobody_elses(config: Path):
    first = secret_of("a", "login")
    assert len(first) == 64
    assert secret_of("a", "login") == first
    assert len({first, secret_of("b", "login"), secret_of("a", "salt")}) == 3
    assert (config / "a" / "login").stat().st_mode & 0o777 == 0o600


def test_a_secret_that_others_may_read_is_refused(config: Path):
    secret_of("a", "login")
    (config / "a" / "login").chmod(0o640)
    with pytest.raises(SurveyError, match="may be read by others; chmod 600 it"):
        secret_of("a", "login")


def test_whoever_was_let_in_is_let_in_after_a_restart(tmp_path: Path):
    survey = write_survey(tmp_path / "survey", n=20, size=4)
    kept = secret_of(Survey.open(survey).info.survey_id, "login")
    with serve(survey, tmp_path / "log") as url:
        address = urlsplit(url)

        def status(cookie: str) -> int:
            request = urllib.request.Request(f"http://{address.netloc}/subject/0")
            request.add_header("Cookie", f"voorwerp-{address.port}={cookie}")
            try:
                return int(urllib.request.urlopen(request).status)
            except urllib.error.HTTPError as error:
                return error.code

        assert (status(kept), status(kept[::-1]), status("")) == (200, 403, 403)
