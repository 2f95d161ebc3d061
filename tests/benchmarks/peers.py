"""Programs to compare with whose dependencies clash with ours: each in its own environment under ``.venv-bench``.

::

    from tests.benchmarks import peers

    peers.run("panoptes-aggregation", "panoptes_aggregation", "extract", "votes.csv", "extractor.yaml", cwd=folder)
    peers.run("crowd-kit", "python", "script.py", "in.json", "out.json")

The first call makes the environment with pip (a minute or two, up to 800 MB), later ones find it. Only benchmarks call
this, so only ``make bench`` makes one. Call `environment` before the clock starts.
"""

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".venv-bench"

#: Exact versions of the program and of what its figures depend on, found with Python 3.11.
PINS = {
    "crowd-kit": ("crowd-kit==1.4.2", "numpy==2.4.6", "pandas==3.1.1", "scipy==1.17.1", "scikit-learn==1.9.1"),
    "panoptes-aggregation": (
        "panoptes-aggregation==5.3.1",
        "numpy==2.2.6",
        "pandas==2.3.3",
        "scipy==1.17.1",
        "scikit-learn==1.6.1",
    ),
}


def environment(name: str) -> Path:
    """The folder of one program's environment, made at first, and anew when its pins have changed.

    Raises
    ------
    KeyError
        No program of that name is known here.
    subprocess.CalledProcessError
        pip could not install it; pip's own words are on the terminal.
    """
    pins = PINS[name]
    folder = FOLDER / name
    done = folder / ".installed"
    wanted = "\n".join(pins)
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        # without pip in it: a python that has no ensurepip (Debian's) makes it too
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", *pins], check=True)
        done.write_text(wanted)
    return folder


def run(name: str, program: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    """Run a program of one environment and return what it printed.

    Raises
    ------
    subprocess.CalledProcessError
        It ended with another code than 0; what it said to stderr is on the terminal.
    """
    command = [environment(name) / "bin" / program, *arguments]
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout
