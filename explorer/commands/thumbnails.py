"""``voorwerp thumbnails``: the gallery's pictures, made again where they are missing or damaged."""

from pathlib import Path

import click

from explorer.commands.running import SURVEY


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--all", "everything", is_flag=True, help="Make all of them anew, the good ones too")
@click.option("--check", is_flag=True, help="Only say which are missing or damaged")
def thumbnails(survey: Path, everything: bool, check: bool) -> None:
    """Make the small pictures of SURVEY again where they are missing or damaged.

    They are made of the originals; of the network's crops where there is no original. A server may run meanwhile.
    """
    from explorer.commands.indexing import bar
    from explorer.services.thumbnails import remake, shards
    from explorer.survey import Survey

    opened = Survey.open(survey)
    try:
        found = shards(opened)
        wanted = [shard for shard in found if everything or shard.reason]
        for shard in wanted:
            if shard.reason:
                rows = f"rows {shard.first:,} to {shard.stop - 1:,}"
                click.echo(f"thumbnails/{shard.number:05d}.pack, {rows}: {shard.reason}")
        if check or not wanted:
            click.echo(f"{len(found) - sum(bool(s.reason) for s in found)} of {len(found)} files are good")
            return
        with bar("thumbnails: ") as tell:
            made = remake(opened, wanted, tell)
        crops = f", {made.of_crops:,} of crops, as these have no original" if made.of_crops else ""
        click.echo(f"{made.of_originals:,} made of originals{crops}")
    finally:
        opened.close()
