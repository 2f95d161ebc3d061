"""Small pictures by the pack, against one subject at a time."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explorer.errors import UsageError
from explorer.services.explore import Explore
from explorer.services.films import Film, films
from explorer.services.inference import Inference
from explorer.services.pictures import asked, crop_films, crops, model_films, pack, page, reconstructs
from explorer.survey import Survey
from tests.explorer.small_survey import write_survey

ROWS = np.array([150, 2, 9, 2, 199])


@pytest.fixture(scope="module")
def explore(finished_survey: Path):
    survey = Survey.open(finished_survey)
    yield Explore(survey)
    survey.close()


def unpacked(content: bytes) -> tuple[list[int], list[str], list[bytes]]:
    """Rows, ids and pictures of a pack."""
    (n,) = struct.unpack_from("<I", content)
    rows = np.frombuffer(content, "<u4", n, 4).tolist()
    at, parts = 4 * (2 * n + 2), []
    for length in np.frombuffer(content, "<u4", n + 1, 4 + 4 * n).tolist():
        parts.append(content[at : at + length])
        at += length
    assert at == len(content)
    return rows, json.loads(parts[0]), parts[1:]


def frames(made: list[Film]) -> list[np.ndarray]:
    """The pictures of the only film."""
    (film,) = made
    strip = np.asarray(Image.open(io.BytesIO(film.content)), np.int64)
    assert strip.shape[:2] == (film.pitch * len(film.at), film.width)
    return [strip[k * film.pitch : k * film.pitch + film.height] for k in range(len(film.at))]


def test_a_page_says_its_rows_and_where_their_pictures_are(explore: Explore):
    survey = explore.survey
    shown = films(survey.thumbnails(ROWS))
    content = page(survey, ROWS, shown, {"fragile": [1]})
    (length,) = struct.unpack_from("<I", content)
    head = json.loads(content[4 : 4 + length])
    assert head["rows"] == ROWS.tolist()
    assert head["names"] == survey.source_ids(ROWS)
    assert head["fragile"] == [1]
    at = 4 + length
    for told, film in zip(head["films"], shown, strict=True):
        assert told[:4] == [list(film.at), film.width, film.height, film.pitch]
        assert content[at : at + told[4]] == film.content
        at += told[4]
    assert at == len(content)
    assert sorted(place for told in head["films"] for place in told[0]) == [0, 1, 2, 3, 4]


def test_a_pack_holds_its_rows_their_ids_and_pictures_in_order(explore: Explore):
    survey = explore.survey
    rows, names, pictures = unpacked(pack(survey, ROWS, survey.thumbnails(ROWS)))
    assert rows == ROWS.tolist()
    assert names == survey.source_ids(ROWS)
    assert pictures == [survey.thumbnails([row])[0] for row in ROWS]
    assert unpacked(pack(survey, ROWS, [])) == (rows, names, [b""] * 5)
    assert unpacked(pack(survey, np.array([], np.int64), [])) == ([], [], [])


def test_crops_are_those_of_one_at_a_time_and_every_chunk_is_read_once(explore: Explore):
    survey = explore.survey
    found = crops(survey, ROWS)
    assert np.array_equal(found, np.stack([survey.images[int(row)] for row in ROWS]))
    for frame, row in zip(frames(crop_films(survey, ROWS)), ROWS, strict=True):
        assert np.array_equal(frame, survey.images[int(row)][..., list(survey.info.rgb)])
    assert crop_films(survey, ROWS[:0]) == []

    whole = survey.images

    class Counted:
        shape, chunks = whole.shape, (64, *whole.shape[1:])

        def __init__(self) -> None:
            self.reads: list[slice] = []

        def __getitem__(self, key: slice) -> np.ndarray:
            self.reads.append(key)
            return np.asarray(whole[key])

    images = Counted()
    survey.__dict__["images"] = images
    try:
        assert np.array_equal(crops(survey, ROWS), found)
    finally:
        survey.__dict__["images"] = whole
    assert images.reads == [slice(2, 10), slice(150, 151), slice(199, 200)]


def test_a_residual_is_the_difference_to_the_crop_either_way(explore: Explore):
    survey = explore.survey
    made = np.full((5, 32, 32, 3), 100, np.uint8)
    for row, shown in zip(ROWS, frames(model_films(survey, ROWS, made, True)), strict=True):
        crop = np.asarray(survey.images[int(row)], np.int64)[..., list(survey.info.rgb)]
        assert np.array_equal(shown, np.abs(crop - 100))
    assert model_films(survey, ROWS[:0], [], True) == []


def test_reconstructions_of_a_page_are_those_of_one_at_a_time(explore: Explore):
    run_id = next(iter(explore.runs()))
    inference = Inference(explore.survey)
    try:
        made = [one for batch in asked(inference, explore, ROWS, run_id) for one in batch.result(60)]
        pictures = frames(model_films(explore.survey, ROWS, made, False))
        alone = inference.reconstruct(run_id, 9).result(60)[..., list(explore.survey.info.rgb)]
        assert np.array_equal(pictures[2], alone)
        assert np.array_equal(pictures[1], pictures[3])
        with pytest.raises(UsageError, match="no model that reconstructs"):
            asked(inference, explore, ROWS, "")
    finally:
        inference.close()
    assert reconstructs(explore, run_id)
    assert not reconstructs(explore, "")


def test_a_survey_without_images_has_no_crops(tmp_path: Path):
    write_survey(tmp_path / "survey")
    (tmp_path / "survey" / "images.zarr").rename(tmp_path / "elsewhere")
    survey = Survey.open(tmp_path / "survey")
    with pytest.raises(UsageError, match="has no images"):
        crops(survey, np.array([0]))
    survey.close()
