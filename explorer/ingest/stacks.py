"""Images in arrays: npy, npz, HDF5 and Zarr files of one image or of many, and TIFF that Pillow does not read.

How the axes are read: an axis of at most five that comes right before or right after two longer ones holds the bands,
a first axis beside these is one image each. Row 0 is the top row on screen. Bytes are read as uint8 values of the range
0 … 255, all other numbers as physical values.

Nothing but numbers is read: pickled objects, links to other files, virtual datasets, codecs that could run code and
paths outside of a Zarr folder are refused.
"""

import logging
import math
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from explorer.ingest.decoder import Held
from models.images import MAX_BANDS, MAX_FILE_BYTES, MAX_PIXELS, ImageError, file_size

#: An image has at least this many px a side, a stack at most this many images.
_MIN_SIDE = 6
_MAX_IMAGES = 1 << 27
_BLOCK = 32  # images that are read together …
_BLOCK_BYTES = 128 << 20  # … as far as they take no more than this
_MAX_COLUMNS = 256
#: Names of an array that names the bands, the likely ones.
_BAND_ARRAYS = ("bands", "band", "filters", "filter", "channels", "band_names", "filter_names")
_HDF5_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
_ZARR_CODECS = {
    *("adler32", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "endian", "fixedscaleoffset"),
    *("fletcher32", "gzip", "lz4", "lzma", "packbits", "quantize", "sharding_indexed", "shuffle", "transpose"),
    *("vlen-utf8", "zlib", "zstd"),
}


@dataclass(frozen=True, slots=True)
class Array:
    """One array of a file: what it is, and how its elements [start, stop) along the first axis are read."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    take: Callable[[int, int], np.ndarray]
    refused: str = ""
    n_chunk: int = 1

    @property
    def is_image_like(self) -> bool:
        """Numbers in two to four axes, two of which are long enough for an image."""
        numbers = self.dtype.kind in "uif" and 2 <= len(self.shape) <= 4
        return numbers and sum(n >= _MIN_SIDE for n in self.shape) >= 2

    @property
    def is_text(self) -> bool:
        """Names."""
        return self.dtype.kind in "SUT" or self.dtype.metadata is not None


@dataclass(frozen=True, slots=True)
class Stack:
    """What a file of arrays holds.

    Attributes
    ----------
    dataset
        The array of images.
    n
        Images; None where the array is one image.
    names
        The bands' names, where an array of the file gives them.
    note
        How the axes were read, in one sentence.
    columns
        The file's other arrays with one number or text for each image.
    """

    dataset: str
    n: int | None
    names: tuple[str, ...]
    note: str
    columns: Mapping[str, np.ndarray]


def look(path: str, dataset: str | None, bands: Sequence[str], picks: Sequence[str] = ()) -> Stack:
    """What a file of arrays holds, without reading its images.

    Raises
    ------
    ImageError
        It holds nothing that can be images, or several arrays that can, or is broken.
    OSError
        It cannot be read.
    """
    with refusing(path):
        arrays = arrays_of(path)
        array = _chosen(arrays, dataset)
        names = _band_names(arrays, array)
        axes = _axes(array, 0 if picks else len(bands or names))
        n = array.shape[0] if axes[0] == "N" else None
        columns: dict[str, np.ndarray] = {}
        for other in arrays.values():
            plain = other.dtype.kind in "uifb" or other.is_text
            if n is not None and other.shape == (n,) and plain and not other.refused and len(columns) < _MAX_COLUMNS:
                columns[other.name] = _plain_column(other.take(0, n))
        sizes = {"C": 1, **dict(zip(axes, array.shape, strict=True))}
        note = f"{f'{Path(path).name} {array.name}'.strip()}: {_sizes(array.shape)} is read as "
        note += "" if n is None else f"{n:,} images of "
        note += f"{sizes['C']} band{'s' * (sizes['C'] > 1)}, {sizes['H']:,} rows, {sizes['W']:,} columns"
        n_bands = len(picks) or sizes["C"]
        return Stack(array.name, n, names if len(names) == n_bands and not picks else (), note, columns)


def open_member(
    path: str, member: int | None, dataset: str | None, bands: Sequence[str] = (), picks: Sequence[str] = ()
) -> Held:
    """One image of a file of arrays.

    Parameters
    ----------
    member
        Its place in the stack; None where the file is one image.
    bands, picks
        See `explorer.ingest.decoder.Reading`; picks are places along the axis of the bands.

    Raises
    ------
    ImageError
        There is no such image, or it is not numbers, or the file is broken.
    OSError
        The file cannot be read.
    """
    with refusing(path):
        array, names, axes = _opened(path, Path(path).stat().st_mtime_ns, dataset, 0 if picks else len(bands))
        if (member is None) == (axes[0] == "N"):
            if member is None:
                raise ImageError(f"is a stack of {array.shape[0]:,} images; name the file itself as a source")
            raise ImageError("is one image, not a stack of images")
        element = array.shape if member is None else array.shape[1:]
        if math.prod(element) > MAX_PIXELS:
            sizes = " × ".join(f"{n:,}" for n in element)
            raise ImageError(f"promises an image of {sizes} values; at most {MAX_PIXELS:,} are read")
        if member is None:
            values = array.take(0, array.shape[0])
        else:
            if not 0 <= member < array.shape[0]:
                raise ImageError(f"has no image number {member:,}; it has {array.shape[0]:,}")
            bytes_each = max(1, math.prod(element) * array.dtype.itemsize)
            n = max(1, min(max(_BLOCK, array.n_chunk), _BLOCK_BYTES // bytes_each))
            values = _block(path, Path(path).stat().st_mtime_ns, dataset, 0 if picks else len(bands), member // n, n)
            values = values[member % n]
    order = axes.lstrip("N")
    if "C" not in order:
        values = values[:, :, None]
    elif order[0] == "C":
        values = values.transpose(1, 2, 0)
    if picks:
        numbers = [int(pick) if pick.isdecimal() else -1 for pick in picks]
        if min(numbers) < 0 or max(numbers) >= values.shape[2]:
            raise ImageError(f"has {values.shape[2]} bands, counted from 0; --bands asks for {', '.join(picks)}")
        values, names = values[:, :, numbers], ()
    top = 255.0 if values.dtype == np.uint8 else None
    values = np.array(values, np.float32, order="C")
    if top is None:
        values[~np.isfinite(values)] = np.nan
    return Held(values, names if len(names) == values.shape[2] else (), top=top)


@lru_cache(maxsize=4)
def _opened(path: str, changed: int, dataset: str | None, n_bands: int) -> tuple[Array, tuple[str, ...], str]:
    arrays = arrays_of(path)
    array = _chosen(arrays, dataset)
    names = _band_names(arrays, array)
    return array, names, _axes(array, n_bands or len(names))


@lru_cache(maxsize=2)
def _block(path: str, changed: int, dataset: str | None, n_bands: int, number: int, n: int) -> np.ndarray:
    array, *_ = _opened(path, changed, dataset, n_bands)
    return array.take(number * n, min((number + 1) * n, array.shape[0]))


def _chosen(arrays: Mapping[str, Array], dataset: str | None) -> Array:
    """The array of images."""
    if dataset is not None:
        wanted = dataset.strip("/")
        if wanted not in arrays:
            raise ImageError(f"has no dataset {dataset}; it has {_listed(arrays)}")
        array = arrays[wanted]
    elif len(arrays) == 1:
        (array,) = arrays.values()
    else:
        likely = [array for array in arrays.values() if array.is_image_like]
        if len(likely) > 1:  # tables and single images stand beside stacks
            most = max(len(array.shape) for array in likely)
            likely = [array for array in likely if len(array.shape) == most]
        if not likely:
            raise ImageError(f"holds no array that can be images; it has {_listed(arrays)}")
        if len(likely) > 1:
            raise ImageError(f"has several arrays that can be images; choose one with --dataset: {_listed(arrays)}")
        array = likely[0]
    if array.refused:
        raise ImageError(f"{array.name or 'the array'} {array.refused}")
    if array.dtype.hasobject:
        raise ImageError("holds Python objects (pickle), which are never read; save it as an array of numbers")
    if array.dtype.kind not in "uif":
        raise ImageError(f"{array.name or 'the array'} holds {array.dtype}, not real numbers")
    if 0 in array.shape:
        raise ImageError(f"{array.name or 'the array'} is empty ({_sizes(array.shape)})")
    if not 2 <= len(array.shape) <= 4:
        raise ImageError(f"{array.name or 'the array'} has the shape {_sizes(array.shape)}; images have 2 to 4 axes")
    return array


def _axes(array: Array, n_bands: int) -> str:
    """What each axis is: N images, C bands, H rows, W columns. `n_bands` is how many are named, 0 where none are."""
    shape = array.shape
    first, last = len(shape) - 3, len(shape) - 1
    wanted = [n_bands] if n_bands else range(1, MAX_BANDS + 1)
    if len(shape) == 2:
        axes = "HW"
    elif shape[last] in wanted and min(shape[first:last]) > MAX_BANDS:
        axes = "HWC"
    elif shape[first] in wanted and min(shape[first + 1 :]) > MAX_BANDS:
        axes = "CHW"
    elif len(shape) == 3 and n_bands < 2:
        axes = "NHW"
    else:
        bands = f"an axis of {n_bands}" if n_bands else f"an axis of at most {MAX_BANDS}"
        raise ImageError(f"{array.name or 'the array'} has the shape {_sizes(shape)}, without {bands} for the bands")
    if len(shape) == 4:
        axes = f"N{axes}"
    if axes[0] == "N" and shape[0] > _MAX_IMAGES:
        raise ImageError(f"promises {shape[0]:,} images; at most {_MAX_IMAGES:,} are read")
    return axes


def _band_names(arrays: Mapping[str, Array], images: Array) -> tuple[str, ...]:
    """Names of the bands from an array of text that is as long as a short axis of the images."""
    short = {n for n in images.shape[-3:] if n <= MAX_BANDS}
    likely = [a for a in arrays.values() if a.is_text and len(a.shape) == 1 and a.shape[0] in short and not a.refused]
    named = [array for array in likely if array.name.rsplit("/", 1)[-1].lower() in _BAND_ARRAYS]
    chosen = named if len(named) == 1 else likely
    if len(chosen) != 1:
        return ()
    names = tuple(str(name).strip() for name in _plain_column(chosen[0].take(0, chosen[0].shape[0])))
    return names if len(set(names)) == len(names) and all(names) else ()


def _plain_column(values: np.ndarray) -> np.ndarray:
    """Numbers in native byte order, text as str."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind in "OT":
        texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.tolist()]
        return np.array(texts, np.str_)
    return values.astype(values.dtype.newbyteorder("="))


def _listed(arrays: Mapping[str, Array]) -> str:
    said = [f"{a.name or 'one array'} ({_sizes(a.shape)} {a.dtype})" for a in arrays.values()]
    return (", ".join(said[:8]) + (" …" if len(said) > 8 else "")) or "nothing"


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(f"{n:,}" for n in shape) or "no axis"


# ------------------------------------------------------------------------------------------------------------ files
def arrays_of(path: str) -> dict[str, Array]:
    """Every array of a file by its name."""
    lower = path.lower()
    if lower.endswith(".npy"):
        return {"": _of_npy(Path(path))}
    if lower.endswith(".npz"):
        return _of_npz(Path(path))
    if lower.endswith(".zarr"):
        return _of_zarr(Path(path))
    return _of_hdf5(Path(path))


def _npy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ImageError("holds Python objects (pickle), which are never read; save it as an array of numbers")
    if any(n < 0 for n in shape):
        raise ImageError(f"promises the shape {_sizes(shape)}")
    return tuple(int(n) for n in shape), bool(is_fortran), dtype


def _of_npy(path: Path) -> Array:
    n_bytes = _bytes_of(path)
    with path.open("rb") as file:
        shape, is_fortran, dtype = _npy_header(file)
        start = file.tell()
    each = math.prod(shape[1:]) * dtype.itemsize
    if start + math.prod(shape) * dtype.itemsize > n_bytes:
        raise ImageError(f"promises {_sizes(shape)} values, which the file is too short for (it is truncated)")
    if is_fortran and len(shape) > 1 and n_bytes > MAX_FILE_BYTES:
        raise ImageError("is stored column by column; save it in C order, so that its images can be read one by one")

    def take(first: int, stop: int) -> np.ndarray:
        with path.open("rb") as file:
            if is_fortran and len(shape) > 1:
                file.seek(start)
                return np.fromfile(file, dtype, math.prod(shape)).reshape(shape, order="F")[first:stop]
            file.seek(start + first * each)
            return np.fromfile(file, dtype, (stop - first) * math.prod(shape[1:])).reshape(stop - first, *shape[1:])

    return Array("", shape, dtype, take)


def _bytes_of(path: Path) -> int:
    """Bytes of a regular file, which may be large: it is read in parts."""
    try:
        return file_size(path)
    except ImageError:
        if path.is_file() and path.stat().st_size > MAX_FILE_BYTES:
            return path.stat().st_size
        raise


def _of_npz(path: Path) -> dict[str, Array]:
    file_size(path)
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.filename.endswith(".npy"):
                continue
            name = entry.filename.removesuffix(".npy")
            with archive.open(entry) as file:
                try:
                    shape, is_fortran, dtype = _npy_header(file)
                except ImageError as error:
                    arrays[name] = Array(name, (), np.dtype("V"), _nothing, str(error))
                    continue
            refused = ""
            if math.prod(shape) * dtype.itemsize > MAX_FILE_BYTES:
                refused = f"promises {_sizes(shape)} values; at most {MAX_FILE_BYTES:,} bytes are unpacked"

            def take(
                first: int, stop: int, name: str = entry.filename, shape: Any = shape, how: Any = (is_fortran, dtype)
            ) -> np.ndarray:
                return _unpacked(path, name, shape, *how)[first:stop]

            arrays[name] = Array(name, shape, dtype, take, refused)
    return arrays


@lru_cache(maxsize=1)
def _unpacked(path: Path, name: str, shape: tuple[int, ...], is_fortran: bool, dtype: np.dtype) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open(name) as file:
        _npy_header(file)
        n_bytes = math.prod(shape) * dtype.itemsize
        content = file.read(n_bytes)
        if len(content) != n_bytes:
            raise ImageError(f"{name} promises {_sizes(shape)} values and holds fewer (it is truncated)")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _nothing(first: int, stop: int) -> np.ndarray:
    raise ImageError("cannot be read")


def _of_hdf5(path: Path) -> dict[str, Array]:
    import h5py

    _bytes_of(path)
    file = h5py.File(path, "r", locking=False)
    arrays: dict[str, Array] = {}

    def visit(name: str, item: Any) -> None:  # hard links only: other files and paths are never followed
        if isinstance(item, h5py.Dataset) and len(arrays) < 10_000:
            arrays[name] = _of_dataset(h5py, name, item)

    file.visititems(visit)
    return arrays


def _of_dataset(h5py: Any, name: str, dataset: Any) -> Array:
    try:
        dtype = dataset.dtype
    except TypeError:
        return Array(name, (), np.dtype("V"), _nothing, "holds a type that numpy does not know")
    shape = tuple(int(n) for n in (dataset.shape or ()))
    refused, n_chunk = "", 1
    if dataset.is_virtual:
        refused = "is a virtual dataset, which reads other files; copy it into one file"
    elif dataset.external:
        refused = "keeps its values in other files; copy it into one file"
    elif dataset.chunks:
        plist = dataset.id.get_create_plist()
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        n_chunk = dataset.chunks[0]
        if unknown := [str(number) for number in filters if number not in _HDF5_FILTERS]:
            refused = f"is compressed by the filter {unknown[0]}; write it with gzip or lzf"
        elif math.prod(dataset.chunks) * dtype.itemsize > MAX_FILE_BYTES:
            refused = f"has chunks of {_sizes(dataset.chunks)} values; at most {MAX_FILE_BYTES:,} bytes are unpacked"
    text = h5py.check_string_dtype(dtype)
    if text is not None:
        read = dataset if text.length else dataset.asstr("utf-8", "replace")
        dtype = np.dtype(f"S{text.length}") if text.length else np.dtypes.StringDType()
        return Array(name, shape, dtype, lambda first, stop: np.asarray(read[first:stop]), refused, n_chunk)
    return Array(name, shape, dtype, lambda first, stop: np.asarray(dataset[first:stop]), refused, n_chunk)


def _of_zarr(path: Path) -> dict[str, Array]:
    import zarr
    from zarr.storage import LocalStore

    root = path.resolve()

    class Inside(LocalStore):
        """The folder, and nothing outside of it that a link in it leads to."""

        async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
            if not (root / key).resolve().is_relative_to(root):
                raise ImageError(f"{key} leads outside of the Zarr folder")
            return await super().get(key, *arguments, **options)

    found = zarr.open(Inside(path, read_only=True), mode="r", use_consolidated=False)
    if isinstance(found, zarr.Array):
        return {"": _of_zarr_array("", found)}
    members = {name: item for name, item in found.members(max_depth=4) if isinstance(item, zarr.Array)}
    return {name: _of_zarr_array(name, members[name]) for name in sorted(members)}


def _of_zarr_array(name: str, array: Any) -> Array:
    refused = ""
    if unknown := sorted(_codecs(array.metadata.to_dict()) - _ZARR_CODECS):
        refused = f"is stored by the codec {unknown[0]}; write it with zstd, blosc or gzip"
    elif math.prod(array.chunks) * array.dtype.itemsize > MAX_FILE_BYTES:
        refused = f"has chunks of {_sizes(array.chunks)} values; at most {MAX_FILE_BYTES:,} bytes are unpacked"
    shape = tuple(int(n) for n in array.shape)
    n_chunk = (array.shards or array.chunks or (1,))[0]
    return Array(
        name, shape, np.dtype(array.dtype), lambda first, stop: np.asarray(array[first:stop]), refused, n_chunk
    )


def _codecs(metadata: Any) -> set[str]:
    """Names of all codecs in a Zarr array's metadata, version 2 or 3."""
    names = set()
    if isinstance(metadata, Mapping):
        for key, value in metadata.items():
            if key in ("codecs", "index_codecs", "filters", "compressor", "compressors"):
                for codec in value if isinstance(value, list | tuple) else [value]:
                    told = codec.to_dict() if hasattr(codec, "to_dict") else codec
                    if isinstance(told, Mapping):
                        names.add(str(told.get("name", told.get("id"))).lower())
                    elif told is not None:
                        names.add(str(getattr(told, "codec_id", told)).lower())
                    names |= _codecs(told)
            elif isinstance(value, Mapping):
                names |= _codecs(value)
    return names


# ------------------------------------------------------------------------------------------------------------- TIFF
def read_tiff(path: Path) -> Held:
    """The first page of a TIFF file that Pillow does not read: 16-bit color, or up to five bands of any number.

    Raises
    ------
    ImageError
        Neither that, or broken.
    OSError
        The file cannot be read.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is said by the refusal
    file_size(path)
    with refusing(str(path), "TIFF"), tifffile.TiffFile(path) as file:
        page = file.pages[0]  # series may lead to other files
        shape = tuple(page.shape)
        if math.prod(shape) > MAX_PIXELS:
            raise ImageError(f"the header promises {_sizes(shape)} values; at most {MAX_PIXELS:,} are read")
        values = page.asarray()
        axes = page.axes
    if values.dtype.kind not in "uif":
        raise ImageError(f"holds {values.dtype}, not real numbers")
    if values.ndim == 2:
        values = values[:, :, None]
    elif values.ndim == 3 and axes.startswith("S"):
        values = values.transpose(1, 2, 0)
    if values.ndim != 3 or values.shape[2] > MAX_BANDS:
        raise ImageError(f"has the shape {_sizes(shape)}; an image has two axes and up to {MAX_BANDS} bands")
    top = {"u1": 255.0, "u2": 65535.0}.get(values.dtype.str[1:])
    values = np.array(values, np.float32, order="C")
    values[~np.isfinite(values)] = np.nan
    return Held(values, ("r", "g", "b") if values.shape[2] == 3 else (), top=top)


@contextmanager
def refusing(path: str, kind: str = "") -> Any:
    """Whatever a library raises on a broken file becomes an `ImageError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no concern
            yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # the libraries raise anything on a broken file
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, BlockingIOError):
            raise
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(f"is not a {kind or Path(path).suffix[1:].lower()} file that can be read ({said})") from None
