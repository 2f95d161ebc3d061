"""Injection and recovery: sources planted into copies of the survey's own images, scored by the frozen run.

The same hosts, drawn at random, get a source of every flux and size: at the original's own resolution and in its own
values, from which the network's crop is then made as it was for the survey. A host is taken only if its crop comes out
of its original to the last bit. All are scored by the run's own network and settings (`models.rescoring`) beside the
hosts as they are, and placed on its map as newcomers are. What a boundary keeps of each flux and size is its selection
function.

::

    FOLDER/plan.json        what was asked for; another plan needs another folder
    FOLDER/planted.parquet  a row per crop: the hosts first, as they are
    FOLDER/crops.npy        uint8, row by row; latents.npy and scores.npz likewise, once they are scored
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from explorer import __version__
from explorer.errors import JobError, SurveyError, UsageError
from explorer.ingest.decoder import Decoders, n_cores
from explorer.services.explore import AXES, PLACING, Explore
from explorer.services.foreign import Foreign, Scorer
from explorer.services.originals import OURS, Originals
from explorer.survey import Survey
from models import artifacts
from models.artifacts import Run
from models.embedding import OFF_MAP, finished, percentiles, place
from models.images import QUALITY_COLUMNS, ImageError, Linear, cut, prepare_linear, read_linear
from models.injection import Form, InjectionError, Kind, add, drawn, host_flux, stored
from models.mixing import SD_OF_MAD, Mode, center_and_spread, mix
from models.progress import Progress

Unit = Literal["contrast", "counts", "mag"]
Half = Literal["test", "tune", "all"]
HALVES: tuple[Half, ...] = ("test", "tune", "all")

PLAN, PLANTED, CROPS, LATENTS, SCORES = "plan.json", "planted.parquet", "crops.npy", "latents.npy", "scores.npz"
#: Re-scored hosts may differ from what the run stored by this share, in the median: another machine rounds otherwise.
SAME_SCORE = 0.01


@dataclass(frozen=True, slots=True)
class Length:
    """A length on the original: px, or arcsec where the pixel scale is known."""

    value: float
    unit: Literal["px", "arcsec"] = "px"

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"

    def px(self, scale: float | None) -> float:
        """In px of an original of so many arcsec per px; NaN where that is unknown."""
        return self.value if self.unit == "px" else math.nan if scale is None else self.value / scale


@dataclass(frozen=True, slots=True)
class Plan:
    """What is planted into how many.

    Attributes
    ----------
    fluxes, unit
        Of the whole source. contrast: in fluxes of the host, band by band, so that it has the host's color (what is in
        the network's square above the background). counts: in the images' own unit, the same in each band. mag:
        magnitudes, with `zeropoint` (that of one count).
    sizes, psf
        See `models.injection`; the PSF's FWHM.
    colors
        Factors of the flux, one per band; () for 1 each.
    n_hosts
        Hosts; each gets every flux and size.
    half
        From where hosts are drawn: what a boundary was fitted to lies in the tune half.
    gain
        Electrons per count: see `models.injection.add`.
    """

    kind: Kind
    fluxes: tuple[float, ...]
    sizes: tuple[Length, ...]
    psf: Length
    unit: Unit = "contrast"
    n_hosts: int = 50
    half: Half = "test"
    colors: tuple[float, ...] = ()
    zeropoint: float | None = None
    gain: float | None = None
    seed: int = 0

    def check(self, n_bands: int) -> None:
        """Refuse what is not possible.

        Raises
        ------
        UsageError
            What it is, and what to do.
        """
        if not self.fluxes or not self.sizes or self.n_hosts < 1:
            raise UsageError("nothing to plant: give at least one flux, one size and one host")
        for values, what in ((self.fluxes, "flux"), (self.sizes, "size")):
            if len(set(values)) != len(values):
                raise UsageError(f"a {what} is given twice; give each once")
        lengths = [*self.sizes, self.psf]
        if not all(0 < one.value < math.inf for one in lengths):
            raise UsageError("sizes and PSF are above 0")
        if len({one.unit for one in self.sizes}) > 1:
            raise UsageError("sizes are all in px or all in arcsec")
        numbers = [*self.fluxes, *self.colors, self.zeropoint or 0.0, self.gain or 0.0]
        if not all(map(math.isfinite, numbers)):
            raise UsageError("fluxes, colors, zero point and gain are finite numbers")
        if self.unit != "mag" and min(self.fluxes) <= 0:
            raise UsageError("fluxes are above 0; the hosts as they are are scored in any case")
        if (self.unit == "mag") != (self.zeropoint is not None):
            raise UsageError("magnitudes need the zero point, the magnitude of one count, and only they do")
        if self.colors and (len(self.colors) != n_bands or min(self.colors) < 0 or not any(self.colors)):
            raise UsageError(f"the survey has {n_bands} bands: give {n_bands} colors, none below 0 and not all 0")
        if self.gain is not None and self.gain <= 0:
            raise UsageError("the gain is above 0")
        if self.half not in HALVES:
            raise UsageError(f'there is no half "{self.half}"; there are {", ".join(HALVES)}')

    def told(self) -> dict[str, Any]:
        """JSON that tells one plan from another."""
        told: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return told

    @property
    def title(self) -> str:
        """Of the flux, for a table and an axis."""
        return {"contrast": "flux, in fluxes of the host", "counts": "flux, counts", "mag": "magnitude"}[self.unit]

    def counts(self, flux: float, host: np.ndarray) -> np.ndarray:
        """Counts per band, (bands,), of a flux in `unit`, for a host of so many."""
        colors = np.array(self.colors) if self.colors else np.ones(len(host))
        if self.unit == "contrast":
            return np.asarray(flux * np.clip(host, 0, None) * colors)
        return np.asarray((flux if self.unit == "counts" else 10 ** (0.4 * ((self.zeropoint or 0.0) - flux))) * colors)


# -------------------------------------------------------------------------------------------------------------- hosts
@dataclass(frozen=True, slots=True)
class Host:
    """A subject whose copies get a source.

    Attributes
    ----------
    linear
        Its original, in its own values: float32 (H, W, bands of the survey).
    is_picture
        Its crop is cut from 8 or 16 bits, without a stretch.
    is_stacked
        The survey keeps its values, not the file that they came in.
    left, top, side
        The network's square, px of the original; side None is the whole image.
    scale
        arcsec per px, None where unknown.
    flux
        Per band: see `models.injection.host_flux`.
    """

    row: int
    linear: Linear
    is_picture: bool
    is_stacked: bool
    left: int
    top: int
    side: int | None
    scale: float | None
    flux: np.ndarray

    @property
    def center(self) -> tuple[float, float]:
        """Of the network's square."""
        height, width, _ = self.linear.values.shape
        if self.side is None:
            return (width - 1) / 2, (height - 1) / 2
        return self.left + (self.side - 1) / 2, self.top + (self.side - 1) / 2


class _UnusableError(Exception):
    """Why a subject is no host, in a few words that are counted."""


class Hosts:
    """Reads the originals of hosts and makes network crops of them as the survey did. Close it at the end."""

    def __init__(self, survey: Survey) -> None:
        if not survey.has_images:
            raise UsageError(f"{survey.path} is a table without images; there is nothing to plant sources into")
        if survey.info.originals == "none":
            raise UsageError(f"{survey.path} is a copy without originals; take the survey that it was packed from")
        self.survey = survey
        self._originals = Originals(survey)
        self._decoders: Decoders | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._originals.close()
        if self._decoders is not None:
            self._decoders.__exit__()

    def read(self, row: int) -> Host:
        """One host.

        Raises
        ------
        _UnusableError
            Its original cannot be read, or the survey's crop does not come out of it.
        """
        info = self.survey.info
        record: dict[str, Any] = self.survey.subject(row)
        try:
            content, kind = self._originals.source(row)
            if self._decoders is None:
                self._decoders = Decoders(info.cut, n=1)
            linear, _ = self._decoders.call(read_linear, content)
        except (SurveyError, ImageError):
            raise _UnusableError("the original cannot be read") from None
        n_bands, needed = linear.values.shape[2], len(info.bands)
        if n_bands == 1 and needed > 1 and linear.top is not None:
            linear = replace(linear, values=np.repeat(linear.values, needed, axis=2))
        elif n_bands != needed:
            raise _UnusableError("the original has other bands than the survey")
        height, width, _ = linear.values.shape
        side = None if info.crop == "resize" else record["crop_side"] or info.extent or info.size
        places = {"left": width, "top": height}
        corner = {name: record[f"crop_{name}"] for name in places}
        if side is not None:
            corner = {n: (places[n] - int(side)) // 2 if v is None else v for n, v in corner.items()}
        left, top = int(corner["left"] or 0), int(corner["top"] or 0)
        box = (0, 0, width, height)
        if side is not None:
            box = (max(left, 0), max(top, 0), min(left + int(side), width), min(top + int(side), height))
        host = Host(
            row=row,
            linear=linear,
            is_picture=kind != OURS and info.stretch.mode == "range" and not info.extent_arcsec,
            is_stacked=kind == OURS,
            left=left,
            top=top,
            side=None if side is None else int(side),
            scale=record["pixel_scale_arcsec"] or info.pixel_scale_arcsec or linear.pixel_scale,
            flux=host_flux(linear.values, box),
        )
        try:
            crop, _ = self.crop(host, linear.values)
        except ImageError:
            raise _UnusableError("the network's crop cannot be made again from the original") from None
        if not np.array_equal(crop, self.survey.images[row]):
            raise _UnusableError("the network's crop cannot be made again from the original")
        return host

    def crop(self, host: Host, values: np.ndarray) -> tuple[np.ndarray, tuple[float, ...]]:
        """The network's crop of a host with other values, as `create` makes it, and `QUALITY_COLUMNS`.

        Raises
        ------
        ImageError
            As `models.images.cut`.
        """
        info = self.survey.info
        if host.is_picture:
            return cut(_picture(values, host.linear.top), host.left, host.top, host.side, info.cut)
        linear = replace(host.linear, values=values)
        names = info.bands if linear.top is None else ()
        made = prepare_linear(linear, host.left, host.top, host.side, info.cut, info.stretch, info.rgb, names)
        return made.crop, made.quality


def _picture(values: np.ndarray, top: float | None) -> Image.Image:
    """Values of a file type's range as Pillow decodes such a file."""
    dtype = {255.0: np.uint8, 65535.0: np.uint16}.get(top or 1.0, np.float32)
    is_grey = dtype != np.uint8 or values.shape[2] == 1
    return Image.fromarray(np.ascontiguousarray((values[:, :, 0] if is_grey else values).astype(dtype)))


def candidates(explore: Explore, run_id: str, half: Half) -> np.ndarray:
    """Rows that may be hosts: scored by the run, in the half, neither known objects nor withdrawn nor planted."""
    survey = explore.survey
    may = np.isfinite(explore.values("scores.anomaly_score", run_id)) & ~survey.planted()
    if half != "all":
        may &= survey.column("half") == half
    for name in ("is_known", "is_withdrawn"):
        may &= survey.column(name) != "true"
    return np.flatnonzero(may)


# ----------------------------------------------------------------------------------------------------------- planting
_SCHEMA = pa.schema(
    [
        pa.field("host_row", pa.int64()),
        pa.field("host", pa.string(), metadata={"kind": "id"}),
        pa.field("flux", pa.float64()),  # null: the host as it is
        pa.field("size", pa.float64()),
        pa.field("angle_deg", pa.float64()),
        pa.field("counts", pa.float64()),  # over all bands
        pa.field("contrast", pa.float64()),  # to the host, over all bands
        pa.field("inside", pa.float64()),  # share of the flux within the network's square
        *(pa.field(name, pa.float32()) for name in QUALITY_COLUMNS),
    ]
)


@dataclass(frozen=True, slots=True)
class Planted:
    """What was planted.

    Attributes
    ----------
    table
        See the module; row i is crop i.
    set_aside
        Subjects that were drawn and are no hosts, by reason.
    unit
        What a count is, in words.
    """

    folder: Path
    plan: Plan
    table: pa.Table
    set_aside: Mapping[str, int]
    unit: str

    @property
    def n_hosts(self) -> int:
        """Hosts: the first rows of the table."""
        return int(self.table.column("flux").null_count)


def run_of(explore: Explore, run_id: str) -> Run:
    """The score run whose network scores what is planted.

    Raises
    ------
    UsageError
        There is no such run, or it is none of the trained model.
    """
    run = explore.runs().get(run_id)
    if run is None:
        raise UsageError(f'there is no finished score run "{run_id}"; `voorwerp run {explore.survey.path} score`')
    if run.kind != "score" or run.config.get("method", "wgan") != "wgan" or "train" not in run.inputs:
        raise UsageError(
            f"{run_id} is no run of the trained model, and only that scores images that are new; name one with --run"
        )
    return run


def plant(explore: Explore, run_id: str, plan: Plan, folder: Path) -> Generator[Progress, None, Planted]:
    """Plant sources and make the network's crops of them, or take up what the same plan has made in `folder`.

    Raises
    ------
    UsageError
        A plan that is not possible, a folder with another one, no subject that can be a host.
    """
    survey = explore.survey
    plan.check(len(survey.info.bands))
    told = {"survey_id": survey.info.survey_id, "run": run_of(explore, run_id).run_id, **plan.told()}
    begun = folder / PLAN
    if begun.exists():
        found = json.loads(begun.read_bytes())
        if found["plan"] != told:
            unlike = next(k for k in told if found["plan"].get(k) != told[k])
            raise UsageError(f"{folder} holds another plan (its {unlike} differs); name another folder with --out")
        if (folder / PLANTED).exists():
            return Planted(folder, plan, pq.read_table(folder / PLANTED), found["set_aside"], found["unit"])
    elif folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no injection; name another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    rows = candidates(explore, run_id, plan.half)
    order = np.random.default_rng(plan.seed).permutation(rows)
    set_aside: Counter[str] = Counter()
    hosts: list[tuple[list[dict[str, Any]], np.ndarray]] = []
    units: Counter[str] = Counter()
    with Hosts(survey) as reader:
        for row in order.tolist():
            yield Progress(len(hosts), plan.n_hosts, "planting")
            if len(hosts) == plan.n_hosts:
                break
            try:
                host = reader.read(row)
                made = [(record, crop) for record, _, crop in copies(reader, host, plan)]
                hosts.append(([record for record, _ in made], np.stack([crop for _, crop in made])))
                units[_unit_of(host.linear)] += 1
            except _UnusableError as reason:
                set_aside[str(reason)] += 1
            except InjectionError as error:
                raise UsageError(str(error)) from None
    if not hosts:
        why = (
            "; ".join(f"{n:,}: {reason}" for reason, n in set_aside.items())
            or f"no subject of the half {plan.half} is scored; --half all draws from all"
        )
        raise UsageError(f"no subject of {survey.path} can be a host ({why})")
    records = [records[0] for records, _ in hosts] + [one for records, _ in hosts for one in records[1:]]
    crops = np.concatenate([np.stack([c[0] for _, c in hosts]), *(c[1:] for _, c in hosts)])
    table = pa.Table.from_pylist(records, schema=_SCHEMA)
    unit = " and ".join(units)
    artifacts.write_array(folder / CROPS, crops)
    content = {"voorwerp": "injection", "plan": told, "set_aside": dict(set_aside), "unit": unit, "code": __version__}
    artifacts.write_json(begun, content)
    artifacts.write_table(folder / PLANTED, table)
    return Planted(folder, plan, table, set_aside, unit)


def _unit_of(linear: Linear) -> str:
    bits = {255.0: "8-bit values", 65535.0: "16-bit values"}.get(linear.top or 0.0)
    return bits or linear.unit or "the files' own values"


def copies(hosts: Hosts, host: Host, plan: Plan) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    """A host as it is, then with each source, by size and flux: a record of `Planted.table`, values and crop.

    The same plan gives the same.
    """
    survey, values, top = hosts.survey, host.linear.values, host.linear.top
    whole = float(host.flux.sum())
    if plan.unit == "contrast" and not (whole > 0 and plan.counts(1.0, host.flux).sum() > 0):
        raise _UnusableError("it has no light above its background to compare with")
    if plan.unit == "mag" and top is not None and top > 1:
        raise UsageError(
            f"magnitudes need physical values, and the images have {_unit_of(host.linear)}; give --contrast"
        )
    seed = [plan.seed, int(survey.subject_ids[host.row]) & (2**63 - 1)]
    angle = float(np.random.default_rng(seed).uniform(0, 2 * math.pi))
    psf = plan.psf.px(host.scale)
    sizes = [size.px(host.scale) for size in plan.sizes]
    if not all(map(math.isfinite, [psf, *sizes])):
        raise _UnusableError("its pixel scale is unknown, and sizes are in arcsec")
    height, width, _ = values.shape
    left, right, upper, lower = 0, width, 0, height
    if host.side is not None:
        left, right = max(host.left, 0), host.left + host.side
        upper, lower = max(host.top, 0), host.top + host.side
    common = {"host_row": host.row, "host": survey.source_ids([host.row])[0]}
    crop, quality = hosts.crop(host, values)
    yield common | dict(zip(QUALITY_COLUMNS, quality, strict=True)), values, crop
    for i, (size, told) in enumerate(zip(sizes, plan.sizes, strict=True)):
        light = drawn(Form(plan.kind, size, psf, angle), (height, width), host.center)
        inside = min(1.0, float(light[upper:lower, left:right].sum()))
        for j, flux in enumerate(plan.fluxes):
            rng = np.random.default_rng([*seed, i, j])
            counts = plan.counts(flux, host.flux)
            new = stored(add(values, light, counts, rng, plan.gain), top, rng, host.linear.saturated)
            try:
                crop, quality = hosts.crop(host, new)
            except ImageError as error:
                raise _UnusableError(f"with a source in it, {error}") from None
            about: dict[str, Any] = {
                "flux": flux,
                "size": told.value,
                "angle_deg": math.degrees(angle),
                "inside": inside,
            }
            about |= {"counts": float(counts.sum()), "contrast": float(counts.sum()) / whole if whole > 0 else None}
            yield common | about | dict(zip(QUALITY_COLUMNS, quality, strict=True)), new, crop


# ------------------------------------------------------------------------------------------------------------ scoring
@dataclass
class Scored:
    """Crops with the scores that the frozen run gives them; row i is row i of `planted.table`.

    Attributes
    ----------
    image_score, feature_score
        float32 (n,), NaN where a crop could not be scored.
    latents
        float32 (n, d), NaN likewise.
    off_by
        Median relative difference of the hosts' scores from what the run stored.
    """

    explore: Explore
    run: Run
    planted: Planted
    image_score: np.ndarray
    feature_score: np.ndarray
    latents: np.ndarray
    off_by: float = 0.0
    _placed: dict[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Crops, hosts as they are included."""
        return len(self.image_score)

    @cached_property
    def hosts(self) -> np.ndarray:
        """Row in the survey of each crop's host, int64 (n,)."""
        return np.asarray(self.planted.table.column("host_row").to_numpy())

    def anomaly_score(self, lambda_: float, mode: Mode) -> np.ndarray:
        """At any λ; standardised by median and MAD of the survey, not of these."""
        parts = []
        known = self.explore.survey.scores(self.run.run_id)
        for name, values in (("image_score", self.image_score), ("feature_score", self.feature_score)):
            if mode == "standardised":
                median, mad = center_and_spread(known[name])
                values = ((values - median) / (SD_OF_MAD * mad)).astype(np.float32)
            parts.append(values)
        return mix(parts[0], parts[1], lambda_)

    def placed(self, map_id: str) -> Mapping[str, np.ndarray]:
        """Where newcomers belong on a map: its axes, and `explorer.services.explore.PLACING`.

        Raises
        ------
        ArtifactError
            The map is of another network's vectors.
        """
        if map_id not in self._placed:
            survey = self.explore.survey
            steps = finished(survey.map_folder(map_id), survey.run_folder(self.run.run_id), n_cores())
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    base = end.value
                    break
            fitted = ~base.is_placed
            reference = np.asarray(base.latents[fitted])
            at, distance = place(reference, base.coordinates[fitted], self.latents, base.k, n_cores())
            percent = percentiles(base.knn_distance[fitted], distance)
            percent[~np.isfinite(distance)] = np.nan
            found = {name: at[:, k] for k, name in enumerate(AXES)}
            off = np.where(np.isfinite(percent), percent > OFF_MAP, np.nan)
            made = {"knn_percentile": percent, "is_off_map": off, "is_placed": np.ones(self.n)}
            self._placed[map_id] = found | {name: made[name] for name in PLACING}
        return self._placed[map_id]

    def source(
        self, map_id: str, lambda_: float, mode: Mode, classifier: Callable[[str], Scorer] | None = None
    ) -> Foreign:
        """What a boundary sees of the crops: scores, places and pixels are their own, other columns their hosts'.

        What volunteers said of a host is not said of its copy: such columns are left out.
        """
        survey, table = self.explore.survey, self.planted.table
        numbers: dict[str, np.ndarray] = {
            "scores.image_score": self.image_score,
            "scores.feature_score": self.feature_score,
            "scores.anomaly_score": self.anomaly_score(lambda_, mode),
        }
        if map_id:
            numbers |= {f"maps.{name}": values for name, values in self.placed(map_id).items()}
        bad = np.isnan(self.image_score)
        categories: dict[str, tuple[np.ndarray, Sequence[str]]] = {
            "scores.split": (np.zeros(self.n, np.int32), ["unseen"]),
            "scores.quality": (bad.astype(np.int32), ["ok", "score not finite"]),
        }
        crowd = set(survey.columns_of_crowd())
        for column in survey.columns():
            if column.name in crowd:
                continue
            if column.name in QUALITY_COLUMNS:
                numbers[f"subjects.{column.name}"] = table.column(column.name).to_numpy()
            elif column.dtype == "number":
                numbers[f"subjects.{column.name}"] = survey.column(column.name)[self.hosts]
            elif column.name in ("is_known", "is_withdrawn"):  # no host is
                categories[f"subjects.{column.name}"] = (np.zeros(self.n, np.int32), ["false"])
            elif column.dtype == "category":
                codes, labels = survey.category(column.name)
                categories[f"subjects.{column.name}"] = (codes[self.hosts], labels)
        return Foreign(self.n, numbers, categories, self.latents, classifier)


def score(explore: Explore, run_id: str, planted: Planted) -> Generator[Progress, None, Scored]:
    """Score what was planted with the run's own network, in a process of its own; scores that are there are taken.

    Raises
    ------
    JobError
        The network cannot be used, or gives the hosts other scores than the run stored.
    """
    survey, run, folder = explore.survey, run_of(explore, run_id), planted.folder
    n = planted.table.num_rows
    if not (folder / SCORES).exists():
        ask = {
            "train": str(survey.run_folder(run.inputs["train"]).absolute()),
            "config": run.config,
            "preprocessing": dict(survey.preprocessing),
            "precision": run.results.get("precision", "float32"),
            "threads": n_cores(),
        }
        artifacts.write_json(folder / "ask.json", ask)
        yield Progress(0, n, "scoring")
        yield from _rescored(folder)
        (folder / "ask.json").unlink()
    with np.load(folder / SCORES, allow_pickle=False) as found:
        image, feature = found["image_score"], found["feature_score"]
    scored = Scored(explore, run, planted, image, feature, np.load(folder / LATENTS, allow_pickle=False))
    hosts = scored.hosts[: planted.n_hosts]
    known = survey.scores(run.run_id)
    pairs = [(image, known["image_score"]), (feature, known["feature_score"])]
    differences = [np.abs(ours[: len(hosts)] / theirs[hosts] - 1) for ours, theirs in pairs]
    scored.off_by = float(np.nanmedian(differences))
    if not scored.off_by <= SAME_SCORE:
        raise JobError(
            f"{run.run_id} gives {len(hosts):,} hosts other scores than it has stored (by {scored.off_by:.0%} in the "
            "median), so its network was changed; score again"
        )
    return scored


def _rescored(folder: Path) -> Iterator[Progress]:
    """The progress of `models.rescoring`."""
    command = [sys.executable, "-P", "-m", "models.rescoring", str(folder)]
    worker = subprocess.Popen(  # Ctrl-C is for us, who end it in order
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True
    )
    assert worker.stdout is not None
    try:
        for line in worker.stdout:
            said = json.loads(line)
            if "error" in said:
                raise JobError(said["error"])
            yield Progress(**said)
        if worker.wait() != 0:
            raise JobError("the process that scores what was planted ended before its time; see what it printed")
    finally:
        if worker.poll() is None:
            worker.kill()
        worker.wait()
        worker.stdout.close()


def sheet(survey: Survey, planted: Planted, n: int = 3) -> bytes:
    """The first hosts as the network sees them, as PNG: a row for each host and size; as it is, then by flux."""
    crops = np.load(planted.folder / CROPS, mmap_mode="r", allow_pickle=False)
    n_fluxes, n_sizes = len(planted.plan.fluxes), len(planted.plan.sizes)
    size = survey.info.size
    tile, gap = size * max(1, round(96 / size)), 2
    hosts = range(min(n, planted.n_hosts))
    page = np.full(((tile + gap) * len(hosts) * n_sizes, (tile + gap) * (n_fluxes + 1), 3), 255, np.uint8)
    for row in range(len(hosts) * n_sizes):
        host, _ = divmod(row, n_sizes)
        first = planted.n_hosts + row * n_fluxes
        for column, at in enumerate([host, *range(first, first + n_fluxes)]):
            seen = np.array(crops[at][..., list(survey.info.rgb)])
            shown = seen.repeat(tile // size, 0).repeat(tile // size, 1)
            y, x = row * (tile + gap), column * (tile + gap)
            page[y : y + len(shown), x : x + len(shown)] = shown
    out = io.BytesIO()
    Image.fromarray(page).save(out, "png")
    return out.getvalue()
