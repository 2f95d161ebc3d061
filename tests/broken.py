"""A corpus of broken images and tables, made by code: each is refused by one sentence, or is odd and must be read.

Nothing here is data of anybody; every file is written when a test asks for it.
"""

import gzip
import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from astropy.io import fits
from PIL import Image

SIDE = 24
_SHAPE = "{{'descr': '<f4', 'fortran_order': False, 'shape': {}, }}"


def image(*shape: int, seed: int = 0) -> np.ndarray:
    """Noise around 100, float32."""
    return np.random.default_rng(seed).normal(100, 10, shape or (SIDE, SIDE)).astype(np.float32)


def fits_bytes(values: np.ndarray | None = None, **cards: Any) -> bytes:
    """An uncompressed FITS file, written card by card so that any card may be wrong.

    `cards` replace or follow the right ones; a value of None leaves a card out.
    """
    values = image() if values is None else values
    bitpix = {"f4": -32, "f8": -64, "u1": 8, "i2": 16, "i4": 32, "i8": 64}[values.dtype.str[1:]]
    told: dict[str, Any] = {"SIMPLE": True, "BITPIX": bitpix, "NAXIS": values.ndim}
    told |= {f"NAXIS{i}": n for i, n in enumerate(reversed(values.shape), 1)}
    told |= cards
    lines = []
    for key, value in told.items():
        if value is None:
            continue
        said = f"{'T' if value else 'F':>20}" if isinstance(value, bool) else f"{value:>20}"
        lines.append(f"{key:<8}= {repr(value) if isinstance(value, str) else said}"[:80].ljust(80))
    header = "".join([*lines, f"{'END':<80}"]).encode("latin-1")
    data = values.astype(values.dtype.newbyteorder(">")).tobytes()
    return header.ljust(-(-len(header) // 2880) * 2880) + data + bytes(-len(data) % 2880)


def png_bytes(width: int, height: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG of 8-bit grey whose header may promise anything."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(rows, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def npy_bytes(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    """An npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def npy_header(said: str) -> bytes:
    """An npy file whose header says this, with 4 KiB of data."""
    padded = said.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode() + bytes(4096)


def jpeg_bytes() -> bytes:
    """A sound JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image(64, 64).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------- broken as a whole
def _fits() -> dict[str, tuple[bytes, str]]:
    whole = fits_bytes()
    table = io.BytesIO()
    columns = fits.ColDefs([fits.Column("a", "E", array=np.arange(3.0))])
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(table)
    nan = np.full((SIDE, SIDE), np.nan, np.float32)
    no_end = whole[:2880].replace(b"END", b"   ") + whole[2880:]
    return {
        "empty.fits": (b"", "the file is empty"),
        "text.fits": (b"this is no FITS file\n" * 200, "is not a FITS image that can be read"),
        "header_cut.fits": (whole[:700], "is not a FITS image that can be read"),
        "data_cut.fits": (whole[:3000], "truncated"),
        "no_end.fits": (no_end, "is not a FITS image that can be read"),
        "no_end_huge.fits.gz": (gzip.compress(no_end[:2880] + b" " * (20 << 20), 1), "is not a FITS image"),
        "negative_naxis.fits": (fits_bytes(NAXIS1=-24), "promises|is not a FITS image"),
        "huge_naxis.fits": (fits_bytes(NAXIS1=2_000_000_000, NAXIS2=2_000_000_000), "promises|corrupt"),
        "many_axes.fits": (fits_bytes(NAXIS=999), "is not a FITS image|truncated|promises|holds no image"),
        "naxis_text.fits": (fits_bytes(NAXIS1="many"), "is not a FITS image"),
        "no_naxis2.fits": (fits_bytes(NAXIS2=None), "is not a FITS image"),
        "bitpix_17.fits": (fits_bytes(BITPIX=17), "is not a FITS image"),
        "bitpix_text.fits": (fits_bytes(BITPIX="f4"), "is not a FITS image"),
        "no_simple.fits": (fits_bytes(SIMPLE=None), "is not a FITS image"),
        "zero_size.fits": (fits_bytes(np.zeros((0, SIDE), np.float32)), "promises|holds no image"),
        "one_axis.fits": (fits_bytes(image(SIDE)), "holds no image"),
        "forty_planes.fits": (fits_bytes(image(40, SIDE, SIDE)), "is a cube of 40 planes; choose up to 5"),
        "three_planes.fits": (fits_bytes(image(3, SIDE, SIDE)), "has 3 bands in a survey of 1"),
        "table_only.fits": (table.getvalue(), "holds no image"),
        "all_nan.fits": (fits_bytes(nan), "every value is missing"),
        "all_blank.fits": (fits_bytes(np.full((SIDE, SIDE), 7, np.int16), BLANK=7), "every value is missing"),
        "constant.fits": (fits_bytes(np.full((SIDE, SIDE), 7, np.float32)), "constant: every pixel is 7"),
        "scale_nan.fits": (fits_bytes(np.ones((SIDE, SIDE), np.int16), BSCALE="x"), "is not a FITS image|constant"),
        "gzip_cut.fits.gz": (gzip.compress(whole)[:-400], "truncated"),
        "gzip_bomb.fits.gz": (_gzip_bomb(whole[:2880]), "holds more than"),
        "gzip_text.fits.gz": (gzip.compress(b"no"), "is not a FITS image"),
    }


def _gzip_bomb(start: bytes) -> bytes:
    return gzip.compress(start) + 65 * gzip.compress(bytes(1 << 24), 1)  # 1.02 GiB, in members of 16 MiB


def _pictures() -> dict[str, tuple[bytes, str]]:
    rows = b"".join(b"\x00" + bytes(np.random.default_rng(i).integers(0, 255, SIDE, np.uint8)) for i in range(SIDE))
    sound = png_bytes(SIDE, SIDE, rows)
    jpeg = jpeg_bytes()
    wrong_sum = bytearray(sound)
    wrong_sum[29] ^= 0xFF
    ztxt = b"Comment\x00\x00" + zlib.compress(bytes(40 << 20), 1)
    bomb = struct.pack(">I", len(ztxt)) + b"zTXt" + ztxt + struct.pack(">I", zlib.crc32(b"zTXt" + ztxt))
    huge_jpeg = jpeg.replace(b"\x00\x40\x00\x40", b"\xff\xff\xff\xff", 1)
    return {
        "empty.png": (b"", "the file is empty"),
        "text.png": (b"<html>404 not found</html>", "is not a PNG, JPEG or TIFF image"),
        "promises.png": (png_bytes(60_000, 60_000, rows), "promises"),
        "negative.png": (png_bytes(0xFFFFFFFF, 1, rows), "header|promises|is not a PNG"),
        "zero.png": (png_bytes(0, 0, b""), "header|is not a PNG|cannot be decoded|outside"),
        "data_cut.png": (sound[:-40], "cannot be decoded"),
        "checksum.png": (bytes(wrong_sum), "header|is not a PNG|cannot be decoded"),
        "short_rows.png": (png_bytes(SIDE, 4 * SIDE, rows), "constant|cannot be decoded"),
        "text_bomb.png": (png_bytes(SIDE, SIDE, rows, bomb), "header|cannot be decoded"),
        "gif.png": (b"GIF89a" + bytes(200), "is not a PNG"),
        "header.jpg": (jpeg[:200], "header|cannot be decoded"),
        "data_cut.jpg": (jpeg[: len(jpeg) // 2], "cannot be decoded"),
        "promises.jpg": (huge_jpeg, "promises|cannot be decoded"),
        "markers.jpg": (b"\xff\xd8\xff" * 500, "header|is not a PNG|cannot be decoded"),
        "cut.tif": (b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(10), "header|is not a PNG|cannot be decoded|TIFF"),
        "loop.tif": (
            b"II*\x00\x08\x00\x00\x00\x01\x00" + bytes(12) + b"\x08\x00\x00\x00",
            "header|cannot be|has the shape",
        ),
    }


def _arrays() -> dict[str, tuple[bytes, str]]:
    pickled = npy_bytes(np.array([{"a": 1}, print], object), allow_pickle=True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("images.npy", pickled)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images.npy", npy_header(_SHAPE.format("(40000, 40000)")))
    text = np.array([["a", "bc"] * 12] * SIDE)
    return {
        "empty.npy": (b"", "the file is empty"),
        "text.npy": (b"1 2 3\n4 5 6\n", "is not a npy file"),
        "pickled.npy": (pickled, "pickle"),
        "pickle_only.npy": (b"\x80\x04\x95" + bytes(100), "is not a npy file"),
        "pickled.npz": (archive.getvalue(), "pickle"),
        "bomb.npz": (bomb.getvalue(), "promises"),
        "cut.npz": (archive.getvalue()[:-40], "is not a npz file"),
        "complex.npy": (npy_bytes(image().astype(np.complex64)), "holds complex64, not real numbers"),
        "text_type.npy": (npy_bytes(text), "not real numbers"),
        "bool.npy": (npy_bytes(image() > 100), "holds bool, not real numbers"),
        "record.npy": (npy_bytes(np.zeros((SIDE, SIDE), [("a", "f4")])), "not real numbers"),
        "time.npy": (npy_bytes(np.zeros((SIDE, SIDE), "M8[s]")), "not real numbers"),
        "cut.npy": (npy_bytes(image())[:-100], "truncated"),
        "zero.npy": (npy_bytes(np.zeros((0, SIDE), np.float32)), "is empty"),
        "scalar.npy": (npy_bytes(np.float32(3)), "images have 2 to 4 axes"),
        "one_axis.npy": (npy_bytes(image(SIDE)), "images have 2 to 4 axes"),
        "five_axes.npy": (npy_bytes(image(2, 2, 2, 8, 8)), "images have 2 to 4 axes"),
        "stack.npy": (npy_bytes(image(9, SIDE, SIDE)), "is a stack of 9 images; name the file itself"),
        "all_nan.npy": (npy_bytes(np.full((SIDE, SIDE), np.nan)), "every value is missing"),
        "constant.npy": (npy_bytes(np.zeros((SIDE, SIDE))), "constant"),
        "promises.npy": (
            npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (999999, 999999), }"),
            "too short",
        ),
        "negative.npy": (
            npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-24, 24), }"),
            "promises|is not",
        ),
        "code.npy": (npy_header("__import__('os').abort()"), "is not a npy file"),
        "text.h5": (b"no HDF5" * 1000, "is not a h5 file"),
        "empty.h5": (b"", "the file is empty"),
    }


def _hdf5(folder: Path) -> dict[str, str]:
    """HDF5 files that lead elsewhere, or hold what is no image."""
    elsewhere = folder.parent / "elsewhere.h5"
    with h5py.File(elsewhere, "w") as file:
        file["images"] = image()

    def written(name: str, write: Callable[[h5py.File], object]) -> None:
        with h5py.File(folder / name, "w") as file:
            write(file)

    def external(file: h5py.File) -> None:
        file["images"] = h5py.ExternalLink(str(elsewhere), "/images")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((SIDE, SIDE), "f4")
        layout[:] = h5py.VirtualSource(str(elsewhere), "images", (SIDE, SIDE))
        file.create_virtual_dataset("images", layout)

    def outside(file: h5py.File) -> None:
        size = SIDE * SIDE * 4
        file.create_dataset("images", (SIDE, SIDE), "f4", external=[(str(elsewhere), 0, size)])

    def bomb(file: h5py.File) -> None:
        file.create_dataset("images", (16_384, 32_768), "f4", chunks=(16_384, 32_768), compression="gzip")

    def inflated(file: h5py.File) -> None:
        images = file.create_dataset("images", (SIDE, SIDE), "f4", chunks=(SIDE, SIDE), compression="gzip")
        images.id.write_direct_chunk((0, 0), zlib.compress(bytes(64 << 20), 1))

    def objects(file: h5py.File) -> None:
        file.create_dataset("images", (SIDE, SIDE), h5py.vlen_dtype(np.float32))

    written("external_link.h5", external)
    written("soft_link.h5", lambda file: file.__setitem__("images", h5py.SoftLink("/not/there")))
    written("virtual.h5", virtual)
    written("outside.h5", outside)
    written("bomb.h5", bomb)
    written("inflated.h5", inflated)
    written("objects.h5", objects)
    written("complex.h5", lambda file: file.__setitem__("images", image().astype(np.complex64)))
    written("no_arrays.h5", lambda file: file.create_group("nothing"))
    written("two.h5", lambda file: [file.__setitem__(name, image()) for name in "ab"])
    whole = (folder / "two.h5").read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
    return {
        "external_link.h5": "holds no array that can be images",
        "soft_link.h5": "holds no array that can be images",
        "virtual.h5": "is a virtual dataset, which reads other files",
        "outside.h5": "keeps its values in other files",
        "bomb.h5": "has chunks of|promises an image",
        "inflated.h5": "is not a h5 file|constant",
        "objects.h5": "holds Python objects",
        "complex.h5": "images holds complex64, not real numbers",
        "no_arrays.h5": "holds no array that can be images",
        "two.h5": "has several arrays that can be images; choose one with --dataset",
        "cut.h5": "is not a h5 file",
    }


def _zarr(folder: Path) -> dict[str, str]:
    """Zarr folders that lead elsewhere, promise too much, or would run code."""
    secret = folder.parent / "secret"
    secret.write_bytes(image().tobytes())

    def written(name: str, **options: Any) -> Path:
        told = {"shape": (SIDE, SIDE), "chunks": (SIDE, SIDE), "dtype": "f4", "compressors": None, **options}
        zarr.create_array(folder / name, **told)[:1] = 1
        return folder / name

    chunk = written("outside.zarr") / "c" / "0" / "0"
    chunk.unlink()
    chunk.symlink_to(secret)
    metadata = written("metadata_outside.zarr") / "zarr.json"
    metadata.rename(folder.parent / "zarr.json")
    metadata.symlink_to(folder.parent / "zarr.json")
    metadata = written("codec.zarr") / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"bytes"', '"numcodecs.pickle"'))
    metadata = written("json.zarr") / "zarr.json"
    metadata.write_text(metadata.read_text()[:-40])
    metadata = written("promises.zarr", compressors="auto") / "zarr.json"
    metadata.write_text(metadata.read_text().replace(f"{SIDE}", "100000"))
    pickled = folder / "pickled.zarr"
    pickled.mkdir()
    (pickled / ".zarray").write_text(
        '{"zarr_format": 2, "shape": [24, 24], "chunks": [24, 24], "dtype": "|O", "compressor": null, '
        '"fill_value": 0, "order": "C", "filters": [{"id": "pickle"}]}'
    )
    (pickled / "0.0").write_bytes(b"\x80\x04\x95" + bytes(60))
    cut = written("cut.zarr") / "c" / "0" / "0"
    cut.write_bytes(cut.read_bytes()[:-100])
    (folder / "nothing.zarr").mkdir()
    return {
        "outside.zarr": "leads outside of the Zarr folder",
        "metadata_outside.zarr": "leads outside of the Zarr folder",
        "codec.zarr": "is not a zarr file|codec",
        "json.zarr": "is not a zarr file",
        "promises.zarr": "promises|has chunks of",
        "pickled.zarr": "is not a zarr file|pickle|codec",
        "cut.zarr": "is not a zarr file",
        "nothing.zarr": "is not a zarr file|holds no array|there is no such file",
    }


def write_broken(folder: Path) -> dict[str, str]:
    """Write every broken image into a folder: file name → regular expression of the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    reasons = {}
    for name, (content, reason) in {**_fits(), **_pictures(), **_arrays()}.items():
        (folder / name).write_bytes(content)
        reasons[name] = reason
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reasons |= _hdf5(folder) | _zarr(folder)
    (folder / "a folder.png").mkdir()
    reasons["a folder.png"] = "is not a regular file"
    return reasons


def write_odd(folder: Path) -> list[str]:
    """Write images that are odd but right: names of the files, each of which must become a subject."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = image(30, 26, seed=3)
    little = io.BytesIO()
    np.save(little, plain.astype("<f8"))
    sound = fits_bytes(plain)
    contents = {
        "control_card.fits": sound[:320] + bytes(range(80)) + sound[320:2800] + sound[2880:],
        "a name\nof two lines.fits": fits_bytes(plain),
        "big_endian.npy": npy_bytes(plain.astype(">f8")),
        "little_endian.npy": little.getvalue(),
        "column_order.npy": npy_bytes(np.asfortranarray(plain)),
        "half.npy": npy_bytes(plain.astype(np.float16)),
        "integers.npy": npy_bytes(plain.astype(">i8")),
        "one_band_first.npy": npy_bytes(plain[None]),
        "one_band_last.npy": npy_bytes(plain[:, :, None]),
        "wcs_broken.fits": fits_bytes(plain, CTYPE1="RA---XXX", CTYPE2="DEC--XXX", CRVAL1=10.0, CRVAL2=95.0),
        "wcs_singular.fits": fits_bytes(plain, CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CD1_1=0.0, CD2_2=0.0),
        "wcs_one_axis.fits": fits_bytes(plain, CTYPE1="RA---TAN"),
        "wcs_text.fits": fits_bytes(plain, CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1="north"),
        "integers.fits": fits_bytes(plain.astype(np.int16), BSCALE=0.5, BZERO=10.0),
        "doubles.fits": fits_bytes(plain.astype(np.float64)),
        "some_nan.fits": fits_bytes(np.where(plain > 105, np.nan, plain).astype(np.float32)),
        "some_infinite.fits": fits_bytes(np.where(plain > 115, np.inf, plain).astype(np.float32)),
        "degenerate_axes.fits": fits_bytes(plain[None, None]),
        "tall.fits": fits_bytes(image(90, 9, seed=4)),
        "large.fits": fits_bytes(image(300, 200, seed=5)),
        "gzipped.fits.gz": gzip.compress(fits_bytes(plain)),
        "unit_odd.fits": fits_bytes(plain, BUNIT="furlong/ħ"[:8]),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return list(contents)


#: Manifests that are refused: suffix, content, regular expression of the sentence. `GOOD` stands for a sound path.
MANIFESTS: dict[str, tuple[str, bytes, str]] = {
    "empty": (".csv", b"", "is empty; its first line must name the columns"),
    "only a header": (".csv", b"id,path\n", "has no rows"),
    "not UTF-8": (".csv", b"id,path\n\xff\xfe\xfa,GOOD\n", "cannot be read"),
    "UTF-16": (".csv", "id,path\n1,GOOD\n".encode("utf-16"), "cannot be read"),
    "a column twice": (".csv", b"id,id,path\n1,1,GOOD\n", 'has the column "id" twice'),
    "ragged": (".csv", b"id,path\n1,GOOD\n2\n", "cannot be read"),
    "too many fields": (".csv", b"id,path\n1,GOOD,3,4\n", "cannot be read"),
    "an open quote": (".csv", b'id,path\n1,"GOOD\n', "can become a subject|cannot be read"),
    "no path column": (".csv", b"id,place\n1,GOOD\n", "does not say which column holds the paths"),
    "two path columns": (".csv", b"id,path,file\n1,GOOD,GOOD\n", "path and file could be it"),
    "an id twice": (".csv", b"id,path\n1,GOOD\n1,GOOD\n", 'has the id "1" twice'),
    "an id missing": (".csv", b"id,path\n1,GOOD\n,GOOD\n", "has no id in row 2"),
    "binary": (".csv", b"\x00\x01\x02\x03" * 1000, "cannot be read|does not say which column|is not in"),
    "tabs in CSV": (".csv", b"id\tpath\n1\tGOOD\n", "does not say which column|is not in"),
    "text as Parquet": (".parquet", b"id,path\n1,GOOD\n", "is not a readable Parquet file"),
    "Parquet without an end": (".parquet", b"PAR1" + bytes(500), "is not a readable Parquet file"),
    "Parquet of zeros": (".parquet", b"PAR1" + bytes(500) + b"\xf0\x01\x00\x00PAR1", "is not a readable Parquet file"),
}

#: Paths in a manifest that cannot be images, and the reason in quarantine.
PATHS = {
    "absent.png": "there is no such file",
    "zero\x00character.png": "zero character|there is no such file",
    "x" * 5000 + ".png": "cannot be read|there is no such file",
    "/dev/zero": "is not a regular file",
    "/proc/self/mem": "cannot be read|empty|is not a PNG",
    ".": "is not a regular file",
    "https://example.org/a.png": "there is no such file",
    "a\nb.png": "there is no such file",
}
