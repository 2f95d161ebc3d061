"""``voorwerp serve`` and ``demo``: a survey in the browser."""

import ipaddress
from pathlib import Path

import click

from explorer.commands import workers
from explorer.commands.making import show_making
from explorer.commands.running import follow, job_service, who
from explorer.errors import AccessError

SURVEY = click.Path(path_type=Path)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5006, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port.")
@click.option("--no-browser", is_flag=True, help="Only print the URL.")
@click.option("--insecure", is_flag=True, help="Listen on another address than this machine's own without accounts.")
@click.option("--open-links", is_flag=True, help="Let in volunteers by the links of `voorwerp invite`.")
@click.option(
    "--retire-after",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="Volunteers after whom /classify shows a subject to nobody else.",
)
@workers.with_workers
def serve(
    survey: Path,
    address: str,
    port: int,
    no_browser: bool,
    insecure: bool,
    open_links: bool,
    retire_after: int,
    where: workers.Where,
) -> None:
    """Open SURVEY in the browser."""
    if not is_loopback(address) and not insecure:
        raise AccessError(
            f"{address} can be reached from other machines and this survey has no accounts; "
            "use --address 127.0.0.1, or --insecure if you trust everyone on that network"
        )
    from explorer.survey import Survey

    scheduler = where.check()
    Survey.open(survey).close()  # a wrong folder is one sentence now, not a page that fails
    from explorer.app import serve

    serve(
        survey,
        address=address,
        port=port,
        open_browser=not no_browser,
        open_links=open_links,
        retire_after=retire_after,
        scheduler=scheduler,
        workers=where.workers,
    )


@click.command()
@click.argument("folder", type=SURVEY, default="demo-survey")
@click.option("--port", default=5006, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port.")
@click.option("--no-browser", is_flag=True, help="Only print the URL.")
def demo(folder: Path, port: int, no_browser: bool) -> None:
    """Galaxies of the Hubble Deep Field, found, scored and mapped in FOLDER, in the browser."""
    from explorer.services import demo as steps
    from explorer.services.volunteers import recount

    click.echo(f"{steps.NAME}, the image in scikit-image")
    making = steps.create(folder)
    if making is not None:
        totals = show_making(making)
        click.echo(f"{totals['n_subjects']:,} galaxies cut out of it are the survey {folder}")
    with job_service(folder) as service:
        parents = {"train": steps.place_checkpoint(service.survey)}
        for kind, needs in (("score", "train"), ("map", "score")):
            parents[kind], is_done = steps.start_unless_done(service, kind, {needs: parents[needs]}, who())
            if not is_done:
                follow(service, parents[kind])
        survey, ledger = service.survey, service.ledger
        if steps.SELECTION not in ledger.selection_names():
            rows = steps.highest(survey, parents["score"])
            ledger.save_selection(steps.SELECTION, rows, survey.subject_ids, who=who())
        voting = steps.let_vote(survey)
        if voting is not None:
            made = show_making(voting)
            click.echo(f"{made['n_votes']:,} votes of {made['n_volunteers']:,} simulated volunteers")
            recount(folder)
    from explorer.app import serve

    serve(folder, port=port, open_browser=not no_browser, selection=steps.SELECTION)
