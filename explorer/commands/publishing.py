"""``voorwerp export --for zooniverse`` and ``voorwerp retire``: subjects for a project on Zooniverse."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from explorer.commands.exporting import LAMBDA, LAMBDA_MODE, SURVEY, WHERE, as_the_app, selected_by
from explorer.commands.making import show_making
from explorer.commands.running import who
from explorer.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from explorer.survey import Survey
    from models.mixing import Mode

    Told = tuple[str | None, str | None, float | None, Mode | None]


def export_for_zooniverse(
    path: Path,
    folder: Path,
    selection: str | None,
    where: str | None,
    told: "Told",
    size: int | None,
    project: int | None,
    subject_set: str | None,
) -> None:
    """See `explorer.services.zooniverse`; with a project, `explorer.services.panoptes.upload`."""
    if (project is None) != (subject_set is None):
        raise UsageError("--upload and --subject-set go together: the project's id, and what its set is called")
    from explorer.services import panoptes
    from explorer.services.zooniverse import LEFT_OUT, MANIFEST, MAX_SUBJECTS, export_subjects
    from explorer.survey import Survey, counted

    # who may not upload learns so before 10,000 images are written
    zooniverse = panoptes.Zooniverse() if project is not None else None
    survey = Survey.open(path)
    try:
        rows, _ = _rows(survey, selection, where, told)
        made = show_making(export_subjects(survey, rows, folder, size))
        n, parts = made["n_subjects"], made["parts"]
        if made["is_new"]:
            where_to = f"{folder / MANIFEST}" if parts == [""] else f"{counted(len(parts), 'part')} of {folder}"
            click.echo(f"{n:,} of {counted(survey.n, 'subject')} are in {where_to}, with an image each and no score")
        else:
            click.echo(f"{folder} holds these {counted(n, 'subject')} already")
        if made["n_left_out"]:
            click.echo(f"{made['n_left_out']:,} have no image that can be shown: {folder / LEFT_OUT} says why")
        if not made["has_source_ids"]:
            click.echo("source ids stay behind, for some would be taken for files or formulas; subject ids join them")
        if n > MAX_SUBJECTS:
            click.echo(f"an account may upload {MAX_SUBJECTS:,} subjects unless Zooniverse allows it more")
        if zooniverse is not None and project is not None and subject_set is not None:
            with zooniverse:
                done = show_making(panoptes.upload(zooniverse, folder, project, subject_set))
            n_other = panoptes.remember(survey, done["ids"])
            click.echo(
                f"{done['n_new']:,} of {n:,} uploaded now, the others before: project {project}, subject set "
                f'"{subject_set}" ({done["subject_set"]}); the survey knows their ids on Zooniverse'
            )
            if n_other:
                click.echo(f"{counted(n_other, 'subject')} had an id on Zooniverse from before, and keep it")
    finally:
        survey.close()


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--workflow", type=click.IntRange(1), required=True, metavar="ID", help="In which they are retired.")
@click.option("--selection", metavar="NAME", help="The subjects of this selection.")
@WHERE
@click.option("--reason", type=click.Choice(("consensus", "nothing_here", "other")), default="other", show_default=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--run", "run_id", metavar="RUN", help="Whose scores --where asks.  [default: as the app]")
@click.option("--map", "map_id", metavar="MAP", help="Whose columns --where asks.  [default: as the app]")
@LAMBDA
@LAMBDA_MODE
def retire(
    survey: Path,
    workflow: int,
    selection: str | None,
    where: str | None,
    reason: str,
    yes: bool,
    run_id: str | None,
    map_id: str | None,
    lambda_: float | None,
    mode: Literal["raw", "standardised"] | None,
) -> None:
    """Retire subjects of SURVEY in a workflow on Zooniverse: nobody sees them there any more.

    They are those of --selection, or for which --where holds, that have an id on Zooniverse. Who asks comes from the
    environment: PANOPTES_TOKEN, or PANOPTES_CLIENT_ID and PANOPTES_CLIENT_SECRET, or PANOPTES_USERNAME and
    PANOPTES_PASSWORD.
    """
    if selection is None and where is None:
        raise UsageError("name the subjects to retire: --selection NAME, --where FILTER, or both")
    from explorer.ledger import Ledger
    from explorer.services import panoptes
    from explorer.survey import Survey, counted

    opened = Survey.open(survey)
    try:
        rows, how = _rows(opened, selection, where, (run_id, map_id, lambda_, mode))
        ids = panoptes.zooniverse_ids(opened, rows)
        if not len(ids):
            raise UsageError(f"none of {counted(len(rows), 'subject')} ({how}) has an id on Zooniverse")
        if missing := len(rows) - len(ids):
            click.echo(f"{missing:,} of {len(rows):,} have no id on Zooniverse and are passed over")
        with panoptes.Zooniverse() as zooniverse:
            if not yes:
                question = f"Retire {counted(len(ids), 'subject')} in workflow {workflow} of {zooniverse.endpoint}?"
                click.confirm(question, abort=True)
            with Ledger(opened.path, opened.info.survey_id) as ledger:
                digest = hashlib.sha256(",".join(map(str, sorted(ids.tolist()))).encode()).hexdigest()
                told = {"workflow": workflow, "reason": reason, "subjects": how, "n": len(ids), "sha256": digest}
                ledger.append("retirement", told, who=who())
            n = show_making(panoptes.retire(zooniverse, workflow, ids, reason))
        click.echo(f"{counted(n, 'subject')} retired in workflow {workflow} ({reason})")
    finally:
        opened.close()


def _rows(survey: "Survey", selection: str | None, where: str | None, told: "Told") -> "tuple[np.ndarray, str]":
    """Rows of what was asked for, all where nothing was, and how they were chosen."""
    import numpy as np

    from explorer.services.explore import Explore

    explore = Explore(survey)
    chosen, how = selected_by(explore, selection, where, *as_the_app(explore, *told))
    return (np.arange(survey.n) if chosen is None else chosen.rows().astype(np.int64)), how
