"""The ``voorwerp`` command; its subcommands are in `explorer.commands`.

Everything the app does can be done from here. Exit codes: 0 done; 1 one sentence on stderr says what is wrong; 2 the
command was written wrongly; 130 stopped.
"""

import errno
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click

from explorer.commands import (
    accounts,
    acquiring,
    boundary,
    comparing,
    counting,
    exporting,
    findings,
    indexing,
    ingesting,
    injecting,
    inviting,
    judging,
    ledgers,
    making,
    publishing,
    purity,
    reporting,
    running,
    sampling,
    serving,
    simulating,
    tables,
    tagging,
    thumbnails,
    vetting,
)
from explorer.errors import UsageError, VoorwerpError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("voorwerp"), prog_name="voorwerp")
def cli() -> None:
    """Find scientifically interesting unknowns in more galaxy images than anyone can look at."""


for command in (
    making.create,
    making.add,
    making.check,
    making.migrate,
    making.pack,
    ledgers.group,
    running.run,
    running.labels,
    running.resume,
    running.jobs,
    findings.findings,
    indexing.index,
    thumbnails.thumbnails,
    comparing.compare,
    judging.judge,
    purity.purity,
    injecting.inject,
    boundary.group,
    ingesting.ingest,
    tables.join,
    tables.import_run,
    exporting.find,
    exporting.export,
    exporting.figure,
    reporting.report,
    publishing.retire,
    counting.consensus,
    counting.replay,
    tagging.tags,
    accounts.group,
    inviting.invite,
    vetting.group,
    sampling.sample,
    acquiring.acquire,
    simulating.simulate,
    serving.serve,
    serving.demo,
):
    cli.add_command(command)


def check_packages() -> None:
    """`models` is a common name: say so when another one shadows ours."""
    import models

    ours = Path(__file__).parents[1] / "models" / "__init__.py"
    if models.__file__ is None or Path(models.__file__).resolve() != ours.resolve():
        raise UsageError(
            f"another package called models shadows Voorwerp's ({models.__file__}); "
            "start from another folder or unset PYTHONPATH"
        )


def sentence_of(error: Exception) -> str | None:
    """The one sentence for an error a person can act on; None for a defect of ours, which keeps its traceback."""
    if isinstance(error, VoorwerpError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full{f' ({error.filename})' if error.filename else ''}; free some space and start again"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    from models.artifacts import ArtifactError
    from models.images import ImageError

    return str(error) if isinstance(error, (ArtifactError, ImageError)) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        check_packages()
        code = cli.main(args=arguments, prog_name="voorwerp", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.Abort:
        click.secho("stopped", fg="red", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        click.secho(sentence, fg="red", err=True)
        return getattr(error, "exit_code", 1)


if __name__ == "__main__":
    sys.exit(main())
