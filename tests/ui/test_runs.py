"""Following runs and trainings in a real Chromium: the dialog, its curves, and the pictures epoch by epoch."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from explorer.services.jobs import sign_lock, take_lock
from models.artifacts import PROGRESS, RUN_JSON, Run
from tests.ui.browser import eventually, query
from tests.ui.serving import serve
from tests.ui.test_journeys import wait_for_frame

RUN_ID = "20260101-000000-train"
COLLAPSE = "the generator makes one image for every z (collapse): train with a smaller step"
REFUSED = {"error": "epochs is 2; it must be odd", "field": "epochs"}
INK = """canvas => { const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.reduce((n, v, i) => n + (i % 4 === 3 && v > 0), 0); }"""


def history_line(stage: str, epoch: int, of: int, word: str = "") -> dict[str, Any]:
    """One epoch as a training writes it; the losses fall."""
    fall = 1 / epoch
    names = (
        {"critic_loss": -3 * fall, "generator_loss": 2 * fall, "gradient_norm": 1 + fall}
        if stage == "gan"
        else {"encoder_loss": 900 * fall, "image_score": 700 * fall, "feature_score": None}
    )
    others = {name: value and 1.2 * value for name, value in names.items() if name != "generator_loss"}
    rates = {"images_per_second": 512.0, "seconds": 0.5, "word": word}
    return {"stage": stage, "epoch": epoch, "of": of, "train": names, "validation": others, **rates}


class Training:
    """The folder of a training, as it grows."""

    def __init__(self, survey: Path, run_id: str = RUN_ID, **config: Any) -> None:
        self.folder = survey / "runs" / run_id
        (self.folder / "grids").mkdir(parents=True)
        self.run = Run(run_id, "train", "test", {"preset": "fast", "feature_weight": 0.2, "seed": 7, **config})
        self.n = 0

    def write(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self.run, name, value)
        self.run.write(self.folder / RUN_JSON)

    def epoch(self, stage: str, epoch: int, of: int, word: str = "") -> None:
        self.n += 1
        Image.fromarray(np.full((48, 128, 3), 20 * self.n, np.uint8)).save(self.folder / f"grids/{self.n:05d}.png")
        with (self.folder / "history.jsonl").open("a") as file:
            file.write(json.dumps(history_line(stage, epoch, of, word)) + "\n")


@pytest.fixture(scope="module")
def trained(image_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A survey with a finished training of three and three epochs, and an older one that failed."""
    folder = tmp_path_factory.mktemp("trained")
    survey = shutil.copytree(image_survey, folder / "survey")
    failed = Training(survey, "20251231-000000-train", seed=8)
    failed.write(state="failed", error="the loss is not a number", created_at="2025-12-31T00:00:00+00:00")
    done = Training(survey)
    for epoch in (1, 2, 3):
        done.epoch("gan", epoch, 3, COLLAPSE if epoch == 2 else "")
    for epoch in (1, 2, 3):
        done.epoch("encoder", epoch, 3)
    done.write(
        state="done", results={"verdict": "trained soundly", "n_train": 4}, created_at="2026-01-01T00:00:00+00:00"
    )
    with serve(survey, folder / "log") as url:
        yield url


@pytest.fixture
def runs(open_survey: Callable[[str], Page], trained: str) -> Page:
    """The dialog, open on the finished training."""
    page = open_survey(trained)
    page.get_by_role("button", name="Runs").click()
    expect(page.locator("dialog.runs .one h2")).to_have_text("Train the anomaly model")
    return page


def test_the_dialog_costs_nothing_until_it_is_opened(page: Page, open_survey: Callable[[str], Page], trained: str):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_survey(trained)
    assert not [url for url in asked if re.search(r"runs\.(js|css)|/training", url)]
    page.keyboard.press("r")
    expect(page.locator("dialog.runs")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog.runs")).to_be_hidden()
    asked.clear()
    page.wait_for_timeout(1500)
    assert not [url for url in asked if "/training" in url]


def test_a_training_shows_its_verdict_its_curves_and_what_was_said(runs: Page):
    dialog = runs.locator("dialog.runs")
    expect(dialog.locator(".verdict")).to_have_text("Trained soundly")
    expect(dialog.locator(".words")).to_contain_text(COLLAPSE)
    expect(dialog.locator(".about")).to_contain_text("fast · λ 0.2 · seed 7")
    canvases = dialog.locator(".curves .chart canvas")
    expect(canvases).to_have_count(6)
    eventually(  # the last was not measured: a few words
        lambda: [canvas.evaluate(INK) for canvas in canvases.all()],
        lambda inked: min(inked[:5]) > 4 * inked[5] > 0,
    )
    expect(dialog.locator(".chart", has_text="Gradient norm")).to_contain_text("target 1")
    expect(dialog.locator(".chart", has_text="Encoder loss").locator("figcaption b")).to_have_text(["300", "360"])


def test_arrow_keys_walk_through_the_pictures_and_leave_the_subject_alone(runs: Page):
    dialog, address = runs.locator("dialog.runs"), runs.url
    expect(dialog.locator(".caption")).to_have_text("encoder, epoch 3 of 3")
    expect(dialog.locator(".labels")).to_contain_text("residual")
    for _ in range(3):
        runs.keyboard.press("ArrowLeft")
    expect(dialog.locator(".caption")).to_have_text("generator and critic, epoch 3 of 3")
    expect(dialog.locator(".labels")).to_contain_text("generated")
    picture = dialog.locator(".pane img")
    expect(picture).to_have_js_property("naturalWidth", 128)
    expect(picture).to_have_attribute("src", re.compile("epoch=3$"))
    dialog.get_by_label("Epoch of the pictures").fill("0")
    expect(picture).to_have_attribute("src", re.compile("epoch=1$"))
    assert runs.url == address


def test_the_mouse_over_a_curve_reads_its_values_and_a_click_goes_there(runs: Page):
    chart = runs.locator("dialog.runs .chart", has_text="Critic loss")
    box = chart.locator("canvas").bounding_box()
    assert box is not None
    runs.mouse.move(box["x"] + 48, box["y"] + 40)
    expect(chart.locator("figcaption b")).to_have_text(["-3", "-3.6"])
    runs.mouse.click(box["x"] + 48, box["y"] + 40)
    expect(runs.locator("dialog.runs .caption")).to_have_text("generator and critic, epoch 1 of 3")


def test_another_run_is_chosen_by_key_and_a_failed_one_says_why_and_what_to_do(runs: Page):
    runs.keyboard.press("ArrowDown")
    dialog = runs.locator("dialog.runs")
    expect(dialog.locator(".going")).to_have_text("The loss is not a number")
    expect(dialog.get_by_role("button", name="Begin again")).to_be_visible()
    expect(dialog.locator(".curves")).to_be_hidden()
    expect(dialog.locator(".about")).to_contain_text("seed 8")


def test_a_training_is_followed_while_it_runs_and_when_it_begins_again(
    page: Page, open_survey: Callable[[str], Page], image_survey: Path, tmp_path: Path
):
    survey = shutil.copytree(image_survey, tmp_path / "survey")
    training = Training(survey)
    lock = take_lock(training.folder)
    sign_lock(lock, os.getpid(), 1)
    training.epoch("gan", 1, 3)
    record = {"done": 1, "total": 6, "message": "generator and critic", "metrics": {}, "rate": 0.5}
    (training.folder / PROGRESS).write_text(json.dumps(record) + "\n")
    training.write(state="running")
    with serve(survey, tmp_path / "log") as url:
        open_survey(url)
        expect(page.locator(".computing")).to_contain_text(
            "Train the anomaly model · 17 % · generator and critic · 10 s left"
        )
        page.get_by_role("button", name="Runs").click()
        dialog = page.locator("dialog.runs")
        expect(dialog.locator(".going")).to_have_text("generator and critic · 512 images a second · 10 s left")
        expect(dialog.locator(".caption")).to_have_text("generator and critic, epoch 1 of 3")
        training.epoch("gan", 2, 3)
        expect(dialog.locator(".caption")).to_have_text("generator and critic, epoch 2 of 3")
        (training.folder / "history.jsonl").unlink()  # a resumed training has cut its history back
        training.n = 0
        training.epoch("gan", 1, 9)
        training.epoch("gan", 2, 9)
        training.write(attempt=2)
        expect(dialog.locator(".caption")).to_have_text("generator and critic, epoch 2 of 9")
        training.write(state="done", results={"verdict": COLLAPSE})
        os.close(lock)
        expect(dialog.locator(".verdict")).to_have_text(COLLAPSE[0].upper() + COLLAPSE[1:])
        page.goto("about:blank")  # before its server goes


# ------------------------------------------------------------------------------------------------------ decisions
@pytest.fixture
def own_survey(finished_survey: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A finished survey of one's own, served: its URL and folder."""
    survey = shutil.copytree(finished_survey, tmp_path / "survey", ignore=shutil.ignore_patterns("server.lock"))
    with serve(survey, tmp_path / "log") as url:
        yield url, survey


def fill(dialog: Locator, **settings: object) -> None:
    """Type settings into the form, by their labels."""
    for label, value in settings.items():
        dialog.get_by_label(label.replace("_", " "), exact=True).fill(str(value))


def test_a_form_says_what_is_wrong_beside_the_field_and_loses_nothing(
    page: Page, open_survey: Callable[[str], Page], served: str, troubles: list[str]
):
    open_survey(served)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.keyboard.press("Control+k")
    page.keyboard.type("new run")
    page.keyboard.press("Enter")
    dialog = page.locator("dialog.runs")
    expect(dialog.get_by_role("radio", name="Train the anomaly model")).to_be_focused()
    fill(dialog, Epochs=0)
    epochs = dialog.locator(".field", has=page.get_by_label("Epochs", exact=True))
    page.keyboard.press("Tab")
    expect(epochs).to_contain_text("Must be between 1 and 100,000")
    dialog.get_by_label("Epochs", exact=True).press("Enter")
    expect(dialog.get_by_label("Epochs", exact=True)).to_be_focused()
    expect(dialog.get_by_role("alert").filter(has_text="Epochs must be between 1 and 100,000")).to_be_visible()
    fill(dialog, Epochs=2, Seed=7)
    expect(epochs).to_contain_text("Passes of the generator")
    dialog.get_by_label("λ", exact=True).fill("0, .5")
    expect(dialog.locator(".sum")).to_contain_text("A series: 2 λ, 2 trainings, each scored, then ranked together")
    dialog.get_by_label("λ", exact=True).fill("")
    dialog.get_by_role("radio", name="Score every subject", exact=False).first.check()
    expect(dialog.get_by_label("Train run")).to_contain_text("fast · λ 0.2 · seed 1234")
    dialog.get_by_role("radio", name="PCA").check()
    expect(dialog.get_by_label("Train run")).to_have_count(0)
    dialog.get_by_role("radio", name="Train the anomaly model").check()
    expect(dialog.get_by_label("Seed", exact=True)).to_have_value("7")
    page.route("**/runs/start", lambda route: route.fulfill(status=400, json=REFUSED))
    dialog.get_by_role("button", name="Start", exact=True).click()
    expect(epochs).to_contain_text("It is 2; it must be odd")  # what the server alone can know
    expect(dialog.get_by_label("Epochs", exact=True)).to_have_value("2")
    assert len(sent) == 1
    troubles.clear()  # that it was refused is what this is about
    page.unroute("**/runs/start")
    page.keyboard.press("Escape")
    expect(dialog.get_by_role("button", name="New run")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_what_is_typed_and_in_focus_stays_while_the_runs_are_asked_for(runs: Page):
    dialog = runs.locator("dialog.runs")
    dialog.get_by_role("button", name="Delete").click()
    field = dialog.get_by_label("Name of the run to delete")
    expect(field).to_be_focused()
    field.press_sequentially("2026")
    with runs.expect_response("**/training*"), runs.expect_response("**/training*"):
        pass
    expect(field).to_be_focused()
    expect(field).to_have_value("2026")
    expect(dialog.get_by_role("button", name="Delete", exact=True)).to_be_disabled()
    runs.keyboard.press("Escape")
    expect(field).to_be_hidden()
    expect(dialog).to_be_visible()


def test_a_journey_train_cancel_go_on_score_and_color_the_map_by_it(
    page: Page, open_survey: Callable[[str], Page], own_survey: tuple[str, Path], troubles: list[str]
):
    url, survey = own_survey
    open_survey(url)
    wait_for_frame(page)
    page.locator(".gallery .tile").nth(3).click()
    page.get_by_role("button", name="Invert", exact=True).click()
    expect(page.locator(".steering .total")).to_contain_text("200")
    before = eventually(lambda: query(page), lambda now: {"subject", "selection", "run"} <= now.keys())
    page.keyboard.press("r")
    dialog = page.locator("dialog.runs")
    dialog.get_by_role("button", name="New run").click()
    dialog.locator(".rest summary").click()
    fill(dialog, Epochs=1, Encoder_epochs=200, Width=4, Latent_size=12, Train_on=24)
    dialog.get_by_role("button", name="Start", exact=True).click()
    # images and curves come
    expect(dialog.locator(".one .state")).to_have_text("running")
    expect(dialog.locator(".caption")).to_contain_text("of 200")
    expect(dialog.locator(".pane img")).to_have_js_property("complete", True)
    chart = dialog.locator(".chart", has_text="Critic loss").locator("canvas")
    eventually(lambda: chart.evaluate(INK), lambda inked: inked > 100)
    expect(dialog.locator(".about")).to_contain_text("started by local")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog.locator(".one .state")).to_have_text("cancelled")
    dialog.get_by_role("button", name=re.compile("^Go on (with|from epoch .* of) the encoder")).click()
    expect(dialog.locator(".one .state")).to_have_text("done")
    trained = max((survey / "runs").glob("*-train"))
    attempts = json.loads((trained / RUN_JSON).read_text())["attempt"]
    assert attempts == 2
    # score
    dialog.get_by_role("button", name="Score with it").click()
    expect(dialog.get_by_label("Train run")).to_have_value(trained.name)
    dialog.get_by_role("button", name="Start", exact=True).click()
    expect(dialog.locator(".one h2")).to_have_text("Score every subject")
    expect(dialog.locator(".one .state")).to_have_text("done")
    page.keyboard.press("Escape")
    # it offers itself, and takes nothing by itself
    offer = page.locator(".topbar .offer")
    expect(offer).to_contain_text("Score every subject: is done")
    scored = max((survey / "runs").glob("*-score")).name
    assert query(page)["run"] == before["run"] != scored
    offer.get_by_role("button", name="Color by it").click()
    expect(offer).to_be_hidden()
    now = eventually(lambda: query(page), lambda now: now["run"] == scored)
    assert {name: now[name] for name in ("subject", "selection")} == {
        name: before[name] for name in ("subject", "selection")
    }
    expect(page.locator(".steering .total")).to_contain_text("200")
    # deleted by its name, once it is typed
    page.keyboard.press("r")
    expect(dialog.locator(".one h2")).to_have_text("Score every subject")
    dialog.get_by_role("button", name="Delete").click()
    dialog.get_by_label("Name of the run to delete").fill(scored)
    page.keyboard.press("Enter")
    expect(dialog.locator(f"[data-run='{scored}']")).to_have_count(0)
    assert not (survey / "runs" / scored).exists()
    assert before["run"] in {path.name for path in (survey / "runs").iterdir()}
    page.goto("about:blank")  # before its server goes
    assert not troubles
