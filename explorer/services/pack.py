"""`pack`: the copy of a survey that is safe to share. Whole or not at all, and checked.

Only what a survey is made of goes along: no locks, no logs, no work in progress, no file of other making. Names of
people in the ledger are hashed with a salt that stays on this machine, absolute paths are cut down to file names;
originals that the survey only links to, and people's notes, which may say anything, stay behind unless they are asked
for. Tags, named places and kept selections go along: their names are words for others to read. Votes go along, too: a
volunteer is a hash in them already. Comments of Talk, whole sentences of people, count as notes.
"""

import contextlib
import hashlib
import hmac
import json
import re
import shutil
import sqlite3
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer import ledger, votes
from explorer import survey as layout
from explorer.errors import IngestError, SurveyError
from explorer.ingest.build import QUARANTINE_SCHEMA, full_disk_said
from explorer.ingest.calibration import how_made
from explorer.ingest.decoder import Decoders, read_original
from explorer.ingest.report import write_report
from explorer.secret import secret_of
from explorer.services.address import RECENT
from explorer.survey import Survey, check
from models import artifacts
from models.images import ImageError
from models.progress import Progress

#: Name of the secret that people's names are hashed with.
SALT = votes.SALT

_FOLDERS = (layout.IMAGES, layout.ORIGINALS, layout.THUMBNAILS, ledger.SELECTIONS, ledger.CLASSIFIERS)
_VOTES = (*votes.FILES, *votes.CACHES, votes.GRADES)
_FILES = (layout.DIGESTS, layout.CONTACT_SHEET, *_VOTES)
#: Of a run: what its worker leaves behind.
_NOT_OF_RUNS = {"index", "lock", "log.txt", "cancel", "parts", "reserve", "tensorboard"}
#: Written otherwise than by copying, or not for others.
_KNOWN = {
    *(*_FOLDERS, *_FILES, layout.RUNS, layout.MAPS, layout.SURVEY_TOML, layout.SUBJECTS, layout.QUARANTINE),
    *(layout.REPORT, layout.WRITE_LOCK, "server.lock", "queue.lock", layout.PARTS, layout.KEPT),
    *(ledger.LEDGER, f"{ledger.LEDGER}-wal", f"{ledger.LEDGER}-shm", ledger.ELSEWHERE),
}
#: Two components at least: "/g" is no path that tells of a machine.
_PATH = re.compile(
    r"(?:\bfile://[\w.-]*|(?<![\w.~/-])~?)/[^/\s\"'<>|:;,()]+(?:/[^/\s\"'<>|:;,()]+)+/?"
    r"|\b[A-Za-z]:\\[^\s\"'<>|:;,()]+"
)
#: What `_PATH` stops at, as a blank; a folder of such a name must be known.
_ENDS_A_PATH = re.compile(r"[\s\"'<>|:;,()]")


def pack(
    path: Path | str, target: Path | str, names: bool = False, keep_originals: bool = False, keep_notes: bool = False
) -> Generator[Progress, None, dict[str, Any]]:
    """Copy a survey so that it can be given away.

    Parameters
    ----------
    path
        The survey folder.
    target
        The copy's folder: absent or empty.
    names
        Leave the names of people as they are.
    keep_originals
        Bring in originals that are only linked.
    keep_notes
        Let people's notes go along.

    Yields
    ------
    Progress
        In files, then in originals.

    Returns
    -------
    dict
        n_bytes of the copy; n_names hashed; n_links and n_notes that stay behind; left_out: what is no part of a
        survey, or not finished; ids_are_paths: whether ids are absolute paths, which no copy may change.

    Raises
    ------
    SurveyError
        No survey, a damaged one, one that a command writes to, or a linked original that is gone.
    IngestError
        The target is in use, or the disk is full.
    """
    path, target = Path(path), Path(target)
    survey = Survey.open(path)
    try:
        if target.resolve().is_relative_to(path.resolve()):
            raise IngestError(f"{target} lies inside {path}; give the copy a folder of its own")
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise IngestError(f"{target} is there already; give the copy a folder of its own")
        if (path / layout.PARTS).is_dir() and any((path / layout.PARTS).iterdir()):
            raise SurveyError(f"an `add` to {path} was stopped, or is at work; the same `add` again finishes it")
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_nothing_beyond(survey)
        with full_disk_said(target), survey.lock(), artifacts.replacing_folder(target) as working:
            totals = yield from _copy(survey, working, names, keep_originals, keep_notes)
            problems = check(working) + ledger.check(working, survey.info.survey_id, survey.subject_ids, is_copy=True)
            if problems:
                more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
                sentence = problems[0].replace(str(working), str(path))
                raise SurveyError(f"nothing was packed, the copy would not be sound: {sentence}{more}")
    finally:
        survey.close()
    return totals


def _check_nothing_beyond(survey: Survey) -> None:
    """Refuse what an `add` that was given up has left: images that are no subjects, one file with those that are."""
    path = survey.path
    is_longer = False
    for folder in (path / layout.ORIGINALS, path / layout.THUMBNAILS):
        ends = np.cumsum([len(layout.Pack.offsets(file)) - 1 for file in sorted(folder.glob("*.npy"))])
        is_longer |= len(list(folder.glob("*.pack"))) > int(np.searchsorted(ends, survey.n)) + 1
    with contextlib.suppress(OSError, ValueError, EOFError):  # `check` says it of the copy
        is_longer |= len(np.load(path / layout.DIGESTS, mmap_mode="r", allow_pickle=False)) > survey.n
    if is_longer:
        raise SurveyError(
            f"{path} holds images beyond its {survey.n:,} subjects, left by an `add` that was stopped; the same `add` "
            "again finishes it, then pack"
        )


def _copy(
    survey: Survey, working: Path, names: bool, keep_originals: bool, keep_notes: bool
) -> Generator[Progress, None, dict[str, Any]]:
    path, info = survey.path, survey.info
    is_linked = info.originals == "link"
    known = _known_folders(survey)
    left_out = sorted(p.name for p in path.iterdir() if p.name not in _KNOWN and not p.name.startswith("."))
    files, unfinished = _files(survey, is_linked)
    if not keep_notes and (comments := path / votes.TALK_COMMENTS) in files:
        files.remove(comments)
        left_out.append(comments.name)
    secret = None if names or not ledger.is_there(path) else salt(info.survey_id)
    for i, file in enumerate(files):
        if i % 64 == 0:
            yield Progress(i, len(files), "copying files")
        copy = working / file.relative_to(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in (".json", ".jsonl") and file.parent.parent.name in (layout.RUNS, layout.MAPS):
            _copy_json(file, copy, known, secret)
        else:
            shutil.copyfile(file, copy)
    if is_linked and keep_originals:
        yield from _bring_in(survey, working / layout.ORIGINALS)
    ids_are_paths = _copy_tables(survey, working, known)
    write_report(working, info.name, survey.n)
    n_names = n_notes = 0
    if ledger.is_there(path):
        n_names, n_notes = _copy_ledger(survey, working / ledger.LEDGER, secret, known, keep_notes)
    kept = {folder.name for below in (layout.RUNS, layout.MAPS) for folder in (working / below).glob("*/")}
    replace(
        info,
        originals="keep" if keep_originals or not is_linked else "none",
        notes=tuple(without_paths(note, known) for note in info.notes),
        default_run=info.default_run if info.default_run in kept else None,
        default_map=info.default_map if info.default_map in kept else None,
    ).write(working / layout.SURVEY_TOML)
    return {
        "n_bytes": sum(p.stat().st_size for p in working.rglob("*") if p.is_file()),
        "n_names": n_names,
        "n_notes": n_notes,
        "n_links": survey.n if is_linked and not keep_originals else 0,
        "left_out": [*left_out, *unfinished],
        "ids_are_paths": ids_are_paths,
    }


def _files(survey: Survey, is_linked: bool) -> tuple[list[Path], list[str]]:
    """What is copied file by file; and the runs and maps that are not, for they are not finished."""
    path = survey.path
    found = [path / name for name in _FILES if (path / name).is_file()]
    for name in _FOLDERS:
        if not (name == layout.ORIGINALS and is_linked):
            files = [p for p in sorted((path / name).rglob("*")) if _is_part(p, path)]
            found += [p for p in files if p.parent != path / RECENT]  # they come and go under a running server
    finished = {layout.RUNS: survey.runs(), layout.MAPS: survey.maps()}
    unfinished = []
    for name, runs in finished.items():
        done = {run.run_id for run in runs}
        for folder in sorted((path / name).glob("[!.]*/")):
            if folder.name not in done:
                unfinished.append(f"{name}/{folder.name}")
                continue
            files = [p for p in sorted(folder.rglob("*")) if _is_part(p, path)]
            found += [p for p in files if not _NOT_OF_RUNS & set(p.relative_to(folder).parts)]
    return found, unfinished


def _is_part(file: Path, below: Path) -> bool:
    return (
        file.is_file() and not file.is_symlink() and not any(p.startswith(".") for p in file.relative_to(below).parts)
    )


# -------------------------------------------------------------------------------------------------------------- paths
def without_paths(text: str, known: re.Pattern[str] | None = None) -> str:
    """A text in which absolute paths are cut down to their last name: ``…/name``; those below `known` with blanks."""
    if known is not None:
        text = known.sub("/…/…", text)
    return _PATH.sub(lambda found: "…/" + re.split(r"[/\\]", found[0].rstrip("/"))[-1], text)


def known_as(folders: Iterable[str]) -> re.Pattern[str] | None:
    """What finds folders whose names a reader of a text would take for its words; None where there are none."""
    awkward = set()
    for folder in folders:
        parts = folder.rstrip("/").split("/")
        while parts and not _ENDS_A_PATH.search(parts[-1]):
            parts.pop()
        awkward.add("/".join(parts))
    names = "|".join(re.escape(name) for name in sorted(awkward - {""}, key=len, reverse=True))
    return re.compile(rf"(?:{names})(?![\w.-])") if names else None


def _known_folders(survey: Survey) -> re.Pattern[str] | None:
    """The home folder, the survey's, and those that its images and refused files came from."""
    folders = {str(Path.home()), str(survey.path.absolute()), str(survey.path.resolve())}
    if survey.info.originals == "link":
        for row in range(survey.n):
            link = survey.link(row)
            folders |= {path.rpartition("/")[0] for path in (link.paths if link else ())}
    refused = pq.read_table(survey.path / layout.QUARANTINE, columns=["source"]).column(0).to_pylist()
    for source in {s.rpartition("/")[0] for s in [*refused, *survey.column("image")] if s}:
        if _is_path(f"{source}/"):
            folders.add(f"/{source.lstrip('/')}")
    return known_as(folders)


def _without_paths(value: Any, known: re.Pattern[str] | None) -> Any:
    """The same for everything in a JSON value."""
    if isinstance(value, str):
        return without_paths(value, known)
    if isinstance(value, list):
        return [_without_paths(item, known) for item in value]
    if isinstance(value, dict):
        return {without_paths(key, known): _without_paths(item, known) for key, item in value.items()}
    return value


def _copy_json(file: Path, copy: Path, known: re.Pattern[str] | None, secret: bytes | None) -> None:
    """A record, or one a line; what cannot be read is no record and stays behind. Who started a run is hashed."""
    lines = (
        [file.read_text(encoding="utf-8", errors="replace")]
        if file.suffix == ".json"
        else file.read_text().splitlines()
    )
    cleaned = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            told = _without_paths(json.loads(line), known)
            if file.name in (artifacts.RUN_JSON, artifacts.MAP_JSON) and isinstance(told, dict):
                if secret is not None and told.get("started_by"):
                    told["started_by"] = hashed(told["started_by"], secret)
                if isinstance(where := told.get("resources"), dict):
                    where.pop("scheduler", None)  # an address of yours
            cleaned.append(json.dumps(told, indent=2 if file.suffix == ".json" else None))
    copy.write_text("".join(f"{line}\n" for line in cleaned), encoding="utf-8")


def _copy_tables(survey: Survey, working: Path, known: re.Pattern[str] | None) -> bool:
    """Copy subjects and quarantine without absolute paths; whether ids are such paths, which stay."""
    path = survey.path
    ids_are_paths = False
    with pq.ParquetFile(path / layout.SUBJECTS) as file:
        schema = file.schema_arrow
        with (
            artifacts.replacing(working / layout.SUBJECTS) as handle,
            pq.ParquetWriter(handle, schema, compression="zstd") as writer,
        ):
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                texts = [f for f in schema if pa.types.is_string(f.type) and f.name != "source_id"]
                for field in texts:
                    at = schema.names.index(field.name)
                    names = _names_of(table.column(field.name), field.name == "image", known)
                    table = table.set_column(at, field, names)
                ids = table.column("source_id").to_pylist()
                ids_are_paths = ids_are_paths or any(i is not None and _is_path(i) for i in ids)
                writer.write_table(table)
    refused = pq.ParquetFile(path / layout.QUARANTINE)
    with (
        refused,
        artifacts.replacing(working / layout.QUARANTINE) as handle,
        pq.ParquetWriter(handle, QUARANTINE_SCHEMA, compression="zstd") as writer,
    ):
        for batch in refused.iter_batches(1024):
            table = pa.Table.from_batches([batch])
            for name in ("source", "reason"):
                at = table.schema.names.index(name)
                names = _names_of(table.column(name), name == "source", known)
                table = table.set_column(at, table.schema.field(name), names)
            writer.write_table(table.cast(QUARANTINE_SCHEMA))
    return ids_are_paths


def _names_of(column: pa.ChunkedArray, are_sources: bool, known: re.Pattern[str] | None) -> pa.Array:
    """Texts without absolute paths; of sources a whole value may be one, with blanks and without its first slash."""
    return pa.array([text and _name_of(text, are_sources, known) for text in column.to_pylist()], pa.string())


def _name_of(text: str, is_source: bool, known: re.Pattern[str] | None) -> str:
    if is_source and _is_path(text):
        return f"…/{text.rstrip('/').rsplit('/', 1)[-1]}"
    return text if is_source else without_paths(text, known)


def _is_path(text: str) -> bool:
    """Whether a source is named from the root on; single files are listed without the first slash."""
    parts = text.split("/")
    if text.startswith("/"):
        return len(parts) > 2
    with contextlib.suppress(OSError, ValueError):
        return len(parts) > 2 and Path("/", *parts[:2]).is_dir()
    return False


# ------------------------------------------------------------------------------------------------------------ people
def salt(survey_id: str) -> bytes:
    """The survey's secret on this machine, made when there is none: names hash alike in every copy from here.

    Raises
    ------
    SurveyError
        Others may read it.
    """
    return secret_of(survey_id, SALT).encode()


def hashed(name: str, secret: bytes) -> str:
    """A name as others see it: the same for the same name, and of no use without the salt."""
    return f"person-{hmac.new(secret, name.encode(), hashlib.sha256).hexdigest()[:16]}"


def _copy_ledger(
    survey: Survey, target: Path, secret: bytes | None, known: re.Pattern[str] | None, keep_notes: bool
) -> tuple[int, int]:
    """Copy the ledger as of one moment; returns the number of names hashed, and of notes left out."""
    draft, survey_id, url = (
        target.with_name(f".{target.name}.draft"),
        survey.info.survey_id,
        ledger.address(survey.path),
    )
    try:
        if url.get_backend_name() == "sqlite":
            with contextlib.closing(sqlite3.connect(f"file:{quote(str(url.database))}?mode=ro", uri=True)) as old:
                old.execute("VACUUM INTO ?", (str(draft),))
        else:
            with (
                ledger.Ledger(survey.path, survey_id) as source,
                ledger.Ledger(draft.parent, survey_id, ledger.in_file(draft)) as copied,
            ):
                ledger.copy(source, copied)
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            n_names, n_notes = _rewrite(copy, secret, known, keep_notes)
            copy.execute("VACUUM INTO ?", (str(target),))  # what was written over is in no free page of this one
    except sqlite3.Error as error:
        raise SurveyError(
            f"{url.database} cannot be copied ({error}); `voorwerp check {survey.path}` says more"
        ) from None
    finally:
        for file in target.parent.glob(f"{draft.name}*"):
            file.unlink()
    return n_names, n_notes


#: Every note, its edits, and what took them back.
_NOTES = "WITH RECURSIVE gone(id) AS (SELECT id FROM entries WHERE kind = 'note' UNION ALL "
_NOTES += "SELECT entries.id FROM entries JOIN gone ON entries.undoes = gone.id) "


def _rewrite(
    copy: sqlite3.Connection, secret: bytes | None, known: re.Pattern[str] | None, keep_notes: bool
) -> tuple[int, int]:
    """Put hashes in the place of names, and cut paths down, in a copy that nobody else has open."""
    triggers = copy.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    people: set[str] = set()
    copy.execute("BEGIN")
    for name, _ in triggers:  # they refuse every change
        copy.execute(f'DROP TRIGGER "{name}"')
    n_notes = 0
    if not keep_notes:
        first = "kind = 'note' AND json_extract(payload, '$.note') IS NULL"
        n_notes = copy.execute(f"SELECT count(*) FROM entries WHERE {first}").fetchone()[0]
        copy.execute(f"{_NOTES} DELETE FROM entries WHERE id IN gone")
    for entry, who, payload in copy.execute("SELECT id, who, payload FROM entries").fetchall():
        told = _without_paths(json.loads(payload), known)
        if secret is not None:
            people.add(who)
            who, told = hashed(who, secret), _with_hashes(told, secret, people)
        text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        copy.execute("UPDATE entries SET who = ?, payload = ? WHERE id = ?", (who, text, entry))
    for _, sql in triggers:
        copy.execute(sql)
    copy.execute("COMMIT")
    return len(people), n_notes


def _with_hashes(value: Any, secret: bytes, people: set[str]) -> Any:
    """The same for names inside a payload: under "who", and under "grader" of a vote that another tool had."""
    if isinstance(value, list):
        return [_with_hashes(item, secret, people) for item in value]
    if not isinstance(value, dict):
        return value
    told = {key: _with_hashes(item, secret, people) for key, item in value.items()}
    for key in ("who", "grader"):
        if isinstance(named := value.get(key), str):
            people.add(named)
            told[key] = hashed(named, secret)
    return told


# --------------------------------------------------------------------------------------------------------- originals
def _bring_in(survey: Survey, folder: Path) -> Generator[Progress, None, None]:
    """Write packs of the originals that the survey links to, as `create` would have kept them."""
    folder.mkdir()
    sizes = [len(layout.Pack.offsets(p)) - 1 for p in sorted((survey.path / layout.ORIGINALS).glob("*.npy"))]
    first = 0
    with Decoders(survey.info.cut, 1) as decoders:
        for number, n in enumerate(sizes):
            offsets = [0]
            with (folder / f"{number:05d}.pack").open("wb") as pack_file:
                for row in range(first, min(first + n, survey.n)):
                    if row % 64 == 0:
                        yield Progress(row, survey.n, "bringing in originals")
                    content = _linked(survey, row, decoders)
                    pack_file.write(content)
                    offsets.append(offsets[-1] + len(content))
            np.save(folder / f"{number:05d}.npy", np.array(offsets, np.int64), allow_pickle=False)
            first += n


def _linked(survey: Survey, row: int, decoders: Decoders) -> bytes:
    link = survey.link(row)
    assert link is not None
    if problem := link.problem():
        raise SurveyError(f"{problem}, and cannot be brought in; pack without --originals keep, or put it back")
    try:
        told = json.loads(link.to_bytes())
        content: bytes = decoders.call(read_original, told, *how_made(survey.info))
    except ImageError as error:
        raise SurveyError(f"{link.paths[0]} cannot be brought in: {error}") from None
    return content
