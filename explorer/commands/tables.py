"""``voorwerp join`` and ``import-run``: tables, scores and vectors that were made elsewhere."""

from pathlib import Path

import click

from explorer.commands.running import who

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


@click.command("import-run")
@click.argument("survey", type=SURVEY)
@click.option("--latents", metavar="FILE[:KEY]", help="Vectors: npy, npz:ARRAY, HDF5:DATASET, Parquet, CSV.")
@click.option("--scores", type=FILE, metavar="TABLE", help="A table whose numeric columns are scores.")
@click.option("--id-column", metavar="COLUMN", help="The ids in both  [default: the order of rows]")
@click.option("--score-column", metavar="COLUMN", help="Of TABLE: becomes the anomaly score.")
@click.option("--ascending", is_flag=True, help="Low values of the score column are the anomalous ones.")
@click.option("--name", help="A word for the run's name.")
def import_run(
    survey: Path,
    latents: str | None,
    scores: Path | None,
    id_column: str | None,
    score_column: str | None,
    ascending: bool,
    name: str | None,
) -> None:
    """Make a run of vectors or scores that were computed elsewhere.

    Where SURVEY does not exist it is made first, without images, of the ids and the table's other columns.
    """
    from explorer.ingest import imported
    from explorer.ledger import Ledger
    from explorer.survey import Survey, counted

    options = imported.ImportOptions(latents, scores, id_column, score_column, ascending, name)
    made = imported.import_run(survey, options)
    opened = Survey.open(survey)
    with Ledger(opened.path, opened.info.survey_id) as ledger:
        ledger.append("job", {"action": "import", "kind": "score"}, who=who(), run_id=made.run_id)
    opened.close()
    for sentence in made.sentences:
        click.echo(sentence)
    click.echo(f"{made.run_id} has {counted(made.n_rows, 'subject')}")
