"""What a training tells in the dialog of runs beside its losses, in a real Chromium: scores, memory, log."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.ui.browser import eventually
from tests.ui.serving import serve
from tests.ui.test_runs import INK, Training, history_line

GPU = {"use": 81, "memory_mb": 3200.0, "of_mb": 81_600.0}


def with_scores(epoch: int) -> str:
    middle = 100 / epoch
    scores = {"n": 40, "percent": [1, 5, 25, 50, 75, 95, 99]}
    scores |= {
        name: [middle * share for share in (0.2, 0.4, 0.7, 1, 1.5, 3, 6)] for name in ("image_score", "feature_score")
    }
    return json.dumps(history_line("encoder", epoch, 6) | {"scores": scores}) + "\n"


def progress(second: int, gpu: bool) -> str:
    taken = {"device": "cuda:0 NVIDIA Test", "gpu": GPU} if gpu else {"device": "cpu", "gpu": None}
    record = {
        "at": f"2026-01-01T00:00:{second:02d}+00:00",
        "attempt": 1,
        "memory_mb": 500.0 + second,
        "done": 1,
        "total": 6,
    }
    return json.dumps(record | taken) + "\n"


@pytest.fixture(scope="module")
def watched(image_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Training]]:
    """A survey with a training on a GPU that was interrupted, and an older one on a CPU that tells little."""
    folder = tmp_path_factory.mktemp("watched")
    survey = shutil.copytree(image_survey, folder / "survey")
    old = Training(survey, "20251231-000000-train", seed=8)
    old.epoch("gan", 1, 1)
    (old.folder / "progress.jsonl").write_text("".join(progress(second, gpu=False) for second in range(5)))
    old.write(state="done", created_at="2025-12-31T00:00:00+00:00")
    new = Training(survey)
    new.epoch("gan", 1, 1)
    with (new.folder / "history.jsonl").open("a") as file:
        file.write("".join(with_scores(epoch) for epoch in (1, 2, 3, 4)))
    (new.folder / "progress.jsonl").write_text("".join(progress(second, gpu=True) for second in range(50)))
    (new.folder / "log.txt").write_text("".join(f"line {i} <b>of text</b>\n" for i in range(300)))
    new.write(state="interrupted", created_at="2026-01-01T00:00:00+00:00")
    with serve(survey, folder / "log") as url:
        yield url, new


def test_scores_memory_gpu_and_log_of_a_training(
    watched: tuple[str, Training], open_survey: Callable[..., Page]
) -> None:
    url, training = watched
    page = open_survey(url)
    page.keyboard.press("r")
    part = page.locator("dialog.runs .watching")
    expect(part.locator("h3").first).to_have_text("Scores of 40 validation images, as they settle")
    expect(part.locator("h3").nth(1)).to_have_text("Device: cuda:0 NVIDIA Test, 81.6 GB of memory")
    pictures = part.locator("canvas")
    said = [
        "Image score by epoch of the encoder, epoch 4: median 25, 95 % are below 75",
        "Feature score by epoch of the encoder, epoch 4: median 25, 95 % are below 75",
        "Memory, GB over the time at work, after 49 s: of the job 549 MB, on the GPU 3.20 GB",
        "GPU in use, % over the time at work, after 49 s: in use 81 %",
    ]
    for i, label in enumerate(said):
        expect(pictures.nth(i)).to_have_attribute("aria-label", label)
        assert eventually(lambda i=i: pictures.nth(i).evaluate(INK), lambda ink: ink > 500)
    pictures.first.scroll_into_view_if_needed()
    pictures.first.hover(position={"x": 48, "y": 40})
    expect(part.locator("figcaption").first).to_have_text("Image score epoch 1100300")

    log = part.get_by_role("region", name="Log")
    assert log.inner_text().split("\n")[0] == "line 100 <b>of text</b>"
    at_end = "e => e.scrollHeight - e.scrollTop - e.clientHeight < 2"
    assert eventually(lambda: log.evaluate(at_end), bool)
    with (training.folder / "log.txt").open("a") as file:
        file.write("one more\n")
    expect(log).to_contain_text("one more")
    assert log.evaluate(at_end)  # it follows its end …
    log.evaluate("e => { e.scrollTop = 40; }")
    with (training.folder / "log.txt").open("a") as file:
        file.write("and another\n")
    expect(log).to_contain_text("and another")
    assert log.evaluate("e => e.scrollTop") == 40  # … but not while it is read
    part.locator("summary").click()
    expect(log).to_be_hidden()

    page.locator("dialog.runs .run").nth(1).click()
    expect(part.locator("h3").nth(1)).to_have_text("Device: cpu")
    expect(pictures.nth(2)).to_have_attribute(
        "aria-label", "Memory, MB over the time at work, after 4 s: of the job 504 MB"
    )
    expect(pictures.first).to_be_hidden()  # an older training tells no scores
    expect(pictures.nth(3)).to_be_hidden()
    expect(part.locator("details")).to_be_hidden()
