"""Images that are no subjects, scored and placed among those that are. Callable from a script; thread-safe.

Nothing of such an image is written to the survey or its ledger, and nothing of it stays on the disk: the last few crops
are held in memory, so that another λ, run or map asks for no second upload.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from explorer.caches import Cache
from explorer.errors import UsageError, VoorwerpError
from explorer.ingest.calibration import how_made
from explorer.ingest.decoder import Decoders
from explorer.ingest.single import Single, cut_single
from explorer.services.explore import AXES, SCORES, Explore
from explorer.services.inference import Inference, Judgement
from explorer.services.pictures import reconstructs
from models.artifacts import COORDINATES, COORDINATES_SCHEMA, LATENTS, ArtifactError, check_network, read_columns
from models.artifacts import read_latents as read_vectors
from models.embedding import KNN_DISTANCES, OFF_MAP, PLACING, nearest_to, percentiles, place
from models.images import ImageError
from models.mixing import SD_OF_MAD, Mode, center_and_spread, mix

#: Bytes of an image at most.
MAX_BYTES = 50_000_000
#: Uploads at once, at work or waiting.
QUEUE = 4
#: Crops held in memory.
HELD = 16
#: Neighbors told.
NEIGHBORS = 12


@dataclass(slots=True)
class Dropped:
    """An image that was dropped.

    Attributes
    ----------
    id
        By which it is asked for again.
    single
        Its crop, and how it was read.
    judged
        What networks make of it, by score run.
    """

    id: str
    single: Single
    judged: dict[str, Judgement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What placing on a map takes, row by row of the map: float32 (n, d) memory-mapped, float32 (n, 3), bool (n,).

    `own` is the mean latent distance of each fitted subject to its k nearest, rising; None where the map has none.
    """

    latents: np.ndarray
    coordinates: np.ndarray
    is_fitted: np.ndarray
    k: int
    own: np.ndarray | None

    def in_cube(self, at: np.ndarray) -> np.ndarray:
        """A place (3,) in the cube -1 … 1 that the 3-D view turns; see `explorer.cells.Cloud`."""
        placed = self.coordinates[np.isfinite(self.coordinates).all(1)].astype(np.float64)
        low, high = placed.min(0), placed.max(0)
        half = (high - low) / 2
        return (at - (low + high) / 2) / np.where(half > 0, half, 1.0)  # type: ignore[no-any-return]


class Drops:
    """Takes images in, scores and places them. One per server; `close` ends its decoding process."""

    def __init__(self, explore: Explore, inference: Inference) -> None:
        self.explore, self.inference = explore, inference
        self._survey = explore.survey
        self._decoders: Decoders | None = None
        self._held: OrderedDict[str, Dropped] = OrderedDict()
        self._grounds = Cache(2)
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._at_work: set[str] = set()
        #: What takes long is done here, one image after the other, and never beside the frames.
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="dropped")

    def close(self) -> None:
        """End the decoding process, if there is one, and forget every image."""
        self.thread.shutdown(wait=False, cancel_futures=True)
        with self._reading:
            if self._decoders is not None:
                self._decoders.__exit__()
                self._decoders = None
        with self._lock:
            self._held.clear()

    # ------------------------------------------------------------------------------------------------- taking in
    def refuse(self) -> None:
        """Raise the `UsageError` that says why no image can be placed in this survey, if none can."""
        if not self._survey.has_images:
            raise UsageError("this survey has no images, so an image cannot be compared with its subjects")
        if not any("train" in run.inputs for run in self.explore.runs().values()):
            raise UsageError(
                f"no network has scored this survey, so an image cannot be placed in it: run `voorwerp run "
                f"{self._survey.path.name} train`, then score"
            )

    def folder(self, page: str) -> Intake:
        """A place for one upload, until it is given back.

        Parameters
        ----------
        page
            Who uploads; one image at a time.

        Raises
        ------
        UsageError
            Too many wait, this page's last one is not done yet, or no image can be placed at all.
        """
        self.refuse()
        with self._lock:
            if page in self._at_work:
                raise UsageError("one image at a time: the last one is still being read")
            if len(self._at_work) >= QUEUE:
                raise UsageError(f"{QUEUE} images are being read already; try again in a moment")
            self._at_work.add(page)
        return Intake(self, page)

    def take(self, path: Path | str) -> Dropped:
        """Read an image in the decoding process, cut it as the survey cuts, and hold the crop.

        Parameters
        ----------
        path
            The file, in a folder of its own: it is renamed.

        Raises
        ------
        UsageError
            It cannot be read, or has other bands than the survey; the message says why.
        """
        info = self._survey.info
        self.refuse()
        crop, reading = how_made(info)
        try:
            with self._reading:
                if self._decoders is None:
                    self._decoders = Decoders(crop, n=1)
                single = self._decoders.call(cut_single, str(path), crop, reading, info.pixel_scale_arcsec)
        except ImageError as error:
            raise UsageError(f"this image cannot be placed: {error}") from None
        dropped = Dropped(secrets.token_urlsafe(12), single)
        with self._lock:
            self._held[dropped.id] = dropped
            while len(self._held) > HELD:
                self._held.popitem(last=False)
        return dropped

    def held(self, drop_id: str) -> Dropped:
        """An image by its id.

        Raises
        ------
        UsageError
            It was forgotten: others came after it, or the server was started anew.
        """
        with self._lock:
            if drop_id not in self._held:
                raise UsageError("this image is not held any more; drop it again")
            self._held.move_to_end(drop_id)
            return self._held[drop_id]

    # --------------------------------------------------------------------------------------------------- judging
    def judge(self, dropped: Dropped, run_id: str) -> Future[Judgement]:
        """What the network of a score run makes of it.

        Raises
        ------
        UsageError
            No network stands behind the run.
        """
        if not reconstructs(self.explore, run_id):
            raise UsageError(
                "these scores were not made by a network of this survey, so nothing else can be scored like them; "
                "choose others under Scores"
            )
        if run_id in dropped.judged:
            done: Future[Judgement] = Future()
            done.set_result(dropped.judged[run_id])
            return done

        def keep(answer: Future[Judgement]) -> None:
            if not answer.cancelled() and answer.exception() is None:
                dropped.judged[run_id] = answer.result()

        answer = self.inference.judge(run_id, dropped.single.crop)
        answer.add_done_callback(keep)
        return answer

    def tell(
        self, dropped: Dropped, judgement: Judgement, run_id: str, map_id: str, lambda_: float, mode: Mode = "raw"
    ) -> dict[str, Any]:
        """Where an image stands among the subjects, ready for JSON.

        Returns
        -------
        dict
            ``scores`` as `Explore.scores_of` gives them; ``split``; ``neighbors``, the nearest by latent vector, each
            row, source_id and distance; ``place`` (see `place`); ``values``, by reference, of the columns that it has
            a value in; ``notes``, sentences on how it was read.
        """
        scores = self.scores(judgement, run_id, lambda_, mode)
        found = self.place(judgement, run_id, map_id)
        values = {f"scores.{score['name']}": score["value"] for score in scores if score["value"] is not None}
        if found["at"] is not None:
            values |= {f"maps.{axis}": value for axis, value in zip(AXES, found["at"], strict=True)}
        return {
            "id": dropped.id,
            "scores": scores,
            "split": judgement.split,
            "neighbors": self.neighbors(judgement, run_id),
            "place": found,
            "values": values,
            "notes": list(dropped.single.notes),
        }

    def scores(self, judgement: Judgement, run_id: str, lambda_: float, mode: Mode = "raw") -> list[dict[str, Any]]:
        """Image, feature and anomaly score, each with how many of how many scored subjects are below it."""
        explore, titles = self.explore, self.explore.score_titles(run_id)
        own = {"image_score": judgement.image_score, "feature_score": judgement.feature_score}
        parts = [np.array([value], np.float32) for value in own.values()]
        if mode == "standardised":
            explore.check_mode(run_id, mode)
            of = [self._grounds.get(("spread", run_id, name), partial(self._spread, run_id, name)) for name in own]
            parts = [
                ((part - median) / (SD_OF_MAD * mad)).astype(np.float32)
                for part, (median, mad) in zip(parts, of, strict=True)
            ]
        own["anomaly_score"] = float(mix(parts[0], parts[1], lambda_)[0])
        told = []
        for name in SCORES:
            if name not in titles:
                continue
            value = own[name]
            is_known = bool(np.isfinite(value))
            n_below, n = explore.n_below(value if is_known else 0.0, f"scores.{name}", run_id, lambda_, mode)
            told.append(
                {
                    "name": name,
                    "title": titles[name],
                    "mixed": name == "anomaly_score" and explore.mixes(run_id),
                    "value": value if is_known else None,
                    "below": n_below if is_known else None,
                    "of": n,
                }
            )
        return told

    def _spread(self, run_id: str, name: str) -> tuple[float, float]:
        return center_and_spread(self._survey.scores(run_id)[name])

    def neighbors(self, judgement: Judgement, run_id: str, k: int = NEIGHBORS) -> list[dict[str, Any]]:
        """The k subjects of a run that are nearest by latent vector, nearest first; [] where it has none."""
        if not (self._survey.run_folder(run_id) / LATENTS).exists() or not np.isfinite(judgement.latents).all():
            return []
        latents, rows = self._survey.latents(run_id)
        found, distances = nearest_to(latents, judgement.latents, k)
        names = self._survey.source_ids(rows[found])
        return [
            {"row": int(rows[i]), "source_id": name, "distance": float(distance)}
            for i, name, distance in zip(found, names, distances, strict=True)
        ]

    def place(self, judgement: Judgement, run_id: str, map_id: str) -> dict[str, Any]:
        """Where an image belongs on a map: the mean of its nearest fitted subjects' places, weighted by 1 / distance.

        Returns
        -------
        dict
            ``at``, three coordinates, and ``solid``, those in the cube of the 3-D view, or None; ``said``, a sentence:
            how far its neighbors are against the typical distance of the map's own, or why it has no place;
            ``is_off_map``, whether it is farther than 99.9 % of those are; ``knn_percentile`` among them and
            ``knn_ratio`` to their median, None where the map does not say.
        """
        nowhere = {"at": None, "solid": None, "is_off_map": False, "knn_percentile": None, "knn_ratio": None}
        if not map_id:
            return nowhere | {"said": "There is no map of this survey yet."}
        try:
            check_network(self._survey.map_folder(map_id), self._survey.run_folder(run_id))
        except (ArtifactError, VoorwerpError):
            said = "The map is of vectors that another network made, so this image has no place on it: choose its map."
            return nowhere | {"said": said}
        try:
            ground = self._grounds.get(("ground", map_id), partial(self._ground, map_id))
        except (ArtifactError, VoorwerpError) as error:
            return nowhere | {"said": f"It cannot be placed: {error}."}
        if not np.isfinite(judgement.latents).all():
            return nowhere | {"said": "The network gives it no finite latent vector, so it has no place."}
        near, _ = nearest_to(ground.latents, judgement.latents, ground.k, ground.is_fitted)
        if not near.size:
            return nowhere | {"said": "The map has no layout of its own to place an image on."}
        vectors = np.asarray(ground.latents[near])
        at, distance = place(vectors, ground.coordinates[near], judgement.latents[None], ground.k)
        told = nowhere | {"at": at[0].tolist(), "solid": ground.in_cube(at[0]).tolist()}
        if ground.own is None or not len(ground.own):
            return told | {"said": "This map does not say how far its own subjects are from each other."}
        percentile, typical = float(percentiles(ground.own, distance)[0]), float(np.median(ground.own))
        ratio = float(distance[0]) / typical if typical > 0 else float("nan")
        is_off = percentile > OFF_MAP
        said = "Far from every subject: its place is a guess. " if is_off else ""
        if np.isfinite(ratio):
            said += f"Its {len(near)} nearest are {ratio:.2g} × as far, in latent space, as is typical of this map."
        return told | {
            "said": said,
            "is_off_map": is_off,
            "knn_percentile": percentile,
            "knn_ratio": ratio if np.isfinite(ratio) else None,
        }

    def _ground(self, map_id: str) -> _Ground:
        folder = self._survey.map_folder(map_id)
        if not (folder / PLACING).exists():
            raise UsageError("the map lacks what placing takes; make a map anew")
        table, latents = read_columns(folder / COORDINATES, COORDINATES_SCHEMA), read_vectors(folder)
        n = len(table)
        if len(latents) != n:
            raise UsageError(f"the map has {n:,} places and {len(latents):,} vectors; make a map anew")
        is_placed = table.column("is_placed").to_numpy() if "is_placed" in table.column_names else np.zeros(n, bool)
        coordinates = np.column_stack([table.column(name).to_numpy() for name in COORDINATES_SCHEMA.names[1:]])
        own = None
        if (folder / KNN_DISTANCES).exists():
            own = np.sort(np.load(folder / KNN_DISTANCES, allow_pickle=False)[~is_placed])
        return _Ground(latents, coordinates, ~is_placed, int(json.loads((folder / PLACING).read_text())["k"]), own)

    def _give_back(self, page: str) -> None:
        with self._lock:
            self._at_work.discard(page)


class Intake:
    """One upload on its way in: a file in a folder of its own, which goes with it."""

    def __init__(self, drops: Drops, page: str) -> None:
        self._drops, self._page = drops, page
        self.n_bytes, self.is_whole = 0, False
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="voorwerp-drop-"))
            self.path = self._folder / "image"
            self._file = self.path.open("xb")
        except OSError as error:
            drops._give_back(page)
            raise UsageError(_no_room(error)) from None
        self._trouble = ""

    @property
    def is_too_large(self) -> bool:
        """Whether more came than an image may have."""
        return self.n_bytes > MAX_BYTES

    def write(self, chunk: bytes) -> None:
        """Take what came; beyond `MAX_BYTES`, or on a full disk, it is only counted."""
        self.n_bytes += len(chunk)
        if not self.is_too_large and not self._trouble:
            try:
                self._file.write(chunk)
            except OSError as error:
                self._trouble = _no_room(error)

    def done(self) -> Path:
        """The file, whole.

        Raises
        ------
        UsageError
            It is too large, nothing came, or there is no room for it.
        """
        self.is_whole = True
        try:
            self._file.close()
        except OSError as error:
            self._trouble = _no_room(error)
        if self._trouble:
            raise UsageError(self._trouble)
        if self.is_too_large:
            raise UsageError(too_large())
        if not self.n_bytes:
            raise UsageError("the file is empty")
        return self.path

    def close(self) -> None:
        """Remove the file and make room for the next; may be called twice."""
        with contextlib.suppress(OSError):
            self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._drops._give_back(self._page)


def _no_room(error: OSError) -> str:
    return f"there is no room for the image on the server ({error.strerror})"


def too_large() -> str:
    """The sentence on a file beyond `MAX_BYTES`."""
    return f"the file is larger than {MAX_BYTES // 1_000_000} MB, which is the most that is read"
