"""``voorwerp export``, ``figure`` and ``find``: subjects as a file, what a paper shows of them, and where one is."""

import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from explorer.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from explorer.services.explore import Explore
    from explorer.services.figures import Form
    from explorer.state import Selection
    from models.artifacts import Run
    from models.mixing import Mode

SURVEY = click.Path(path_type=Path)
# `explorer.state` has these too, and takes a while to import.
NORMS = ("percentile", "equalised", "linear", "log")
PALETTES = ("auto", "viridis", "inferno", "cividis", "magma")
FIGURES: "dict[str, Form]" = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
#: Suffix → name of the format in `explorer.services.export.EXPORTS`.
SUFFIXES = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".vot": "votable",
    ".xml": "votable",
    ".fits": "fits",
    ".fit": "fits",
    ".reg": "regions",
}


LAMBDA = click.option(
    "--lambda", "lambda_", type=click.FloatRange(0, 1), help="λ of the anomaly score.  [default: the run's]"
)
LAMBDA_MODE = click.option(
    "--lambda-mode",
    "mode",
    type=click.Choice(("raw", "standardised")),
    help="λ mixes the raw sums, or the scores standardised by median and MAD.  [default: the run's]",
)
WHERE = click.option(
    "--where",
    metavar="FILTER",
    help="Only subjects for which this holds, such as 'feature_score > 99% and not is_known'; see README.",
)


@click.command()
@click.argument("survey", type=SURVEY)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--selection", metavar="NAME", help="Only the subjects of this selection.")
@WHERE
@click.option("--run", "run_id", metavar="RUN", help="Whose scores come along.  [default: as the app]")
@click.option("--map", "map_id", metavar="MAP", help="Whose coordinates come along.  [default: as the app]")
@LAMBDA
@LAMBDA_MODE
@click.option("--for", "for_", type=click.Choice(("zooniverse",)), help="Make the folder FILE for a new project there.")
@click.option("--size", type=int, metavar="PX", help="With --for: longest side of its images.  [default: as they are]")
@click.option("--upload", type=click.IntRange(1), metavar="PROJECT", help="And upload it to the project of this id …")
@click.option("--subject-set", metavar="NAME", help="… into its subject set of this name, made if there is none.")
def export(
    survey: Path,
    file: Path,
    selection: str | None,
    where: str | None,
    run_id: str | None,
    map_id: str | None,
    lambda_: float | None,
    mode: Literal["raw", "standardised"] | None,
    for_: Literal["zooniverse"] | None,
    size: int | None,
    upload: int | None,
    subject_set: str | None,
) -> None:
    """Write the subjects of SURVEY with their scores and coordinates to FILE.

    The suffix says the format: .csv, .parquet, .vot or .xml (VOTable), .fits, .reg (regions for DS9).

    With --for zooniverse FILE is a folder: images and a manifest, without scores, for a subject set of a new project.
    """
    if for_ is None and any(told is not None for told in (size, upload, subject_set)):
        raise UsageError("--size, --upload and --subject-set go with --for zooniverse")
    if for_ is not None:
        from explorer.commands.publishing import export_for_zooniverse

        export_for_zooniverse(
            survey, file, selection, where, (run_id, map_id, lambda_, mode), size, upload, subject_set
        )
        return
    form = SUFFIXES.get(file.suffix.lower())
    if form is None:
        raise UsageError(f"{file} has none of the suffixes {', '.join(SUFFIXES)}, which say the format")
    _check_folder(file)
    from explorer.ledger import Ledger, is_there
    from explorer.services.explore import Explore
    from explorer.services.export import EXPORTS, n_placed, selection_table
    from explorer.services.notes import Notes
    from explorer.survey import Survey, counted
    from models.artifacts import write_bytes

    opened = Survey.open(survey)
    explore = Explore(opened)
    run_id, map_id, lambda_, mode = as_the_app(explore, run_id, map_id, lambda_, mode)
    selected, _ = selected_by(explore, selection, where, run_id, map_id, lambda_, mode)
    with contextlib.ExitStack() as stack:
        notes = None
        if is_there(opened.path):
            notes = Notes(stack.enter_context(Ledger(opened.path, opened.info.survey_id)), explore)
        table = selection_table(explore, selected, run_id, map_id, lambda_, mode, notes)
    n = table.num_rows if form != "regions" else n_placed(table)
    if not n and table.num_rows:
        raise UsageError(
            f"none of {counted(table.num_rows, 'subject')} has RA and Dec, which regions need; "
            "export .csv, .parquet, .vot or .fits"
        )
    write_bytes(file, EXPORTS[form][0](table))
    click.echo(f"{n:,} of {opened.n:,} subjects are in {file}")
    if left_out := table.num_rows - n:
        click.echo(f"{left_out:,} without RA and Dec {'is' if left_out == 1 else 'are'} left out: a region needs both")
    opened.close()


def _check_folder(file: Path) -> None:
    folder = file.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} to write {file.name} in; make it, or name another")


def as_the_app(
    explore: "Explore", run_id: str | None, map_id: str | None, lambda_: float | None, mode: "Mode | None"
) -> "tuple[str, str, float, Mode]":
    """Run, map, λ and what it mixes: those asked for, else what the app opens with."""
    from models.mixing import mixed_with

    info = explore.survey.info
    map_id = _chosen("map", map_id, explore.maps(), info.default_map)
    of_map = explore.maps()[map_id].inputs.get("score") if map_id else None
    run_id = _chosen("run", run_id, explore.runs(), info.default_run, of_map)
    own_lambda, own_mode = mixed_with(explore.runs()[run_id].config if run_id else {})
    return run_id, map_id, own_lambda if lambda_ is None else lambda_, mode or own_mode


def selected_by(
    explore: "Explore",
    name: str | None,
    where: str | None,
    run_id: str,
    map_id: str,
    lambda_: float,
    mode: "Mode",
) -> "tuple[Selection | None, str]":
    """The subjects of a kept selection for which a filter holds, and how they were chosen; None for all."""
    from explorer.ledger import Ledger
    from explorer.state import Selection

    survey, selected, how = explore.survey, None, []
    if name is not None:
        with Ledger(survey.path, survey.info.survey_id) as ledger:
            members = ledger.selection(name, survey.subject_ids).subject_ids
        selected = Selection.of_rows(survey.rows_of(members), survey.n)
        how.append(f'kept as "{name}"')
    if where is not None:
        rows, condition = rows_where(explore, where, run_id, map_id, lambda_, mode)
        kept = Selection.of_rows(rows, survey.n)
        selected = kept if selected is None else selected & kept
        how.append(condition)
    return selected, ", ".join(how)


def rows_where(
    explore: "Explore", text: str, run_id: str, map_id: str, lambda_: float, mode: "Mode"
) -> "tuple[np.ndarray, str]":
    """Rows for which a filter holds, ascending, and its canonical text."""
    from explorer.ledger import Ledger
    from explorer.services.filters import columns_of, parse, reader

    with Ledger(explore.survey.path, explore.survey.info.survey_id) as ledger:
        found = parse(text, columns_of(explore, run_id, map_id, ledger))
        return found.rows(reader(explore, run_id, map_id, lambda_, mode, ledger)).nonzero()[0], found.text


def _chosen(kind: str, asked: str | None, there: "dict[str, Run]", *defaults: str | None) -> str:
    """The run or map asked for; else the first default that is there, else the newest (of all subjects), else "".

    Raises
    ------
    UsageError
        The one asked for is not there, or not finished.
    """
    from explorer.services.explore import newest

    if asked is not None and asked not in there:
        raise UsageError(f'there is no finished {kind} "{asked}"; there are: {", ".join(there) or "none"}')
    return next((name for name in (asked, *defaults, newest(there)) if name in there), "")


@click.command()
@click.argument("survey", type=SURVEY)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(("map", "histograms", "sheet")), default="map", show_default=True)
@click.option(
    "--width", type=click.Choice(("single", "double")), default="double", help="88 or 180 mm.  [default: double]"
)
@click.option("--color", metavar="COLUMN", help="What the map is colored by: count, scores.NAME, subjects.NAME.")
@click.option(
    "--column", "columns", metavar="COLUMN", multiple=True, help="Of a histogram; may be given several times."
)
@click.option("--x", metavar="COLUMN", help="Horizontal axis.  [default: the map's]")
@click.option("--y", metavar="COLUMN", help="Vertical axis.  [default: the map's]")
@click.option("--view", metavar="X0,X1,Y0,Y1", help="Part of the map.  [default: all of it]")
@click.option(
    "--aggregate", type=click.Choice(("max", "mean", "std")), default="max", help="Of a pixel.  [default: max]"
)
@click.option("--norm", type=click.Choice(NORMS), default=NORMS[0], show_default=True, help="Scale of the colors.")
@click.option("--palette", type=click.Choice(PALETTES), default=PALETTES[0], show_default=True)
@click.option("--contours", is_flag=True, help="Draw lines of equal density.")
@click.option("--selection", metavar="NAME", help="The subjects of this selection are selected.")
@WHERE
@click.option("--run", "run_id", metavar="RUN", help="Whose scores are shown.  [default: as the app]")
@click.option("--map", "map_id", metavar="MAP", help="The map.  [default: as the app]")
@LAMBDA
@LAMBDA_MODE
@click.option("--no-caption", is_flag=True, help="Leave caption and provenance to the file's metadata.")
def figure(
    survey: Path,
    file: Path,
    kind: Literal["map", "histograms", "sheet"],
    width: Literal["single", "double"],
    color: str | None,
    columns: tuple[str, ...],
    x: str | None,
    y: str | None,
    view: str | None,
    aggregate: Literal["max", "mean", "std"],
    norm: Literal["percentile", "equalised", "linear", "log"],
    palette: str,
    contours: bool,
    selection: str | None,
    where: str | None,
    run_id: str | None,
    map_id: str | None,
    lambda_: float | None,
    mode: Literal["raw", "standardised"] | None,
    no_caption: bool,
) -> None:
    """Draw a figure for a paper into FILE: the map of SURVEY, histograms, or the selected subjects' pictures.

    The suffix says the format: .png (300 dpi), .svg, .pdf. What the figure shows, and where that came from, stands
    below it and in the file's metadata.
    """
    from models.artifacts import write_bytes

    form = FIGURES.get(file.suffix.lower())
    if form is None:
        raise UsageError(f"{file} has none of the suffixes {', '.join(FIGURES)}, which say the format")
    _check_folder(file)
    box = _view(view) if view is not None else None
    from explorer.services.explore import Color, Explore, Plane
    from explorer.services.figures import Screen
    from explorer.services.figures import figure as drawn
    from explorer.state import COMPONENTS
    from explorer.survey import Survey

    opened = Survey.open(survey)
    explore = Explore(opened)
    run_id, map_id, lambda_, mode = as_the_app(explore, run_id, map_id, lambda_, mode)
    selected, how = selected_by(explore, selection, where, run_id, map_id, lambda_, mode)
    told = run_id, lambda_, mode
    screen = Screen(
        plane=Plane(map_id, x or COMPONENTS[0], y or COMPONENTS[1], *told),
        color=Color(color or explore.default_color(run_id), run_id, lambda_, aggregate, norm, mode),
        map_id=map_id,
        view=box,
        selection=selected,
        selected_by=how,
        palette=palette,
        columns=columns,
        contours=contours,
    )
    write_bytes(file, drawn(explore, kind, screen, form, width, with_caption=not no_caption))
    click.echo(f"{file} written")
    opened.close()


def _view(text: str) -> tuple[float, float, float, float]:
    """x0, x1, y0, y1 of a text."""
    try:
        x0, x1, y0, y1 = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f'"{text}" is no view; four numbers are needed, as in --view=-2,3,0,5') from None
    if not (-math.inf < x0 < x1 < math.inf and -math.inf < y0 < y1 < math.inf):
        raise UsageError(f'the view "{text}" is empty: X0 < X1 and Y0 < Y1 are needed')
    return x0, x1, y0, y1


@click.command(context_settings={"ignore_unknown_options": True})  # "-2.2" is no option
@click.argument("survey", type=SURVEY)
@click.argument("text", nargs=-1)
@WHERE
@click.option("--run", "run_id", metavar="RUN", help="Whose scores --where asks.  [default: as the app]")
@click.option("--map", "map_id", metavar="MAP", help="Whose columns --where asks.  [default: as the app]")
def find(survey: Path, text: tuple[str, ...], where: str | None, run_id: str | None, map_id: str | None) -> None:
    """Find subjects of SURVEY by TEXT: an id, a coordinate ("150.1 2.2 5arcsec", 10:00:24 +02:12:00), or several ids.

    A single - reads the ids from standard input. With --where and no TEXT: all for which it holds. Every line printed
    is a source_id, RA and Dec in degrees and, for a coordinate, arcsec from it. Exit 1 if nothing is found.
    """
    import numpy as np

    from explorer.services.explore import Explore
    from explorer.services.lookup import cone_of
    from explorer.services.lookup import find as look_up
    from explorer.survey import Survey, counted

    if not text and where is None:
        raise UsageError("nothing to find: give an id, a coordinate, a list of ids, or --where")
    asked = sys.stdin.buffer.read().decode(errors="replace") if text == ("-",) else " ".join(text)
    if len(text) > 1 and any(" " in part for part in text) and cone_of(asked) is None:
        asked = "\n".join(text)  # an id with blanks was quoted, and is still one
    opened = Survey.open(survey)
    rows, separations, said = np.arange(opened.n), np.empty(0), []
    if text:
        found = look_up(opened, asked)
        rows, separations, said = found.rows.astype(np.int64), found.separations, [found.message]
    if where is not None:
        explore = Explore(opened)
        holds, condition = rows_where(explore, where, *as_the_app(explore, run_id, map_id, None, None))
        kept = np.isin(rows, holds)
        said.append(f"{condition}: {kept.sum():,} of {counted(len(rows), 'subject')}")
        rows, separations = rows[kept], separations[kept] if separations.size else separations
    ra, dec = opened.column("ra")[rows], opened.column("dec")[rows]
    for i, name in enumerate(opened.source_ids(rows)):
        place = f"{ra[i]:.6f}\t{dec[i]:+.6f}" if ra[i] == ra[i] and dec[i] == dec[i] else "\t"
        separation = f"\t{separations[i]:.2f}" if separations.size else ""
        click.echo(f"{name}\t{place}{separation}".rstrip("\t"))
    click.echo("; ".join(said), err=True)
    opened.close()
    if not rows.size:
        raise click.exceptions.Exit(1)
