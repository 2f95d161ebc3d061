"""A second round on the screen: scores and a map of the top of the first, in a real Chromium."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, expect

from explorer.ledger import Ledger
from explorer.services.selected import keep_top
from explorer.survey import Survey
from tests.explorer.test_selected_runs import AtOnce
from tests.ui.browser import wait_until_idle
from tests.ui.serving import serve
from tests.ui.test_journeys import wait_for_frame


class Rounds(NamedTuple):
    """The survey's URL, its first scores and map (of all 200), and the second ones (of 40)."""

    url: str
    scores: tuple[str, str]
    maps: tuple[str, str]


@pytest.fixture(scope="module")
def rounds(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    folder = tmp_path_factory.mktemp("rounds")
    survey = Survey.open(
        shutil.copytree(finished_survey, folder / "survey", ignore=shutil.ignore_patterns("server.lock"))
    )
    first, laid_out = survey.runs("score")[0].run_id, survey.maps()[0].run_id
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = AtOnce(survey, ledger)
        name = keep_top(survey, ledger, 0.2, first, "ada")
        second = service.start("score", {"method": "pca", "n_components": 4}, None, "ada", selection=name)
        smaller = service.start("map", {"n_epochs": 20}, [first], "ada", selection=name)
    survey.close()
    with serve(folder / "survey", folder / "log") as url:
        yield Rounds(url, (first, second), (laid_out, smaller))


def test_the_map_and_the_scores_of_a_second_round_are_of_some_and_say_so(
    page: Page, open_survey: Callable[[str], Page], rounds: Rounds
) -> None:
    open_survey(rounds.url)
    wait_for_frame(page)
    expect(page.get_by_text("200 of 200 subjects on the map in view")).to_be_visible()  # it opens with the first round
    legend, base = page.locator(".legend"), rounds.url.split("?")[0]

    page.goto(f"{base}?run={rounds.scores[1]}&map={rounds.maps[1]}")
    wait_until_idle(page)
    wait_for_frame(page)
    expect(legend).to_contain_text("40 of 40 subjects on the map in view")
    expect(legend).to_contain_text("40 of 200 on the map")
    expect(page.get_by_text("percentile 97.5 · above 39 of 40").first).to_be_visible()  # the highest, among the scored
    page.get_by_role("button", name=f"top 20 % of {rounds.scores[0]},").click()
    expect(page.get_by_text("40 of 200 selected")).to_be_visible()

    page.goto(f"{base}?run={rounds.scores[1]}&map={rounds.maps[0]}")  # the new scores where everyone is
    wait_until_idle(page)
    wait_for_frame(page)
    expect(legend).to_contain_text("200 of 200 subjects on the map in view")
    expect(legend).to_contain_text("no value")
    page.keyboard.press("r")
    said = f"of “top 20 % of {rounds.scores[0]}”, 40 of 200 subjects"
    expect(page.get_by_text(said).first).to_be_visible()
