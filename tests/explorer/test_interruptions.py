"""`voorwerp create` killed by SIGKILL at random moments goes on to the same bytes, whatever it is made from."""

from pathlib import Path

import pytest

from explorer.survey import Survey, check
from tests.galaxies import write_fits_galaxies, write_galaxies
from tests.interruptions import kill_and_compare
from tests.mosaics import write_mosaic


@pytest.mark.parametrize(("kind", "n_kills"), [("pictures", 5), ("fits", 2), ("catalogue", 2)])
def test_killed_at_random_moments_it_resumes_to_the_same_bytes(tmp_path: Path, kind: str, n_kills: int) -> None:
    images = tmp_path / "images"
    if kind == "pictures":
        write_galaxies(images, 400)
        (images / "050x.png").write_text("no image")
        arguments, n = [images, "--size", 32], 400
    elif kind == "fits":
        write_fits_galaxies(images, 100)
        (images / "cube050x.fits").write_text("no image")
        arguments, n = [images, "--size", 32], 100
    else:
        mosaic, catalogue = write_mosaic(tmp_path, 600, 200)
        with catalogue.open("a") as file:
            file.write("far,10,10,,\n")
        arguments, n = ["--cut-out", mosaic, "--catalogue", catalogue, "--id-column", "id", "--size", 32], 200
    found = kill_and_compare(tmp_path, arguments, 64, n_kills)
    assert found["are_equal"]
    assert found["n_whole"] < n_kills  # the kills came in time
    assert check(found["survey"]) == []
    opened = Survey.open(found["survey"])
    assert opened.n == n
    opened.close()
