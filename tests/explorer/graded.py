"""A survey with places on the sky and originals, and campaigns that made-up graders have gone through."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from explorer.services.campaigns import Campaign, Plan
from explorer.services.desk import Desk
from models.grades import SCHEMES
from tests.conftest import FIRST_ID
from tests.galaxies import write_galaxies

N = 60
#: Row → what everybody thinks of it, where it is not "X".
TRUE = {0: "A", 1: "A", 2: "B", 3: "B", 4: "C", 5: "C"}


def write_manifest(folder: Path, n: int = N) -> Path:
    """Images, and a manifest with ids beyond 2⁵³, places, and texts that a spreadsheet would run."""
    paths = write_galaxies(folder / "images", n)
    lines = ["OBJID,file,ra,dec,note"]
    for i, path in enumerate(paths):
        place = "," if i == 7 else f"{150 + i / 100:.5f},{2 + i / 200:.5f}"
        lines.append(f"{FIRST_ID + i},images/{path.name},{place},=1+{i}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


def write_survey(folder: Path, voorwerp: Callable[..., str]) -> Path:
    """The survey of `write_manifest`."""
    told = ["--path-column", "file", "--id-column", "OBJID", "--size", 32, "--crop", "center"]
    voorwerp("create", folder / "survey", write_manifest(folder), *told)
    return folder / "survey"


def keep(desk: Desk, name: str, rows: np.ndarray) -> None:
    """Keep rows as a selection."""
    desk.ledger.save_selection(name, np.asarray(rows), desk.explore.survey.subject_ids, who="grader-1")


def grade(
    desk: Desk, campaign: Campaign, who: str, by_row: Mapping[int, str], interesting: tuple[int, ...] = ()
) -> None:
    """Give what a grader is to look at the grades of `by_row`, "X" to all others; "" leaves it out."""
    for item in list(desk.vetting.queue(campaign.id, who)):
        if given := by_row.get(item.row, "X"):
            flag = item.row in interesting
            desk.vetting.vote(campaign.id, who, item.key, given, interesting=flag, seconds=2.0)


def plan(name: str, **told: object) -> Plan:
    """A plan of the scheme A, B, C, X, without repeats unless told."""
    return Plan(name, SCHEMES["abcx"], **({"repeats": 0.0} | told))  # type: ignore[arg-type]


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Desk]:
    """The services of a survey."""
    with Desk.open(folder) as desk:
        yield desk
