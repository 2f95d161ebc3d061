"""Make the demo's checkpoint again: ``python assets/make_demo.py [FOLDER]``, about a quarter of an hour on one core.

Cuts the galaxies out of the Hubble Deep Field (the image in the scikit-image wheel; public domain, credit NASA/STScI),
trains on them as anyone would with ``voorwerp create`` and ``voorwerp run``, and keeps the checkpoint, its run.json,
the split, the history, and every sixth of the pictures for the page of the training. The same CPU gives the same bytes:
one thread, so that the order of sums does not depend on the cores.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import skimage

IMAGE = Path(skimage.__file__).parent / "data" / "hubble_deep_field.jpg"
CREATE = ["--size", 32, "--extent", 32, "--name", "Hubble Deep Field"]
TRAIN = ["--epochs", 130, "--encoder-epochs", 150, "--width", 12, "--device", "cpu"]
KEPT = ("checkpoint.safetensors", "run.json", "split.parquet", "history.jsonl", "grids/scale.json")
EVERY = 6  # of the pictures: all of them are megabytes


def voorwerp(*arguments: object) -> None:
    """Run the command with one thread."""
    command = [str(Path(sys.executable).with_name("voorwerp")), *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "demo")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory(prefix="voorwerp-demo-") as name:
        survey = Path(name) / "hubble_deep_field"
        voorwerp("create", survey, "--cut-out", IMAGE, *CREATE)
        voorwerp("run", survey, "train", *TRAIN)
        (run,) = (survey / "runs").iterdir()
        shutil.rmtree(folder / "grids", ignore_errors=True)
        (folder / "grids").mkdir(parents=True)
        pictures = sorted((run / "grids").glob("*.png"), reverse=True)[::EVERY]  # the last is one of them
        for kept in (*KEPT, *(f"grids/{path.name}" for path in pictures)):
            shutil.copyfile(run / kept, folder / kept)


if __name__ == "__main__":
    main()
