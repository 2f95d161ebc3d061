"""From votes to a consensus: what is counted, who counts how much, and the columns that every screen shows.

One `Volunteers` per server, or per script. Votes come from the survey's files (`explorer.votes`) and from our own page
(the ledger); what is made of them, ``consensus.parquet``, ``volunteers.parquet`` and ``crowd.parquet``, are caches with
all that went into them in their metadata. How votes are counted is a decision: it lies in the ledger.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.counting import (
    FLAGS,
    UNITS,
    YES,
    Asked,
    Counting,
    Everything,
    Learned,
    Question,
    codes_of,
    columns_of,
    consensus_of,
    consensus_of_totals,
    given_of,
    known_version,
    learn,
    no_such_answer,
    own_tags,
    own_votes,
    people_of,
    read_table,
    stamp_of,
    weights_of,
)
from explorer.services.talk import Talk
from explorer.services.training import training_classes
from explorer.survey import ROW_GROUP, Survey, counted
from explorer.votes import (
    CACHES,
    CHOSEN,
    CLASSIFICATIONS,
    CLASSIFICATIONS_SCHEMA,
    CONSENSUS,
    CROWD,
    EXPERIENCE,
    EXPERIENCE_SCHEMA,
    FILES,
    GOLD,
    GOLD_SCHEMA,
    NO_WORKFLOW,
    OWN_WORKFLOW,
    TALK_TAGS_SCHEMA,
    TOTALS,
    TOTALS_SCHEMA,
    VOLUNTEERS,
    VOLUNTEERS_SCHEMA,
)
from models.artifacts import replacing, sha256_json
from models.consensus import Votes

#: Kinds of entries of the ledger: votes of our own page, and how votes are counted.
CLASSIFICATION, COUNTING = "classification", "counting"
#: Bumped when what is made of the same votes changes.
_VERSION = 1


class _Counted(NamedTuple):
    """What comes of counting: what `Volunteers.recount` answers, and what it writes."""

    about: dict[str, Any]
    table: pa.Table
    people: pa.Table
    columns: dict[str, Any]
    votes: Votes | None


class Volunteers:
    """What volunteers said of the subjects of one survey. Thread-safe."""

    def __init__(self, survey: Survey, ledger: Ledger, talk: Talk | None = None) -> None:
        self.survey, self.ledger = survey, ledger
        self.talk = talk or Talk(survey)
        self._counting = threading.RLock()
        self._reading = threading.Lock()
        self._last = 0
        self._settled = Counting()
        self._own: list[pa.Table] = []
        self._own_ids: list[int] = []
        self._own_key = sha256_json([])
        self._tags = TALK_TAGS_SCHEMA.empty_table()
        self._files: tuple[str, Everything] | None = None
        self._consensus: dict[tuple[int, str], tuple[str, pa.Table]] = {}
        self._votes: tuple[str, Votes | None, dict[str, int]] | None = None
        self._abouts: dict[str, tuple[Any, dict[str, Any]]] = {}

    # ---------------------------------------------------------------------------------------------- what is decided
    def _read_ledger(self) -> None:
        """Take in what the ledger has got since the last look; after an undo, all of it again."""
        with self._reading:
            kinds = (CLASSIFICATION, COUNTING)
            fresh = self.ledger.entries((*kinds, "undo"), since=self._last, include_undone=True)
            if not fresh:
                return
            last, tags = fresh[-1].id, self._tags
            if any(entry.kind == "undo" for entry in fresh):
                fresh = [entry for entry in self.ledger.entries(kinds) if entry.id <= last]  # later ones come next time
                self._own, self._own_ids, self._settled = [], [], Counting()
                self._tags = TALK_TAGS_SCHEMA.empty_table()
            if own := [entry for entry in fresh if entry.kind == CLASSIFICATION]:
                self._own = [*self._own, own_votes(own)]
                self._own_ids += [entry.id for entry in own]
                if len(given := own_tags(own)):
                    self._tags = pa.concat_tables([self._tags, given]).unify_dictionaries()
            self._own_key = sha256_json(self._own_ids)  # not how many: one may be taken back and another given
            if decided := [entry for entry in fresh if entry.kind == COUNTING]:
                self._settled = Counting.of(decided[-1].payload)
            self._last = last
            if self._tags is not tags:
                self.talk.hear(self._tags)

    @property
    def settings(self) -> Counting:
        """How votes are counted: the last decision on it, else the defaults."""
        self._read_ledger()
        return self._settled

    def decide(self, settings: Counting, *, who: str, client_id: str | None = None) -> dict[str, Any]:
        """Count in another way from now on; `recount`'s answer.

        Raises
        ------
        UsageError
            No such workflow, task or answer.
        """
        self._choose(self._all(), settings)
        self.ledger.append(COUNTING, asdict(settings), who=who, client_id=client_id)
        return self.recount()

    # ------------------------------------------------------------------------------------------------------ reading
    def _files_key(self) -> str:
        stamps = [[name, *stamp] for name in FILES if (stamp := stamp_of(self.survey.path / name))]
        return sha256_json({"version": _VERSION, "n": self.survey.n, "files": stamps})

    def _key(self) -> str:
        """Of everything that goes into the caches."""
        self._read_ledger()
        own = sorted({c.name for c in self.survey.columns()} - set(self.survey.columns_of_crowd()))
        settings = asdict(self._settled)
        return sha256_json({"files": self._files_key(), "settings": settings, "own": self._own_key, "columns": own})

    def _all(self) -> Everything:
        self._read_ledger()
        with self._counting:
            key = self._files_key()
            if self._files is None or self._files[0] != key:
                self._files = (key, self._read(key))
            files = self._files[1]
        with self._reading:
            own, own_key = self._own, self._own_key
        if not own:
            return files
        table = pa.concat_tables(own).unify_dictionaries()
        names, code = codes_of(table, "volunteer")
        asked, n_unknown = self._asked(table, code + len(files.names))
        return Everything(
            files.asked | asked,
            files.totals,
            np.concatenate([files.names, names]),
            np.concatenate([files.is_anonymous, np.zeros(len(names), np.bool_)]),
            files.n_unknown + n_unknown,
            files.key,
            own_key,
        )

    def _read(self, key: str) -> Everything:
        """The files' votes."""
        table = read_table(self.survey.path / CLASSIFICATIONS, CLASSIFICATIONS_SCHEMA)
        names, code = codes_of(table, "volunteer")
        asked, n_unknown = self._asked(table, code)
        is_anonymous = np.zeros(len(names), np.bool_)
        is_anonymous[code[table.column("is_anonymous").fill_null(False).to_numpy()]] = True
        totals = read_table(self.survey.path / TOTALS, TOTALS_SCHEMA)
        if len(totals):
            keys = zip(totals.column("workflow_id").to_pylist(), totals.column("task").to_pylist(), strict=True)
            here = self.survey.rows_of(totals.column("subject_id").to_numpy()) >= 0
            n_unknown += int((~here).sum())
            totals = totals.filter(pa.array(here & np.array([key not in asked for key in keys])))
        return Everything(asked, totals, names, is_anonymous, n_unknown, key)

    def _asked(self, table: pa.Table, volunteer: np.ndarray) -> tuple[dict[tuple[int, str], Asked], int]:
        """Votes by workflow and task, and how many rows are on subjects that the survey does not have."""
        rows = self.survey.rows_of(table.column("subject_id").to_numpy())
        is_here = rows >= 0
        (tasks, task), (answers, answer) = codes_of(table, "task"), codes_of(table, "answer")
        versions, version = codes_of(table, "workflow_version")
        version_of = np.array([known_version(v) for v in versions], np.int64)
        workflow, workflows = pd.factorize(table.column("workflow_id").to_numpy())
        columns = {
            "row": rows,
            "volunteer": volunteer,
            "classification": table.column("classification_id").to_numpy(),
            "version": version_of[version],
            "at": table.column("created_at").cast(pa.timestamp("us")).to_numpy(),
        }
        flags = {
            name: table.column(name).fill_null(name == "is_live").to_numpy() if name in table.column_names else None
            for name in FLAGS
        }
        found = {}
        question = workflow * len(tasks) + task
        for pair in np.flatnonzero(np.bincount(question[is_here])):
            key = (int(workflows[pair // len(tasks)]), str(tasks[pair % len(tasks)]))
            is_it = is_here & (question == pair)
            given = np.flatnonzero(np.bincount(answer[is_it]))
            words = sorted((str(answers[a]), int(a)) for a in given if answers[a])
            place = np.full(len(answers), -1, np.int64)
            place[[a for _, a in words]] = np.arange(len(words))
            found[key] = Asked(
                *key,
                answers=tuple(word for word, _ in words) or (CHOSEN,),  # seen, and never chosen
                answer=place[answer[is_it]],
                flags={n: np.zeros(is_it.sum(), np.bool_) if v is None else v[is_it] for n, v in flags.items()},
                **{name: values[is_it] for name, values in columns.items()},
            )
        return found, int((~is_here).sum())

    # -------------------------------------------------------------------------------------------------- the question
    def questions(self) -> list[Question]:
        """Everything that volunteers were asked, the most answered first."""
        everything, found = self._all(), []
        for (workflow_id, task), asked in everything.asked.items():
            n_subjects, n_volunteers = len(pd.unique(asked.row)), len(pd.unique(asked.volunteer))
            n_votes = len(pd.DataFrame({"c": asked.classification, "r": asked.row}).drop_duplicates())
            found += [
                Question(workflow_id, task, answer, n_subjects, n_votes, n_volunteers, asked.is_simulated)
                for answer in asked.answers
            ]
        if len(everything.totals):
            keys = ["workflow_id", "task", "answer"]
            grouped = everything.totals.group_by(keys).aggregate(
                [("subject_id", "count"), ("n_classifications", "sum")]
            )
            found += [
                Question(
                    r["workflow_id"],
                    r["task"],
                    r["answer"],
                    r["subject_id_count"],
                    r["n_classifications_sum"] or 0,
                    None,
                )
                for r in grouped.to_pylist()
            ]
        return sorted(found, key=lambda q: (-q.n_votes, q.workflow_id, q.task, q.answer))

    def _choose(self, everything: Everything, settings: Counting) -> tuple[int, str, str] | None:
        """Workflow, task and answer that the survey's columns are of; None where nobody has said anything."""
        n_asked = {key: len(asked.row) for key, asked in everything.asked.items()}
        answers = {key: Counter(dict(zip(a.answers, given_of(a), strict=True))) for key, a in everything.asked.items()}
        for record in (
            everything.totals.group_by(["workflow_id", "task", "answer"])
            .aggregate([("n_classifications", "sum"), ("n_chosen", "sum")])
            .to_pylist()
        ):
            key = (record["workflow_id"], record["task"])
            answers.setdefault(key, Counter())[record["answer"]] = record["n_chosen_sum"] or 0
            n_asked[key] = max(n_asked.get(key, 0), record["n_classifications_sum"] or 0)
        if not n_asked:
            return None
        fit = {
            key: n
            for key, n in n_asked.items()
            if settings.workflow_id in (None, key[0]) and settings.task in (None, key[1])
        }
        if not fit:
            known = ", ".join(f"{workflow} {task}" for workflow, task in sorted(n_asked))
            raise UsageError(
                f"nobody was asked task {settings.task} of workflow {settings.workflow_id}; there are {known}"
            )
        key = max(fit, key=lambda k: (fit[k], k))
        if settings.answer is not None:
            if settings.answer not in answers[key]:
                raise no_such_answer(settings.answer, answers[key])
            return (*key, settings.answer)
        wanted = [answer for yes in YES for answer in answers[key] if answer.lower() == yes]
        return (*key, wanted[0] if wanted else answers[key].most_common(1)[0][0])

    def votes(self) -> Votes | None:
        """The votes on the chosen question after what is left out; None where only totals are known, or nothing."""
        return self._chosen_votes()[0]

    @property
    def left_out(self) -> dict[str, int]:
        """Of the chosen question: reason → classifications left out."""
        return self._chosen_votes()[1]

    def _chosen_votes(self) -> tuple[Votes | None, dict[str, int]]:
        key = self._key()
        held = self._votes
        if held is None or held[0] != key:
            everything, settings = self._all(), self.settings
            held = self._votes = (key, *self._votes_of(everything, settings, self._choose(everything, settings)))
        return held[1:]

    def _votes_of(
        self, everything: Everything, settings: Counting, chosen: tuple[int, str, str] | None
    ) -> tuple[Votes | None, dict[str, int]]:
        asked = everything.asked.get(chosen[:2]) if chosen else None
        if asked is None:
            return None, {}
        keep, left_out = asked.keep(settings, everything.names)
        return asked.votes(keep, self.survey.n, len(everything.names)), left_out

    def gold(self) -> np.ndarray:
        """What is known of each subject: int8 (N,), 1 the chosen answer is right, 0 it is not, −1 unknown."""
        return self._gold(self._choose(self._all(), self.settings))

    def _gold(self, chosen: tuple[int, str, str] | None) -> np.ndarray:
        if chosen is not None and chosen[0] == OWN_WORKFLOW:
            return training_classes(self.survey, self.ledger)
        known = np.full(self.survey.n, -1, np.int8)
        table = read_table(self.survey.path / GOLD, GOLD_SCHEMA)
        if chosen is None or not len(table):
            return known
        of_it = np.array(
            [
                workflow in (NO_WORKFLOW, chosen[0]) and task in ("", chosen[1])
                for workflow, task in zip(
                    table.column("workflow_id").to_pylist(), table.column("task").to_pylist(), strict=True
                )
            ]
        )
        rows = self.survey.rows_of(table.column("subject_id").to_numpy())
        is_right = np.array([answer == chosen[2] for answer in table.column("answer").to_pylist()])
        of_it &= rows >= 0
        known[rows[of_it]] = is_right[of_it]
        return known

    @property
    def is_simulated(self) -> bool:
        """Whether any of the votes that the survey's columns are made of is simulated."""
        return bool(self.summary().get("is_simulated"))

    # ------------------------------------------------------------------------------------------------------- counting
    def summary(self) -> dict[str, Any]:
        """What crowd.parquet was made of, as `recount` says; {} where there is none."""
        return self._about(CROWD)

    def _about(self, name: str) -> dict[str, Any]:
        path = self.survey.path / name
        stamp = stamp_of(path)
        if stamp is None:
            return {}
        held = self._abouts.get(name)
        if held is None or held[0] != stamp:
            try:
                told = json.loads((pq.read_schema(path).metadata or {}).get(b"voorwerp", b"{}"))
            except (pa.ArrowException, OSError, ValueError):
                told = {}
            held = self._abouts[name] = (stamp, told)
        return held[1]

    def is_stale(self) -> bool:
        """Whether votes, or how they are counted, have changed since the columns were made."""
        made = self.summary()
        if not made and not self._has_anything():
            return False
        names = CACHES if "title" in made else (CROWD,)  # two processes that count at once may leave a mixture
        return any(self._about(name).get("key") != self._key() for name in names)

    def _has_anything(self) -> bool:
        self._read_ledger()
        return bool(self._own) or any((self.survey.path / name).exists() for name in FILES)

    def poll(self) -> bool:
        """Count again where something is new; whether it was. Called by the server off its loop, every few seconds."""
        if not self.is_stale():
            return False
        self.recount()
        return True

    def recount(self) -> dict[str, Any]:
        """Count all votes and write consensus.parquet, volunteers.parquet and crowd.parquet, each whole.

        Returns
        -------
        dict
            ``key``, ``settings``, ``workflow_id``, ``task``, ``answer``, ``title``, ``basis`` (as counted),
            ``n_votes``, ``n_subjects`` (with a vote), ``n_volunteers``, ``left_out`` (reason → classifications),
            ``n_unknown`` (rows on subjects that the survey does not have), ``is_simulated``, ``weights`` (None for
            totals), ``skill_from`` and ``n_gold`` (how skill was learned).
        """
        with self._counting:
            key, settings, everything = self._key(), self.settings, self._all()
            chosen = self._choose(everything, settings)
            if chosen is None:
                for name in CACHES:
                    (self.survey.path / name).unlink(missing_ok=True)
                about: dict[str, Any] = {"key": key}
                if self._has_anything():  # Talk alone
                    self._write_crowd(about, {})
                return about
            counted = self._count(key, settings, everything, chosen)
            if chosen[:2] in everything.asked:
                self._votes = (key, counted.votes, counted.about["left_out"])
            self._write(CONSENSUS, counted.table, counted.about)
            self._write(VOLUNTEERS, counted.people, counted.about)
            self._write_crowd(counted.about, counted.columns)
            return counted.about

    def counted(self, settings: Counting) -> tuple[dict[str, Any], pa.Table]:
        """What `recount` would say, and its consensus, if votes were counted so; nothing is written.

        Raises
        ------
        UsageError
            Nobody was asked that, or at all.
        """
        with self._counting:
            everything = self._all()
            chosen = self._choose(everything, settings)
            if chosen is None:
                raise UsageError(f"nobody has voted on any subject of {self.survey.path}")
            found = self._count(self._key(), settings, everything, chosen)
            return found.about, found.table

    def _count(self, key: str, settings: Counting, everything: Everything, chosen: tuple[int, str, str]) -> _Counted:
        asked = everything.asked.get(chosen[:2])
        n_elsewhere = self._elsewhere(everything.names)
        about = {
            "key": key,
            "settings": asdict(settings),
            "workflow_id": chosen[0],
            "task": chosen[1],
            "answer": chosen[2],
            "title": Question(*chosen, 0, 0, None).title,
            "n_unknown": everything.n_unknown,
            "is_simulated": asked is not None and asked.is_simulated,
        }
        learned: Learned | None = None
        votes: Votes | None = None
        if asked is not None:
            votes, left_out = self._votes_of(everything, settings, chosen)  # more may be cast meanwhile
            if votes is not None and len(votes.subject):
                learned = self._learned(asked, settings, everything, chosen)
                about |= {"skill_from": learned.how, "n_gold": int(learned.is_gold.sum())}
            about |= {"left_out": left_out}
            people = people_of(asked, votes, learned, everything, n_elsewhere)
        else:
            people = VOLUNTEERS_SCHEMA.empty_table()
        weights = weights_of(settings, n_elsewhere, learned)
        tables = {
            key: self._table_of(one, settings, everything, weights, chosen) for key, one in everything.asked.items()
        }
        for one in consensus_of_totals(everything.totals, settings.basis):
            tables[one.column("workflow_id")[0].as_py(), one.column("task")[0].as_py()] = one
        mine = tables[chosen[:2]]
        columns = columns_of(mine, chosen[2], self.survey, learned)
        about |= {
            "basis": mine.column("fraction_basis")[0].as_py() if len(mine) else settings.basis,
            "n_subjects": int((columns["n_votes"] > 0).sum()),
            "n_votes": int(columns["n_classifications"].sum()),
            "n_volunteers": len(people) or None,
            "weights": settings.weights if asked is not None else None,
        }
        return _Counted(about, pa.concat_tables(tables.values()).unify_dictionaries(), people, columns, votes)

    def _learned(
        self, asked: Asked, settings: Counting, everything: Everything, chosen: tuple[int, str, str]
    ) -> Learned:
        """Skill, from what is counted and from training subjects, which are not."""
        keep, _ = asked.keep(settings, everything.names)
        training = asked.flags["is_training"]
        votes = asked.votes(keep | training, self.survey.n, len(everything.names))
        learned = learn(votes, asked.answers.index(chosen[2]), self._gold(chosen))
        unseen = np.ones(self.survey.n, np.bool_)
        unseen[asked.row[keep]] = False
        learned.probability[unseen] = np.nan
        return learned

    def _elsewhere(self, names: np.ndarray) -> np.ndarray:
        """Classifications in other projects, float64 (V,), NaN where unknown."""
        table = read_table(self.survey.path / EXPERIENCE, EXPERIENCE_SCHEMA)
        known: Counter[str] = Counter()
        for name, n in zip(table.column("volunteer").to_pylist(), table.column("n_elsewhere").to_pylist(), strict=True):
            known[name] += n or 0
        return np.array([known.get(name, np.nan) for name in names], np.float64)

    def _table_of(
        self,
        asked: Asked,
        settings: Counting,
        everything: Everything,
        weights: np.ndarray | None,
        chosen: tuple[int, str, str],
    ) -> pa.Table:
        """The consensus of one task, by `CONSENSUS_SCHEMA`; kept while nothing that it is made of changes."""
        key = (asked.workflow_id, asked.task)
        own = everything.own_key if asked.workflow_id == OWN_WORKFLOW else ""
        weighed = None if weights is None else hashlib.sha256(weights.tobytes()).hexdigest()
        answer = chosen[2] if chosen[:2] == key else None
        made_of = sha256_json([everything.key, asdict(settings), own, weighed, answer])
        held = self._consensus.get(key)
        if held is None or held[0] != made_of:
            held = self._consensus[key] = (
                made_of,
                consensus_of(asked, settings, everything.names, self.survey, weights, answer),
            )
        return held[1]

    def _write(self, name: str, table: pa.Table, about: dict[str, Any]) -> None:
        table = table.replace_schema_metadata({b"voorwerp": json.dumps(about).encode()})
        with replacing(self.survey.path / name) as file:
            pq.write_table(table, file, row_group_size=ROW_GROUP, compression="zstd")

    def _write_crowd(self, about: dict[str, Any], columns: dict[str, Any]) -> None:
        taken = {c.name for c in self.survey.columns()} - set(self.survey.columns_of_crowd())
        arrays, fields = [], []
        for name, values in (columns | self.talk.columns()).items():
            array = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
            # a unit stands wherever a column's name does, and so does this word
            said = [UNITS.get(name), "simulated" if about.get("is_simulated") and name in columns else None]
            metadata = {"unit": ", ".join(word for word in said if word)} if any(said) else {}
            metadata |= {"kind": "category"} if pa.types.is_string(array.type) else {}
            arrays.append(array)
            fields.append(
                pa.field(f"volunteers_{name}" if name in taken else name, array.type, metadata=metadata or None)
            )
        schema = pa.schema(fields)
        self._write(CROWD, pa.table(arrays, schema=schema), about)

    # ---------------------------------------------------------------------------------------------------- the people
    def people(self) -> dict[str, np.ndarray]:
        """Who has voted on the chosen question: columns of `explorer.votes.VOLUNTEERS_SCHEMA`, NaN where unknown."""
        table = read_table(self.survey.path / VOLUNTEERS, VOLUNTEERS_SCHEMA)
        return {
            name: np.asarray(table.column(name).to_pylist(), object)
            if pa.types.is_string(table.schema.field(name).type)
            else table.column(name).to_numpy()
            for name in table.column_names
        }


def recount(path: Path | str) -> list[str]:
    """Count the votes of a survey again, as it has been decided to count them; what came of it, in sentences."""
    with contextlib.closing(Survey.open(path)) as survey, Ledger(survey.path, survey.info.survey_id) as ledger:
        return sentences(Volunteers(survey, ledger).recount())


def sentences(about: dict[str, Any]) -> list[str]:
    """What `Volunteers.recount` answered, for a person."""
    if "title" not in about:
        return ["nobody has voted on any subject of this survey"]
    by = f" by {counted(about['n_volunteers'], 'volunteer')}" if about["n_volunteers"] else ""
    said = [
        f"{'simulated votes: ' if about['is_simulated'] else ''}{about['title']}: "
        f"{counted(about['n_votes'], 'classification')} of {counted(about['n_subjects'], 'subject')}{by}, "
        f"fractions by {about['basis']}"
    ]
    said += [f"left out: {n:,} {reason}" for reason, n in about.get("left_out", {}).items()]
    if about["n_unknown"]:
        said.append(f"{counted(about['n_unknown'], 'vote')} on subjects that this survey does not have")
    return said
