"""Stacks of images in npy, npz, HDF5 and Zarr; TIFF of 16 bits and of many bands; surveys of them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from explorer.errors import IngestError, UsageError
from explorer.ingest.calibration import how_made
from explorer.ingest.decoder import Item, Reading, decode_block, read_original
from explorer.ingest.stacks import look, open_member, read_tiff
from explorer.survey import Survey, check
from models.images import Crop, ImageError, Stretch, read_linear
from tests.explorer.making import make

N, BANDS, HEIGHT, WIDTH = 70, 3, 20, 24
FIRST_ID = 588848901523702001


def images() -> np.ndarray:
    """float32 (N, BANDS, HEIGHT, WIDTH); each is told from the others by its level."""
    values = np.random.default_rng(0).normal(0, 1, (N, BANDS, HEIGHT, WIDTH))
    return (values + np.arange(N)[:, None, None, None]).astype(np.float32)


def beside() -> dict[str, np.ndarray]:
    """Arrays that stand beside the images in a file."""
    return {
        "object_id": FIRST_ID + np.arange(N),
        "redshift": np.linspace(0, 1, N),
        "kind": np.array([f"ä{i % 3}".encode() for i in range(N)]),
        "filters": np.array([b"g", b"r", b"i"]),
        "weights": np.ones((N, 4)),
    }


def write_npy(path: Path, values: np.ndarray) -> Path:
    np.save(path / "stack.npy", values)
    return path / "stack.npy"


def write_npy_by_columns(path: Path, values: np.ndarray) -> Path:
    np.save(path / "stack.npy", np.asfortranarray(values))
    return path / "stack.npy"


def write_npy_big_endian(path: Path, values: np.ndarray) -> Path:
    np.save(path / "stack.npy", values.astype(">f8"))
    return path / "stack.npy"


def write_npz(path: Path, values: np.ndarray) -> Path:
    np.savez_compressed(path / "stack.npz", images=values, **beside())
    return path / "stack.npz"


def write_hdf5(path: Path, values: np.ndarray) -> Path:
    with h5py.File(path / "stack.h5", "w") as file:
        file.create_dataset(
            "deep/images", data=values, chunks=(16, *values.shape[1:]), compression="gzip", shuffle=True
        )
        for name, array in beside().items():
            file[name] = array
        file["note"] = [f"of {i}" for i in range(N)]  # of any length
    return path / "stack.h5"


def write_zarr(path: Path, values: np.ndarray) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # texts have no place in the specification yet
        group = zarr.open_group(path / "stack.zarr", mode="w")
        group.create_array("images", data=values, chunks=(8, *values.shape[1:]), shards=(32, *values.shape[1:]))
        for name, array in beside().items():
            group.create_array(name, data=array)
    return path / "stack.zarr"


def write_zarr_2(path: Path, values: np.ndarray) -> Path:
    group = zarr.open_group(path / "stack.zarr", mode="w", zarr_format=2)
    group.create_array("images", data=values, chunks=(10, *values.shape[1:]))
    return path / "stack.zarr"


WRITERS = [write_npy, write_npy_by_columns, write_npy_big_endian, write_npz, write_hdf5, write_zarr, write_zarr_2]


# ---------------------------------------------------------------------------------------------------------- one member
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_a_member_is_read_the_right_way_round(
    write: Callable[[Path, np.ndarray], Path], order: str, tmp_path: Path
) -> None:
    values = images()
    path = str(write(tmp_path, values if order == "NCHW" else values.transpose(0, 2, 3, 1)))
    found = look(path, None, ())
    assert found.n == N
    assert "is read as 70 images of 3 bands, 20 rows, 24 columns" in found.note
    for member in (0, 31, 32, 69):
        held = open_member(path, member, None)
        assert (held.values.dtype, held.top) == (np.float32, None)
        assert np.array_equal(held.values, values[member].transpose(1, 2, 0))
    with pytest.raises(ImageError, match="has no image number 70; it has 70"):
        open_member(path, N, None)


@pytest.mark.parametrize(
    ("shape", "bands", "read_as"),
    [
        ((20, 24), (), "1 band, 20 rows, 24 columns"),
        ((20, 24, 3), (), "3 bands, 20 rows, 24 columns"),
        ((5, 20, 24), (), "5 bands, 20 rows, 24 columns"),
        ((5, 20, 24), ("g",), "5 images of 1 band, 20 rows, 24 columns"),
        ((9, 20, 24), (), "9 images of 1 band, 20 rows, 24 columns"),
        ((9, 1, 20, 24), (), "9 images of 1 band, 20 rows, 24 columns"),
        ((9, 20, 24, 4), (), "9 images of 4 bands, 20 rows, 24 columns"),
        ((3, 5, 20, 24), (), "3 images of 5 bands, 20 rows, 24 columns"),
    ],
)
def test_which_axis_is_which(shape: tuple[int, ...], bands: tuple[str, ...], read_as: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(0, 1, shape))
    assert look(str(tmp_path / "a.npy"), None, bands).note.endswith(f"is read as {read_as}")


def test_an_axis_of_bands_that_is_not_there_is_missed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((9, 20, 24, 6)))
    with pytest.raises(ImageError, match="has the shape 9 × 20 × 24 × 6, without an axis of at most 5 for the bands"):
        look(str(tmp_path / "a.npy"), None, ())
    with pytest.raises(ImageError, match="without an axis of 2 for the bands"):
        look(str(tmp_path / "a.npy"), None, ("g", "r"))


def test_bands_of_a_stack_are_picked(tmp_path: Path) -> None:
    path = str(write_npy(tmp_path, images()))
    held = open_member(path, 7, None, ("i", "g"), ("2", "0"))
    assert np.array_equal(held.values, images()[7][[2, 0]].transpose(1, 2, 0))
    with pytest.raises(ImageError, match="has 3 bands, counted from 0; --bands asks for 3, 0"):
        open_member(path, 7, None, ("z", "g"), ("3", "0"))


def test_a_file_far_beyond_the_memory_limit_is_read_member_by_member(tmp_path: Path) -> None:
    """A sparse npy file of 20 GB; nothing is mapped."""
    path = tmp_path / "large.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (500_000, 100, 100)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.truncate(start + 500_000 * 40_000)
        file.seek(start + 400_000 * 40_000)
        file.write(np.arange(10_000, dtype="<f4").tobytes())
    held = open_member(str(path), 400_000, None)
    assert np.array_equal(held.values[:, :, 0], np.arange(10_000).reshape(100, 100))


# --------------------------------------------------------------------------------------------------------------- TIFF
def test_16_bit_color_keeps_its_values(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    held = read_tiff(tmp_path / "a.tif")
    assert (held.top, held.names) == (65535, ("r", "g", "b"))
    assert np.array_equal(held.values, values)
    make(tmp_path / "survey", tmp_path / "a.tif")
    opened = Survey.open(tmp_path / "survey")
    assert opened.info.stretch == Stretch()  # 16 bits have a range
    assert np.abs(opened.images[0] - values[2:18, 4:20] / 257).max() <= 0.51
    linked = read_original({"link": [str(tmp_path / "a.tif")]}, *how_made(opened.info))
    for content in (opened.original(0)[0], linked):
        assert np.array_equal(read_linear(content)[0].values, values)
    opened.close()


def test_five_bands_of_floats(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 9, (5, HEIGHT, WIDTH)).astype(np.float32)
    values[2, 3, 4] = np.inf
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="separate")
    held = read_tiff(tmp_path / "a.tif")
    expected = np.where(np.isfinite(values), values, np.nan).transpose(1, 2, 0)
    assert held.top is None
    assert np.array_equal(held.values, expected, equal_nan=True)


# ------------------------------------------------------------------------------------------------------------- surveys
@pytest.mark.parametrize("write", [write_npz, write_hdf5, write_zarr])
def test_a_stack_becomes_a_survey_with_its_columns(write: Callable[[Path, np.ndarray], Path], tmp_path: Path) -> None:
    source = write(tmp_path, images())
    totals = make(tmp_path / "survey", source, id_column="object_id")
    assert (totals["n_subjects"], totals["n_quarantined"]) == (N, 0)
    assert check(tmp_path / "survey") == []
    opened = Survey.open(tmp_path / "survey")
    assert opened.info.bands == ("g", "r", "i")
    assert any("70 × 3 × 20 × 24 is read as 70 images" in note for note in opened.info.notes)
    assert opened.source_ids([0, 69]) == [str(FIRST_ID), str(FIRST_ID + 69)]
    subject = opened.subject(41)
    assert (subject["image"], subject["kind"]) == (f"{source.name}[41]", "ä2")
    assert subject["redshift"] == pytest.approx(41 / 69)
    assert np.array_equal(read_linear(opened.original(41)[0])[0].values, images()[41].transpose(1, 2, 0))
    opened.close()


def test_without_an_id_column_members_are_counted(tmp_path: Path) -> None:
    make(tmp_path / "survey", write_npy(tmp_path, images()))
    opened = Survey.open(tmp_path / "survey")
    assert opened.source_ids([0, 9, 69]) == ["stack_00", "stack_09", "stack_69"]
    assert opened.info.bands == ("band_1", "band_2", "band_3")
    opened.close()


def test_bytes_keep_their_range_and_numbers_get_percentiles(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (9, HEIGHT, WIDTH, 3)).astype(np.uint8)
    np.save(tmp_path / "bytes.npy", values)
    make(tmp_path / "bytes", tmp_path / "bytes.npy")
    opened = Survey.open(tmp_path / "bytes")
    assert opened.info.stretch == Stretch()
    assert np.array_equal(opened.images[4], values[4, 2:18, 4:20])
    opened.close()
    np.save(tmp_path / "numbers.npy", values.astype(np.uint16))
    make(tmp_path / "numbers", tmp_path / "numbers.npy")
    opened = Survey.open(tmp_path / "numbers")
    assert opened.info.stretch.mode == "percentile"
    opened.close()


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    source = write_hdf5(tmp_path, images())
    for workers in (1, 3):
        make(tmp_path / f"survey{workers}", source, workers=workers, name="survey")
    one, three = (Survey.open(tmp_path / f"survey{workers}") for workers in (1, 3))
    assert np.array_equal(one.images[:], three.images[:])
    assert one.original(40) == three.original(40)
    assert one.info.stretch == three.info.stretch
    one.close()
    three.close()


def test_a_member_of_a_file_that_shrank_is_quarantined(tmp_path: Path) -> None:
    path = str(write_npy(tmp_path, images()[:40]))
    reading = Reading(bands=("g", "r", "i"), stretch=Stretch("linear", (0.0,), (100.0,)))
    items = [Item((path,), member) for member in (3, 50)]
    decoded = decode_block(items, Crop(8), reading=reading)
    assert (decoded.good, decoded.bad) == ([0], [(1, "has no image number 50; it has 40", None)])


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"id_column": "objectid"}, UsageError, 'column "objectid" is not in .*; did you mean "object_id"'),
        ({"id_column": "redshift"}, IngestError, "holds double, which loses the last digits of long ids"),
        ({"dataset": "pictures"}, IngestError, "has no dataset pictures; it has"),
        ({"bands": ("a", "b")}, IngestError, "without an axis of 2 for the bands"),
        ({"bands": ("a", "a", "b")}, UsageError, "names a band twice"),
        ({"bands": tuple("abcdef")}, UsageError, "at most 5 are possible"),
        ({"bands": ("a=0", "b")}, UsageError, "picks some of the bands only"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(
    options: dict[str, Any], error: type[Exception], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=reason) as told:
        make(tmp_path / "survey", write_npz(tmp_path, images()), **options)
    assert "\n" not in str(told.value)


def test_the_real_five_band_cube(shared_data: Path, tmp_path: Path, voorwerp: Callable[..., str]) -> None:
    source = shared_data / "single_images" / "hsc_cosmos_35.npz"
    told = ["--dataset", "images", "--bands", "g,r,i,z,y", "--crop", "resize", "--size", 32]
    said = voorwerp("create", tmp_path / "survey", source, *told)
    assert "1 of 1 image is a subject" in said
    assert "5 × 58 × 48 is read as 5 bands, 58 rows, 48 columns" in said
    opened = Survey.open(tmp_path / "survey")
    assert opened.info.bands == ("g", "r", "i", "z", "y")
    assert opened.images.shape == (1, 32, 32, 5)
    linear, names = read_linear(opened.original(0)[0])
    assert names == ["g", "r", "i", "z", "y"]
    assert np.array_equal(linear.values, np.load(source)["images"].transpose(1, 2, 0))
    assert opened.subject(0)["crop_side"] is None  # all of it
    opened.close()
    make(tmp_path / "named", source, dataset="images", extent=48)
    named = Survey.open(tmp_path / "named")
    assert named.info.bands == ("g", "r", "i", "z", "y")  # by the file's own array of filters
    named.close()
