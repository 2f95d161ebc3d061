"""Whatever is broken is quarantined or refused by one sentence, in a process with limits, and the rest goes on."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.errors import IngestError, UsageError, VoorwerpError
from explorer.ingest.decoder import Decoders, Reading, decode_block
from explorer.ingest.images import CreateOptions, list_images
from explorer.ingest.stacks import look
from explorer.survey import Survey, check
from models.images import Crop, ImageError, Stretch
from tests.broken import MANIFESTS, PATHS, fits_bytes, image, jpeg_bytes, npy_bytes, png_bytes, write_broken, write_odd
from tests.explorer.making import make

GREY = Crop(16, "center", 16, n_bands=1)
LINEAR = Reading(bands=("grey",), stretch=Stretch("linear", (50.0,), (150.0,)))


def refused(survey: Path) -> dict[str, str]:
    table = pq.read_table(survey / "quarantine.parquet")
    return dict(zip(table.column("source").to_pylist(), table.column("reason").to_pylist(), strict=True))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("broken") / "images"
    return folder, write_broken(folder)


# ------------------------------------------------------------------------------------------------------- the corpus
def test_every_broken_image_is_quarantined_with_its_reason_and_the_rest_goes_on(
    broken: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, reasons = broken
    assert len(reasons) >= 60
    odd = write_odd(tmp_path / "odd")
    listed = tmp_path / "manifest.parquet"
    paths = [str(tmp_path / "odd" / name) for name in odd] + [str(folder / name) for name in reasons]
    pq.write_table(pa.table({"path": paths}), listed)
    totals = make(tmp_path / "survey", listed, stretch=Stretch("percentile"))
    found = {Path(source).name: reason for source, reason in refused(tmp_path / "survey").items()}
    assert set(found) == set(reasons)
    assert totals["n_subjects"] == len(odd)
    for name, reason in reasons.items():
        assert re.search(reason, found[name]), f"{name}: {found[name]}"
        assert "\n" not in found[name] and len(found[name]) < 500
    assert check(tmp_path / "survey") == []
    opened = Survey.open(tmp_path / "survey")
    assert np.isnan(opened.column("ra").astype(float)).all()  # none of these WCS solves
    opened.close()


@pytest.mark.parametrize(
    "name", ["pickled.npy", "pickled.npz", "virtual.h5", "outside.h5", "outside.zarr", "codec.zarr"]
)
def test_as_a_source_a_broken_stack_is_refused_by_one_sentence(
    broken: tuple[Path, dict[str, str]], tmp_path: Path, name: str
) -> None:
    folder, reasons = broken
    with pytest.raises(IngestError, match=reasons[name]) as told:
        make(tmp_path / "survey", folder / name)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "survey").exists()


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_broken_manifest_is_refused_by_one_sentence(kind: str, tmp_path: Path) -> None:
    suffix, content, reason = MANIFESTS[kind]
    good = tmp_path / "good.png"
    good.write_bytes(png_bytes(24, 24, b"".join(b"\x00" + bytes(range(i, i + 24)) for i in range(24))))
    manifest = tmp_path / f"manifest{suffix}"
    manifest.write_bytes(content.replace(b"GOOD", b"good.png"))
    with pytest.raises((IngestError, UsageError), match=reason) as told:
        make(tmp_path / "survey", manifest, id_column="id")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "survey" / "survey.toml").exists()


def test_odd_paths_of_a_manifest_are_quarantined(tmp_path: Path) -> None:
    (tmp_path / "good.fits").write_bytes(fits_bytes())
    listed = tmp_path / "manifest.parquet"
    pq.write_table(pa.table({"path": ["good.fits", *PATHS]}), listed)
    totals = make(tmp_path / "survey", listed)
    assert (totals["n_subjects"], totals["n_quarantined"]) == (1, len(PATHS))
    for path, reason in refused(tmp_path / "survey").items():
        assert re.search(PATHS[path], reason), (path, reason)


# ---------------------------------------------------------------------------------------------------- links and rights
def test_links_out_of_the_folder_are_quarantined_and_links_within_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "secret.fits").write_bytes(fits_bytes())
    (tmp_path / "images-beside").mkdir()
    (tmp_path / "images-beside" / "a.fits").write_bytes(fits_bytes())
    (folder / "own.fits").write_bytes(fits_bytes())
    (folder / "within.fits").symlink_to("own.fits")
    (folder / "out.fits").symlink_to(tmp_path / "secret.fits")
    (folder / "beside.fits").symlink_to(tmp_path / "images-beside" / "a.fits")
    (folder / "out.png").symlink_to("/etc/passwd")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / "elsewhere").symlink_to(tmp_path / "images-beside")
    totals = make(tmp_path / "survey", folder)
    found = refused(tmp_path / "survey")
    assert totals["n_subjects"] == 2
    assert set(found) == {"out.fits", "beside.fits", "out.png", "circle.png"}
    for name in ("out.fits", "beside.fits", "out.png"):
        assert found[name] == "is a link to outside of the folder; name the file itself in a manifest"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_quarantined(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.fits", "b.fits", "c.npy"):
        (folder / name).write_bytes(fits_bytes() if name.endswith("fits") else npy_bytes(image()))
    for name in ("b.fits", "c.npy"):
        (folder / name).chmod(0)
    make(tmp_path / "survey", folder)
    assert refused(tmp_path / "survey") == dict.fromkeys(("b.fits", "c.npy"), "cannot be read (Permission denied)")


# ----------------------------------------------------------------------------------------------- one file per band
def test_bands_of_unlike_size_and_missing_bands_are_quarantined(tmp_path: Path) -> None:
    for i in range(6):
        for band in "gr":
            small = i == 1 and band == "r"
            (tmp_path / f"{i}{band}.fits").write_bytes(fits_bytes(image(20, 20) if small else image(seed=i)))
    (tmp_path / "2r.fits").unlink()
    (tmp_path / "3r.fits").write_bytes(b"no")
    (tmp_path / "4r.fits").write_bytes(fits_bytes(image(2, 24, 24)))
    rows = "".join(f"{i},{i}g.fits,{'' if i == 5 else f'{i}r.fits'}\n" for i in range(6))
    (tmp_path / "m.csv").write_text(f"id,path_g,path_r\n{rows}")
    make(tmp_path / "survey", tmp_path / "m.csv", id_column="id")
    assert refused(tmp_path / "survey") == {
        "1g.fits": "band r has 20 × 20 px, band g 24 × 24 px",
        "2g.fits": "band r: there is no such file",
        "3g.fits": refused(tmp_path / "survey")["3g.fits"],
        "4g.fits": "the file of band r has 2 bands; one is read from each",
        "5g.fits": "the manifest gives no path for band r",
    }
    assert refused(tmp_path / "survey")["3g.fits"].startswith("band r: is not a FITS image that can be read")


def test_images_that_were_decoded_but_refused_have_a_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "constant.fits").write_bytes(fits_bytes(np.full((24, 24), 7, np.float32)))
    (tmp_path / "broken.fits").write_bytes(b"no")
    decoded = decode_block([str(tmp_path / "constant.fits"), str(tmp_path / "broken.fits")], GREY, reading=LINEAR)
    (_, _, picture), (_, _, nothing) = decoded.bad
    assert picture is not None and picture.startswith(b"\xff\xd8\xff")
    assert nothing is None


# -------------------------------------------------------------------------------------------------------------- fuzzing
def headers_changed(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with a few bytes replaced, most of them in its first block, and perhaps its end cut off."""
    place = st.one_of(st.integers(0, min(len(content), 640) - 1), st.integers(0, len(content) - 1))
    byte = st.one_of(st.sampled_from(b"0123456789-+.'= TFE\x00\xff"), st.integers(0, 255))
    changes = st.lists(st.tuples(place, byte), min_size=1, max_size=12)

    def change(drawn: tuple[list[tuple[int, int]], int]) -> bytes:
        changed = bytearray(content)
        for at, value in drawn[0]:
            changed[at] = value
        return bytes(changed[: len(changed) - drawn[1]])

    return st.tuples(changes, st.sampled_from([0, 0, 1, 100, 1000])).map(change)


def hdf5_bytes() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("images", data=image(), chunks=(8, 24), compression="gzip")
    return buffer.getvalue()


PNG = png_bytes(24, 24, b"".join(b"\x00" + bytes(range(i, i + 24)) for i in range(24)))
SEEDS = {
    "a.fits": fits_bytes(BSCALE=2.0, BZERO=1.0, BLANK=3, CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=1.0, CRVAL2=2.0),
    "a.npy": npy_bytes(image()),
    "a.png": PNG,
    "a.jpg": jpeg_bytes(),
    "a.h5": hdf5_bytes(),
}


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(GREY, 1, time_limit_s=5, reading=LINEAR) as started:
        yield started


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_changed_bytes_give_a_subject_or_a_sentence(
    name: str, data: st.DataObject, decoders: Decoders, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(data.draw(headers_changed(SEEDS[name])))
    (_, decoded), *_ = decoders.decode([("block", [str(path)])])
    assert len(decoded.good) + len(decoded.bad) == 1
    for _, reason, _ in decoded.bad:
        assert reason and "\n" not in reason and "Traceback" not in reason and "ended with code" not in reason


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(content=headers_changed(b"id,path,note\n1,a.png,x\n2,a.png,y\n"))
def test_changed_bytes_of_a_manifest_give_a_listing_or_a_sentence(
    content: bytes, decoders: Decoders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("listing")
    (folder / "m.csv").write_bytes(content)
    try:
        assert list_images(folder, [folder / "m.csv"], CreateOptions(), decoders)["n"] > 0
    except VoorwerpError as error:
        assert "\n" not in str(error)


# --------------------------------------------------------------------------------------------------------------- limits
def test_a_picture_is_decoded_without_the_heavy_libraries(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.fits").write_bytes(fits_bytes())
    code = """if True:
        import sys
        from explorer.ingest.decoder import Crop, Reading, Stretch, decode_block
        heavy = ("astropy", "h5py", "zarr", "duckdb", "pandas", "pyarrow", "torch", "tifffile")
        for path in sys.argv[1:]:
            reading = Reading(bands=("grey",), stretch=Stretch("linear", (50.0,), (150.0,)))
            assert decode_block([path], Crop(16, n_bands=1), reading=reading).good == [0]
            print([name for name in heavy if name in sys.modules])
    """
    command = [sys.executable, "-c", code, str(tmp_path / "a.png"), str(tmp_path / "a.fits")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["[]", "['astropy']"]


def test_more_memory_than_the_limit_is_a_sentence(tmp_path: Path) -> None:
    with (tmp_path / "large.fits").open("wb") as file:
        file.write(fits_bytes(NAXIS1=9000, NAXIS2=9000)[:2880])
        file.truncate(2880 + 9000 * 9000 * 4 + 2880)
    with Decoders(Crop(16, "resize", n_bands=1), 1, memory_limit=700 << 20, reading=LINEAR) as small:
        (_, decoded), *_ = small.decode([("block", [str(tmp_path / "large.fits"), str(tmp_path / "large.fits")])])
    assert [reason for _, reason, _ in decoded.bad] == ["needs more memory to decode than one image may take"] * 2


def test_a_dataset_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=image(), mask=image())
    with pytest.raises(ImageError, match=r"has no dataset image; it has images \(24 × 24 float32\), mask"):
        look(str(tmp_path / "a.npz"), "image", ())
