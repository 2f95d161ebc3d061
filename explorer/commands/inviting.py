"""``voorwerp invite``: links by which anybody may take part as a volunteer."""

from pathlib import Path
from urllib.parse import urlsplit

import click

from explorer.errors import UsageError


@click.command()
@click.argument("survey", type=click.Path(path_type=Path))
@click.option("--name", help="Make a link of this name; it is shown this once.")
@click.option("--most", type=click.IntRange(1), help="Grids that may be answered by it  [default: 100000]")
@click.option("--revoke", metavar="NAME", help="Take a link back, at once, from those who came by it, too.")
@click.option("--list", "is_list", is_flag=True, help="List all links  [default]")
def invite(survey: Path, name: str | None, most: int | None, revoke: str | None, is_list: bool) -> None:
    """Make, list or take back links to the page for volunteers of SURVEY.

    A link opens /classify and nothing else, while `voorwerp serve SURVEY --open-links` runs.
    """
    if sum([name is not None, revoke is not None, is_list]) > 1 or (most is not None and name is None):
        raise UsageError("give one of --name (with --most or not), --revoke and --list")
    from explorer.services.invitations import MOST_GRIDS, Invitations, served_at
    from explorer.survey import Survey

    opened = Survey.open(survey)
    opened.close()
    links = Invitations(opened.info.survey_id)
    if name is not None:
        token = links.make(name, most or MOST_GRIDS)
        address, is_open = served_at(survey) or ("", False)
        click.echo(f"{address}/classify?link={token}")
        if not address:
            click.echo("Append this to the address that `voorwerp serve SURVEY --open-links` prints.")
        elif not is_open:
            click.echo("The server that runs there lets no links in: start it again with --open-links.")
        if urlsplit(address).hostname in ("127.0.0.1", "localhost"):
            click.echo("It opens on this machine alone; for others, serve with --address.")
        elif urlsplit(address).hostname == "0.0.0.0":
            click.echo("In place of 0.0.0.0 write this machine's name or address.")
        click.echo("Who has it can take part; it is not shown again.")
    elif revoke is not None:
        click.echo(f'the link "{links.revoke(revoke).name}" does not hold any more')
    else:
        for link in links.listed():
            until = f"taken back {link.revoked_at[:10]}" if link.revoked_at else "holds"
            click.echo(f"{link.id}  {link.name}  made {link.made_at[:10]}, {until}, {link.most_grids:,} grids at most")
        if not links.listed():
            click.echo("no link was made yet; --name makes one")
