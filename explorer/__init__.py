"""Voorwerp: find scientifically interesting unknowns in more galaxy images than anyone can look at."""

import functools
from pathlib import Path

__version__ = "0.1.0"

#: css, scripts, logo and the demo checkpoint: inside the wheel, or beside the packages in a checkout
ASSETS = next(p for p in (Path(__file__).parent / "_assets", Path(__file__).parents[1] / "assets") if p.exists())


@functools.cache
def code_version() -> str:
    """What runs and ledger entries are signed with: the version, and the commit where the code runs from a checkout."""
    git = Path(__file__).parents[1] / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return f"{__version__}+g{head[:12]}"
        name = head.removeprefix("ref: ")
        if (git / name).exists():
            return f"{__version__}+g{(git / name).read_text().strip()[:12]}"
        packed = {line.split()[-1]: line for line in (git / "packed-refs").read_text().splitlines()}
        return f"{__version__}+g{packed[name][:12]}"
    except (OSError, KeyError):
        return __version__
