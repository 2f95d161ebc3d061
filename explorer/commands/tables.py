"""``voorwerp join`` and ``import-run``: tables, scores and vectors that were made elsewhere."""

from pathlib import Path

import click

SURVEY = click.Path(path_type=Path)
FILE = click.Path(path_type=Path)


@click.command()
@click.argument("survey", type=SURVEY)
@click.argument("table", type=FILE)
@click.option("--on", metavar="COLUMN", help="Match this column of TABLE with an id, or SURVEY_COLUMN=TABLE_COLUMN.")
@click.option("--sky", metavar="RADIUS", help="Match by RA and Dec, the nearest within e.g. 2arcsec.")
@click.option("--columns", metavar="A,B", help="Only these columns of TABLE  [default: all; with --known none]")
@click.option("--prefix", default="", metavar="TEXT", help="Put before each column's name.")
@click.option("--replace", is_flag=True, help="Write columns that are there already anew.")
@click.option("--known", is_flag=True, help="Flag the matched as known objects.")
@click.option("--name-column", metavar="COLUMN", help="With --known: the column of their names.")
@click.option("--name", help="What the separation column is called after  [default: TABLE's name]")
@click.option("--strict", is_flag=True, help="Refuse a TABLE with a key twice, in place of taking the first row.")
def join(
    survey: Path,
    table: Path,
    on: str | None,
    sky: str | None,
    columns: str | None,
    prefix: str,
    replace: bool,
    known: bool,
    name_column: str | None,
    name: str | None,
    strict: bool,
) -> None:
    """Add the columns of TABLE to SURVEY, by id or by place on the sky.

    TABLE is CSV, TSV, Parquet, a FITS table, VOTable, ECSV or npz.
    """
    from explorer.ingest.join import JoinOptions
    from explorer.ingest.join import join as join_table

    wanted = None if columns is None else [column.strip() for column in columns.split(",")]
    options = JoinOptions(on, sky, wanted, prefix, replace, known, name_column, name, strict)
    for sentence in join_table(survey, table, options).sentences():
        click.echo(sentence)
