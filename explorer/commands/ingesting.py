"""``voorwerp ingest``: exports of Zooniverse, tables of votes, and Talk."""

import time
from pathlib import Path

import click

from explorer.commands.making import show_making

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("survey", type=PATH)
@click.argument("files", nargs=-1, metavar="FILE...", type=PATH)
@click.option(
    "--experience",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="How much volunteers have done elsewhere: user_name,n, or another project's classification export.",
)
@click.option("--name", help="What a new survey is called.  [default: the folder's name]")
def ingest(survey: Path, files: tuple[Path, ...], experience: tuple[Path, ...], name: str | None) -> None:
    """Take what volunteers said into SURVEY; where there is no such folder, make it, without images.

    FILE is recognised by its content: Zooniverse's exports of classifications, subjects and workflows, Talk's comments
    and tags, reduced tables (subject_id,count,selected_count …), flat votes (item,worker,label), gold labels
    (item,truth). What cannot be taken is set aside with file and line. The same file again changes nothing, a newer
    export adds what is new. Names of volunteers become hashes.
    """
    from explorer.ingest.exports import IngestOptions
    from explorer.ingest.exports import ingest as take_in
    from explorer.services.simulated import n_simulated
    from explorer.services.volunteers import recount
    from explorer.survey import counted

    started = time.monotonic()
    ingested = show_making(take_in(survey, files, IngestOptions(experience, name)))
    for sentence in ingested.sentences():
        click.echo(sentence)
    for sentence in ingested.refused:
        click.secho(sentence, fg="red", err=True)
    if any(taken.n_aside for taken in ingested.taken):
        click.echo(f"what was set aside is in {survey / 'set_aside.parquet'}: file, line, id, reason")
    for sentence in recount(survey):
        click.echo(sentence)
    if n := n_simulated(survey):
        click.echo(
            f"{counted(n, 'simulated vote')} of this survey stand beside these; "
            f"`voorwerp simulate {survey} --remove` takes them away"
        )
    click.echo(f"({time.monotonic() - started:,.1f} s)")
    if ingested.refused:
        raise click.exceptions.Exit(1)
