"""A learned boundary: principal components of the latent vectors, and logistic regression with balanced classes.

As the paper has it (Mantha et al. 2024): PCA of the latent vectors, 25 components or as many as hold a share of the
variance, and logistic regression in which both classes weigh the same; what it keeps is a balanced score of at least
one half. The paper does not say how components are scaled: here each has unit variance, so that the penalty ½ |w|² / C
falls on all alike. A second kind, "nonlinear", adds to the components the features of a Gaussian kernel at landmarks
(Nyström: Williams and Seeger 2001) and is otherwise the same.

A balanced score is no probability where one class is rare. `Classifier.probability` takes the balance out again: the
odds are those of the balanced score times π / (1 − π), where π is the share of positives that it was fitted on.

A fitted classifier is arrays and JSON, and is called by the hash of its content.
"""

import base64
import binascii
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self, get_args

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import pdist
from scipy.special import expit
from threadpoolctl import ThreadpoolController

from models.rates import wilson

SCHEMA_VERSION = 1

Kind = Literal["linear", "nonlinear"]

#: Components as in the paper, where they hold three quarters of the variance.
COMPONENTS = 25
FOLDS, REPEATS = 5, 5
#: Of the non-linear kind: landmarks, and subjects that it is fitted on at most.
LANDMARKS, FIT_ON = 128, 200_000
#: Rows that one thread takes at a time, and that one product of matrices is made of: these fit into its cache.
CHUNK, BLOCK = 65_536, 8_192
#: Newton's method squares what is wrong at each step: after one that gains less than this share of the loss, nothing is
#: left of it.
GAIN, MAX_STEPS = 1e-10, 100
#: Up to so many numbers it goes in double precision; beyond, what still gains less than this share is single's noise.
EXACT, NOISE = 1_000_000, 1e-6
#: Of so many subjects every so-maniest says where to begin, where it has enough of both kinds.
MANY, EVERY, ENOUGH = 65_536, 16, 200
#: Of what a file may hold, so that a damaged one is a sentence and not the machine's memory.
MAX_LATENT, MAX_NUMBERS = 65_536, 50_000_000

_BLAS = ThreadpoolController()
_FITTING = threading.Lock()  # the number of BLAS's threads is the whole process's


class ClassifierError(ValueError):
    """A classifier that cannot be fitted, read or used. The message is one sentence for a person."""


# ------------------------------------------------------------------------------------------------- many rows at once
def _parts(n: int, size: int) -> list[slice]:
    return [slice(start, min(n, start + size)) for start in range(0, n, size)]


@contextmanager
def _workers(n: int) -> Iterator[Callable[..., Any]]:
    """A ``map`` over chunks of `n` rows; on threads of our own, each with BLAS to itself, where that is faster.

    BLAS's own threads wait for each other without rest: on a busy machine that takes ten times as long. What is added
    up does not depend on the number of threads.
    """
    threads = min(len(_parts(n, CHUNK)), os.cpu_count() or 1, 16)
    if threads < 2:
        yield map
        return
    with _FITTING, _BLAS.limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        yield pool.map


# ----------------------------------------------------------------------------------------------------- the components
@dataclass(frozen=True, eq=False)
class Basis:
    """Principal components of latent vectors, each scaled to unit variance.

    Attributes
    ----------
    mean
        float32 (d,).
    components
        float32 (k, d): unit vectors, of most variance first; the largest entry of each is positive.
    deviation
        float32 (k,): standard deviation of the fitted vectors along each (divided by their number).
    explained
        float64 (k,): share of the whole variance.
    n
        Vectors that it was fitted on.
    """

    mean: np.ndarray
    components: np.ndarray
    deviation: np.ndarray
    explained: np.ndarray
    n: int

    @property
    def n_components(self) -> int:
        """k."""
        return len(self.deviation)

    @classmethod
    def fit(cls, latents: np.ndarray, n_components: float = COMPONENTS, rows: np.ndarray | None = None) -> Self:
        """Fit to latent vectors, float (n, d), or those at `rows` of them; read block by block.

        A vector that is not finite is left out. Fewer components are kept where the vectors do not span so many.

        Parameters
        ----------
        n_components
            A number of components, or, below 1, the share of variance that they must hold.

        Raises
        ------
        ClassifierError
            `n_components` is not possible, or the vectors do not differ.
        """
        is_share = 0 < n_components < 1
        if not is_share and (n_components < 1 or n_components != int(n_components)):
            raise ClassifierError(
                f"{n_components:g} components cannot be kept; give a number from 1, or a share of the variance below 1"
            )
        mean, scatter, n = _moments(latents, rows)
        if n < 2:
            raise ClassifierError(f"{n:,} subjects have a latent vector; two at least are needed to find components")
        variance, axes = np.linalg.eigh(scatter / n)
        variance, axes = np.maximum(variance[::-1], 0), axes[:, ::-1].T
        total = float(variance.sum())
        spanned = int((variance > 1e-10 * max(total, np.finfo(float).tiny)).sum())
        if not total or not spanned:
            raise ClassifierError(
                f"the latent vectors of these {n:,} subjects are all the same; nothing can be learned"
            )
        if is_share:
            k = int(np.searchsorted(np.cumsum(variance) / total, n_components - 1e-12) + 1)
        else:
            k = int(n_components)
        k = min(k, spanned)
        axes = axes[:k] * np.sign(axes[np.arange(k), np.abs(axes[:k]).argmax(1)])[:, None]
        middle, axes, deviation = (np.ascontiguousarray(a, np.float32) for a in (mean, axes, np.sqrt(variance[:k])))
        return cls(middle, axes, deviation, variance[:k] / total, n)

    @cached_property
    def sha256(self) -> str:
        """Hex sha256 of what projects."""
        parts = (self.mean, self.components, self.deviation)
        return hashlib.sha256(b"".join(np.ascontiguousarray(a, "<f4").tobytes() for a in parts)).hexdigest()

    @cached_property
    def _projection(self) -> np.ndarray:
        return np.ascontiguousarray((self.components / self.deviation[:, None]).T)

    def project(self, latents: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """The components of latent vectors, float32 (n, k), in units of their deviation; NaN for one not finite.

        Raises
        ------
        ClassifierError
            The vectors have another length.
        """
        if latents.ndim != 2 or latents.shape[1] != len(self.mean):
            raise ClassifierError(
                f"the classifier works on latent vectors of {len(self.mean)} numbers, and these are of shape "
                f"{latents.shape}; use the run that it was fitted on"
            )
        found = np.empty((len(latents) if rows is None else len(rows), self.n_components), np.float32)

        def work(part: slice) -> None:
            block = _taken(latents, rows, part).astype(np.float32, copy=False)
            with np.errstate(invalid="ignore", over="ignore"):
                np.matmul(block - self.mean, self._projection, out=found[part])
            found[part][~np.isfinite(found[part]).all(axis=1)] = np.nan

        with _workers(len(found)) as each:
            list(each(work, _parts(len(found), CHUNK)))
        return found


def _taken(latents: np.ndarray, rows: np.ndarray | None, part: slice) -> np.ndarray:
    return np.asarray(latents[part] if rows is None else latents[rows[part]])


def _moments(latents: np.ndarray, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean, sum of squares and products about it (float64), and number of the finite vectors."""
    d, size = latents.shape[1], len(latents) if rows is None else len(rows)

    def finite(part: slice) -> np.ndarray:
        values = _taken(latents, rows, part).astype(np.float64)
        return values if np.isfinite(values.sum()) else values[np.isfinite(values).all(axis=1)]

    some = (finite(part) for part in _parts(size, BLOCK))
    origin = next((values.mean(axis=0) for values in some if len(values)), np.zeros(d))  # so that no digits are lost

    def work(part: slice) -> tuple[np.ndarray, np.ndarray, int]:
        total, scatter, n = np.zeros(d), np.zeros((d, d)), 0
        for block in _parts(part.stop - part.start, BLOCK):
            values = finite(slice(part.start + block.start, part.start + block.stop)) - origin
            total, scatter, n = total + values.sum(axis=0), scatter + values.T @ values, n + len(values)
        return total, scatter, n

    total, scatter, n = np.zeros(d), np.zeros((d, d)), 0
    with _workers(size) as each:
        for part in each(work, _parts(size, CHUNK)):
            total, scatter, n = total + part[0], scatter + part[1], n + part[2]
    return origin + total / max(n, 1), scatter - np.outer(total, total) / max(n, 1), n


@dataclass(frozen=True, eq=False)
class Space:
    """The components of every subject of a run, made once for any number of truths: those to fit on come first.

    Attributes
    ----------
    rows
        int64 (m,): of which latent vector each is; those that are not finite are left out.
    n_fit
        The first so many are those that the basis was fitted on, and a classifier may be.
    projected
        float32 (m, k).
    """

    basis: Basis
    rows: np.ndarray
    n_fit: int
    projected: np.ndarray

    @classmethod
    def of(cls, latents: np.ndarray, is_fit: np.ndarray, n_components: float = COMPONENTS) -> Self:
        """Fit components to the vectors where `is_fit`, bool (n,), and project all.

        Raises
        ------
        ClassifierError
            See `Basis.fit`.
        """
        fits, others = np.flatnonzero(is_fit), np.flatnonzero(~is_fit)
        basis = Basis.fit(latents, n_components, fits)
        rows = np.concatenate([fits, others])
        projected = basis.project(latents, rows)
        known = np.isfinite(projected[:, 0])
        if not known.all():
            rows, projected = rows[known], projected[known]
        return cls(basis, rows, int(known[: len(fits)].sum()), projected)


# -------------------------------------------------------------------------------------------------- logistic regression
def _derivatives(
    x: np.ndarray, positive: np.ndarray, total: np.ndarray, w: np.ndarray, curved: bool
) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss, gradient and, where `curved`, Hessian of one chunk without the penalty; the intercept stands last in `w`.

    A subject weighs `positive` as a positive one and ``total - positive`` as a negative one, so that

        loss = Σ total log(1 + exp z) − positive z,   z = w x + intercept.
    """
    k = x.shape[1]
    own, loss = w.astype(x.dtype), 0.0
    gradient, hessian = np.zeros(k + 1), np.zeros((k + 1, k + 1))
    for part in _parts(len(x), BLOCK):
        block, a, t = x[part], positive[part], total[part]
        z = block @ own[:k] + own[k]
        e = np.exp(-np.abs(z))
        p = np.where(z > 0, x.dtype.type(1), e) / (1 + e)
        loss += float(t @ (np.log(1 + e) + np.maximum(z, 0)) - a @ z)
        residual = t * p - a
        gradient[:k] += residual @ block
        gradient[k] += residual.sum(dtype=np.float64)
        if curved:
            curvature = t * p * (1 - p)
            hessian[:k, :k] += (block * curvature[:, None]).T @ block
            hessian[k, :k] += curvature @ block
            hessian[k, k] += curvature.sum(dtype=np.float64)
    return loss, gradient, hessian


def minimise(
    x: np.ndarray, positive: np.ndarray, total: np.ndarray, penalty: float = 1.0, start: np.ndarray | None = None
) -> np.ndarray:
    """The weights of logistic regression by Newton's method: float64 (k + 1,), the intercept last and not penalized.

    Among many subjects it begins at the optimum of every sixteenth. Near the optimum the Hessian is kept, for it hardly
    changes any more, and costs most.

    Parameters
    ----------
    x
        float32 (n, k), finite.
    positive, total
        float32 (n,): see `_derivatives`; a subject with `total` 0 has no say.
    penalty
        C of ``Σ loss + ½ |w|² / C``, as scikit-learn has it.
    start
        Where to begin, such as the weights of a neighboring truth.

    Raises
    ------
    ClassifierError
        No minimum was found.
    """
    k = x.shape[1]
    if x.size <= EXACT:  # where all are sure, the loss is so small that single precision never comes to rest
        x, positive, total = (np.asarray(a, np.float64) for a in (x, positive, total))
    ridge = np.append(np.full(k, 1 / penalty), 0.0)
    chunks = _parts(len(x), CHUNK)
    if start is None and len(x) >= MANY:
        start = _begun(x[::EVERY], positive[::EVERY], total[::EVERY], penalty)

    with _workers(len(x)) as each:

        def look(w: np.ndarray, curved: bool = True) -> tuple[float, np.ndarray, np.ndarray]:
            loss, gradient, hessian = float(ridge @ w**2) / 2, ridge * w, np.diag(ridge)
            for part in each(lambda c: _derivatives(x[c], positive[c], total[c], w, curved), chunks):
                loss, gradient, hessian = loss + part[0], gradient + part[1], hessian + part[2]
            hessian[:k, k] = hessian[k, :k]
            hessian[np.diag_indices(k + 1)] *= 1 + 1e-9  # where all are sure, nothing else holds the intercept
            return loss, gradient, hessian

        w = np.zeros(k + 1) if start is None else np.array(start, np.float64)
        loss, gradient, hessian = look(w)
        gained, curved, is_noise = np.inf, True, False
        factor: Any = None
        for _ in range(MAX_STEPS):
            try:
                factor = cho_factor(hessian, check_finite=False) if curved else factor
            except np.linalg.LinAlgError:
                break
            step = cho_solve(factor, gradient, check_finite=False)
            if not np.isfinite(step).all():
                break
            gain = float(gradient @ step)
            is_noise = 0 <= gain < NOISE * loss
            if gain < GAIN * loss:
                return np.asarray(w - step)
            if not curved and gain > 0.1 * gained:  # the Hessian is too old
                curved = True
                loss, gradient, hessian = look(w)
                continue
            gained, curved = gain, gain > 1e-3 * loss
            for _ in range(30):
                new = look(w - step, curved)
                if new[0] <= loss + 1e-6 * abs(loss):  # single precision is not exact
                    break
                step /= 2
            w, (loss, gradient, new_hessian) = w - step, new
            hessian = new_hessian if curved else hessian
    if is_noise:
        return w
    raise ClassifierError("logistic regression found no minimum; choose fewer components, or a smaller C")


def _begun(x: np.ndarray, positive: np.ndarray, total: np.ndarray, penalty: float) -> np.ndarray | None:
    """The optimum of a part of the subjects; None where it has too few of either kind to say anything."""
    n_positive, n_negative = np.count_nonzero(positive), np.count_nonzero(total - positive)
    if min(n_positive, n_negative) < ENOUGH:
        return None
    try:
        return minimise(np.ascontiguousarray(x), positive * np.float32(EVERY), total * np.float32(EVERY), penalty)
    except ClassifierError:
        return None


def _class_weights(p: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, float]:
    """What each subject weighs as a positive one and in all, both classes weighing the same; and the prior."""
    total = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    positive = p * total
    everything, positives = float(total.sum()), float(positive.sum())
    negatives = everything - positives
    if not everything or positives <= 0 or negatives <= 1e-12 * everything:
        one = "none" if positives <= 0 else "every one"
        n = int((total > 0).sum())
        raise ClassifierError(
            f"{one} of the {n:,} subjects to learn from is positive by this truth; a classifier needs both kinds: "
            f"{'lower' if positives <= 0 else 'raise'} its threshold, or choose another truth"
        )
    s1, s0 = everything / (2 * positives), everything / (2 * negatives)
    weight = s1 * positive
    return weight.astype(np.float32), (weight + s0 * (total - positive)).astype(np.float32), positives / everything


# ------------------------------------------------------------------------------------------------------ the classifier
@dataclass(frozen=True, eq=False)
class Kernel:
    """The features of a Gaussian kernel at landmarks: exp(−γ |x − landmark|²), whitened by the landmarks' own.

    Attributes
    ----------
    landmarks
        float32 (l, k), of projected subjects.
    whitening
        float32 (l, m).
    gamma
        One over the median squared distance of two landmarks.
    """

    landmarks: np.ndarray
    whitening: np.ndarray
    gamma: float

    @classmethod
    def fit(cls, projected: np.ndarray, seed: int, n: int = LANDMARKS) -> Self:
        """Landmarks drawn at random from projected subjects, float32 (n, k)."""
        rng = np.random.default_rng(seed)
        chosen = projected[np.sort(rng.choice(len(projected), min(n, len(projected)), replace=False))]
        chosen = np.unique(chosen, axis=0)
        distances = pdist(chosen, "sqeuclidean")
        gamma = 1 / max(float(np.median(distances)) if distances.size else 1.0, 1e-12)
        values, vectors = np.linalg.eigh(_gaussian(chosen, chosen, gamma).astype(np.float64))
        is_kept = values > 1e-6 * values[-1]
        whitening = vectors[:, is_kept] / np.sqrt(values[is_kept])
        return cls(chosen, whitening.astype(np.float32), gamma)

    def features(self, projected: np.ndarray) -> np.ndarray:
        """float32 (n, m)."""
        found: np.ndarray = _gaussian(projected, self.landmarks, self.gamma) @ self.whitening
        return found


def _gaussian(a: np.ndarray, b: np.ndarray, gamma: float) -> np.ndarray:
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)
    found: np.ndarray = np.exp(np.float32(-gamma) * np.maximum(squares, 0))
    return found


@dataclass(frozen=True, eq=False)
class Classifier:
    """A fitted classifier. Arrays are not to be written into.

    Attributes
    ----------
    weights
        float64 (k,), or (k + m,) with the kernel's features behind the components.
    intercept
        Both in the balanced scale.
    prior
        Share of positives, by weight, in what it was fitted on.
    n, n_positive
        Subjects that it was fitted on; of a soft truth `n_positive` is the sum of their probabilities.
    about
        What else is known of it, JSON: the run whose latent vectors it works on, the truth, the part it was fitted in.
    """

    kind: Kind
    basis: Basis
    weights: np.ndarray
    intercept: float
    prior: float
    n: int
    n_positive: float
    C: float = 1.0
    seed: int = 0
    kernel: Kernel | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def optimum(self) -> np.ndarray:
        """Weights and intercept as one: where a neighboring fit may start."""
        return np.append(self.weights, self.intercept)

    def features(self, projected: np.ndarray) -> np.ndarray:
        """What the weights are of: the components, and behind them the kernel's features."""
        return projected if self.kernel is None else np.hstack([projected, self.kernel.features(projected)])

    def logits(self, projected: np.ndarray) -> np.ndarray:
        """Log odds in the balanced scale, float32 (n,), of `Basis.project`'s or a `Space`'s components."""
        w = self.weights.astype(np.float32)
        if self.kernel is None:
            found: np.ndarray = projected @ w + np.float32(self.intercept)
            return found
        with _workers(len(projected)) as each:
            made = list(each(lambda part: self.features(projected[part]) @ w, _parts(len(projected), BLOCK)))
        return np.concatenate([*made, np.empty(0, np.float32)]) + np.float32(self.intercept)

    def balanced(self, latents: np.ndarray) -> np.ndarray:
        """Balanced scores, float32 (n,) in [0, 1], of latent vectors; NaN for one not finite. One half is the cut."""
        return self.balanced_of(self.basis.project(latents))

    def balanced_of(self, projected: np.ndarray) -> np.ndarray:
        """Balanced scores of what is projected already."""
        found: np.ndarray = expit(self.logits(projected))
        return found

    def probability(self, latents: np.ndarray, prior: float | None = None) -> np.ndarray:
        """Prior-corrected probabilities, float32 (n,): positives are as rare as they were, or as `prior`."""
        return corrected(self.logits(self.basis.project(latents)), self.prior if prior is None else prior)

    # ------------------------------------------------------------------------------------------------------- as JSON
    def to_json(self) -> dict[str, Any]:
        """As JSON; float32 and float64 arrays as base64 of their bytes, the least significant first."""
        basis = {name: _encoded(getattr(self.basis, name)) for name in ("mean", "components", "deviation", "explained")}
        told: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "kind": self.kind, "basis": basis}
        told["basis"]["n"] = self.basis.n
        told |= {name: getattr(self, name) for name in ("intercept", "prior", "n", "n_positive", "C", "seed")}
        told |= {"weights": _encoded(self.weights), "about": dict(self.about)}
        if self.kernel is not None:
            arrays = {name: _encoded(getattr(self.kernel, name)) for name in ("landmarks", "whitening")}
            told["kernel"] = {**arrays, "gamma": self.kernel.gamma}
        return told

    def to_bytes(self) -> bytes:
        """`to_json` in canonical form: what is stored, and hashed."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @cached_property
    def sha256(self) -> str:
        """Hex sha256 of `to_bytes`: its name."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_json(cls, told: object) -> Self:
        """What `to_json` made.

        Raises
        ------
        ClassifierError
            It is something else; the sentence names the entry.
        """
        if not isinstance(told, Mapping):
            raise ClassifierError("a classifier is a JSON object; found something else")
        version = told.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ClassifierError(
                f"the classifier has schema version {version}; this Voorwerp reads version {SCHEMA_VERSION}"
            )
        kind: Any = told.get("kind")
        basis, kernel = told.get("basis"), told.get("kernel")
        if kind not in get_args(Kind):
            raise ClassifierError(f"the classifier's kind is {kind!r}; there are {', '.join(get_args(Kind))}")
        if not isinstance(basis, Mapping) or not isinstance(about := told.get("about"), Mapping):
            raise ClassifierError("the classifier's basis or about is missing")
        if (kind == "nonlinear") != isinstance(kernel, Mapping):
            raise ClassifierError(
                f"the classifier's kernel is {'missing' if kernel is None else 'not what it must be'}"
            )
        mean = _decoded(basis, "mean", np.float32, 1)
        components = _decoded(basis, "components", np.float32, 2)
        deviation, explained = _decoded(basis, "deviation", np.float32, 1), _decoded(basis, "explained", np.float64, 1)
        k, d = components.shape
        made = None
        m = 0
        if isinstance(kernel, Mapping):
            landmarks, whitening = (_decoded(kernel, name, np.float32, 2) for name in ("landmarks", "whitening"))
            made, m = Kernel(landmarks, whitening, _number(kernel, "gamma", 0)), whitening.shape[1]
            if landmarks.shape != (len(whitening), k):
                raise ClassifierError("the classifier's landmarks and its components or its whitening do not fit")
        weights = _decoded(told, "weights", np.float64, 1)
        if not 0 < d <= MAX_LATENT or mean.shape != (d,) or deviation.shape != (k,) or explained.shape != (k,):
            raise ClassifierError("the classifier's mean, components, deviation and explained do not fit together")
        if not (deviation > 0).all() or weights.shape != (k + m,):
            raise ClassifierError("the classifier's weights or deviation do not fit its components")
        prior = _number(told, "prior", 0, 1)
        if not 0 < prior < 1:
            raise ClassifierError(f"the classifier's prior is a number between 0 and 1; found {prior:g}")
        return cls(
            kind=kind,
            basis=Basis(mean, components, deviation, explained, _count(basis, "n")),
            weights=weights,
            intercept=_number(told, "intercept"),
            prior=prior,
            n=_count(told, "n"),
            n_positive=_number(told, "n_positive", 0),
            C=_number(told, "C", 0),
            seed=_count(told, "seed"),
            kernel=made,
            about=dict(about),
        )

    @classmethod
    def from_bytes(cls, content: bytes, sha256: str = "") -> Self:
        """What `to_bytes` made; checked against a hash where one is given.

        Raises
        ------
        ClassifierError
            It is not JSON, not a classifier, or not the one of this hash.
        """
        try:
            made = cls.from_json(json.loads(content))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ClassifierError(f"the classifier is not readable JSON ({error})") from None
        if sha256 and made.sha256 != sha256:
            raise ClassifierError(
                f"the classifier's content is not what its name says ({sha256[:12]}…): it was changed"
            )
        return made


def _encoded(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    text = base64.b64encode(plain.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "base64": text}


def _decoded(told: Mapping[str, Any], name: str, dtype: Any, ndim: int) -> np.ndarray:
    entry = told.get(name)
    shape = entry.get("shape") if isinstance(entry, Mapping) else None
    if (
        not isinstance(entry, Mapping)
        or entry.get("dtype") != np.dtype(dtype).name
        or not isinstance(shape, list)
        or len(shape) != ndim
        or not all(type(n) is int and 0 < n <= MAX_NUMBERS for n in shape)
        or not isinstance(text := entry.get("base64"), str)
    ):
        raise ClassifierError(f"the classifier's {name} is missing, or no {np.dtype(dtype).name} array as it must be")
    try:
        content = base64.b64decode(text, validate=True)
        array = np.frombuffer(content, np.dtype(dtype).newbyteorder("<")).reshape(shape).astype(dtype)
    except (binascii.Error, ValueError):
        raise ClassifierError(f"the classifier's {name} does not hold the {shape} numbers that it says") from None
    if not np.isfinite(array).all():
        raise ClassifierError(f"the classifier's {name} has a number that is not finite")
    return array


def _number(told: Mapping[str, Any], name: str, low: float = -np.inf, high: float = np.inf) -> float:
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ClassifierError(f"the classifier's {name} is a finite number; found {str(value)[:40]!r}")
    if not low <= value <= high:
        raise ClassifierError(f"the classifier's {name} is from {low:g} to {high:g}; found {value:g}")
    return value


def _count(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    if type(value) is not int or value < 0:
        raise ClassifierError(f"the classifier's {name} is a whole number from 0; found {str(value)[:40]!r}")
    return value


# ------------------------------------------------------------------------------------------------------------ fitting
def fit(
    basis: Basis,
    projected: np.ndarray,
    positive: np.ndarray,
    weights: np.ndarray | None = None,
    kind: Kind = "linear",
    C: float = 1.0,
    seed: int = 0,
    start: np.ndarray | None = None,
    about: Mapping[str, Any] | None = None,
) -> Classifier:
    """Fit a classifier to projected subjects.

    Parameters
    ----------
    basis
        By which they were projected.
    projected
        float32 (n, k), finite.
    positive
        (n,): bool, or of a soft truth the probability of each to be positive, which then counts as both in this share.
    weights
        float (n,), not negative: 0 leaves a subject out, such as one whose truth is unknown. None: all weigh the same.
    start
        `Classifier.optimum` of one of the same kind and seed on the same subjects; only how soon it is found differs.
    about
        Kept with the classifier: see there.

    Raises
    ------
    ClassifierError
        There are not two kinds of subjects, or `C` is not positive.
    """
    if kind not in get_args(Kind):
        raise ClassifierError(f"{kind!r} is no kind of classifier; there are {', '.join(get_args(Kind))}")
    if not (np.isfinite(C) and C > 0):
        raise ClassifierError(f"C is a positive number: how little large weights are held back; found {C:g}")
    p = np.asarray(positive, np.float64)
    mass, total, prior = _class_weights(p, weights)
    n, n_positive = int(np.count_nonzero(total)), float(p[total > 0].sum())
    kernel = None
    x = projected
    if kind == "nonlinear":
        known = np.flatnonzero(total)
        kernel = Kernel.fit(projected[known] if len(known) < len(total) else projected, seed)
        part = _sample(known, p > 0, np.random.default_rng([seed, 1]))
        factor = part.factor.astype(np.float32)
        x, mass, total = projected[part.rows], mass[part.rows] * factor, total[part.rows] * factor
        x = np.hstack([x, np.vstack([kernel.features(x[c]) for c in _parts(len(x), CHUNK)])])
    if start is not None and start.shape != (x.shape[1] + 1,):
        start = None
    w = minimise(x, mass, total, C, start)
    return Classifier(
        kind=kind,
        basis=basis,
        weights=w[:-1],
        intercept=float(w[-1]),
        prior=prior,
        n=n,
        n_positive=int(n_positive) if n_positive == int(n_positive) else n_positive,
        C=float(C),
        seed=seed,
        kernel=kernel,
        about=dict(about or {}),
    )


@dataclass(frozen=True)
class _Sample:
    rows: np.ndarray
    factor: np.ndarray


def _sample(known: np.ndarray, is_some: np.ndarray, rng: np.random.Generator, n: int = FIT_ON) -> _Sample:
    """At most `n` of the known rows: half of it from those that are positive at all; each stands for 1 / its chance."""
    if len(known) <= n:
        return _Sample(known, np.ones(len(known)))
    rows, factors = [], []
    groups = sorted((known[is_some[known]], known[~is_some[known]]), key=len)
    room = n
    for group, share in zip(groups, (n // 2, n), strict=True):
        take = min(len(group), share, room)
        rows.append(rng.choice(group, take, replace=False) if take < len(group) else group)
        factors.append(np.full(take, len(group) / max(take, 1)))
        room -= take
    order = np.argsort(taken := np.concatenate(rows), kind="stable")
    return _Sample(taken[order], np.concatenate(factors)[order])


def corrected(logits: np.ndarray, prior: float) -> np.ndarray:
    """Probabilities from balanced log odds, where a share `prior` is positive: the odds, times prior / (1 − prior)."""
    found: np.ndarray = expit(logits + logits.dtype.type(np.log(prior / (1 - prior))))
    return found


# ------------------------------------------------------------------------------------------------------------- judging
def folds(positive: np.ndarray, groups: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Folds that keep groups whole and spread those with a positive member evenly: int64 (n,), 0 … n_folds − 1."""
    _, group = np.unique(groups, return_inverse=True)
    has = np.bincount(group, np.asarray(positive, np.float64)) > 0
    found = np.empty(len(has), np.int64)
    for part in (np.flatnonzero(has), np.flatnonzero(~has)):
        found[rng.permutation(part)] = np.arange(len(part)) % n_folds
    return found[group]


def out_of_fold(
    classifier: Classifier,
    projected: np.ndarray,
    positive: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
    n_folds: int = FOLDS,
    repeats: int = REPEATS,
) -> np.ndarray:
    """Balanced log odds of subjects by classifiers that saw neither them nor their group: float32 (repeats, n).

    Repeated stratified k-fold. Components and landmarks are those of all of them, for they see no truth. There are
    fewer folds where fewer groups have a positive member. NaN for a subject whose weight is 0.

    Parameters
    ----------
    classifier
        What was fitted to the same subjects: its kind, C and seed are used, and its weights to start from.
    groups
        int (n,): duplicate groups; what is in one is in one fold.

    Raises
    ------
    ClassifierError
        Fewer than two groups have a positive member, or fewer than two have none.
    """
    known = np.flatnonzero(weights) if weights is not None else np.arange(len(projected))
    p, groups = np.asarray(positive, np.float64)[known], np.asarray(groups)[known]
    w = None if weights is None else np.asarray(weights)[known]
    is_some = p > 0
    with_some = np.unique(groups[is_some])
    n_some, n_none = len(with_some), len(np.unique(groups)) - len(with_some)
    least = min(n_some, n_none) if not (p < 1)[is_some].any() else n_some
    if least < 2:
        raise ClassifierError(
            f"{n_some:,} groups of subjects have a positive member and {n_none:,} have none; judging out of fold needs "
            "two of each"
        )
    x = projected[known] if len(known) < len(projected) else projected
    found = np.full((repeats, len(projected)), np.nan, np.float32)
    for repeat in range(repeats):
        rng = np.random.default_rng([classifier.seed, 2, repeat])
        fold = folds(is_some, groups, min(n_folds, least), rng)
        for i in range(int(fold.max()) + 1):
            scored = fold == i
            seen = (~scored).astype(np.float64) if w is None else np.where(scored, 0, w)
            made = _refit(classifier, x, p, seen)
            found[repeat, known[scored]] = made.logits(x[scored])
    return found


def _refit(like: Classifier, x: np.ndarray, p: np.ndarray, weights: np.ndarray) -> Classifier:
    """One of the same kind on other weights, from where that one stands."""
    if like.kernel is None:
        return fit(like.basis, x, p, weights, like.kind, like.C, like.seed, like.optimum)
    mass, total, prior = _class_weights(p, weights)
    part = _sample(np.flatnonzero(total), p > 0, np.random.default_rng([like.seed, 1]))
    factor = part.factor.astype(np.float32)
    features = np.vstack([like.features(x[part.rows[c]]) for c in _parts(len(part.rows), CHUNK)])
    w = minimise(features, mass[part.rows] * factor, total[part.rows] * factor, like.C, like.optimum)
    return Classifier(
        like.kind, like.basis, w[:-1], float(w[-1]), prior, len(part.rows), 0, like.C, like.seed, like.kernel
    )


def reliability(p: np.ndarray, positive: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """How often what is called p is positive: subjects in bins of as equal numbers as ties allow, the least p first.

    Parameters
    ----------
    p
        float (n,), probabilities; NaN is left out.
    positive
        (n,): bool, or the probability of each to be positive.

    Returns
    -------
    list of dict
        ``from`` and ``to`` (the least and largest p), ``p`` (their mean), ``k`` of ``n``, ``value`` = k / n, and
        Wilson's 95 % interval ``low``, ``high``.
    """
    known = np.isfinite(p)
    p, positive = np.asarray(p, np.float64)[known], np.asarray(positive, np.float64)[known]
    if not len(p):
        return []
    order = np.argsort(p, kind="stable")
    p, positive = p[order], positive[order]
    edges = np.searchsorted(p, p[(np.arange(1, bins) * len(p)) // bins])
    starts = np.unique([0, *edges])
    ends = np.append(starts[1:], len(p))
    found = []
    for start, end in zip(starts, ends, strict=True):
        n, k = int(end - start), float(positive[start:end].sum())
        low, high = wilson(k, n)
        ends_at = {"from": float(p[start]), "to": float(p[end - 1]), "p": float(p[start:end].mean())}
        found.append({**ends_at, "k": k, "n": n, "value": k / n, "low": float(low), "high": float(high)})
    return found
