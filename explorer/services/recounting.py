"""Kind ``consensus``: what `explorer.services.volunteers.recount` does, as a job.

Settings that are told differ from what was decided for this run alone: its table lies in the run's folder, and the
survey's columns stay as they are. Without any, the survey's own tables are made anew. Nothing is written to the ledger.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.counting import Counting
from explorer.services.volunteers import Volunteers, sentences
from explorer.survey import Survey
from explorer.votes import CONSENSUS
from models.artifacts import Workspace, write_json, write_table
from models.progress import Progress

if TYPE_CHECKING:
    from explorer.kinds.consensus import ConsensusConfig

ABOUT = "consensus.json"  # in the run's folder: what was counted, as `Volunteers.recount` says
STEPS = 3


def settings_of(config: ConsensusConfig, decided: Counting) -> Counting:
    """What was decided, but for what the run's settings say.

    Raises
    ------
    UsageError
        They are no way to count votes.
    """
    names = {f.name for f in fields(Counting)}
    told = {f.name: getattr(config, f.name) for f in fields(config)}
    changes = {name: value for name, value in told.items() if name in names and value is not None}
    first, last = decided.versions
    versions = (
        first if config.first_version is None else config.first_version,
        last if config.last_version is None else config.last_version,
    )
    return replace(decided, versions=versions, **changes)


def run(config: ConsensusConfig, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Count the votes of `workspace.survey`; see the module.

    Returns
    -------
    dict
        ``question``, ``basis``, ``n_votes``, ``n_subjects`` (with a vote), ``n_volunteers``, ``n_left_out``,
        ``n_unknown`` (votes on subjects that the survey does not have), ``is_simulated``, ``weights``, and whether the
        survey's columns are of this counting (``is_the_surveys``).

    Raises
    ------
    UsageError
        Nobody has voted, or nobody was asked that question.
    """
    if workspace.survey is None:
        raise UsageError("votes are counted in a survey's folder, and this run has none")
    yield Progress(0, STEPS, "reading votes")
    with (
        contextlib.closing(Survey.open(workspace.survey)) as survey,
        Ledger(survey.path, survey.info.survey_id) as ledger,
    ):
        if len(workspace.subject_ids) != survey.n:
            raise UsageError("votes are counted of the whole survey; leave out the selection")
        volunteers = Volunteers(survey, ledger)
        n_asked = sum(question.n_votes for question in volunteers.questions())
        if not n_asked:
            raise UsageError(
                f"nobody has voted on any subject of {survey.path}; `voorwerp ingest` takes a project's votes, and "
                "`voorwerp invite` opens a page where volunteers vote"
            )
        settings = settings_of(config, volunteers.settings)
        is_the_surveys = settings == volunteers.settings
        yield Progress(1, STEPS, f"counting {n_asked:,} votes", {"n_votes": n_asked})
        if is_the_surveys:
            about = volunteers.recount()
            table = pq.read_table(survey.path / CONSENSUS)
        else:
            about, table = volunteers.counted(settings)
        yield Progress(2, STEPS, "writing the consensus", {"n_votes": about["n_votes"]})
        write_table(workspace.directory / CONSENSUS, table)
        write_json(workspace.directory / ABOUT, {**about, "said": sentences(about)})
        yield Progress(STEPS, STEPS, "counted", {"n_votes": about["n_votes"], "n_subjects": about["n_subjects"]})
    results = {name: about[name] for name in ("basis", "n_votes", "n_subjects", "n_unknown", "is_simulated")}
    results |= {"question": about["title"], "n_left_out": sum(about.get("left_out", {}).values())}
    results |= {name: about[name] for name in ("n_volunteers", "weights") if about[name] is not None}
    return results | {"is_the_surveys": is_the_surveys}
