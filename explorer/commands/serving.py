"""``voorwerp serve`` and ``demo``: a survey in the browser."""

import ipaddress
import re
from pathlib import Path
from typing import Any

import click

from explorer.commands import workers
from explorer.commands.making import show_making
from explorer.commands.running import follow, job_service, who
from explorer.errors import AccessError, UsageError

SURVEY = click.Path(path_type=Path)
HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?")


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
@click.option("--https-cert", type=SURVEY, help="Certificate (PEM), to be reached by https:// from other machines.")
@click.option("--https-key", type=SURVEY, help="Its key (PEM).")
@click.option(
    "--behind-proxy",
    is_flag=True,
    help="Believe X-Forwarded-For and X-Forwarded-Proto: a proxy with TLS stands before this address, and nothing "
    "else can reach it.",
)
@click.option("--host", "names", multiple=True, metavar="NAME[:PORT]", help="Another name that people come here by.")
@click.option("--insecure", is_flag=True, help="Listen on another address than this machine's own without accounts.")
@click.option("--open-links", is_flag=True, help="Let in volunteers by the links of `voorwerp invite`.")
@click.option(
    "--retire-after",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="Volunteers after whom /classify shows a subject to nobody else.",
)
@click.option(
    "--next-by",
    metavar="RUN|newest",
    help="Show on /classify what this run's acquisition asks for; newest: always the newest run that has one.",
)
@click.option(
    "--random-share",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="With --next-by: of each grid so much is drawn at random all the same.  [default: 0.2]",
)
@click.option(
    "--least",
    type=click.IntRange(0),
    metavar="N",
    help="With --next-by: everything is seen by N volunteers first.  [default: 3]",
)
@click.option("--retrain", metavar="KIND", help="Train this kind again while serving, as its last run was …")
@click.option("--retrain-every", type=click.IntRange(1), metavar="N", help="… after every N votes …")
@click.option("--retrain-at", metavar="HH:MM", help="… every day at this time, where somebody has voted.")
@workers.with_workers
def serve(
    survey: Path,
    address: str,
    port: int,
    no_browser: bool,
    https_cert: Path | None,
    https_key: Path | None,
    behind_proxy: bool,
    names: tuple[str, ...],
    insecure: bool,
    open_links: bool,
    retire_after: int,
    next_by: str | None,
    random_share: float | None,
    least: int | None,
    retrain: str | None,
    retrain_every: int | None,
    retrain_at: str | None,
    where: workers.Where,
) -> None:
    """Open SURVEY in the browser; whoever has an account (see `voorwerp accounts`) logs in there."""
    from explorer.commands.accounts import accounts_of

    scheduler = where.check()
    tls = tls_of(https_cert, https_key)
    for name in names:
        if not HOST.fullmatch(name):
            raise UsageError(f"--host {name} is no name of a machine; write it as in survey.example.org")
    accounts = accounts_of(survey).listed()  # a wrong folder is one sentence now, not a page that fails
    check_reach(address, bool(accounts), tls is not None, behind_proxy, insecure)
    asked = {"next_by": next_by, "random_share": random_share, "least": least}
    told: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if told and next_by is None:
        raise UsageError("--random-share and --least say how grids go by a run; say which by --next-by RUN, or newest")
    from explorer.services.classify import Settings
    from explorer.services.retraining import Schedule

    grids, schedule = Settings(retire_after, **told), Schedule.of(retrain, retrain_every, retrain_at)
    from explorer.app import serve

    serve(
        survey,
        address=address,
        port=port,
        open_browser=not no_browser,
        open_links=open_links,
        grids=grids,
        retrain=schedule,
        scheduler=scheduler,
        workers=where.workers,
        tls=tls,
        behind_proxy=behind_proxy,
        names=names,
    )


def tls_of(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """Certificate and key, or neither.

    Raises
    ------
    UsageError
        One without the other, or no such file.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError("TLS takes a certificate and its key: give --https-cert and --https-key")
    for file in (certificate, key):
        if not file.is_file():
            raise UsageError(f"there is no file {file}; --https-cert and --https-key take PEM files")
    return certificate, key


def check_reach(address: str, has_accounts: bool, has_tls: bool, behind_proxy: bool, insecure: bool) -> None:
    """Refuse to be reached from other machines by whoever comes, or with passwords in the clear.

    Raises
    ------
    AccessError
        What to do about it.
    """
    if has_tls and behind_proxy:
        raise UsageError("--behind-proxy leaves TLS to the proxy; give either that or --https-cert and --https-key")
    if behind_proxy and not has_accounts:
        raise AccessError(
            "a proxy lets others in and this survey has no accounts; make one with `voorwerp accounts add`"
        )
    if is_loopback(address):
        return
    if has_accounts and not (has_tls or behind_proxy):
        raise AccessError(
            f"{address} can be reached from other machines, and passwords would travel there in the clear; "
            "give --https-cert and --https-key, or --behind-proxy where a proxy has TLS"
        )
    if not has_accounts and not insecure:
        raise AccessError(
            f"{address} can be reached from other machines and this survey has no accounts; "
            "use --address 127.0.0.1, make one with `voorwerp accounts add`, or --insecure if you trust everyone there"
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
        grading = steps.let_grade(survey, ledger, who())
        if grading is not None:
            made = show_making(grading)
            click.echo(f"{made['n_votes']:,} grades of {made['n_graders']:,} simulated experts")
    from explorer.app import serve

    serve(folder, port=port, open_browser=not no_browser, selection=steps.SELECTION)
