"""The learned classifiers of a survey: fitted on the tune half, judged out of fold, kept by the hash of their content.

::

    SURVEY/classifiers/<sha256>.json    a `models.classifier.Classifier`; never changed, never removed

Callable from a script; thread-safe. A fit while Σ moves is kept in memory alone until something is to refer to it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from explorer.caches import Cache
from explorer.errors import UsageError, VoorwerpError
from explorer.ledger import CLASSIFIERS
from explorer.services.boundaries import Context, SurveySource
from explorer.services.explore import Explore
from explorer.state import Draft
from models.artifacts import LATENTS, Run, write_bytes
from models.boundary import And, Learned, Term, evaluate, from_json, in_words, to_json
from models.classifier import (
    COMPONENTS,
    FOLDS,
    REPEATS,
    Classifier,
    ClassifierError,
    Kind,
    Space,
    corrected,
    fit,
    out_of_fold,
    reliability,
)
from models.rates import Counts, rates
from models.truth import Truth

if TYPE_CHECKING:
    from explorer.services.truths import Known, Truths

#: Classifiers that are in memory at least: as many as a person may go back through.
IN_MEMORY = 256
#: Positives from which one round of folds says enough (science rule 3 asks for repeats below 100).
ENOUGH = 1_000

KIND_WORDS: dict[str, str] = {
    "linear": "logistic regression, both classes weighing the same, on principal components of unit variance",
    "nonlinear": "logistic regression, both classes weighing the same, on principal components of unit variance and on "
    "the features of a Gaussian kernel at landmarks",
}


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A part of a run's subjects that classifiers are fitted in, and the run's components by it.

    Attributes
    ----------
    rows
        int64 (m,): survey rows of `space`'s subjects.
    """

    space: Space
    rows: np.ndarray

    @property
    def fits(self) -> np.ndarray:
        """Survey rows of those to fit on."""
        return self.rows[: self.space.n_fit]


class Learning:
    """The classifiers of one survey. One per server."""

    def __init__(self, explore: Explore, truths: Truths) -> None:
        self.explore, self.survey, self.truths = explore, explore.survey, truths
        self.folder = self.survey.path / CLASSIFIERS
        self._known: OrderedDict[str, Classifier] = OrderedDict()
        self._masks: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._parts, self._projected, self._logits, self._scores = Cache(2), Cache(2), Cache(16), Cache(16)
        self._judged, self._regions, self._groups = Cache(32), Cache(16), Cache(1)
        self._starts: OrderedDict[Any, np.ndarray] = OrderedDict()

    # ------------------------------------------------------------------------------------------------------- fitting
    def fit(
        self,
        run_id: str,
        truth: Truth,
        context: Context,
        kind: Kind = "linear",
        components: float = COMPONENTS,
        within: Term | None = None,
        *,
        C: float = 1.0,
        seed: int = 0,
        is_moving: bool = False,
        mask: np.ndarray | None = None,
    ) -> str:
        """Fit a classifier to the tune half of a run's latent vectors; its sha256.

        The same truth on the same part gives the same classifier. Components are kept while the truth alone changes.
        Under a truth that knows positives only, whoever is not listed counts as negative.

        Parameters
        ----------
        components
            How many principal components, or, below 1, the share of the variance that they hold.
        within
            Fit only among the subjects of the tune half that this keeps.
        is_moving
            Σ is being moved: start from the last one, so that it is found sooner, and do not store it yet. It may
            differ from the settled one by what is lost in single precision.
        mask
            bool (N,): fit on these in place of the tune half. It is not stored with the classifier, which is then
            judged out of fold in this process alone.

        Raises
        ------
        UsageError
            There is nothing to learn from: no latent vectors, no such subjects, subjects of one kind only.
        """
        known = self.truths.of(truth, context)
        context = replace(context, run_id=run_id)
        try:
            key, part = self._part(run_id, components, self._wanted(context, within, mask))
            p, weights = taught(known, part.fits)
            about = self._about(run_id, truth, known, context, components, within, mask is not None)
            start_key = (key, kind, C, seed)
            start = self._starts.get(start_key) if is_moving else None
            made = fit(
                part.space.basis, part.space.projected[: part.space.n_fit], p, weights, kind, C, seed, start, about
            )
        except ClassifierError as error:
            raise UsageError(str(error)) from None
        with self._lock:
            self._starts[start_key] = made.optimum
            while len(self._starts) > 8:
                self._starts.popitem(last=False)
            if mask is not None:
                self._masks[made.sha256] = mask
                while len(self._masks) > 8:
                    self._masks.popitem(last=False)
        self._remember(made)
        # those who ask for its scores next need not project anew
        self._projected.get((made.basis.sha256, run_id), lambda: (part.rows, part.space.projected))
        if not is_moving:
            self.get(made.sha256)
        return made.sha256

    def refit(self, sha256: str, truth: Truth, context: Context, *, is_moving: bool = False) -> str:
        """Fit one as another was fitted, to another truth: the same kind, components and part; its sha256.

        Raises
        ------
        UsageError
            See `fit`.
        """
        like = self._find(sha256)
        components = like.about.get("components", like.basis.n_components)
        within = from_json(like.about["within"]) if "within" in like.about else None
        told = (context.run_id, truth, context, like.kind, components, within)
        return self.fit(*told, C=like.C, seed=like.seed, is_moving=is_moving, mask=self._masks.get(sha256))

    def part(
        self,
        context: Context,
        components: float = COMPONENTS,
        within: Term | None = None,
        mask: np.ndarray | None = None,
    ) -> Part:
        """The subjects that `fit` would fit on, and the components of all; for who fits many truths at once.

        Raises
        ------
        UsageError
            There is nothing to learn from.
        """
        try:
            return self._part(context.run_id, components, self._wanted(context, within, mask))[1]
        except ClassifierError as error:
            raise UsageError(str(error)) from None

    def _wanted(self, context: Context, within: Term | None, mask: np.ndarray | None) -> np.ndarray:
        """Whom to fit on, bool (N,)."""
        _, rows = self._latents(context.run_id)
        wanted = self.truths.half("tune") if mask is None else np.asarray(mask, np.bool_)
        if not wanted[rows].any():
            raise UsageError(
                f"none of the {len(rows):,} subjects that {context.run_id} has latent vectors of is in the tune half; "
                "nothing can be learned"
            )
        if within is not None:
            wanted = wanted & evaluate(within, SurveySource(self.explore, context, self, self._regions)).yes
            if (n := int(wanted[rows].sum())) < 2:
                raise UsageError(
                    f"of the tune half {n:,} subjects with a latent vector are kept; widen what is fitted within"
                )
        return wanted

    def _part(self, run_id: str, components: float, wanted: np.ndarray) -> tuple[Any, Part]:
        """The part of a run that is wanted, made once however Σ moves; and its key."""
        key = run_id, components, hashlib.sha256(np.packbits(wanted).tobytes()).digest()

        def make() -> Part:
            latents, rows = self._latents(run_id)
            space = Space.of(latents, wanted[rows], components)
            return Part(space, np.asarray(rows[space.rows]))

        return key, self._parts.get(key, make)

    def _latents(self, run_id: str) -> tuple[np.ndarray, np.ndarray]:
        if not run_id:
            raise UsageError("there is no run: choose one whose latent vectors a classifier is to learn from")
        if not (self.survey.run_folder(run_id) / LATENTS).exists():
            raise UsageError(f"{run_id} has no latent vectors, only scores; choose a run of a network")
        return self.survey.latents(run_id)

    def _about(
        self,
        run_id: str,
        truth: Truth,
        known: Known,
        context: Context,
        components: float,
        within: Term | None,
        is_masked: bool,
    ) -> dict[str, Any]:
        half = "masked" if is_masked else "tune" if self.truths.has_halves else "all"
        titles = self.explore.colors(run_id, context.map_id) if within is not None else {}
        about = {
            "survey_id": self.survey.info.survey_id,
            "survey": self.survey.info.name,
            "run": self.network(run_id),
            "context": context.to_json(),
            "truth": truth.to_json(),
            "truth_title": known.title,
            "truth_kind": known.kind,
            "half": half,
            "components": components,
        }
        if within is not None:
            about |= {"within": to_json(within), "within_words": in_words(within, titles)}
        return about

    def network(self, run_id: str) -> dict[str, Any]:
        """By whose latent vectors a classifier works: run_id, kind, checkpoint_sha256 and preprocessing.

        The checkpoint is that of the training which the run was scored with; None for vectors of other making, which
        are then known by the run alone. What is applied elsewhere needs an equal checkpoint and preprocessing.
        """
        run = self.explore.runs().get(run_id)
        if run is None:
            raise UsageError(f'there is no finished run "{run_id}" in this survey')
        trained: Run = run
        if not run.checkpoint_sha256 and "train" in run.inputs:
            found = {one.run_id: one for one in self.survey.runs("train")}
            trained = found.get(run.inputs["train"], run)
        checkpoint = trained.checkpoint_sha256
        return {
            "run_id": run_id,
            "kind": run.kind,
            "checkpoint_sha256": checkpoint,
            "preprocessing": dict(run.preprocessing or trained.preprocessing),
        }

    # ------------------------------------------------------------------------------------------------------- keeping
    def _remember(self, classifier: Classifier) -> None:
        with self._lock:
            self._known[classifier.sha256] = classifier
            self._known.move_to_end(classifier.sha256)
            while len(self._known) > IN_MEMORY:
                self._known.popitem(last=False)

    def get(self, sha256: str) -> Classifier:
        """A classifier, which is on the disk from now on: whoever refers to one asks for it here first.

        Raises
        ------
        UsageError
            There is none of this name, or its file is damaged.
        """
        made = self._find(sha256)
        path = self.folder / f"{sha256}.json"
        if not path.exists():
            write_bytes(path, made.to_bytes())
        return made

    def look(self, sha256: str) -> Classifier:
        """A classifier, to look at: while Σ is moved, none is written to the disk for it. Raises as `get`."""
        return self._find(sha256)

    def add(self, told: object) -> str:
        """Store a classifier that a boundary's file brought along, as JSON; its sha256.

        Raises
        ------
        UsageError
            It is none.
        """
        try:
            made = Classifier.from_json(told)
        except ClassifierError as error:
            raise UsageError(str(error)) from None
        self._remember(made)
        return self.get(made.sha256).sha256

    def _find(self, sha256: str) -> Classifier:
        with self._lock:
            if sha256 in self._known:
                self._known.move_to_end(sha256)
                return self._known[sha256]
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise UsageError(f"a classifier is named by its sha256, not by {sha256[:70]!r}")
        path = self.folder / f"{sha256}.json"
        try:
            made = Classifier.from_bytes(path.read_bytes(), sha256)
        except FileNotFoundError:
            raise UsageError(
                f"the classifier {sha256[:12]}… is not in {self.folder}; fit it again, or put back a copy"
            ) from None
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror})") from None
        except ClassifierError as error:
            raise UsageError(f"{path} cannot be used: {error}") from None
        self._remember(made)
        return made

    def target(self, sha256: str) -> Truth | None:
        """The truth that a classifier was taught; None where it does not say."""
        told = self._find(sha256).about.get("truth")
        try:
            return Truth.from_json(told)
        except ValueError:
            return None

    # ------------------------------------------------------------------------------------------------------- scoring
    def balanced(self, sha256: str, context: Context) -> np.ndarray:
        """Balanced scores, float32 (N,) in row order, NaN without a latent vector; one half is the paper's cut.

        By the context's run where that is of the same network, else by the classifier's own.

        Raises
        ------
        UsageError
            No such classifier, or no run here has latent vectors of its network.
        """
        key = (sha256, self._run_for(self._find(sha256), context), "balanced")
        found: np.ndarray = self._scores.get(key, lambda: expit(self._logits_of(sha256, context)))
        return found

    def probability(self, sha256: str, context: Context) -> np.ndarray:
        """Prior-corrected probabilities (science rule 19), otherwise as `balanced`."""
        made = self._find(sha256)
        key = (sha256, self._run_for(made, context), "probability")
        found: np.ndarray = self._scores.get(key, lambda: corrected(self._logits_of(sha256, context), made.prior))
        return found

    def _logits_of(self, sha256: str, context: Context) -> np.ndarray:
        made = self._find(sha256)
        run_id = self._run_for(made, context)

        def project() -> tuple[np.ndarray, np.ndarray]:
            latents, rows = self._latents(run_id)
            return rows, made.basis.project(latents)

        def make() -> np.ndarray:
            try:
                rows, projected = self._projected.get((made.basis.sha256, run_id), project)
            except ClassifierError as error:
                raise UsageError(str(error)) from None
            found = np.full(self.survey.n, np.nan, np.float32)
            found[rows] = made.logits(projected)
            return found

        logits: np.ndarray = self._logits.get((sha256, run_id), make)
        return logits

    def _run_for(self, classifier: Classifier, context: Context) -> str:
        theirs = classifier.about.get("run")
        theirs = theirs if isinstance(theirs, Mapping) else {}
        is_ours = classifier.about.get("survey_id") == self.survey.info.survey_id
        own, runs = str(theirs.get("run_id", "")), self.explore.runs()
        checkpoint, told = theirs.get("checkpoint_sha256"), theirs.get("preprocessing")
        first: tuple[str, ...] = (context.run_id, own) if is_ours else (context.run_id,)
        for run_id in dict.fromkeys((*first, *runs)):
            if run_id not in runs or not (self.survey.run_folder(run_id) / LATENTS).exists():
                continue
            if is_ours and run_id == own:
                return run_id
            ours = self.network(run_id)
            if checkpoint and (ours["checkpoint_sha256"], ours["preprocessing"]) == (checkpoint, told):
                return run_id
        raise UsageError(
            f"the classifier works on the latent vectors of {own or 'an unknown run'} (checkpoint "
            f"{str(checkpoint)[:12]}), and no run of this survey is of that network with images prepared alike; score "
            "the survey with that network first"
        )

    def problem(self, sha256: str, context: Context) -> str:
        """Why a classifier cannot be used here, in one sentence; "" where it can."""
        try:
            self._run_for(self._find(sha256), context)
        except VoorwerpError as error:
            return str(error)
        return ""

    # ------------------------------------------------------------------------------------------------------- judging
    def out_of_fold(self, sha256: str, context: Context) -> np.ndarray:
        """Balanced scores of the subjects that a classifier was fitted on, by others that saw neither them nor theirs.

        Repeated stratified folds by duplicate group; components are those of all of them, for they see no truth.

        Returns
        -------
        float32 (repeats, N), NaN for everybody else.

        Raises
        ------
        UsageError
            Too few groups of subjects, or what it was fitted on is not here.
        """
        return expit(self._out_of_fold(sha256, context)[0])

    def _out_of_fold(self, sha256: str, context: Context) -> tuple[np.ndarray, Known, np.ndarray]:
        """Log odds out of fold (repeats, N), the truth, and the survey rows that it was fitted on."""
        made = self._find(sha256)
        about = made.about
        truth, told = self.target(sha256), about.get("context")
        if truth is None or about.get("survey_id") != self.survey.info.survey_id or not isinstance(told, Mapping):
            raise UsageError("the classifier was fitted in another survey; out of fold it can be judged only there")
        mask = self._masks.get(sha256)
        if about.get("half") == "masked" and mask is None:
            raise UsageError("the classifier was fitted on subjects that were not recorded; fit it again to judge it")
        own = replace(Context.from_json(told), run_id=str(about["run"]["run_id"]))

        known = self.truths.of(truth, own)

        def make() -> tuple[np.ndarray, Known, np.ndarray]:
            within = from_json(about["within"]) if "within" in about else None
            components = about["components"]
            _, part = self._part(own.run_id, components, self._wanted(own, within, mask))
            p, weights = taught(known, part.fits)
            projected = part.space.projected[: part.space.n_fit]
            repeats = REPEATS if made.n_positive < ENOUGH else 1
            groups = self.groups()[part.fits]
            logits = np.full((repeats, self.survey.n), np.nan, np.float32)
            logits[:, part.fits] = out_of_fold(made, projected, p, groups, weights, FOLDS, repeats)
            return logits, known, part.fits

        key = sha256, self.survey.generation, id(known)  # which is another where a tag was added; the value holds it
        try:
            found: tuple[np.ndarray, Known, np.ndarray] = self._judged.get(key, make)
        except ClassifierError as error:
            raise UsageError(str(error)) from None
        return found

    def groups(self) -> np.ndarray:
        """Duplicate groups, int (N,); a subject without one is its own."""

        def make() -> np.ndarray:
            given = self.survey.arrow("duplicate_group")
            is_given, n = given.is_valid().to_numpy(zero_copy_only=False), self.survey.n
            _, codes = np.unique(given.fill_null(0).to_numpy(), return_inverse=True)
            return np.where(is_given, codes, n + np.arange(n))

        found: np.ndarray = self._groups.get(self.survey.generation, make)
        return found

    def what(self, sha256: str, context: Context | None = None, judge: bool = True) -> dict[str, Any]:
        """What a screen and a report say of a classifier, ready for JSON. Slow the first time with `judge`.

        Returns
        -------
        dict
            sha256, kind, kind_words, components, explained (their share of the variance), n, n_positive, prior, run_id,
            checkpoint_sha256, truth (JSON), truth_title, within (words or ""), half, sentence; and with `judge`
            ``out_of_fold`` ({precision, recall, f1, kept, base}: rates at balanced score ½), ``reliability`` (see
            `models.classifier.reliability`, of prior-corrected probabilities), n_repeats, n_folds, and ``trouble``: why
            these are not there, or "".
        """
        made = self._find(sha256)
        about, run = made.about, made.about.get("run") or {}
        explained = float(made.basis.explained.sum())
        told: dict[str, Any] = {
            "sha256": sha256,
            "kind": made.kind,
            "kind_words": KIND_WORDS[made.kind],
            "components": made.basis.n_components,
            "explained": explained,
            "n": made.n,
            "n_positive": made.n_positive,
            "prior": made.prior,
            "run_id": run.get("run_id", ""),
            "checkpoint_sha256": run.get("checkpoint_sha256"),
            "truth": about.get("truth"),
            "truth_title": about.get("truth_title", ""),
            "within": about.get("within_words", ""),
            "half": about.get("half", ""),
        }
        told["sentence"] = _sentence(told)
        if not judge:
            return told
        told |= {"out_of_fold": None, "reliability": [], "n_repeats": 0, "n_folds": FOLDS, "trouble": ""}
        try:
            logits, known, rows = self._out_of_fold(sha256, context or Context())
        except VoorwerpError as error:
            return told | {"trouble": str(error)}
        told |= _judged(logits[:, rows], known, rows, made.prior)
        n_known = int(np.isfinite(logits[0, rows]).sum())
        if n_known != made.n:
            told["trouble"] = f"fitted on {made.n:,} subjects, and now the truth of {n_known:,} is known; fit it again"
        return told


def taught(known: Known, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a truth says of `rows`: how much positive each is, float (m,), and what it weighs: 0 where unknown."""
    if known.p is None:
        return known.positive[rows].astype(np.float64), known.known[rows].astype(np.float64)
    p = known.p[rows]
    is_known = known.known[rows] & np.isfinite(p)
    return np.where(is_known, p, 0.0), is_known.astype(np.float64)


def _judged(logits: np.ndarray, known: Known, rows: np.ndarray, prior: float) -> dict[str, Any]:
    """Rates at balanced score ½ on average over the repeats, and reliability of probabilities averaged over them."""
    is_known, positive = known.known[rows] & np.isfinite(logits[0]), known.positive[rows]
    n_known, n_positive = int(is_known.sum()), int((positive & is_known).sum())
    kept = (logits >= 0) & is_known
    tp, n_kept = float((kept & positive).sum() / len(logits)), float(kept.sum() / len(logits))
    counts: Any = (tp, n_kept - tp, n_positive - tp, n_known - n_positive - n_kept + tp)
    kind: Any = known.kind
    found = rates(Counts(*counts), kind)
    p = np.asarray(positive, np.float64) if known.p is None else known.p[rows]
    called = corrected(logits, prior).mean(axis=0)[is_known]
    return {
        "out_of_fold": {name: rate.to_json() for name, rate in found.items()},
        "reliability": reliability(called, p[is_known]),
        "n_repeats": len(logits),
    }


def _sentence(told: Mapping[str, Any]) -> str:
    """What a classifier is, in one sentence."""
    where = {"tune": "the tune half", "masked": "chosen subjects"}.get(told["half"], "all subjects")
    within = f" within what is kept by: {told['within']}" if told["within"] else ""
    truth = f" for {told['truth_title']}" if told["truth_title"] else ""
    words, positive = told["kind_words"], f"{told['n_positive']:,.0f} of them positive{truth}"
    return (
        f"{words[0].upper()}{words[1:]}: {told['components']} hold {told['explained']:.0%} of the variance; fitted on "
        f"{told['n']:,} subjects of {where}{within}, {positive}; latent vectors of {told['run_id'] or 'an unknown run'}"
    )


# ------------------------------------------------------------------------------------------------ iterated anomalies
def refit_within(
    learning: Learning,
    draft: Draft,
    context: Context,
    kind: Kind = "linear",
    components: float = COMPONENTS,
    *,
    C: float = 1.0,
    seed: int = 0,
) -> Draft:
    """A draft that keeps, of what it keeps, what a classifier fitted within that keeps: an open question of the paper.

    Components, too, are those of the kept ones. Called again, it goes one round further.

    Raises
    ------
    UsageError
        There is no truth, or nothing to learn within what is kept.
    """
    if draft.truth is None:
        raise UsageError("choose a truth first: a classifier is fitted to one")
    sha = learning.fit(context.run_id, draft.truth, context, kind, components, draft.keep, C=C, seed=seed)
    terms = draft.keep.terms if isinstance(draft.keep, And) else (draft.keep,)
    return replace(draft, keep=And((*terms, Learned(sha))))
