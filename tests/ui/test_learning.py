"""Every kind that learns from labels, in a real Chromium: started from the form, seen at work, done, read, on the map.

One small survey for all, whose votes and grades are simulated and marked so; each is a run of seconds.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.browser import eventually, query
from tests.ui.serving import serve

#: Notes every state, and every sentence of progress, of the run that is shown.
WATCH = """() => { const one = voorwerp.shell.deep('dialog.runs .one'), seen = window.seen = {states: [], going: []};
  const look = () => { for (const [name, of] of [['states', '.state'], ['going', '.going']]) {
    const text = one.querySelector(of).textContent; if (text && seen[name].at(-1) !== text) seen[name].push(text); } };
  new MutationObserver(look).observe(one, {subtree: true, childList: true, characterData: true}); look(); }"""


class Learner(NamedTuple):
    """A kind, what is typed into its form, the column that the map is colored by, and words of its findings."""

    title: str
    settings: dict[str, object]
    color: str
    found: str


LEARNERS = {
    "czsl": Learner(
        "Learn classes from experts, amateurs and all images",
        {"Folds": 2, "Autoencoder epochs": 1, "Epochs": 2, "Width": 4},
        "probability_found",
        "out of fold",
    ),
    "metric": Learner(
        "Learn an embedding from labels", {"Folds": 2, "Epochs": 2, "Width": 4}, "share_found", "out of fold"
    ),
    "cluster": Learner("Cluster for labelling by the grid", {"Clusters": 4, "Epochs": 3}, "novelty", "clusters"),
    "bayes": Learner(
        "Predict votes, and what would teach most",
        {"Folds": 2, "Epochs": 2, "Width": 4, "Samples": 5},
        "predicted_fraction",
        "out of fold",
    ),
    "finetune": Learner(
        "Fine-tuning from vetting", {"Folds": 2, "Epochs": 2}, "probability_of_interest", "out of fold"
    ),
}


@pytest.fixture(scope="module")
def labelled(
    finished_survey: Path, tmp_path_factory: pytest.TempPathFactory, voorwerp: Callable[..., str]
) -> Iterator[tuple[str, Path]]:
    """A survey with latent vectors, simulated votes and simulated grades, served: its URL and folder."""
    folder = tmp_path_factory.mktemp("labelled")
    survey = shutil.copytree(finished_survey, folder / "survey", ignore=shutil.ignore_patterns("server.lock"))
    spirals = ["--class", "shape", "--worth", "spiral"]
    voorwerp("simulate", survey, *spirals)
    voorwerp("simulate", survey, *spirals, "--graders", 2, "--subjects", 100)
    with serve(survey, folder / "log") as url:
        yield url, survey


def start(dialog: Locator, learner: Learner) -> None:
    """Fill the form for a new run, and send it."""
    dialog.get_by_role("button", name="New run").click()
    dialog.get_by_role("radio", name=learner.title, exact=True).check()
    expect(dialog.get_by_role("radio", name="modern", exact=True)).to_be_checked()
    if not dialog.locator(".rest").evaluate("details => details.open"):
        dialog.locator(".rest summary").click()
    for label, value in learner.settings.items():
        dialog.get_by_label(label, exact=True).fill(str(value))
    dialog.get_by_role("button", name="Start", exact=True).click()
    expect(dialog.locator(".one h2")).to_have_text(learner.title)


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_kind_is_started_seen_at_work_read_and_put_on_the_map(
    kind: str, open_survey: Callable[[str], Page], labelled: tuple[str, Path]
) -> None:
    url, survey = labelled
    page, learner = open_survey(url), LEARNERS[kind]
    page.keyboard.press("r")
    dialog = page.locator("dialog.runs")
    expect(dialog.locator(".one h2")).not_to_have_text("")
    page.evaluate(WATCH)
    start(dialog, learner)
    expect(dialog.locator(".one .state")).to_have_text("done")
    seen = page.evaluate("() => window.seen")
    assert "running" in seen["states"]
    assert any(re.search(r"\w", going) for going in seen["going"]), seen
    # losses, stage by stage, and a picture whose rows have words
    stages = dialog.get_by_role("radiogroup", name="Stages").get_by_role("radio")
    expect(stages.last).to_have_attribute("aria-checked", "true")
    expect(dialog.locator(".training .chart figcaption b").first).not_to_have_text("–")
    expect(dialog.locator(".pane img")).to_have_js_property("complete", True)
    assert dialog.locator(".pane img").evaluate("image => image.naturalWidth") >= 32
    expect(dialog.locator(".labels span").first).not_to_have_text("")
    # what was found says that its labels are simulated
    expect(dialog.locator(".lead .said p").first).to_be_visible()
    expect(dialog.locator(".lead")).to_contain_text(re.compile("simulated", re.IGNORECASE))
    expect(dialog.locator(".one")).to_contain_text(learner.found)
    expect(dialog.locator(".findings :is(table, canvas)").first).to_be_visible()
    expect(dialog.locator(".tables")).to_contain_text("(simulated)" if kind == "bayes" else "Simulated grades")
    # and its own column colors the map
    dialog.get_by_role("button", name="Color by this run").click()
    expect(dialog).to_be_hidden()
    color = page.get_by_label("Color by", exact=True).first
    expect(color).to_have_value(f"scores.{learner.color}")
    expect(color.locator("option:checked")).to_contain_text("simulated: ")
    run_id = max((survey / "runs").glob(f"*-{kind}")).name
    eventually(lambda: query(page), lambda now: now.get("run") == run_id)
