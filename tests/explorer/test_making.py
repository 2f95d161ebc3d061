"""`explorer.commands.making`: what the options of ``create`` and ``add`` mean, and what is said afterwards."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

from explorer.cli import main
from explorer.commands.making import Extent, Numbers, Words, made_how, pixel_scale, say_totals, show_making, stretch_of
from explorer.errors import UsageError
from explorer.survey import Survey, SurveyInfo
from models.images import Stretch
from models.progress import Progress

NOTHING: dict[str, Any] = {
    "stretch": None,
    "stretch_low": None,
    "stretch_high": None,
    "percentiles": None,
    "per_image": False,
    "lupton_q": None,
    "lupton_stretch": None,
    "lupton_minimum": None,
    "stretch_from": None,
}


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("212", {"extent": 212}),
        ("212px", {"extent": 212}),
        ("30arcsec", {"extent_arcsec": 30.0}),
        ("1.5 arcsec", {"extent_arcsec": 1.5}),
        ('30"', {"extent_arcsec": 30.0}),
    ],
)
def test_an_extent_is_in_px_or_arcsec(told: str, meant: dict[str, float]) -> None:
    assert Extent().convert(told, None, None) == meant


@pytest.mark.parametrize("told", ["", "px", "1.5", "1.5px", "-3", "30arcmin", "nan"])
def test_what_is_no_extent(told: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is neither pixels \(212, 212px\) nor an angle"):
        Extent().convert(told, None, None)


def test_lists_are_split_at_commas() -> None:
    assert Words().convert("g, r,i", None, None) == ("g", "r", "i")
    assert Numbers().convert("0.5,99.5", None, None) == (0.5, 99.5)
    with pytest.raises(click.BadParameter, match="has an empty place between its commas"):
        Words().convert("g,,i", None, None)
    with pytest.raises(click.BadParameter, match="is not a list of numbers"):
        Numbers().convert("1,x", None, None)


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ({}, None),
        ({"stretch": "percentile"}, Stretch("percentile")),
        ({"percentiles": (1.0, 99.0)}, Stretch("percentile", percentiles=(1.0, 99.0))),
        ({"per_image": True}, Stretch("percentile", per_image=True)),
        ({"stretch_low": (0.0,), "stretch_high": (9.0,)}, Stretch("linear", (0.0,), (9.0,))),
        ({"lupton_q": 5.0}, Stretch("lupton", q=5.0)),
        (
            {"stretch": "lupton", "lupton_stretch": 2.0, "lupton_minimum": -1.0},
            Stretch("lupton", stretch=2.0, minimum=-1.0),
        ),
    ],
)
def test_a_stretch_is_told_by_its_parameters(told: dict[str, Any], meant: Stretch | None) -> None:
    assert stretch_of(**{**NOTHING, **told}) == meant


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (
            {"stretch": "lupton", "percentiles": (1.0, 99.0)},
            "--percentiles is of the stretch percentile, not of lupton",
        ),
        ({"lupton_q": 5.0, "per_image": True}, "leave one of them out"),
        ({"stretch_low": (0.0,)}, "--stretch-low and --stretch-high are given together"),
        ({"stretch_low": (5.0,), "stretch_high": (5.0,)}, "this stretch is not possible: .*a low and a higher high"),
        ({"percentiles": (1.0,)}, "--percentiles takes two"),
        ({"percentiles": (99.0, 1.0)}, "this stretch is not possible: percentiles go from 0 to 100"),
        ({"lupton_q": -1.0}, "this stretch is not possible: .* above 0"),
        ({"stretch_from": Path("x"), "lupton_q": 1.0}, "leave out --lupton-q"),
        ({"stretch_from": Path("x"), "stretch": "linear"}, "leave out --stretch"),
    ],
)
def test_stretches_that_are_not_possible(told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        stretch_of(**{**NOTHING, **told})


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """Six images of physical values, as npy."""
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(2)
    for i in range(6):
        values = (
            noise.normal(10, 2, (40, 40, 3)) + 200 * np.exp(-(np.hypot(*np.mgrid[-20:20, -20:20]) ** 2) / 20)[..., None]
        )
        np.save(tmp_path / "images" / f"f{i}.npy", values.astype(np.float32))
    return tmp_path / "images"


def test_create_says_bands_stretch_and_pixel_scale(
    linear: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--size", "32", "--bands", "g,r,i", "--pixel-scale", "0.2", "--extent", "6arcsec"]
    assert main(["create", str(tmp_path / "s"), str(linear), *told]) == 0
    said = capsys.readouterr().out
    assert "bands g, r, i; stretch: percentiles 0.5 to 99.5 of the survey, g " in said
    assert "; 0.2 arcsec per px" in said
    assert "note: the stretch is from all 6 images\n" in said
    survey = Survey.open(tmp_path / "s")
    assert (survey.info.extent, survey.info.extent_arcsec, survey.info.pixel_scale_arcsec) == (None, 6.0, 0.2)
    assert survey.info.bands == ("g", "r", "i")
    assert survey.subject(0)["crop_side"] == 30
    # the stretch of this one for another, as it is
    told = ["--size", "32", "--bands", "g,r,i", "--stretch-from", str(tmp_path / "s")]
    assert main(["create", str(tmp_path / "t"), str(linear), *told]) == 0
    assert Survey.open(tmp_path / "t").info.stretch == survey.info.stretch


@pytest.mark.parametrize(("bands", "rgb"), [("g,r,i,z,y", (2, 1, 0)), ("g,r,i", (2, 1, 0)), ("r,g,b", (0, 1, 2))])
def test_the_contact_sheet_shows_the_bands_that_thumbnails_do(
    tmp_path: Path, bands: str, rgb: tuple[int, int, int]
) -> None:
    (tmp_path / "images").mkdir()
    n = len(bands.split(","))
    values = np.random.default_rng(5).random((3, 32, 32, n), np.float32)
    for i in range(3):
        np.save(tmp_path / "images" / f"f{i}.npy", values[i])
    told = ["--size", "32", "--bands", bands, "--stretch-low", "0", "--stretch-high", "1"]
    assert main(["create", str(tmp_path / "s"), str(tmp_path / "images"), *told]) == 0
    survey = Survey.open(tmp_path / "s")
    assert survey.images.shape == (3, 32, 32, n)
    with Image.open(tmp_path / "s" / "contact_sheet.png") as sheet:
        tile = sheet.crop((4, 4, 132, 132)).resize((32, 32), Image.Resampling.BOX)
    shown = survey.images[0][:, :, list(survey.info.rgb)].astype(float)
    assert survey.info.rgb == rgb
    for band in range(3):
        assert np.corrcoef(np.asarray(tile)[:, :, band].ravel(), shown[:, :, band].ravel())[0, 1] > 0.95


def test_a_survey_of_linked_files_says_so_in_its_folder(linear: Path, tmp_path: Path) -> None:
    told = ["--size", "32", "--originals", "link", "--lupton-q", "6"]
    assert main(["create", str(tmp_path / "s"), str(linear), *told]) == 0
    survey = Survey.open(tmp_path / "s")
    assert survey.info.originals == "link"
    link = survey.link(2)
    assert link is not None
    assert link.paths == (str(linear / "f2.npy"),)
    assert (survey.info.stretch.mode, survey.info.stretch.q) == ("lupton", 6.0)
    assert main(["check", str(tmp_path / "s")]) == 0


def test_a_table_alone_becomes_a_survey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("objid,ra,dec,z\n588848901523702001,10,1,0.1\n588848901523702002,11,1,0.2\n")
    assert main(["create", str(tmp_path / "s"), str(tmp_path / "t.csv"), "--no-images", "--name", "Two"]) == 0
    assert "2 rows are subjects of" in capsys.readouterr().out
    survey = Survey.open(tmp_path / "s")
    assert survey.info.name == "Two"
    assert survey.subject_ids.tolist() == [588848901523702001, 588848901523702002]
    assert main(["check", str(tmp_path / "s")]) == 0
    assert main(["create", str(tmp_path / "u"), str(tmp_path / "t.csv"), "--no-images", "--bands", "g"]) == 2
    assert "only --id-column and --name go with it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (["{images}", "--catalogue", "t.csv"], "--catalogue says where to cut; name the large image with --cut-out"),
        (["--cut-out", "{images}", "--path-column", "x"], "do not go with --cut-out"),
        (["{images}", "--extent", "3 parsec"], "is neither pixels"),
        (["{images}", "--pixel-scale", "0"], "0"),
        (["{images}", "--stretch", "log"], "log"),
    ],
)
def test_options_that_do_not_go_together(
    linear: Path, tmp_path: Path, told: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [word.format(images=linear) for word in told]
    assert main(["create", str(tmp_path / "s"), *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_stretch_is_put_in_words() -> None:
    info = SurveyInfo("u", "n", 64, ("g", "r"), "center", None, "now")
    assert made_how(info) == "bands g, r; stretch: the file type's own range"
    for stretch, words in (
        (Stretch("linear", (0.0,), (1000.0,)), "linear, values 0 to 1000"),
        (Stretch("linear", (0.0, -1.0), (1.0, 2.5)), "linear, g 0 to 1, r -1 to 2.5"),
        (
            Stretch("percentile", percentiles=(1, 99), per_image=True),
            "of each image by itself: images cannot be compared",
        ),
        (Stretch("lupton", q=8, stretch=0.5, minimum=-0.1), "Lupton, Q 8, stretch 0.5, minimum -0.1"),
    ):
        assert words in made_how(SurveyInfo("u", "n", 64, ("g", "r"), "center", None, "now", stretch=stretch))


@pytest.mark.parametrize(
    ("n_alike", "words"),
    [
        (0, "; no subject shares its pixels or its sky with another\n"),
        (1, "; 1 shares its pixels or its sky with another subject and stays in one half with it\n"),
        (15, "; 15 share their pixels or their sky with another subject and stay in one half with it\n"),
    ],
)
def test_what_is_alike_and_what_is_known_of_the_pixel_scale_is_said(
    n_alike: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    info = SurveyInfo("u", "n", 64, ("g", "r"), "center", None, "now")
    told: dict[str, Any] = {"n_subjects": 33, "n_quarantined": 0, "n_groups": 33 - n_alike, "n_tune": 17, "n_test": 16}
    told |= {"info": info, "notes": [], "n_scaled": 32, "is_one_scale": False}
    say_totals(Path("s"), told, 1)
    said = capsys.readouterr().out
    assert words in said
    assert "; pixel scale of 32 of 33 subjects known, not the same for all\n" in said
    assert pixel_scale({**told, "is_one_scale": True}) == "pixel scale of 32 of 33 subjects known"
    assert pixel_scale({**told, "n_scaled": 33}) == "pixel scale not the same for all"
    assert pixel_scale({**told, "n_scaled": 0, "is_one_scale": True}) == "pixel scale unknown"


@pytest.mark.parametrize(("size", "is_noted"), [(31, True), (32, False)])
def test_a_size_that_the_anomaly_model_cannot_take_is_noted(
    linear: Path, tmp_path: Path, size: int, is_noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create", str(tmp_path / "s"), str(linear), "--size", str(size)]) == 0
    note = "note: the anomaly model needs a size that is a multiple of 16, and 31 is none; 32 is near\n"
    assert (note in capsys.readouterr().out) == is_noted


def test_a_mosaic_may_be_one_of_several_arrays_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    light = np.random.default_rng(3).normal(10, 1, (100, 120)).astype(np.float32)
    np.savez(tmp_path / "sky.npz", sky=light, weight=np.ones_like(light))
    (tmp_path / "t.csv").write_text("x,y\n40,30\n70,60\n")
    told = ["--cut-out", str(tmp_path / "sky.npz"), "--catalogue", str(tmp_path / "t.csv"), "--size", "16"]
    assert main(["create", str(tmp_path / "s"), *told]) == 1
    assert "choose one with --dataset" in capsys.readouterr().err
    assert main(["create", str(tmp_path / "s"), *told, "--dataset", "sky"]) == 0
    survey = Survey.open(tmp_path / "s")
    shown = survey.images[0][:, :, 0].astype(float)
    assert survey.n == 2
    assert np.corrcoef(shown.ravel(), light[23:39, 33:49].ravel())[0, 1] > 0.95
    assert survey.info.reading["dataset"] == "sky"


def test_a_rate_is_said_from_the_first_second_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([10.0, 10.4, 12.0])
    monkeypatch.setattr("explorer.commands.making.time", SimpleNamespace(monotonic=lambda: next(clock)))
    show_making(Progress(done, 12, "kB read") for done in (0, 12))
    assert capsys.readouterr().err == "kB read 0/12\nkB read 12/12, 6/s\n"


@pytest.mark.parametrize(
    ("done", "words"),
    [
        ("listing images", "stopped; the same command starts again\n"),
        ("decoding", "the same command goes on (whole shards of up to 4,096 images are kept: 0 of 6 so far)\n"),
        ("joining", "the same command goes on (whole shards of up to 4,096 images are kept: 6 of 6 so far)\n"),
    ],
)
def test_ctrl_c_says_how_to_go_on_and_what_is_kept(
    linear: Path,
    tmp_path: Path,
    done: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def pressed(self: Any, *_: Any, description: str, **told: Any) -> None:
        if description == done:
            raise KeyboardInterrupt

    monkeypatch.setattr("rich.progress.Progress.update", pressed)
    command = ["create", str(tmp_path / "s"), str(linear), "--size", "32"]
    assert main(command) == 130
    assert capsys.readouterr().err.endswith(words)
    monkeypatch.undo()
    assert main(command) == 0
    assert Survey.open(tmp_path / "s").n == 6
