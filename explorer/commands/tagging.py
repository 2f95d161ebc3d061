"""``voorwerp tags``: which tags of Talk are taken for the same, and by how many people they were given."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from explorer.commands.running import SURVEY

if TYPE_CHECKING:
    from explorer.services.talk import TagGroup
    from explorer.survey import Survey


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--study", is_flag=True, help="By the grouping of the study, not by the survey's.")
@click.option("--write", is_flag=True, help="Put the map of tags into SURVEY, to be edited there: tag_groups.toml.")
def tags(survey: Path, study: bool, write: bool) -> None:
    """Say how the Talk tags of SURVEY's subjects are grouped.

    A tag's group is that of SURVEY/tag_groups.toml, else of the map that comes with Voorwerp. Case, separators, plurals
    and slips of the finger make no difference; what is taken for what stands in the last column. A tag that is in no
    group is a group of its own.
    """
    from explorer.errors import SurveyError, UsageError
    from explorer.ingest.tags import default_text
    from explorer.services.talk import Talk
    from explorer.survey import Survey
    from explorer.votes import TAG_GROUPS
    from models.artifacts import write_bytes

    opened = Survey.open(survey)
    if write:
        if (survey / TAG_GROUPS).exists():
            raise UsageError(f"{survey / TAG_GROUPS} is there already; edit it, or remove it for a new one")
        write_bytes(survey / TAG_GROUPS, default_text().encode())
        click.echo(f"{survey / TAG_GROUPS} written: what is edited there holds at once, on the screen too")
    talk = Talk(opened)
    if talk.trouble:
        raise SurveyError(talk.trouble)
    regroup(opened)
    groups = talk.groups(study)
    if not groups:
        click.echo(f"no subject of {survey} has a tag; `voorwerp ingest {survey} FILE…` takes an export of Talk")
    elif not write:
        show(groups, study)
    opened.close()


def regroup(survey: "Survey") -> None:
    """Bring the file of tags up to the map of groups, for whoever reads it elsewhere."""
    from explorer.ingest.tags import regrouped
    from explorer.services.counting import read_table
    from explorer.votes import TALK_TAGS, TALK_TAGS_SCHEMA
    from models.artifacts import write_table

    path = survey.path / TALK_TAGS
    if path.exists():
        with survey.lock():
            table, has_changed = regrouped(read_table(path, TALK_TAGS_SCHEMA), survey.path)
            if has_changed:
                write_table(path, table)


def show(groups: "list[TagGroup]", study: bool) -> None:
    """Print the groups, the commonest first."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Tags on Talk, grouped by the study" if study else "Tags on Talk", title_justify="left")
    table.add_column("group", overflow="fold")
    for name in ("subjects", "taggers", "given", "by one"):
        table.add_column(name, justify="right")
    table.add_column("tags (subjects)", overflow="fold")
    for group in groups:
        said = {"plural": ", plural", "typing": ", typing?"}
        members = [f"{raw} ({n:,}{said.get(how, '')})" for raw, (n, how) in group.members.items()]
        counts = (group.n_subjects, group.n_taggers, group.n_tags, group.n_by_one)
        told = ", ".join(members) if list(group.members) != [group.name] else ""
        table.add_row(group.name, *(f"{n:,}" for n in counts), told)
    Console(width=None if Console().is_terminal else 160, markup=False, highlight=False).print(table)
