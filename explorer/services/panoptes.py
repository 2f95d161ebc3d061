"""Zooniverse over its API (Panoptes): exported subjects are uploaded, others retired. Needs the extra `zooniverse`.

Who may do so comes from the environment and is neither kept nor printed: ``PANOPTES_TOKEN``; or ``PANOPTES_CLIENT_ID``
with ``PANOPTES_CLIENT_SECRET``; or ``PANOPTES_USERNAME`` with ``PANOPTES_PASSWORD``. ``PANOPTES_ENDPOINT`` names a
server that is not Zooniverse's.

What was uploaded is noted in the exported folder, line by line, before and after each step::

    {"endpoint": …, "project": …, "subject_set": …, "name": …}
    {"creating": "voorwerp-7.jpg"}
    {"created": "voorwerp-7.jpg", "id": 81234}
    {"uploaded": "voorwerp-7.jpg"}

so that an upload that was stopped anywhere goes on without making a subject twice. A subject that was asked for and
whose answer was lost is looked for in its set; one that was made and never got its image is removed and made anew.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explorer.errors import AccessError, UsageError, ZooniverseError
from explorer.ingest.join import rewrite
from explorer.ingest.matching import OWN_ID
from explorer.services.zooniverse import read_manifests
from explorer.survey import SUBJECTS, SUBJECTS_SCHEMA, Survey
from models.progress import Progress

JOURNAL = "upload.jsonl"
#: Subjects that are on their way at once.
AT_ONCE = 4
#: Subjects that one request retires; the client's own limit.
BATCH = 100
#: Seconds that an image may take.
TIMEOUT_S = 120
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Zooniverse:
    """The API, logged in.

    Raises
    ------
    UsageError
        panoptes-client is not installed.
    AccessError
        The environment does not say who asks, or would send it in the open.
    ZooniverseError
        It cannot be reached, or does not let us in.
    """

    def __init__(self) -> None:
        try:
            from panoptes_client import panoptes as library
        except ImportError:
            raise UsageError(
                "uploading and retiring need panoptes-client; install it with: pip install 'voorwerp[zooniverse]'"
            ) from None
        told = os.environ
        token = told.get("PANOPTES_TOKEN")
        by_client = bool(told.get("PANOPTES_CLIENT_ID") and told.get("PANOPTES_CLIENT_SECRET"))
        by_name = bool(told.get("PANOPTES_USERNAME") and told.get("PANOPTES_PASSWORD"))
        if not (token or by_client or by_name):
            raise AccessError(
                "the environment does not say who asks Zooniverse; set PANOPTES_TOKEN, or PANOPTES_CLIENT_ID and "
                "PANOPTES_CLIENT_SECRET, or PANOPTES_USERNAME and PANOPTES_PASSWORD"
            )
        self.endpoint = told.get("PANOPTES_ENDPOINT", "https://www.zooniverse.org").rstrip("/")
        parts = urlsplit(self.endpoint)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise AccessError(f"PANOPTES_ENDPOINT is {self.endpoint}; passwords and tokens go to https:// only")
        self._client: Any = None
        self._library = library
        self._lock = threading.Lock()
        self._client = self._try("log in", lambda: library.Panoptes(endpoint=self.endpoint))
        if token:
            self._client.bearer_token, self._client.refresh_token = token, None
            self._client.bearer_expires = datetime.now() + timedelta(days=1)
            self._client.logged_in = True
        self._try("log in", self._client.get_bearer_token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.session.close()

    def _try(self, what: str, call: Callable[[], Any]) -> Any:
        """Call it; whatever goes wrong on the way becomes one sentence."""
        import requests

        try:
            return call()
        except self._library.PanoptesAPIException as error:
            said = " ".join(str(error).split())[:300] or "without a reason"
            raise ZooniverseError(f"{self.endpoint} refused to {what}: {said}") from None
        except requests.exceptions.RequestException as error:
            raise ZooniverseError(f"{self.endpoint} cannot be reached to {what} ({type(error).__name__})") from None
        except (
            ValueError,
            KeyError,
            TypeError,
            IndexError,
            AttributeError,
        ) as error:  # an answer that is not what the API gives
            raise ZooniverseError(
                f"{self.endpoint} gave an answer that cannot be read when asked to {what} ({type(error).__name__})"
            ) from None

    def _call(self, what: str, method: str, path: str, **told: Any) -> Any:
        with self._lock:  # two threads would each renew a token that has run out
            self._try("renew the login", self._client.get_bearer_token)
        return self._try(what, lambda: getattr(self._client, method)(path, **told))

    def subject_set(self, project: int, name: str) -> int:
        """The id of a project's subject set of that name; it is made where there is none."""
        for found in self._listed("look for the subject set", "subject_sets", project_id=project):
            if found["display_name"] == name:
                return int(found["id"])
        made = {"display_name": name, "links": {"project": str(project)}}
        answer, _ = self._call("make a subject set", "post", "/subject_sets", json={"subject_sets": made})
        return int(self._try("make a subject set", lambda: answer["subject_sets"][0]["id"]))

    def subjects(self, subject_set: int) -> Generator[tuple[int, dict[str, Any]], None, None]:
        """Every subject of a set: id and metadata."""
        for found in self._listed("list the subject set", "subjects", subject_set_id=subject_set):
            yield int(found["id"]), found.get("metadata") or {}

    def _listed(self, what: str, kind: str, **of: int) -> Generator[dict[str, Any], None, None]:
        page, n_pages = 1, 1
        while page <= n_pages:
            told = {**of, "page": page, "page_size": BATCH}
            answer, _ = self._call(what, "get", f"/{kind}", params=told, retry=True)
            found, n_pages = self._try(what, partial(_page_of, answer, kind))
            yield from found
            page += 1

    def create_subject(self, project: int, subject_set: int, metadata: dict[str, str]) -> tuple[int, str]:
        """Make a subject with one JPEG to come, in a set: its id, and where the image is to be put."""
        links = {"project": str(project), "subject_sets": [str(subject_set)]}
        told = {"subjects": {"locations": ["image/jpeg"], "metadata": metadata, "links": links}}
        answer, _ = self._call("make a subject", "post", "/subjects", json=told)
        made = self._try("make a subject", lambda: answer["subjects"][0])
        url: str = self._try("make a subject", lambda: next(iter(made["locations"][0].values())))
        return int(made["id"]), url

    def put_image(self, url: str, content: bytes) -> None:
        """Put an image where `create_subject` said."""
        import requests

        headers = {"Content-Type": "image/jpeg", "x-ms-blob-type": "BlockBlob"}

        def put() -> None:
            requests.put(url, data=content, headers=headers, timeout=TIMEOUT_S).raise_for_status()

        self._try("take an image", put)

    def delete_subject(self, subject: int) -> None:
        """Remove a subject."""
        answer = self._call("read a subject", "get", f"/subjects/{subject}", retry=True)
        self._call("remove a subject", "delete", f"/subjects/{subject}", etag=answer[1])

    def retire(self, workflow: int, subjects: Sequence[int], reason: str) -> None:
        """Retire subjects in a workflow, at most `BATCH` at once."""
        told = {"subject_ids": [str(i) for i in subjects], "retirement_reason": reason}
        self._call("retire subjects", "post", f"/workflows/{workflow}/retired_subjects", json=told, retry=True)


def _page_of(answer: dict[str, Any], kind: str) -> tuple[list[dict[str, Any]], int]:
    """What a page lists, and how many pages there are."""
    return list(answer[kind]), int(answer.get("meta", {}).get(kind, {}).get("page_count") or 1)


class _Journal:
    """What was done, on the disk before the next step."""

    def __init__(self, path: Path) -> None:
        self.head: dict[str, Any] = {}
        self.creating: set[str] = set()
        self.created: dict[str, int] = {}
        self.uploaded: set[str] = set()
        whole = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                try:
                    step = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    step = None
                if not isinstance(step, dict):
                    break  # killed while it was written
                whole += len(line)
                self._take(step)
        self._file: BinaryIO = path.open("ab")
        self._file.truncate(whole)
        self._lock = threading.Lock()

    def _take(self, step: dict[str, Any]) -> None:
        if "endpoint" in step:
            self.head = step
        elif "creating" in step:
            self.creating.add(step["creating"])
        elif "created" in step:
            self.creating.discard(step["created"])
            self.created[step["created"]] = int(step["id"])
        elif "uploaded" in step:
            self.uploaded.add(step["uploaded"])
        elif "removed" in step:
            self.creating.discard(step["removed"])
            self.created.pop(step["removed"], None)

    def note(self, **step: Any) -> None:
        """Write a step."""
        with self._lock:
            self._file.write(json.dumps(step).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._take(step)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def upload(zooniverse: Zooniverse, folder: Path, project: int, name: str) -> Generator[Progress, None, dict[str, Any]]:
    """Upload an exported folder into a project's subject set; go on where an earlier call was stopped.

    Returns
    -------
    dict
        ``ids``: subject_id of the survey → id on Zooniverse; ``n_new``: uploaded by this call; ``subject_set``.

    Raises
    ------
    UsageError
        No export, or one that goes to another project or set.
    ZooniverseError
        Zooniverse cannot be reached or refused; what was done is noted, and the same call goes on.
    """
    wanted = read_manifests(folder)
    journal = _Journal(folder / JOURNAL)
    try:
        asked = {"endpoint": zooniverse.endpoint, "project": project, "name": name}
        if not journal.head:
            journal.note(**asked, subject_set=zooniverse.subject_set(project, name))
        elif {key: journal.head.get(key) for key in asked} != asked:
            head = journal.head
            raise UsageError(
                f'{folder} is being uploaded as "{head["name"]}" to project {head["project"]} of {head["endpoint"]}; '
                "export another folder for another one"
            )
        subject_set = int(journal.head["subject_set"])
        _settle(zooniverse, journal, subject_set, wanted)
        left = [(path, metadata) for path, metadata in wanted if path.name not in journal.uploaded]
        n_new = len(left)

        def one(item: tuple[Path, dict[str, str]]) -> None:
            path, metadata = item
            content = path.read_bytes()
            journal.note(creating=path.name)
            subject, url = zooniverse.create_subject(project, subject_set, metadata)
            journal.note(created=path.name, id=subject)
            zooniverse.put_image(url, content)
            journal.note(uploaded=path.name)

        yield Progress(len(wanted) - n_new, len(wanted), "uploading")
        workers = ThreadPoolExecutor(AT_ONCE, "upload")
        try:
            for done, _ in enumerate(workers.map(one, left), len(wanted) - n_new + 1):
                yield Progress(done, len(wanted), "uploading")
        finally:
            workers.shutdown(cancel_futures=True)
        ids = {int(metadata[OWN_ID]): journal.created[path.name] for path, metadata in wanted}
        return {"ids": ids, "n_new": n_new, "subject_set": subject_set}
    finally:
        journal.close()


def _settle(
    zooniverse: Zooniverse, journal: _Journal, subject_set: int, wanted: list[tuple[Path, dict[str, str]]]
) -> None:
    """Find out what became of subjects whose answer was lost, and remove those that never got their image."""
    if journal.creating:
        by_id = {metadata[OWN_ID]: path.name for path, metadata in wanted if path.name in journal.creating}
        for subject, metadata in zooniverse.subjects(subject_set):
            name = by_id.get(str(metadata.get(OWN_ID, "")))
            if name is not None:
                journal.note(created=name, id=subject)
    for name, subject in sorted(journal.created.items()):
        if name not in journal.uploaded:
            zooniverse.delete_subject(subject)
            journal.note(removed=name)


def remember(survey: Survey, ids: dict[int, int]) -> int:
    """Write Zooniverse's ids beside the survey's; how many subjects had another one already, which they keep.

    Raises
    ------
    SurveyError
        Another command writes into the survey.
    """
    with survey.lock():
        survey.refresh()
        rows = survey.rows_of(list(ids))
        given = np.full(survey.n, -1, np.int64)
        given[rows[rows >= 0]] = np.array(list(ids.values()), np.int64)[rows >= 0]
        before = pq.read_table(survey.path / SUBJECTS, columns=["zooniverse_subject_id"]).column(0).combine_chunks()
        new = pa.array(given, mask=given < 0)
        after = pc.coalesce(before, new)
        n_other = int(pc.sum(pc.fill_null(pc.not_equal(after, new), False)).as_py() or 0)
        if not after.equals(before):
            field = SUBJECTS_SCHEMA.field("zooniverse_subject_id")
            rewrite(survey, {field.name: (field, pa.chunked_array([after]))})
            survey.refresh()
    return n_other


def zooniverse_ids(survey: Survey, rows: np.ndarray) -> np.ndarray:
    """Zooniverse's ids of rows, int64; those without one are left out."""
    return np.asarray(survey.arrow("zooniverse_subject_id").take(pa.array(rows)).drop_null().to_numpy(), np.int64)


def retire(zooniverse: Zooniverse, workflow: int, subjects: np.ndarray, reason: str) -> Generator[Progress, None, int]:
    """Retire subjects of Zooniverse in a workflow; how many. Asked again, it changes nothing."""
    for first in range(0, len(subjects), BATCH):
        yield Progress(first, len(subjects), "retiring")
        zooniverse.retire(workflow, subjects[first : first + BATCH].tolist(), reason)
    return len(subjects)
