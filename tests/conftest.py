"""What every test may ask for: real data where it is, synthetic images, and small surveys made by the real command."""

import fcntl
import itertools
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from explorer.services import campaigns
from tests import postgres_at_hand
from tests.galaxies import write_galaxies
from tests.ui.serving import VOORWERP

# Browser and server share the cores with the tests: torch, and every process started here, takes one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("VOORWERP_LEDGER", None)  # nobody's own decisions
hypothesis.settings.register_profile("shared cores", deadline=None)
hypothesis.settings.load_profile("shared cores")

#: An SDSS OBJID: beyond 2⁵³, so a float loses its digits.
FIRST_ID = 588848901523702001
SHARED_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _secrets(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What surveys keep secret is kept where the tests end."""
    os.environ["VOORWERP_CONFIG"] = str(tmp_path_factory.mktemp("config"))


@pytest.fixture(autouse=True)
def _orders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graders' orders follow from their campaign's UUID: here the same ones at every run of a test."""
    numbers, uuid_of = itertools.count(), campaigns.uuid_of

    def seeded(given: str | None) -> str:
        return uuid_of(given or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{request.node.nodeid} {next(numbers)}")))

    monkeypatch.setattr(campaigns, "uuid_of", seeded)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data beside the checkout; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real test data is not here ({SHARED_DATA} does not exist)")
    return SHARED_DATA.resolve()


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_at_hand.Server]:
    """A PostgreSQL server; each test makes a database of its own."""
    with postgres_at_hand.server() as server:
        yield server


@pytest.fixture
def tiny_images(tmp_path: Path) -> list[Path]:
    """Twelve synthetic galaxies of 48 px, PNG and JPEG in turn."""
    return write_galaxies(tmp_path / "images", 12)


@pytest.fixture(scope="session")
def voorwerp() -> Callable[..., str]:
    """``voorwerp("check", survey)``: run the real command, return what it printed; a failure shows all of it."""

    def run(*arguments: object) -> str:
        command = [VOORWERP, *map(str, arguments)]
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert answer.returncode == 0, f"{' '.join(map(str, command))} ended with {answer.returncode}:\n{answer.stdout}"
        return answer.stdout

    return run


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A copy of a folder that `make` fills once, in the first of the test processes to ask for it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    made = base / f"made_{name}"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            half = base / f"half_{name}"
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(made)
    return shutil.copytree(made, tmp_path_factory.mktemp(name), dirs_exist_ok=True)


@pytest.fixture(scope="session")
def image_survey(tmp_path_factory: pytest.TempPathFactory, voorwerp: Callable[..., str]) -> Path:
    """A survey of 200 synthetic galaxies at 32 px from a manifest, without runs. Shared: copy it to change it.

    The ids are of SDSS's size, beyond 2⁵³; column ``note`` holds what a spreadsheet would run, ``magnitude`` has a gap.
    """

    def make(folder: Path) -> None:
        paths = write_galaxies(folder / "images", 200)
        lines = ["OBJID,file,magnitude,shape,note"]
        for i, path in enumerate(paths):
            magnitude = "" if i == 3 else f"{17 + i / 50:.2f}"
            lines.append(f"{FIRST_ID + i},images/{path.name},{magnitude},{('spiral', 'elliptical')[i % 2]},=1+{i}")
        (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
        columns = ["--path-column", "file", "--id-column", "OBJID"]
        voorwerp("create", folder / "survey", folder / "manifest.csv", *columns, "--size", 32, "--crop", "center")

    return made_once(tmp_path_factory, "image_survey", make) / "survey"


@pytest.fixture(scope="session")
def finished_survey(image_survey: Path, tmp_path_factory: pytest.TempPathFactory, voorwerp: Callable[..., str]) -> Path:
    """`image_survey` with a tiny network trained, every subject scored and mapped. Shared: copy it to change it."""

    def make(folder: Path) -> None:
        survey = shutil.copytree(image_survey, folder / "survey")
        tiny = ["--epochs", 1, "--encoder-epochs", 1, "--width", 4, "--latent-size", 12, "--device", "cpu"]
        voorwerp("run", survey, "train", *tiny)
        voorwerp("run", survey, "score", "--device", "cpu")
        voorwerp("run", survey, "map", "--n-epochs", 50)

    return made_once(tmp_path_factory, "finished_survey", make) / "survey"
