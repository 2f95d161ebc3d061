"""The ``voorwerp`` command.

Everything the app does can be done from here. Imports are made inside the commands, so that ``voorwerp --help`` is
quick. Exit codes: 0 done; 1 one sentence on stderr says what is wrong; 2 the command was written wrongly; 130 stopped.
"""

import errno
import ipaddress
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click

from explorer.errors import AccessError, UsageError, VoorwerpError

SURVEY = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("voorwerp"), prog_name="voorwerp")
def cli() -> None:
    """Find scientifically interesting unknowns in more galaxy images than anyone can look at."""


# ------------------------------------------------------------------------------------------------------ serve
def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@cli.command()
@click.argument("survey", type=SURVEY)
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5006, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port.")
@click.option("--no-browser", is_flag=True, help="Only print the URL.")
@click.option("--insecure", is_flag=True, help="Listen on another address than this machine's own without accounts.")
def serve(survey: Path, address: str, port: int, no_browser: bool, insecure: bool) -> None:
    """Open SURVEY in the browser."""
    if not is_loopback(address) and not insecure:
        raise AccessError(
            f"{address} can be reached from other machines and this survey has no accounts; "
            "use --address 127.0.0.1, or --insecure if you trust everyone on that network"
        )
    from explorer.survey import Survey

    Survey.open(survey).close()  # a wrong folder is one sentence now, not a page that fails
    from explorer.app import serve

    serve(survey, address=address, port=port, open_browser=not no_browser, insecure=insecure)


# ------------------------------------------------------------------------------------------------------- main
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
    from models.images import ImageError

    from models.artifacts import ArtifactError

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
