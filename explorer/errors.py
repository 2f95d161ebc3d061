"""Every error a person may meet. Each message is one sentence: what is wrong, where, what was found, what to do.

::

    VoorwerpError
    ├── UsageError          the command or the form was filled in wrongly        (exit 2)
    ├── SurveyError         the survey folder is not what it should be           (exit 1)
    │   ├── SchemaError     another schema version
    │   └── IngestError     a source that cannot become subjects
    ├── LedgerError         a decision could not be kept
    ├── JobError            a run cannot start, or failed
    ├── SampError           no other application on the desktop can be reached
    ├── NotReadyError       what was asked for is being made; ask again in a second
    ├── UnwantedError       whoever asked has gone on: what was begun is not finished
    ├── ZooniverseError     Zooniverse cannot be reached, or refused
    └── AccessError         not allowed: another address, host or token
"""

import difflib
from collections.abc import Iterable


class VoorwerpError(Exception):
    """Base of all: str(error) is the sentence shown; `exit_code` is the command's."""

    exit_code = 1


class UsageError(VoorwerpError):
    """The command or the form was filled in wrongly."""

    exit_code = 2


class SurveyError(VoorwerpError):
    """The survey folder is not what it should be."""


class SchemaError(SurveyError):
    """The survey folder was written by another schema version."""


class IngestError(SurveyError):
    """A source cannot become subjects."""


class LedgerError(VoorwerpError):
    """A decision could not be kept."""


class JobError(VoorwerpError):
    """A run cannot start, or failed."""


class SampError(VoorwerpError):
    """No other application on the desktop can be reached."""


class NotReadyError(VoorwerpError):
    """What was asked for is being made; ask again in a second."""


class UnwantedError(VoorwerpError):
    """Whoever asked has gone on: what was begun is not finished."""


class ZooniverseError(VoorwerpError):
    """Zooniverse cannot be reached, or refused what it was asked."""


class AccessError(VoorwerpError):
    """Not allowed."""


def no_such_column(name: str, where: str, columns: Iterable[str]) -> UsageError:
    """The error for a column that is not there, with the near miss."""
    columns = list(columns)
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"it has {', '.join(columns)}"
    return UsageError(f'column "{name}" is not in {where}; {hint}')
