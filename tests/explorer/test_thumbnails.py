"""Thumbnails that are missing or damaged are made again, as the command does it."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from explorer.cli import cli
from explorer.services.thumbnails import Remade, remake, shards
from explorer.survey import Survey, check


@pytest.fixture
def survey(finished_survey: Path, tmp_path: Path):
    shutil.copytree(finished_survey, tmp_path / "survey")
    opened = Survey.open(tmp_path / "survey")
    yield opened
    opened.close()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.int16)


def test_a_damaged_file_is_made_anew_of_the_originals(survey: Survey) -> None:
    before = survey.thumbnails(range(survey.n))
    assert [shard.reason for shard in shards(survey)] == [""]
    pack = survey.path / "thumbnails" / "00000.pack"
    whole = pack.read_bytes()
    for content, reason in (
        (whole[:-7], "its table says"),
        (b"\0" * len(whole), "a picture in it is no JPEG"),
        (None, "it is missing"),
    ):
        pack.unlink()
        if content is not None:
            pack.write_bytes(content)
        (shard,) = shards(survey)
        assert reason in shard.reason
    told: list[float] = []
    assert remake(survey, [shard], told.append) == Remade(survey.n, 0)
    assert told == sorted(told)
    assert told[-1] == 1
    assert [shard.reason for shard in shards(survey)] == [""]
    assert check(survey.path) == []
    after = Survey.open(survey.path)
    for was, now in zip(before, after.thumbnails(range(survey.n)), strict=True):
        assert pixels(was).shape == pixels(now).shape
        assert np.abs(pixels(was) - pixels(now)).mean() < 4
    after.close()


def test_without_originals_the_crops_stand_in(survey: Survey) -> None:
    shutil.rmtree(survey.path / "originals")
    shutil.rmtree(survey.path / "thumbnails")
    (shard,) = shards(survey)
    assert (shard.first, shard.stop) == (0, survey.n)
    assert remake(survey, [shard]) == Remade(0, survey.n)
    made = survey.thumbnails([3])[0]
    assert survey.images is not None
    assert np.abs(pixels(made) - survey.images[3][..., list(survey.info.rgb)]).mean() < 4


def test_the_command_says_what_it_finds_and_what_it_made(survey: Survey) -> None:
    table = survey.path / "thumbnails" / "00000.npy"
    table.write_bytes(b"no table")
    run = CliRunner().invoke(cli, ["thumbnails", str(survey.path), "--check"], catch_exceptions=False)
    assert "its table cannot be read" in run.output
    assert "0 of 1 files are good" in run.output
    assert table.read_bytes() == b"no table"
    run = CliRunner().invoke(cli, ["thumbnails", str(survey.path)], catch_exceptions=False)
    assert f"{survey.n:,} made of originals" in run.output
    run = CliRunner().invoke(cli, ["thumbnails", str(survey.path)], catch_exceptions=False)
    assert run.output == "1 of 1 files are good\n"
