"""What a survey keeps secret on this machine, outside its folder: a copy of the folder gives nothing away."""

import contextlib
import os
import secrets
from pathlib import Path

from explorer.errors import SurveyError

#: Where secrets are kept instead of ``~/.config/voorwerp``.
CONFIG = "VOORWERP_CONFIG"


def folder_of(survey_id: str) -> Path:
    """Where a survey's secrets are; made when it is not there, for its owner alone.

    Raises
    ------
    OSError
        It cannot be made.
    """
    base = os.environ.get(CONFIG)
    folder = (Path(base) if base else Path.home() / ".config" / "voorwerp") / survey_id
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def secret_of(survey_id: str, name: str) -> str:
    """A survey's secret of a name, 64 hexadecimal digits; made when there is none.

    Raises
    ------
    SurveyError
        Others may read it.
    OSError
        It cannot be written or read.
    """
    file = folder_of(survey_id) / name
    with contextlib.suppress(FileExistsError):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as made:
            made.write(secrets.token_hex(32))
            made.flush()
            os.fsync(made.fileno())
    if file.stat().st_mode & 0o077:
        raise SurveyError(f"{file} may be read by others; chmod 600 it, or remove it")
    return file.read_text()
