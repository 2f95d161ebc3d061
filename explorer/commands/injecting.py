"""``voorwerp inject``: sources planted into copies of a survey's images, and what its boundaries recover of them."""

import math
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from explorer.commands.exporting import LAMBDA, LAMBDA_MODE, as_the_app
from explorer.commands.running import SURVEY, who
from explorer.commands.sampling import Share
from explorer.errors import UsageError

if TYPE_CHECKING:
    from explorer.services.injecting import Plan
    from explorer.services.recovered import Function
    from models.injection import Kind

#: `models.injection` has them too, and takes a while to import.
KINDS = ("arc", "ring", "tail", "double", "trail")


class Numbers(click.ParamType):
    """Numbers with commas between them."""

    name = "number,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """The numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(word) for word in value.split(","))
        except ValueError:
            self.fail(f'"{value}" is no list of numbers; write 0.1 or 0.1,0.3,1', param, ctx)


class Lengths(click.ParamType):
    """Lengths with commas between them, each with its unit or the last one's: ``4,10px``, ``1arcsec``."""

    name = "length,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[float, Literal["px", "arcsec"]], ...]:
        """The lengths, each a number and a unit."""
        if isinstance(value, tuple):
            return value
        found = [re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(px|arcsec)?\s*", word) for word in value.split(",")]
        last = found[-1] and found[-1][2]
        if not last or None in found:
            self.fail(f'"{value}" is no length; write 4px, 4,10px or 0.5,1arcsec', param, ctx)
        return tuple((float(one[1]), "arcsec" if (one[2] or last) == "arcsec" else "px") for one in found if one)


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What is planted.")
@click.option("--contrast", type=Numbers(), metavar="LIST", help="Its flux, in fluxes of the host: .1,.3,1 …")
@click.option("--counts", type=Numbers(), metavar="LIST", help="… or in the images' own unit, for each band …")
@click.option("--mag", type=Numbers(), metavar="LIST", help="… or in magnitudes, with --zeropoint.")
@click.option("--zeropoint", type=float, metavar="MAG", help="The magnitude of one count.")
@click.option("--size", type=Lengths(), required=True, metavar="LIST", help="4,10px or 0.5,1arcsec; see above.")
@click.option("--psf", type=Lengths(), required=True, metavar="FWHM", help="Of the images: 3px or 1.3arcsec.")
@click.option("--colors", type=Numbers(), metavar="LIST", help="Factors of the flux, one per band  [default: 1 each].")
@click.option("--gain", type=float, metavar="E", help="Electrons per count: adds the source's own photon noise.")
@click.option("--hosts", type=click.IntRange(1), default=50, show_default=True, help="Images; each gets every source.")
@click.option(
    "--half",
    type=click.Choice(["test", "tune", "all"]),
    default="test",
    show_default=True,
    help="Where they are drawn from; what a boundary was fitted to is in the tune half.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--boundary", "names", multiple=True, metavar="NAME", help="May be repeated  [default: all saved ones].")
@click.option(
    "--top", type=Share(), metavar="SHARE", default=0.01, show_default=True, help="And the top by anomaly score."
)
@click.option("--run", "run_id", metavar="RUN", help="Whose network scores them.  [default: as the app]")
@click.option("--map", "map_id", metavar="MAP", help="[default: as the app]")
@LAMBDA
@LAMBDA_MODE
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder  [default: SURVEY-injected-KIND]."
)
@click.option("--add", "is_added", is_flag=True, help="Add them to SURVEY as known subjects, flagged for ever.")
def inject(
    survey: Path,
    kind: "Kind",
    contrast: tuple[float, ...] | None,
    counts: tuple[float, ...] | None,
    mag: tuple[float, ...] | None,
    zeropoint: float | None,
    size: tuple[tuple[float, Literal["px", "arcsec"]], ...],
    psf: tuple[tuple[float, Literal["px", "arcsec"]], ...],
    colors: tuple[float, ...] | None,
    gain: float | None,
    hosts: int,
    half: Literal["test", "tune", "all"],
    seed: int,
    names: tuple[str, ...],
    top: float,
    run_id: str | None,
    map_id: str | None,
    lambda_: float | None,
    mode: Literal["raw", "standardised"] | None,
    out: Path | None,
    is_added: bool,
) -> None:
    """Plant sources into copies of SURVEY's images, score them with the frozen run, and show what is recovered.

    Of every flux and size, for each boundary: how many of the planted it keeps, and how many of the same images as they
    are. The size is the radius of an arc or a ring, the distance of a tail's middle or of a second nucleus from the
    center, the length of a trail. Nothing of SURVEY changes, unless --add.
    """
    from explorer.commands.making import show_making
    from explorer.ledger import Ledger
    from explorer.services import injecting, recovered
    from explorer.services.boundaries import Boundaries, Context
    from explorer.services.explore import Explore
    from explorer.services.figures import written
    from explorer.survey import PLANTED, Survey
    from models import artifacts

    given = [("contrast", contrast), ("counts", counts), ("mag", mag)]
    told: list[tuple[Any, tuple[float, ...]]] = [(unit, values) for unit, values in given if values is not None]
    if len(told) != 1:
        raise UsageError("the flux is told by one of --contrast, --counts and --mag")
    if len(psf) != 1:
        raise UsageError("--psf is one length, as 3px")
    (unit, fluxes) = told[0]
    plan = injecting.Plan(
        kind=kind,
        fluxes=fluxes,
        sizes=tuple(injecting.Length(*one) for one in size),
        psf=injecting.Length(*psf[0]),
        unit=unit,
        n_hosts=hosts,
        half=half,
        colors=colors or (),
        zeropoint=zeropoint,
        gain=gain,
        seed=seed,
    )
    opened = Survey.open(survey)
    try:
        explore = Explore(opened)
        context = Context(*as_the_app(explore, run_id, map_id, lambda_, mode))
        folder = out or survey.with_name(f"{survey.absolute().name}-injected-{kind}")
        with Ledger(opened.path, opened.info.survey_id) as ledger:
            boundaries = Boundaries(explore, ledger)
            saved = [boundaries.get(name) for name in names or boundaries.names()]
            planted = show_making(injecting.plant(explore, context.run_id, plan, folder))
            scored = show_making(injecting.score(explore, context.run_id, planted))
            lines = [recovered.top_line(explore, context, top)]
            lines += [recovered.Line(one.name, one.keep, one.context, one.version) for one in saved]
            functions = recovered.recovered(scored, lines, boundaries)
        command = shlex.join(["voorwerp", *sys.argv[1:]])
        artifacts.write_json(folder / "recovered.json", recovered.as_json(scored, functions, command))
        artifacts.write_bytes(folder / "recovered.csv", recovered.as_csv(scored, functions).encode())
        artifacts.write_bytes(folder / "planted.png", injecting.sheet(opened, planted))
        drawn = recovered.figure(scored, functions)
        for form in ("png", "svg"):
            artifacts.write_bytes(folder / f"recovered.{form}", written(drawn, form))
        _say(planted, functions)
        click.echo(f"{folder} has planted.png (what the network sees), recovered.csv, .json, .png and .svg")
        if is_added:
            from explorer.services.planted import add_planted

            made = show_making(add_planted(opened, planted))
            with Ledger(opened.path, opened.info.survey_id) as ledger:
                if made["n_added"]:
                    ledger.append("inject", {"plan": plan.told(), "n": made["n_added"]}, who=who())
            was = f", {made['n_there']:,} were there" if made["n_there"] else ""
            click.echo(
                f"{made['n_added']:,} of {made['n']:,} planted sources added{was}; {made['n_flagged']:,} are known "
                f"objects now, each with {PLANTED}"
            )
            click.echo("volunteers train on known objects: choosing one is right; keep them as “duds” where it is not")
    finally:
        opened.close()


def _say(planted: Any, functions: "list[Function]") -> None:
    """What is recovered, a table for each boundary."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plan: Plan = planted.plan
    console = Console(width=None if Console().is_terminal else 160)
    n = planted.n_hosts
    console.print(f"{n:,} images, each with {len(plan.fluxes) * len(plan.sizes)} sources: {plan.kind}, PSF {plan.psf}")
    if plan.unit == "counts" or plan.gain is not None:
        console.print(f"counts are {planted.unit}", markup=False)
    for reason, k in planted.set_aside.items():
        console.print(f"{k:,} drawn and left out: {reason}", markup=False)
    for one in functions:
        if one.refused:
            console.print(f"{one.line.title}: {one.refused}", markup=False, highlight=False)
            continue
        table = Table(title=Text(f"{one.line.title}: {one.words}"), title_justify="left", title_style="bold")
        table.add_column(plan.title, justify="right")
        for size in plan.sizes:
            table.add_column(str(size), justify="right")
        for flux in plan.fluxes:
            cells = {cell.size: cell for cell in one.cells if cell.flux == flux}
            table.add_row(f"{flux:g}", *(_spelled(cells[size.value].kept) for size in plan.sizes))
        table.add_section()
        table.add_row("as they are", _spelled(one.hosts), style="dim")
        console.print(table)
        if unknown := sum(cell.n_unknown for cell in one.cells):
            console.print(f"of {unknown:,} planted it cannot tell; they are not kept")
        if one.of_hosts:
            names = ", ".join(reference.partition(".")[2] for reference in one.of_hosts)
            console.print(f"values of {names} are those of the images as they are", markup=False)
    if any(cell.inside < 0.5 for one in functions for cell in one.cells):
        lost = {cell.size for one in functions for cell in one.cells if cell.inside < 0.5}
        sizes = ", ".join(str(size) for size in plan.sizes if size.value in lost)
        console.print(f"of {sizes} less than half of the light falls within what the network sees")


def _spelled(kept: Any) -> str:
    """k of n, the share and its interval."""
    if not kept["n"]:
        return "0 of 0"
    share, low, high = (_short(value) for value in (kept["k"] / kept["n"], kept["low"], kept["high"]))
    return f"{kept['k']} of {kept['n']}  {share} [{low}, {high}]"


def _short(share: float) -> str:
    return f"{math.floor(share * 100 + 0.5) / 100:.2f}".removeprefix("0")
