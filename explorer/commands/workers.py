"""The options that say who computes: this machine, several of its processes, or a team's cluster."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from explorer.errors import UsageError

if TYPE_CHECKING:
    from explorer.services.cluster import Scheduler

FILE = click.Path(path_type=Path)


class Where(NamedTuple):
    """What was told of who computes."""

    scheduler: str | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    workers: int | None = None

    def check(self) -> "Scheduler | None":
        """The team's scheduler, with a warning where it is open to anybody; None where this machine computes.

        Raises
        ------
        UsageError
            Two things were told that do not go together, or there is no such file.
        """
        if self.scheduler is None:
            for flag, value in zip(("--tls-ca", "--tls-cert", "--tls-key"), self[1:4], strict=True):
                if value is not None:
                    raise UsageError(f"{flag} opens a scheduler; tell --scheduler tls://HOST:PORT, too")
            return None
        if self.workers is not None:
            raise UsageError("--workers are of this machine, and --scheduler has its own; leave out one or the other")
        from explorer.services.cluster import Scheduler

        scheduler = Scheduler(self.scheduler, *self[1:4])
        if scheduler.is_open:
            click.secho(
                f"{scheduler.address} is not encrypted: whoever reaches it can run code on your cluster; use tls://",
                fg="yellow",
                err=True,
            )
        return scheduler


def options(work: str = "the work of a scoring  [default: one for each GPU]") -> list[click.Option]:
    """They, for a command that is built by hand; `work` is what is shared."""
    return [
        click.Option(
            ["--workers"],
            type=click.IntRange(1, 256),
            metavar="N",
            help=f"Processes of this machine that share {work}",
        ),
        click.Option(["--scheduler"], metavar="ADDRESS", help="A team's Dask cluster takes it: tls://HOST:PORT"),
        click.Option(["--tls-ca"], type=FILE, help="Certificate of who signed the scheduler's  [default: Dask's own]"),
        click.Option(["--tls-cert"], type=FILE, help="Our certificate for the scheduler  [default: Dask's own]"),
        click.Option(["--tls-key"], type=FILE, help="Its key  [default: Dask's own]"),
    ]


def where_of(values: dict[str, Any]) -> Where:
    """Takes them out of the `values` of all options."""
    return Where(**{name: values.pop(name, None) for name in Where._fields})


def with_workers(command: Callable[..., Any], work: str = "") -> Callable[..., Any]:
    """A command with these options: it gets them as `where`; `work` is what is shared, where that is no scoring."""

    @functools.wraps(command)
    def told(**values: Any) -> Any:
        where = where_of(values)
        return command(**values, where=where)

    told.__click_params__ = [*reversed(options(work) if work else options()), *getattr(command, "__click_params__", [])]  # type: ignore[attr-defined]
    return told
