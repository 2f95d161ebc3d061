"""`check --deep` reads every pixel, and names what is damaged."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explorer.cli import main
from tests.broken import fits_bytes
from tests.explorer.making import make
from tests.galaxies import write_galaxies


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 0xFF
    file.write_bytes(content)


def test_a_flipped_byte_is_found_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).normal(0, 1, (24, 24)).astype(np.float32)
    (tmp_path / "fits").mkdir()
    for i in range(7):
        (tmp_path / "fits" / f"{i}.fits").write_bytes(fits_bytes(noise + i))
    write_galaxies(tmp_path / "pictures", 2)
    Image.fromarray(np.random.default_rng(1).integers(0, 65536, (24, 24), np.uint16)).save(tmp_path / "pictures/t.tif")
    for name in ("fits", "pictures"):
        survey = tmp_path / f"{name}_survey"
        make(survey, tmp_path / name)
        assert main(["check", str(survey), "--deep"]) == 0
        assert "is sound: " in capsys.readouterr().out
        offsets = np.load(survey / "originals" / "00000.npy")
        flip(survey / "originals" / "00000.pack", int(offsets[0] + offsets[1]) // 2)
        for row in range(6) if name == "fits" else (1,):
            flip(survey / "images.zarr" / "c" / "0" / "0" / "0" / "0", row * 16 * 16 * (1 if name == "fits" else 3))
        assert main(["check", str(survey)]) == 0
        assert "is sound" not in capsys.readouterr().out
        assert main(["check", str(survey), "--deep"]) == 1
        crops, originals = capsys.readouterr().err.splitlines()[-2:]
        if name == "fits":
            assert "images.zarr: 6 of 7 crops are damaged: row 0 (id 0) is not what was written; row 1" in crops
            assert crops.endswith("; row 4 (id 4) is not what was written; and 1 more; put back a copy")
            assert "originals: 1 of 7 originals are damaged: row 0 (id 0) is not an original" in originals
        else:
            assert "1 of 3 crops are damaged: row 1 (id 001) is not what was written; put back a copy" in crops
            assert "1 of 3 originals are damaged: row 0 (id 000) cannot be decoded (broken PNG" in originals
