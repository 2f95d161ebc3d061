"""A report: one self-contained page on a survey and a boundary, with the figures and the numbers behind them.

``OUT/``
    report.html     everything, the figures within it; no script, nothing from elsewhere
    figures/        each figure as PNG (300 dpi) and PDF, caption and provenance in the metadata
    data/           CSV: the numbers behind every figure and table
    report.json     provenance, as the page tells it; marks the folder as a report, which may be replaced by another

Everything that people wrote (names, tags, titles, notes) is text to the page, never markup.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import os
import platform
import re
import shlex
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from explorer import ASSETS, __version__, code_version
from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.boundaries import Boundaries, Context, Saved
from explorer.services.explore import Explore
from explorer.services.figure_six import Claim
from explorer.services.figures import number, written
from explorer.services.graded import experts
from explorer.services.inference import Inference
from explorer.services.judge import TROUBLES, Judge
from explorer.services.learned import Learning
from explorer.services.learned_colors import LearnedColors
from explorer.services.notes import Notes
from explorer.services.report_figures import HALVES, Figure, Figures, Services, Table, of_claim, simulated
from explorer.services.talk import Talk
from explorer.services.truths import CHOSEN, WEIGHTED, Truths
from explorer.services.volunteers import Volunteers
from explorer.state import Draft
from explorer.survey import Survey, counted
from models.artifacts import Run, now, sha256_file, sha256_json
from models.boundary import And, classifiers, in_words, to_json
from models.progress import Progress
from models.truth import Truth

PAGE, ABOUT, FIGURES, DATA, FOLDER = "report.html", "report.json", "figures", "data", "reports"
FORMS = ("png", "pdf")
CSS = ASSETS / "report.css"
#: Files of a survey that a report rests on.
FILES = (
    "survey.toml",
    "subjects.parquet",
    "consensus.parquet",
    "crowd.parquet",
    "classifications.parquet",
    "totals.parquet",
    "gold.parquet",
    "experience.parquet",
    "talk_tags.parquet",
    "talk_comments.parquet",
)
LIBRARIES = ("numpy", "scipy", "scikit-learn", "pyarrow", "duckdb", "matplotlib", "torch", "umap-learn", "zarr")
#: The page may show what is in it and style it; nothing else, from nowhere.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
#: Columns of one score in the list of what it goes along with.
MOST_COLUMNS = 8
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}")
_one = threading.Lock()


@dataclass(frozen=True)
class Options:
    """What to write.

    Attributes
    ----------
    forms
        Of the figures' files: png, svg, pdf.
    quick
        Fewer points and repetitions.
    command
        The command line that makes this report again; made from the rest where it is "".
    """

    forms: tuple[str, ...] = FORMS
    quick: bool = False
    command: str = ""
    who: str = "report"


@dataclass(frozen=True)
class Opened:
    """The services of a report where no server runs."""

    explore: Explore
    notes: Notes
    truths: Truths
    learning: Learning
    boundaries: Boundaries
    judge: Judge
    inference: Inference
    talk: Talk


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open what a report needs of a survey for the length of the block."""
    survey = Survey.open(path)
    try:
        with Ledger(survey.path, survey.info.survey_id) as ledger:
            explore = Explore(survey)
            notes = Notes(ledger, explore)
            truths = Truths(explore, notes, Volunteers(survey, ledger, explore.talk))
            learning = Learning(explore, truths)
            boundaries = Boundaries(explore, ledger, learning)
            truths.experts = experts(explore, ledger, boundaries, notes)
            explore.classifiers = LearnedColors(boundaries, learning)
            judge = Judge(explore, boundaries, truths, explore.talk, notes)
            inference = Inference(survey)
            try:
                yield Opened(explore, notes, truths, learning, boundaries, judge, inference, explore.talk)
            finally:
                inference.close()
    finally:
        survey.close()


# ------------------------------------------------------------------------------------------------------------ making
def report(
    desk: Services, draft: Draft | None, context: Context, out: Path, options: Options | None = None
) -> Generator[Progress, None, Path]:
    """Write a report into a folder, which appears whole or not at all.

    Parameters
    ----------
    draft
        The boundary; one that is as it was saved is told under its name and version. None reports the survey alone.
    out
        A folder that is not there, or holds an earlier report.

    Yields
    ------
    Progress
        Figures drawn, of all.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UsageError
        `out` is something else, or in a folder that is not there.
    """
    options = options or Options()
    check_out(out)
    made = _Report(desk, draft, context, out, options)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))
    try:
        yield from made.write(folder)
        folder.chmod(0o755)
        _replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out / PAGE


def check_out(out: Path) -> None:
    """Refuse a folder that a report must not replace.

    Raises
    ------
    UsageError
        It holds something else, or its parent is not there.
    """
    if not out.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {out.absolute().parent} to write {out.name} in; make it, or name another")
    if os.path.lexists(out) and not is_report(out):
        is_empty = out.is_dir() and not out.is_symlink() and not any(out.iterdir())
        if not is_empty:
            raise UsageError(
                f"{out} is there and is no report of ours; move it away, or name another folder with --out"
            )


def is_report(folder: Path) -> bool:
    """Whether a folder is a report that was written here."""
    try:
        told = json.loads((folder / ABOUT).read_bytes())
    except (OSError, ValueError):
        return False
    return not folder.is_symlink() and isinstance(told, dict) and told.get("voorwerp") == "report"


def _replace(folder: Path, out: Path) -> None:
    """Move a written folder into its place; an earlier report goes once the new one is there."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    old = None
    if os.path.lexists(out):
        check_out(out)
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.absolute().parent))
        out.rename(old)
    try:
        folder.rename(out)
    except OSError:
        if old is not None:
            old.rename(out)
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


async def write_report(desk: Services, draft: Draft, context: Context, who: str = "app") -> str:
    """Write the report of a draft into ``SURVEY/reports``, off the event loop, and say where it is.

    Raises
    ------
    VoorwerpError
        It cannot be written: why.
    """
    path = await asyncio.to_thread(_written, desk, draft, context, who)
    missing = json.loads((path.parent / ABOUT).read_bytes())["missing"]
    lacking = f"; {counted(len(missing), 'figure')} could not be drawn: it says why" if missing else ""
    return f"written: /report/{path.parent.name}, in {path.parent}{lacking}"


def _written(desk: Services, draft: Draft, context: Context, who: str) -> Path:
    if not _one.acquire(blocking=False):
        raise UsageError("a report is being written; wait for it")
    try:
        folder = desk.explore.survey.path / FOLDER
        folder.mkdir(exist_ok=True)
        name = re.sub(r"[^A-Za-z0-9-]+", "_", draft.name).strip("_")[:60] or "survey"
        stem = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        out, i = folder / stem, 2
        while out.exists():
            out, i = folder / f"{stem}-{i}", i + 1
        making = report(desk, draft, context, out, Options(who=who))
        while True:
            try:
                next(making)
            except StopIteration as done:
                return Path(done.value)
    except OSError as error:
        raise UsageError(f"the report cannot be written: {error.strerror} ({error.filename})") from None
    finally:
        _one.release()


def page_of(survey: Survey, report_id: str) -> bytes:
    """The page of a report in ``SURVEY/reports``, for a browser.

    Raises
    ------
    UsageError
        There is no such report.
    """
    folder = survey.path / FOLDER / report_id
    if not _ID.fullmatch(report_id) or not is_report(folder):
        raise UsageError("there is no such report in this survey")
    return (folder / PAGE).read_bytes()


# -------------------------------------------------------------------------------------------------------------- page
class _Report:
    """One report while it is written."""

    def __init__(self, desk: Services, draft: Draft | None, context: Context, out: Path, options: Options) -> None:
        self.desk, self.context, self.out, self.options = desk, context, out, options
        self.explore, self.survey = desk.explore, desk.explore.survey
        self.at = now()
        self.simulated = simulated(self.explore)
        self.titles = self.explore.colors(context.run_id, context.map_id)
        self.has_boundary = draft is not None and draft.keep != And(())
        draft = draft or Draft()
        if draft.truth is None:
            chosen = next((name for name in (WEIGHTED, CHOSEN) if name in self.titles), None)
            draft = replace(draft, truth=Truth("column", chosen, at_least=0.5) if chosen else None)
        self.draft = draft
        self.saved = self._saved()
        self.command = options.command or self._command()
        self.figures = Figures(desk, draft, context, self._short(), options.quick)
        self.tables: dict[str, Table] = {}

    def _saved(self) -> Saved | None:
        """The version that the draft is, if it is as it was saved."""
        draft = self.draft
        if not (draft.name and draft.version and self.has_boundary):
            return None
        try:
            saved = self.desk.boundaries.get(draft.name, draft.version)
        except TROUBLES:
            return None
        return saved if saved.keep == draft.keep and saved.truth == draft.truth else None

    def _command(self) -> str:
        words = ["voorwerp", "report", str(self.survey.path)]
        if self.saved is not None:
            words += ["--boundary", self.saved.name, "--version", str(self.saved.version)]
        context = self.context
        words += ["--run", context.run_id] if context.run_id else []
        words += ["--map", context.map_id] if context.map_id else []
        words += ["--lambda", f"{context.lambda_:g}", "--lambda-mode", context.mode]
        words += ["--out", str(self.out)]
        words += ["--figures", ",".join(self.options.forms)] if self.options.forms != FORMS else []
        words += ["--quick"] if self.options.quick else []
        return shlex.join(words)

    def _short(self) -> dict[str, str]:
        """Provenance that a figure's file carries."""
        told = {
            "survey": f"{self.survey.info.name} ({self.survey.info.survey_id})",
            "run": self.context.run_id,
            "map": self.context.map_id,
            "boundary": f"{self.saved.name}, version {self.saved.version}" if self.saved else "",
            "Voorwerp": __version__,
            "made": self.at,
            "command": self.command,
        }
        return {name: value for name, value in told.items() if value}

    def write(self, folder: Path) -> Iterator[Progress]:
        """Write everything into a folder."""
        makers = self.figures.all()
        (folder / FIGURES).mkdir()
        (folder / DATA).mkdir()
        total, parts, made = len(makers) + 2, [], []
        for i, (title, make) in enumerate(makers):
            yield Progress(i, total, title)
            found = make()
            parts.append(self._figure(folder, found))
            made.append(found)
        yield Progress(len(makers), total, "the boundary's numbers" if self.has_boundary else "the survey")
        middle = [*self._boundary(), *self._claim()]
        yield Progress(total - 1, total, "provenance")
        about = self.provenance()
        if self.saved is not None and self.saved.is_frozen and self.has_boundary and self.is_test_told:
            about["test_half_revealed"] = self.desk.boundaries.revealed(self.draft.truth)
        about["missing"] = [f"{f.number} {f.title}".strip() for f in made if f.drawn is None]
        for name, table in self.tables.items():
            (folder / DATA / f"{name}.csv").write_bytes(table.to_csv())
        (folder / PAGE).write_text(self._page(made, parts, middle, about), encoding="utf-8")
        (folder / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
        yield Progress(total, total, "written")

    def _figure(self, folder: Path, made: Figure) -> str:
        label = f"Figure {made.number}" if made.number else "Figure"
        head = f"<b>{label}. {_t(made.title)}.</b>" if made.number else f"<b>{_t(made.title)}.</b>"
        if made.drawn is None:
            return f'<div class="missing" id="{made.name}">{head} Not drawn: {_t(made.missing)}.</div>'
        picture = written(made.drawn, "png")
        files = []
        for form in self.options.forms:
            body = picture if form == "png" else written(made.drawn, form)  # type: ignore[arg-type]
            (folder / FIGURES / f"{made.name}.{form}").write_bytes(body)
            files.append(f"{FIGURES}/{made.name}.{form}")
        for name, table in made.tables.items():
            (folder / DATA / f"{name}.csv").write_bytes(table.to_csv())
            files.append(f"{DATA}/{name}.csv")
        image = base64.b64encode(picture).decode()
        warning = (
            f' <span class="warning">{_t(made.warning[0].upper() + made.warning[1:])}.</span>' if made.warning else ""
        )
        caption = made.drawn.caption
        if made.warning:
            caption = caption.replace(f"{made.warning[0].upper()}{made.warning[1:]}. ", "", 1)
        return (
            f'<figure id="{made.name}"><img alt="{_t(made.title)}" src="data:image/png;base64,{image}">'
            f"<figcaption>{head}{warning} {_t(caption)}<br>"
            f'<span class="files">Files: {_t(", ".join(files))}</span></figcaption></figure>'
        )

    # --------------------------------------------------------------------------------------------------- the boundary
    is_test_told = False

    def _boundary(self) -> list[str]:
        if not self.has_boundary:
            names = self.desk.boundaries.names()
            there = (
                f"There are: {', '.join(f'“{n}”' for n in names)}; name one with --boundary."
                if names
                else "There is none yet: draw one in the app (tab Boundary) and save it; then name it with --boundary."
            )
            return [
                '<h2 id="boundary">The boundary</h2>',
                f"<p>This report is of the survey, of no boundary. {_t(there)}</p>",
            ]
        draft, context, judge = self.draft, self.context, self.desk.judge
        words, called = dict(self.titles), self.desk.boundaries.titles_of(draft.keep)
        whats = []
        for sha in classifiers(draft.keep):
            try:
                told = self.desk.learning.what(sha, context)
            except TROUBLES as error:
                told = {"sha256": sha, "sentence": str(error)}
            whats.append(told | {"called": called[sha]})
            words[sha] = called[sha] + (f", of {told['truth_title']}" if told.get("truth_title") else "")
        if self.saved is not None:
            frozen = "frozen" if self.saved.is_frozen else "not frozen"
            name = f"“{self.saved.name}”, version {self.saved.version} ({frozen})"
            by = f"Saved {_time(self.saved.at)} by {self.saved.who}, ledger entry {self.saved.entry_id}."
        else:
            name, by = "not saved", "It is a draft: no version of the ledger is exactly this, so nobody can look it up."
        found = judge.numbers(draft, context)
        parts = [
            f'<h2 id="boundary">The boundary: {_t(name)}</h2>',
            f'<p class="sentence">{_t(in_words(draft.keep, words))}.</p>',
            f'<p class="note">{_t(by)}{_t(f" Note: {self.saved.note}") if self.saved and self.saved.note else ""}</p>',
        ]
        if found["trouble"]:
            parts.append(f'<p class="warning">{_t(_sentence(found["trouble"]))}</p>')
        if found["title"]:
            parts.append(f"<h3>Against the truth: {_t(found['title'])}</h3>")
            parts.append(f"<p>{_t(_sentence(found['sentence']))}</p>")
        if found["circular"]:
            parts.append(
                '<p class="warning">Circular: the truth shares '
                f"{_t(', '.join(found['circular']))} with the boundary; its precision and recall here say "
                f"little of how it finds what is new.</p>"
            )
        half = "tune half" if found["half"] == "tune" else "whole survey (it has no halves)"
        blocks = [
            ("rates", f"By the {half}", found["rates"]),
            ("soft", "Expected, each vote truth by its probability", found["soft"]),
            ("weighted", "Weighted by inclusion probability", found["weighted"]),
            ("few", "Out of fold", found["few"] and found["few"]["rates"]),
            ("test", "By the test half", found["test"] and found["test"]["rates"]),
        ]
        shown, rows = [], []
        for key, words_, rates in blocks:
            if not rates:
                continue
            shown.append((words_, rates))
            rows += [
                (key, n, r["k"], r["n"], r["value"], r["low"], r["high"], r["note"]) for n, r in rates.items() if r
            ]
        if shown:
            parts.append(_rates(shown))
            self.tables["boundary_rates"] = Table(("by", "rate", "k", "n", "value", "low", "high", "note"), rows)
            kept = f"In the whole survey it keeps {found['n_kept']:,} of {found['n_all']:,}."
            unknown = found["unknown"]
            parts.append(
                f'<p class="note">{kept} Unknown in the {half.partition(" (")[0]}: {_n(unknown["boundary"])} '
                f"to the boundary, "
                f"{_n(unknown['truth'])} to the truth. Intervals: 95 %, Wilson.</p>"
            )
        if found["few"]:
            parts.append(f'<p class="note">{_t(_sentence(found["few"]["sentence"]))}</p>')
        parts.append(self._test(found))
        parts += [f'<p class="note">{_t(_sentence(note["sentence"]))}</p>' for note in found["notes"]]
        cost = found["cost"]
        if cost:
            how = "measured from the vetting log" if cost["measured"] else "not measured"
            each = f"{cost['seconds']:g} s a look, {how}, {counted(cost['graders'], 'grader')}"
            parts.append(
                f"<h3>Cost</h3><p>Looking at all it keeps: {cost['images']:,} images, "
                f"{number(float(cost['hours']))} expert "
                f"hours ({_t(each)}).{_per_hour(cost['found_per_hour'])}</p>"
            )
        known = self.desk.truths.experts
        if self.saved is not None and known is not None:
            told_ = known.said_of(self.saved.name, self.saved.version)
            parts += ["<h3>What experts found</h3>"] if told_ else []
            parts += [f"<p>{_t(_sentence(line))}</p>" for line in told_]
        parts += self._lost()
        parts += [_what(one) for one in whats]
        truth = json.dumps(draft.truth.to_json() if draft.truth else None)
        said = [("keep", json.dumps(to_json(draft.keep))), ("truth", truth)]
        self.tables["boundary"] = Table(("what", "value"), said)
        return parts

    def _test(self, found: Mapping[str, Any]) -> str:
        """What is said of the test half: its numbers are shown of frozen versions, and each showing is counted."""
        saved, truth = self.saved, self.draft.truth
        n = self.desk.boundaries.revealed(truth)
        if found["test"] and saved is not None and truth is not None:
            self.desk.boundaries.reveal(saved, truth, self.options.who)
            self.is_test_told, n = True, self.desk.boundaries.revealed(truth)
            return (
                f'<p class="note">The test half has {found["test"]["n"]:,} subjects. Its numbers were shown '
                f"for this truth "
                f"of {counted(n, 'version')} so far: the more often, the less they are worth.</p>"
            )
        if found["half"] != "tune":
            return '<p class="note">The survey has no halves: there is nothing that the boundary was not tuned on.</p>'
        why = "the version is not frozen" if saved is not None else "it is not saved and frozen as it is"
        return (
            f'<p class="note">No numbers of the test half: {why}. They were shown for this truth of '
            f"{counted(n, 'version')} so far.</p>"
        )

    def _lost(self) -> list[str]:
        try:
            lost = self.desk.judge.lost(self.draft, self.context)
        except TROUBLES as error:
            return ["<h3>What it throws away</h3>", f"<p>{_t(_sentence(str(error)))}</p>"]
        if not lost:
            return [
                "<h3>What it throws away</h3>",
                "<p>There are neither tags nor classes in this survey to say it by.</p>",
            ]
        head = ("group", "of", "kept", "n", "low", "high", "taggers", "half", "is_right")
        keys = ("name", "of", "k", "n", "low", "high", "n_taggers", "half", "is_right")
        aim = next((o["reference"] for o in lost if o["is_right"] is False), None)
        line = '<tr><th colspan="6" class="note">not right: losing these is the aim</th></tr>'
        self.tables["boundary_lost"] = Table(head, [tuple(one[k] for k in keys) for one in lost])
        rows = "".join(
            (line if o["reference"] == aim else "")
            + f'<tr><th>{_t(o["name"])}</th><td>{_t(o["of"])}</td><td class="n">{o["n"] - o["k"]:,} of {o["n"]:,}</td>'
            f'<td class="n">{_percent(o["k"] / o["n"])}</td><td class="n">{_percent(o["low"])} – '
            f"{_percent(o['high'])}</td>"
            f'<td class="n">{_n(o["n_taggers"])}</td></tr>'
            for o in lost[:40]
        )
        rest = f" The rest of {len(lost)} are in {DATA}/boundary_lost.csv." if len(lost) > 40 else ""
        return [
            "<h3>What it throws away</h3>",
            f'<div class="wide"><table><caption>The most thrown away first; counted in '
            f"{_t(', '.join(sorted({HALVES.get(o['half'], o['half']) for o in lost})))}.{rest}</caption>"
            '<thead><tr><th>group</th><th></th><th class="n">thrown away</th><th class="n">kept</th>'
            '<th class="n">95 %</th><th class="n">taggers</th></tr></thead><tbody>' + rows + "</tbody></table></div>",
        ]

    def _claim(self) -> list[str]:
        """The table below figure 6."""
        claim = self.figures.claim if self.context.run_id else ""
        if not isinstance(claim, Claim):
            return []
        self.tables["figure_6_one_truth"] = of_claim(claim)
        six = self.figures.learned
        titles = {} if isinstance(six, str) else {c.name: c.title for c in six.curves}
        rows = "".join(
            f"<tr><th>{_t(titles.get(one, one))} minus {_t(titles.get(other, other))}</th>"
            + "".join(
                f'<td class="n">{_points(d.value)}</td><td class="n">{_points(d.low)} … {_points(d.high)}</td>'
                for d in (both["precision"], both["recall"])
            )
            + "</tr>"
            for (one, other), both in claim.differences.items()
        )
        circular = (
            f' <span class="warning">Circular: it shares {_t(", ".join(claim.circular))}.</span>'
            if claim.circular
            else ""
        )
        self.after_six = (
            f'<div class="wide"><table><caption>Differences between the boundaries of the lower part, in '
            f"percentage points "
            f"with 95 % intervals of the pair, each keeping {100 * claim.fraction:g} % of {claim.n:,} subjects; truth: "
            f"{_t(claim.truth)}.{circular}</caption><thead><tr><th>boundaries of</th>"
            '<th class="n">precision</th><th class="n">95 %</th><th class="n">recall</th><th class="n">95 '
            "%</th></tr></thead>"
            f"<tbody>{rows}</tbody></table></div>"
        )
        return []

    after_six = ""

    def _follows(self) -> list[str]:
        """What every score goes along with."""
        if not self.context.run_id:
            return []
        try:
            found = self.desk.judge.follows(self.draft, self.context)
        except TROUBLES as error:
            return ["<h2 id=follows>What the scores go along with</h2>", f"<p>{_t(_sentence(str(error)))}</p>"]
        rows, lines = [], []
        for one in found["of"]:
            shown = [c for c in one["columns"] if c["rho"] is not None][:MOST_COLUMNS]
            for i, c in enumerate(shown):
                first = f'<th rowspan="{len(shown)}">{_t(one["title"])}</th>' if i == 0 else ""
                interval = f"{_signed(c['low'])} … {_signed(c['high'])}" if c["low"] is not None else "–"
                lines.append(
                    f'<tr>{first}<td>{_t(c["title"])}</td><td class="n">{_signed(c["rho"])}</td>'
                    f'<td class="n">{interval}</td><td class="n">{c["n"]:,}</td></tr>'
                )
            rows += [
                (one["reference"] or one["title"], c["reference"], c["rho"], c["low"], c["high"], c["n"])
                for c in one["columns"]
            ]
        self.tables["follows"] = Table(("of", "column", "spearman", "low", "high", "n"), rows)
        notes = " ".join(_sentence(n) for n in found["notes"])
        return [
            '<h2 id="follows">What the scores go along with</h2>',
            "<p>Rank correlations with every column, the strongest first. A score that follows the size of the "
            "image, its "
            f"noise or its saturation finds those, and not what is strange. {_t(notes)}</p>",
            '<div class="wide"><table><thead><tr><th>of</th><th>column</th><th class="n">ρ</th><th class="n">95 %</th>'
            f'<th class="n">n</th></tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
            f'<p class="files">All columns: {DATA}/follows.csv</p>',
        ]

    # ----------------------------------------------------------------------------------------------------- provenance
    def provenance(self) -> dict[str, Any]:
        """Where everything came from, ready for JSON."""
        survey, context, boundaries = self.survey, self.context, self.desk.boundaries
        runs = {r.run_id: r for r in survey.runs(None, state=None)}
        used, wanted = [], [context.run_id]
        maps = {m.run_id: m for m in survey.maps(state=None)}
        if context.map_id in maps:
            used.append(maps[context.map_id])
            wanted += list(maps[context.map_id].inputs.values())
        while wanted:
            one = runs.get(wanted.pop(0))
            if one is not None and one not in used:
                used.append(one)
                wanted += list(one.inputs.values())
        crowd = survey.about_crowd()
        return {
            "voorwerp": "report",
            "made": self.at,
            "command": self.command,
            "code_version": code_version(),
            "survey": {
                "name": survey.info.name,
                "survey_id": survey.info.survey_id,
                "subjects": survey.n,
                "preprocessing": survey.preprocessing,
                "notes": list(survey.info.notes),
                "simulated": self.simulated,
                "sha256": {name: sha256_file(survey.path / name) for name in FILES if (survey.path / name).is_file()},
            },
            "runs": [_about_run(run, boundaries.checkpoint(run)) for run in used],
            "counting": crowd,
            "lambda": context.lambda_,
            "lambda_mode": context.mode,
            "truth": self.draft.truth.to_json() if self.draft.truth else None,
            "boundary": None
            if not self.has_boundary
            else {
                "name": self.draft.name,
                "version": self.draft.version if self.saved else None,
                "entry_id": self.saved.entry_id if self.saved else None,
                "saved_at": self.saved.at if self.saved else None,
                "who": self.saved.who if self.saved else None,
                "is_frozen": bool(self.saved and self.saved.is_frozen),
                "keep": to_json(self.draft.keep),
                "keep_sha256": sha256_json(to_json(self.draft.keep)),
                "classifiers": list(classifiers(self.draft.keep)),
            },
            "boundaries": [
                {
                    "name": name,
                    "versions": [
                        {"version": v.version, "entry_id": v.entry_id, "at": v.at, "frozen": v.is_frozen}
                        for v in boundaries.versions(name)
                    ],
                }
                for name in boundaries.names()
            ],
            "test_half_revealed": boundaries.revealed(self.draft.truth),
            "quick": self.options.quick,
            "python": platform.python_version(),
            "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        }

    def _provenance(self, about: Mapping[str, Any]) -> list[str]:
        survey = about["survey"]
        told = [
            ("Survey", f"{survey['name']}, {survey['subjects']:,} subjects"),
            ("Survey id", survey["survey_id"]),
            ("Images", "; ".join(f"{k} {_plain(v)}" for k, v in survey["preprocessing"].items())),
            *[("Note", note) for note in survey["notes"]],
            ("λ", f"{about['lambda']:g}, {about['lambda_mode']}"),
            ("Truth", json.dumps(about["truth"], ensure_ascii=False) if about["truth"] else "none"),
            ("Test half", f"shown for this truth of {counted(about['test_half_revealed'], 'version')}"),
            ("Made", f"{about['made']} (UTC), Voorwerp {about['code_version']}"),
            (
                "Software",
                ", ".join([f"Python {about['python']}", *(f"{k} {v}" for k, v in about["libraries"].items())]),
            ),
        ]
        if self.options.quick:
            told.append(("Quick", "fewer thresholds and repetitions than usual (--quick)"))
        parts = [
            '<h2 id="provenance">Provenance</h2>',
            "<p>To get this report again:</p>",
            f"<pre>{_t(about['command'])}</pre>",
        ]
        parts.append(_list(told))
        files = "".join(f'<tr><th>{_t(k)}</th><td class="hash">{_t(v)}</td></tr>' for k, v in survey["sha256"].items())
        parts.append(
            f"<h3>Files of the "
            f"survey</h3><table><thead><tr><th>file</th><th>sha256</th></tr></thead><tbody>{files}</tbody></table>"
        )
        parts.append("<h3>Runs and maps</h3>" if about["runs"] else "<h3>Runs and maps</h3><p>None.</p>")
        parts += [_run(run) for run in about["runs"]]
        crowd = about["counting"]
        if crowd:
            said = "; simulated votes" if crowd.get("is_simulated") else ""
            settings = _settings(crowd.get("settings", {}))
            parts.append("<h3>Counting of the votes</h3>")
            votes, people, subjects = (crowd.get(f"n_{name}", 0) for name in ("votes", "volunteers", "subjects"))
            what = f"{crowd.get('title', '')}: {votes:,} votes of {people:,} volunteers on {subjects:,} subjects{said}"
            parts.append(_list([("what", what), ("settings", settings), ("key", str(crowd.get("key", "")))]))
        lines = "".join(
            f'<tr><th>{_t(b["name"])}</th><td class="n">{v["version"]}</td><td class="n">{v["entry_id"]}</td>'
            f"<td>{_t(_time(v['at']))}</td><td>{'frozen' if v['frozen'] else ''}</td></tr>"
            for b in about["boundaries"]
            for v in b["versions"]
        )
        if lines:
            parts.append(
                '<h3>Boundaries of the survey</h3><table><thead><tr><th>name</th><th class="n">version</th>'
                f'<th class="n">ledger entry</th><th>saved</th><th></th></tr></thead><tbody>{lines}</tbody></table>'
            )
        return parts

    def _page(self, made: Sequence[Figure], parts: list[str], middle: list[str], about: Mapping[str, Any]) -> str:
        info = self.survey.info
        what = f": boundary “{self.saved.name}”, version {self.saved.version}" if self.saved else ""
        title = f"{info.name}{what}"
        study = [(f, p) for f, p in zip(made, parts, strict=True) if f.number]
        own = [(f, p) for f, p in zip(made, parts, strict=True) if not f.number]
        links = [("boundary", "The boundary", True)]
        links += [(f.name, f"Figure {f.number}. {f.title}", f.drawn is not None) for f, _ in study]
        links += [(f.name, f.title, f.drawn is not None) for f, _ in own]
        follows = self._follows()
        links += [("follows", "What the scores go along with", True)] if follows else []
        links.append(("provenance", "Provenance", True))
        nav = "".join(
            f'<a href="#{name}"{"" if there else " class=none"}>{_t(text)}{"" if there else " (not drawn)"}</a>'
            for name, text, there in links
        )
        banner = ""
        if self.simulated:
            who = "the survey itself is simulated" if self.simulated == "data" else "its votes are simulated"
            also = "; so are its votes" if self.simulated == "data" and about["counting"].get("is_simulated") else ""
            banner = f'<p class="banner">Simulated: {who}{also}. Nothing here is a result on real galaxies.</p>'
        body = [
            f"<h1>{_t(title)}</h1>",
            f'<p class="under">Report of {_t(counted(self.survey.n, "subject"))}, made {_t(about["made"])} by Voorwerp '
            f"{_t(__version__)}.</p>",
            banner,
            f"<nav>{nav}</nav>",
            *middle,
            '<h2 id="study">The study’s figures, remade from this survey</h2>',
            *(p + (self.after_six if f.name == "figure_6" else "") for f, p in study),
            *(
                ['<h2 id="more">Of the boundary and its cost</h2>']
                if self.has_boundary
                else ['<h2 id="more">Cost</h2>']
            ),
            *(p for _, p in own),
            *follows,
            *self._provenance(about),
            f"<footer>Voorwerp {_t(__version__)} · {_t(info.name)} · {_t(about['made'])}. Precision and recall "
            f"are by their "
            "standard definitions everywhere.</footer>",
        ]
        style = CSS.read_text(encoding="utf-8")
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_t(POLICY)}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{_t(title)} – report</title>\n<style>\n{style}</style></head>\n<body>\n"
            + "\n".join(part for part in body if part)
            + "\n</body></html>\n"
        )


# ------------------------------------------------------------------------------------------------------------- small
def _t(text: object) -> str:
    """Text for the page: nothing in it is markup."""
    return html.escape("".join(c if c.isprintable() or c in "\n\t" else " " for c in str(text)), quote=True)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""


def _n(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _settings(told: Mapping[str, Any]) -> str:
    """Those that are set."""
    is_set = {k: v for k, v in told.items() if v not in (None, "", []) and (not isinstance(v, list) or any(v))}
    return ", ".join(f"{k} {_plain(v)}" for k, v in is_set.items())


def _time(text: str) -> str:
    """A time of the ledger without fractions of a second."""
    return f"{text[:19].replace('T', ' ')} UTC"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{round(100 * value, 1) + 0.0:+.1f}".replace("-", "−")


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if abs(value - round(value)) < 1e-9 else f"{value:,.1f}"


def _per_hour(rate: Mapping[str, Any] | None) -> str:
    if not rate or rate.get("value") is None:
        return ""
    ends = f" ({number(float(rate['low']))} to {number(float(rate['high']))})" if rate.get("low") is not None else ""
    return f" Interesting ones per expert hour: {number(float(rate['value']))}{ends}."


def _list(pairs: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{_t(name)}</dt><dd>{_t(value)}</dd>" for name, value in pairs) + "</dl>"


def _rates(blocks: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """A table of rates: value, 95 %, k of n."""
    lines = []
    titles = {"f1": "F1", "kept": "kept fraction", "base": "base rate", "lift": "lift"}
    for words, rates in blocks:
        for i, (name, rate) in enumerate(rates.items()):
            first = f'<th rowspan="{len(rates)}">{_t(words)}</th>' if i == 0 else ""
            value = rate and rate.get("value")
            show: Callable[[Any], str] = (lambda v: "–" if v is None else f"{v:.2f}") if name == "lift" else _percent
            ends = f"{show(rate['low'])} – {show(rate['high'])}" if rate and rate.get("low") is not None else "–"
            of = (
                f"{_count(rate['k'])} of {_count(rate['n'])}"
                if rate and rate.get("n") is not None and name != "lift"
                else "–"
            )
            note = f' <span class="note">{_t(rate["note"])}</span>' if rate and rate.get("note") else ""
            lines.append(
                f'<tr>{first}<th>{_t(titles.get(name, name))}{note}</th><td class="n">{show(value)}</td>'
                f'<td class="n">{ends}</td><td class="n">{of}</td></tr>'
            )
    return (
        '<div class="wide"><table><thead><tr><th></th><th></th><th class="n">value</th><th class="n">95 %</th>'
        f'<th class="n">k of n</th></tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _what(told: Mapping[str, Any]) -> str:
    """A classifier of the boundary."""
    parts = [f"<h3>{_t(told.get('called', 'Classifier'))}</h3><p>{_t(_sentence(told.get('sentence', '')))}</p>"]
    if told.get("out_of_fold"):
        words = f"At balanced score ½, out of fold: mean of {told['n_repeats']} times {told['n_folds']} folds"
        parts.append(_rates([(words, told["out_of_fold"])]))
    if told.get("trouble"):
        parts.append(f'<p class="note">{_t(_sentence(told["trouble"]))}</p>')
    parts.append(f'<p class="files">sha256 {_t(told["sha256"])}</p>')
    return "".join(parts)


def _run(told: Mapping[str, Any]) -> str:
    """A run of the provenance."""
    made = f"{told['run_id']}, {told['state']}, made {told['created_at']} by code {told['code_version']}"
    pairs = [
        (str(told["kind"]), f"{made}, seed {told['seed']}"),
        ("settings", _settings(told["config"])),
        ("inputs", ", ".join(f"{k} {v}" for k, v in told["inputs"].items()) or "none"),
        ("checkpoint sha256", told["checkpoint_sha256"] or "none"),
    ]
    return _list(pairs)


def _about_run(run: Run, checkpoint: str | None) -> dict[str, Any]:
    names = ("run_id", "kind", "state", "code_version", "seed", "config", "preprocessing", "inputs", "created_at")
    told = {name: getattr(run, name) for name in names}
    return told | {"finished_at": run.finished_at, "results": run.results, "checkpoint_sha256": checkpoint}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
