"""Films against the pictures that they are made of."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from explorer.services.films import MOST_LINES, films
from tests.galaxies import galaxy


def picture(seed: int, width: int = 128, height: int = 128, mode: str = "RGB", **saved: Any) -> bytes:
    image = Image.fromarray(galaxy(np.random.default_rng(seed), 128)).convert(mode).resize((width, height))
    out = io.BytesIO()
    image.save(out, "JPEG", **({"quality": 85} | saved))
    return out.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)), np.int16)


@pytest.mark.parametrize(
    ("width", "height", "mode", "saved"),
    [
        (128, 128, "RGB", {}),
        (128, 128, "L", {}),
        (128, 85, "RGB", {}),
        (77, 128, "RGB", {}),
        (51, 33, "L", {}),
        (96, 128, "RGB", {"subsampling": 0}),
        (100, 60, "RGB", {"subsampling": 1}),
        (128, 128, "RGB", {"quality": 30}),
    ],
)
def test_every_frame_of_a_film_is_its_picture(width: int, height: int, mode: str, saved: dict[str, Any]) -> None:
    given = [picture(k, width, height, mode, **saved) for k in range(11)]
    made = films(given, longest=8)
    assert [film.at for film in made] == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9, 10)]
    for film in made:
        shown = pixels(film.content)
        assert shown.shape[:2] == (film.pitch * len(film.at), width)
        assert (film.width, film.height) == (width, height)
        for k, at in enumerate(film.at):
            apart = np.abs(shown[k * film.pitch : k * film.pitch + height] - pixels(given[at]))
            assert not apart[1 : height - 1].any()  # decoders smooth color across a seam
            assert apart.max() <= 8
            if mode == "L" or saved.get("subsampling") == 0:
                assert not apart.any()


def test_what_does_not_go_together_stands_apart() -> None:
    small, large = picture(0, 64, 64), picture(1)
    stepwise, coded = picture(2, progressive=True), picture(3, optimize=True)
    other = picture(4, 64, 64)
    with_starts = picture(5, restart_marker_blocks=4)
    out = io.BytesIO()
    Image.new("RGB", (5, 5)).save(out, "png")
    given = [small, stepwise, large, out.getvalue(), b"", other, coded, large[:-40], with_starts, large[:100]]
    made = films(given)
    assert sorted(film.at for film in made) == [(0, 5), (1,), (2,), (3,), (4,), (6,), (7,), (8,), (9,)]
    for film in made:
        if len(film.at) == 1:
            assert film.content == given[film.at[0]]
    assert films([]) == []


def test_a_marker_within_a_damaged_picture_ends_no_film() -> None:
    given = [picture(k) for k in range(3)]
    at = len(given[1]) // 2 + 200
    given[1] = given[1][:at] + b"\xff\xd9" + given[1][at + 2 :]
    made = films(given)
    assert sorted(film.at for film in made) == [(0, 2), (1,)]
    assert np.array_equal(pixels(made[0].content)[130:250], pixels(given[2])[2:122])


def test_no_film_is_higher_than_a_jpeg_may_be() -> None:
    made = films([picture(0)] * 600, longest=600)
    assert [len(film.at) for film in made] == [300, 300]
    assert all(film.pitch * len(film.at) <= MOST_LINES for film in made)
    assert np.array_equal(pixels(made[0].content)[-100:], pixels(picture(0))[-100:])
