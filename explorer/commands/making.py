"""``voorwerp create``, ``add``, ``check``, ``migrate``, ``pack``: survey folders are made and kept."""

import contextlib
import re
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from explorer.errors import SurveyError, UsageError

if TYPE_CHECKING:
    from explorer.survey import SurveyInfo
    from models.images import Stretch
    from models.progress import Progress

PATH = click.Path(path_type=Path)
T = TypeVar("T")


class Words(click.ParamType):
    """``g,r,i`` as ("g", "r", "i")."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The words without the blanks around them."""
        if isinstance(value, tuple):
            return value
        words = tuple(word.strip() for word in value.split(","))
        if not all(words):
            self.fail(f'"{value}" has an empty place between its commas', param, ctx)
        return words


class Numbers(Words):
    """``0.5,99.5`` as (0.5, 99.5)."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """The numbers."""
        words = super().convert(value, param, ctx)
        try:
            return tuple(float(word) for word in words)
        except ValueError:
            self.fail(f'"{value}" is not a list of numbers like 0.5,99.5', param, ctx)


class Extent(click.ParamType):
    """``212``, ``212px`` or ``30arcsec`` as {"extent": 212} or {"extent_arcsec": 30.0}."""

    name = "extent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        """The extent under the name of its option."""
        if isinstance(value, dict):
            return value
        found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(px|arcsec|\"|)", value.strip())
        if found is None or (found[2] in ("", "px") and not found[1].isdigit()):
            self.fail(f'"{value}" is neither pixels (212, 212px) nor an angle (30arcsec)', param, ctx)
        return {"extent": int(found[1])} if found[2] in ("", "px") else {"extent_arcsec": float(found[1])}


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, in the order of ``--help``."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


#: Where the images and the values in them are: for `create` and `add`.
reading_options = options(
    click.option("--path-column", metavar="NAME", help="The manifest's column of image paths."),
    click.option(
        "--id-column", metavar="NAME", help="The manifest's column of ids, kept as text.  [default: file names]"
    ),
    click.option(
        "--bands",
        type=Words(),
        metavar="g,r,i",
        help="Names of the bands, in channel order; name=INDEX or name=HDU picks one from a cube or a file.",
    ),
    click.option("--hdu", metavar="NAME|N", help="The extension of FITS files that holds the image."),
    click.option("--dataset", metavar="PATH", help="The array in HDF5 files or Zarr groups that holds the images."),
)

stretch_options = options(
    click.option(
        "--stretch",
        type=click.Choice(["linear", "percentile", "lupton"]),
        help="How values become 0–1, for the whole survey.  [default: the range of 8- and 16-bit files; percentile]",
    ),
    click.option("--stretch-low", type=Numbers(), metavar="LIST", help="Value shown as 0: one, or one per band."),
    click.option("--stretch-high", type=Numbers(), metavar="LIST", help="Value shown as 1: one, or one per band."),
    click.option(
        "--percentiles", type=Numbers(), metavar="LOW,HIGH", help="Of the survey's values.  [default: 0.5,99.5]"
    ),
    click.option("--per-image", is_flag=True, help="Percentiles of each image by itself: they cannot be compared."),
    click.option("--lupton-q", type=float, metavar="Q", help="Softening of the Lupton stretch.  [default: 8]"),
    click.option("--lupton-stretch", type=float, metavar="VALUE", help="Its linear scale.  [default: from the noise]"),
    click.option("--lupton-minimum", type=float, metavar="VALUE", help="Value shown as 0.  [default: from the noise]"),
    click.option("--stretch-from", type=PATH, metavar="SURVEY", help="The stretch of another survey, as it is."),
)


@click.command()
@click.argument("survey", type=PATH)
@click.argument("sources", nargs=-1, metavar="SOURCE...", type=PATH)
@click.option(
    "--cut-out",
    "cut_outs",
    multiple=True,
    metavar="MOSAIC",
    type=PATH,
    help="A large image, in which sources are found and cut out (instead of SOURCE).",
)
@click.option(
    "--catalogue",
    type=PATH,
    metavar="TABLE",
    help="Cut at the RA and Dec of this table instead: CSV, Parquet, FITS table or VOTable.",
)
@click.option("--no-images", is_flag=True, help="The table SOURCE is the whole survey.")
@reading_options
@click.option("--size", default=64, show_default=True, help="Side of the network's input, px.")
@click.option(
    "--crop",
    type=click.Choice(["center", "resize"]),
    default="center",
    show_default=True,
    help="Cut around the center, or take the whole image.",
)
@click.option(
    "--extent",
    type=Extent(),
    metavar="PX|ARCSEC",
    help="Cut this much (212, 30arcsec) around the center, then area-average to --size.  "
    "[default: --size; for sources that are found, from their sizes]",
)
@click.option(
    "--pixel-scale", type=click.FloatRange(0, min_open=True), metavar="ARCSEC", help="Arcsec per px of every image."
)
@stretch_options
@click.option(
    "--originals",
    type=click.Choice(["keep", "link"]),
    default="keep",
    show_default=True,
    help="Copy what people look at into the survey, or leave it where it is.",
)
@click.option("--name", help="What the survey is called.  [default: the folder's name]")
def create(
    survey: Path,
    sources: tuple[Path, ...],
    cut_outs: tuple[Path, ...],
    catalogue: Path | None,
    no_images: bool,
    size: int,
    crop: Literal["center", "resize"],
    extent: dict[str, Any] | None,
    pixel_scale: float | None,
    originals: Literal["keep", "link"],
    name: str | None,
    path_column: str | None,
    id_column: str | None,
    bands: tuple[str, ...] | None,
    hdu: str | None,
    dataset: str | None,
    **stretch: Any,
) -> None:
    """Make the folder SURVEY from images: folders, manifests (CSV, TSV, Parquet), stacks, or large images.

    PNG, JPEG, TIFF, FITS, npy, HDF5 and Zarr are read; a manifest may name one file per band (path_g, path_r, …).
    Stopped at any moment, the same command goes on where it was.
    """
    if bool(sources) == bool(cut_outs):
        raise UsageError(
            "name folders, manifests or images as SOURCE, or one large image with --cut-out; one of the two"
        )
    started = time.monotonic()
    if no_images:
        beside = [cut_outs, catalogue, path_column, bands, hdu, dataset, extent, pixel_scale, *stretch.values()]
        if any(beside):
            raise UsageError("with --no-images a table is the whole survey; only --id-column and --name go with it")
        from explorer.ingest.tables import create_from_table
        from explorer.survey import Survey

        info = create_from_table(survey, sources, name, id_column)
        n = Survey.open(survey).n
        click.echo(f"{n:,} rows are subjects of {survey}, which has no images ({time.monotonic() - started:,.0f} s)")
        for note in info.notes:
            click.echo(f"note: {note}")
        return
    if size % 16:  # `models.wgan` halves it four times
        near = max(16, 16 * round(size / 16))
        click.echo(f"note: the anomaly model needs a size that is a multiple of 16, and {size} is none; {near} is near")
    told = {
        "size": size,
        **(extent or {}),
        "name": name,
        "bands": bands,
        "stretch": stretch_of(**stretch),
        "stretch_bands": _bands_of(stretch["stretch_from"]),
        "pixel_scale_arcsec": pixel_scale,
        "originals": originals if originals != "keep" else None,
        "hdu": hdu,
        "dataset": dataset,
    }
    if cut_outs:
        if path_column or crop != "center":
            raise UsageError("--path-column and --crop do not go with --cut-out")
        if id_column and catalogue is None:
            raise UsageError("--id-column and --cut-out do not go together without the table that --catalogue names")
        from explorer.ingest.cut_outs import create_cut_outs
        from explorer.ingest.images import CreateOptions

        told |= {"id_column": id_column}
        making = create_cut_outs(survey, cut_outs, CreateOptions(**_given(told)), catalogue)
    else:
        if catalogue is not None:
            raise UsageError("--catalogue says where to cut; name the large image with --cut-out")
        from explorer.ingest.images import CreateOptions, create

        told |= {"crop": crop, "path_column": path_column, "id_column": id_column}
        making = create(survey, sources, CreateOptions(**_given(told)))
    totals = show_building(survey, making)
    say_totals(survey, totals, time.monotonic() - started)
    if crop == "center" and extent is None and not cut_outs:
        click.echo(
            f"the network sees the central {size} × {size} px of each; --extent PX or --crop resize shows it more"
        )
    click.echo(f"{min(totals['n_subjects'], 25)} of them as the network sees them: {totals['contact_sheet']}")


def _given(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value is not None}


def _bands_of(survey: Path | None) -> tuple[str, ...] | None:
    """The bands of the survey whose stretch is taken."""
    from explorer.survey import SURVEY_TOML, SurveyInfo

    return None if survey is None else SurveyInfo.read(survey / SURVEY_TOML).bands


def stretch_of(
    *,
    stretch: Literal["linear", "percentile", "lupton"] | None,
    stretch_low: tuple[float, ...] | None,
    stretch_high: tuple[float, ...] | None,
    percentiles: tuple[float, ...] | None,
    per_image: bool,
    lupton_q: float | None,
    lupton_stretch: float | None,
    lupton_minimum: float | None,
    stretch_from: Path | None,
) -> "Stretch | None":
    """The stretch that these options ask for; None where they say nothing. What they leave open is derived later.

    Raises
    ------
    UsageError
        Options that do not go together.
    """
    from models.images import Stretch

    groups: dict[str, dict[str, Any]] = {
        "linear": {"--stretch-low": stretch_low, "--stretch-high": stretch_high},
        "percentile": {"--percentiles": percentiles, "--per-image": per_image or None},
        "lupton": {
            "--lupton-q": lupton_q,
            "--lupton-stretch": lupton_stretch,
            "--lupton-minimum": lupton_minimum,
        },
    }
    told = {name: mode for mode, group in groups.items() for name, value in group.items() if value is not None}
    if stretch_from is not None:
        if told or stretch:
            raise UsageError(
                f"--stretch-from takes another survey's stretch as it is; leave out {next(iter(told), '--stretch')}"
            )
        from explorer.survey import SURVEY_TOML, SurveyInfo

        return SurveyInfo.read(stretch_from / SURVEY_TOML).stretch
    modes = sorted(set(told.values()))
    if len(modes) > 1 or (stretch and modes and modes != [stretch]):
        odd = next(name for name, mode in told.items() if mode != (stretch or modes[0]))
        raise UsageError(f"{odd} is of the stretch {told[odd]}, not of {stretch or modes[0]}; leave one of them out")
    mode: Any = stretch or (modes[0] if modes else None)
    if mode is None:
        return None
    if (stretch_low is None) != (stretch_high is None):
        raise UsageError("--stretch-low and --stretch-high are given together, or neither")
    if percentiles is not None and len(percentiles) != 2:
        raise UsageError("--percentiles takes two, like 0.5,99.5")
    try:
        return Stretch(
            mode,
            low=stretch_low or (),
            high=stretch_high or (),
            percentiles=(percentiles[0], percentiles[1]) if percentiles else None,
            per_image=per_image,
            q=lupton_q,
            stretch=lupton_stretch,
            minimum=lupton_minimum,
        )
    except ValueError as error:
        raise UsageError(f"this stretch is not possible: {error}") from None


def say_totals(survey: Path, totals: dict[str, Any], seconds: float) -> None:
    """Print what became of the images, and how they were read."""
    from explorer.survey import counted

    n, refused = totals["n_subjects"], totals["n_quarantined"]
    are = "is a subject" if n + refused == 1 else "are subjects"
    click.echo(f"{n:,} of {counted(n + refused, 'image')} {are} of {survey} ({seconds:,.0f} s)")
    if refused:
        click.echo(f"{refused:,} of {n + refused:,} could not be used: {totals['report']} shows which and why")
    click.echo(f"{made_how(totals['info'])}; {pixel_scale(totals)}")
    tune, test, groups = totals["n_tune"], totals["n_test"], totals["n_groups"]
    alike = f"{n - groups:,} share their pixels or their sky with another subject and stay in one half with it"
    if n - groups == 1:
        alike = "1 shares its pixels or its sky with another subject and stays in one half with it"
    if n == groups:
        alike = "no subject shares its pixels or its sky with another"
    click.echo(f"tune half {tune:,}, test half {test:,}; {alike}")
    for note in totals["notes"]:
        click.echo(f"note: {note}")


def made_how(info: "SurveyInfo") -> str:
    """Bands and stretch of a survey, in words."""
    stretch = info.stretch
    limits = ", ".join(
        f"{band} {low:.4g} to {high:.4g}"
        for band, low, high in zip(
            info.bands if len(stretch.low) > 1 else ["values"], stretch.low, stretch.high, strict=False
        )
    )
    words = {
        "range": "the file type's own range",
        "linear": f"linear, {limits}",
        "percentile": f"percentiles {' to '.join(f'{p:g}' for p in stretch.percentiles or ())} of "
        + ("each image by itself: images cannot be compared" if stretch.per_image else f"the survey, {limits}"),
        "lupton": f"Lupton, Q {stretch.q or 0:.4g}, stretch {stretch.stretch or 0:.4g}, "
        f"minimum {stretch.minimum or 0:.4g}",
    }[stretch.mode]
    return f"bands {', '.join(info.bands)}; stretch: {words}"


def pixel_scale(totals: dict[str, Any]) -> str:
    """What is known of a survey's pixel scale, in words."""
    if scale := totals["info"].pixel_scale_arcsec:
        return f"{scale:.4g} arcsec per px"
    n, known = totals["n_subjects"], totals["n_scaled"]
    of = f" of {known:,} of {n:,} subjects known" if known < n else ""
    unlike = "" if totals["is_one_scale"] else ", not the same for all" if of else " not the same for all"
    return f"pixel scale{of}{unlike}" if known else "pixel scale unknown"


def show_making(making: "Generator[Progress, None, T]") -> T:
    """A live bar with rate and time left on a terminal, elsewhere a line now and then; return what came of it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, words="")
        started, first, said = time.monotonic(), None, -1
        while True:
            try:
                at = next(making)
            except StopIteration as end:
                made: T = end.value
                return made
            first = at.done if first is None else first
            seconds = time.monotonic() - started
            refused = at.metrics.get("quarantined", 0)
            words = f"{at.done:,}/{at.total:,}" if at.total else ""
            if at.total and seconds >= 1:  # before, a rate says nothing
                words += f", {(at.done - first) / seconds:,.0f}/s"
            words += f", {refused:,.0f} in quarantine" if refused else ""
            bar.update(task, description=at.message, completed=at.done, total=at.total or None, words=words)
            tenth = at.done * 10 // at.total if at.total else -1
            if not console.is_terminal and tenth > said:
                said = tenth
                click.echo(f"{at.message} {words}", err=True)


def show_building(survey: Path, making: "Generator[Progress, None, dict[str, Any]]") -> dict[str, Any]:
    """`show_making`; where it is stopped (Ctrl-C), say what is kept, and exit 130."""
    from explorer.ingest.build import SHARD, kept

    try:
        return show_making(making)
    except KeyboardInterrupt:
        making.close()
        words = "stopped; the same command starts again"
        if state := kept(survey):
            words = (
                f"stopped; the same command goes on (whole shards of up to {SHARD:,} images are kept: "
                f"{state[0]:,} of {state[1]:,} so far)"
            )
        click.secho(words, fg="red", err=True)
        raise click.exceptions.Exit(130) from None


@click.command()
@click.argument("survey", type=PATH)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", type=PATH)
@reading_options
def add(survey: Path, sources: tuple[Path, ...], **told: Any) -> None:
    """Add to SURVEY what it does not have yet, prepared as it was: the same crop, bands and stretch.

    SOURCE is as for create; of a survey without images, a table. Nothing that is there is changed: what has an id that
    SURVEY has is passed over, even with another file. Stopped at any moment, SURVEY is as it was, and the same command
    goes on.
    """
    from explorer.ingest.add import AddOptions, add

    started = time.monotonic()
    totals = show_building(survey, add(survey, sources, AddOptions(**_given(told))))
    n, refused, all_now = totals["n_added"], totals["n_refused"], totals["n_subjects"]
    seconds = time.monotonic() - started
    if there := totals["n_there"]:
        given = n + refused + there
        if there == given:
            click.echo(f"nothing is new: the ids of all {given:,} are in {survey} already")
            return
        click.echo(f"{there:,} of {given:,} are there already and were passed over, {n:,} added")
    click.echo(f"{n:,} of {n + refused:,} are new subjects of {survey}, which has {all_now:,} ({seconds:,.0f} s)")
    if refused:
        click.echo(f"{refused:,} of {n + refused:,} could not be used: {totals['report']} shows which and why")
    if totals["n_joined"] or totals["n_twins"]:
        joined, twins = totals["n_joined"], totals["n_twins"]
        click.echo(f"{joined:,} show what a subject from before shows, {twins:,} what another new one does")
    click.echo("runs and maps that are there keep to their own subjects; run again to score and place the new ones")


@click.command()
@click.argument("survey", type=PATH)
@click.option("--deep", is_flag=True, help="Read every crop and original too, which takes its time.")
def check(survey: Path, deep: bool) -> None:
    """Say every problem of SURVEY at once; exit 1 if there is one."""
    from explorer.ingest.verify import verify
    from explorer.ledger import check as check_ledger
    from explorer.survey import Survey, check, counted, notices

    problems = check(survey)
    if deep and not problems:  # else it cannot be read in order
        problems += show_making(verify(survey))["problems"]
    with contextlib.suppress(SurveyError):  # said already
        opened = Survey.open(survey)
        problems += check_ledger(survey, opened.info.survey_id, opened.subject_ids)
    for problem in problems:
        click.secho(problem, fg="red", err=True)
    if problems:
        raise click.exceptions.Exit(1)
    held = {"subject": opened.n, "run": len(opened.runs()), "map": len(opened.maps())}
    said = ", ".join(counted(n, thing) for thing, n in held.items())
    if deep:
        click.echo(f"{survey} is sound: {said}, every pixel read")
    else:
        click.echo(f"{survey}: no problem found: {said} (--deep also reads every pixel)")
    for notice in notices(opened):
        click.echo(notice)
    opened.close()


@click.command()
@click.argument("survey", type=PATH)
@click.option("--discard-old", is_flag=True, help="Remove the folder as it was, instead of keeping it beside.")
def migrate(survey: Path, discard_old: bool) -> None:
    """Bring SURVEY, made by an older Voorwerp, up to date: copy, check, swap.

    Stopped at any moment, it is either the old or the new one, whole, and the same command finishes.
    """
    from explorer.ingest.migrate import migrate

    totals = show_making(migrate(survey, discard_old))
    for problem in totals["problems"]:
        click.secho(problem, fg="red", err=True)
    if totals["problems"]:
        click.secho(f"{survey} is as it was: a copy that is not sound takes no place", fg="red", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"{survey} is {'now up to date' if totals['migrated'] else 'up to date already'}")
    if totals["old"]:
        click.echo(f"the folder as it was is kept as {totals['old']}; remove it when you have looked")


@click.command()
@click.argument("survey", type=PATH)
@click.argument("target", type=PATH)
@click.option("--names", is_flag=True, help="Leave people's names in the ledger as they are.  [default: hashed]")
@click.option("--originals", type=click.Choice(["keep"]), help="Bring in originals that SURVEY only links to.")
@click.option("--notes", is_flag=True, help="Let people's notes on subjects go along.  [default: they stay behind]")
def pack(survey: Path, target: Path, names: bool, originals: str | None, notes: bool) -> None:
    """Make TARGET, a copy of SURVEY that is safe to share: whole or not at all, and checked.

    Names are hashed; notes, absolute paths, locks, logs and unfinished work stay behind. Tags, places and kept
    selections go along.
    """
    from explorer.services.pack import pack
    from explorer.survey import counted

    totals = show_making(pack(survey, target, names, originals == "keep", notes))
    click.echo(f"{target} is a sound copy of {survey}: {totals['n_bytes']:,} bytes")
    if totals["n_names"]:
        click.echo(f"{totals['n_names']:,} people are named by a hash; the salt stays on this machine")
    if totals["n_notes"]:
        click.echo(f"{counted(totals['n_notes'], 'note')} left behind; --notes lets them go along")
    if totals["n_links"]:
        click.echo(
            f"{totals['n_links']:,} originals stay behind, for {survey} links to them; --originals keep brings them in"
        )
    if totals["left_out"]:
        click.echo(f"left out: {', '.join(totals['left_out'])}")
    if totals["ids_are_paths"]:
        click.secho(
            "ids of subjects are absolute paths, which tell of this machine, and no copy may change an id", fg="yellow"
        )
