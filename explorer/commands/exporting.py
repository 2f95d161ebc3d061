"""``voorwerp export`` and ``find``: subjects as a file, and where a subject is."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from explorer.errors import UsageError

if TYPE_CHECKING:
    from models.artifacts import Run

SURVEY = click.Path(path_type=Path)
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


@click.command()
@click.argument("survey", type=SURVEY)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--selection", metavar="NAME", help="Only the subjects of this selection.")
@click.option("--run", "run_id", metavar="RUN", help="Whose scores come along.  [default: as the app]")
@click.option("--map", "map_id", metavar="MAP", help="Whose coordinates come along.  [default: as the app]")
@click.option("--lambda", "lambda_", type=click.FloatRange(0, 1), help="λ of the anomaly score.  [default: the run's]")
@click.option(
    "--lambda-mode",
    "mode",
    type=click.Choice(("raw", "standardised")),
    help="λ mixes the raw sums, or the scores standardised by median and MAD.  [default: the run's]",
)
def export(
    survey: Path,
    file: Path,
    selection: str | None,
    run_id: str | None,
    map_id: str | None,
    lambda_: float | None,
    mode: Literal["raw", "standardised"] | None,
) -> None:
    """Write the subjects of SURVEY with their scores and coordinates to FILE.

    The suffix says the format: .csv, .parquet, .vot or .xml (VOTable), .fits, .reg (regions for DS9).
    """
    form = SUFFIXES.get(file.suffix.lower())
    if form is None:
        raise UsageError(f"{file} has none of the suffixes {', '.join(SUFFIXES)}, which say the format")
    folder = file.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} to write {file.name} in; make it, or name another")
    from explorer.ledger import Ledger
    from explorer.services.explore import Explore
    from explorer.services.export import EXPORTS, n_placed, selection_table
    from explorer.state import Selection
    from explorer.survey import Survey, counted
    from models.artifacts import write_bytes
    from models.mixing import mixed_with

    opened = Survey.open(survey)
    explore, info = Explore(opened), opened.info
    map_id = _chosen("map", map_id, explore.maps(), info.default_map)
    of_map = explore.maps()[map_id].inputs.get("score") if map_id else None
    run_id = _chosen("run", run_id, explore.runs(), info.default_run, of_map)
    selected = None
    if selection is not None:
        with Ledger(opened.path, info.survey_id) as ledger:
            members = ledger.selection(selection, opened.subject_ids).subject_ids
        selected = Selection.of_rows(opened.rows_of(members), opened.n)
    own_lambda, own_mode = mixed_with(explore.runs()[run_id].config if run_id else {})
    told = own_lambda if lambda_ is None else lambda_, mode or own_mode
    table = selection_table(explore, selected, run_id, map_id, *told)
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


def _chosen(kind: str, asked: str | None, there: "dict[str, Run]", *defaults: str | None) -> str:
    """The run or map asked for; else the first default that is there, else the newest, else "".

    Raises
    ------
    UsageError
        The one asked for is not there, or not finished.
    """
    if asked is not None and asked not in there:
        raise UsageError(f'there is no finished {kind} "{asked}"; there are: {", ".join(there) or "none"}')
    return next((name for name in (asked, *defaults, *there) if name in there), "")


@click.command(context_settings={"ignore_unknown_options": True})  # "-2.2" is no option
@click.argument("survey", type=SURVEY)
@click.argument("text", nargs=-1, required=True)
def find(survey: Path, text: tuple[str, ...]) -> None:
    """Find subjects of SURVEY by TEXT: an id, a coordinate ("150.1 2.2 5arcsec", 10:00:24 +02:12:00), or several ids.

    A single - reads the ids from standard input. Every line printed is a source_id, RA and Dec in degrees and, for a
    coordinate, arcsec from it. Exit 1 if nothing is found.
    """
    from explorer.services.lookup import cone_of
    from explorer.services.lookup import find as look_up
    from explorer.survey import Survey

    asked = sys.stdin.buffer.read().decode(errors="replace") if text == ("-",) else " ".join(text)
    if len(text) > 1 and any(" " in part for part in text) and cone_of(asked) is None:
        asked = "\n".join(text)  # an id with blanks was quoted, and is still one
    opened = Survey.open(survey)
    found = look_up(opened, asked)
    ra, dec = opened.column("ra")[found.rows], opened.column("dec")[found.rows]
    for i, name in enumerate(opened.source_ids(found.rows)):
        place = f"{ra[i]:.6f}\t{dec[i]:+.6f}" if ra[i] == ra[i] and dec[i] == dec[i] else "\t"
        separation = f"\t{found.separations[i]:.2f}" if found.separations.size else ""
        click.echo(f"{name}\t{place}{separation}".rstrip("\t"))
    click.echo(found.message, err=True)
    opened.close()
    if not found.rows.size:
        raise click.exceptions.Exit(1)
