"""A survey with every source of labels, and a run kind that says what it was given to learn from."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.kinds import Kind
from explorer.services.desk import Desk
from explorer.votes import TOTALS, TOTALS_SCHEMA
from models.artifacts import Workspace, write_table
from models.labels import read_labels
from models.progress import Progress
from tests.explorer.graded import grade, keep, plan
from tests.explorer.vetted import write_graded

#: 7 is withdrawn, 8 planted, 100 to 119 are pairs of the same sky; who is divisible by 4, and its pair, is for testing.
N = 200


@dataclass(frozen=True, slots=True)
class LearnConfig:
    """Every setting that has to do with labels."""

    expert: str = ""
    amateur: str = ""
    votes: str = ""
    means: str = ""
    look_for: str = ""
    classes: Literal["found", "grades"] = "found"
    pause: float = 0.0


def learn(config: LearnConfig, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Say what the labels are."""
    labels = read_labels(workspace)
    yield Progress(1, 1, "reading")
    return {
        "classes": list(labels.classes),
        "n_expert": int((labels.expert >= 0).sum()),
        "n_test": int(labels.is_test.sum()),
        "n_strangers": labels.n_strangers,
        "expert": config.expert,
    }


LEARN = Kind(
    "learn",
    "Learn",
    LearnConfig,
    "tests.explorer.labelled:learn",
    labels=("expert", "amateur", "votes"),
    needs_images=True,
)
NEEDY = Kind(
    "needy", "Learn", LearnConfig, "tests.explorer.labelled:learn", labels=("expert",), needs_labels=("expert",)
)


def write_labelled(path: Path) -> Path:
    """Columns: kind (three classes), is_ring (yes, no), n_arms (0 to 3), n_stars (too many), flux, note."""
    write_graded(path, N)
    table = pq.read_table(path / "subjects.parquet")
    row = np.arange(N)
    first = np.where((row >= 100) & (row < 120), row // 2 * 2, row)
    half = pa.array(np.where(first % 4 == 0, "test", "tune"))
    table = table.set_column(table.schema.get_field_index("half"), table.schema.field("half"), half)
    columns: dict[str, tuple[pa.Field, Any]] = {
        "is_ring": (pa.field("is_ring", pa.bool_()), row % 5 == 0),
        "n_arms": (pa.field("n_arms", pa.int64()), row % 4 + 9),
        "n_stars": (pa.field("n_stars", pa.int64()), row),
        "shape": (pa.field("shape", pa.string(), metadata={"kind": "category"}), [("S", None)[k % 2] for k in row]),
    }
    for field, values in columns.values():
        table = table.append_column(field, pa.array(values, field.type))
    table = table.drop_columns(["chosen_fraction"])
    pq.write_table(table, path / "subjects.parquet")
    return path


def write_totals(path: Path, ids: np.ndarray, chosen: dict[str, np.ndarray], n_views: int = 10) -> None:
    """Votes of one task, as totals: of each answer how many of `n_views` gave it."""
    rows = [
        {"subject_id": int(i), "workflow_id": 5, "task": "T0", "answer": answer, "n_classifications": n_views}
        | {"n_volunteers": None, "n_chosen": int(k), "n_chosen_volunteers": None, "source": "totals"}
        for answer, counts in chosen.items()
        for i, k in zip(ids.tolist(), counts.tolist(), strict=True)
    ]
    write_table(path / TOTALS, pa.Table.from_pylist(rows, TOTALS_SCHEMA))


def lenses(desk: Desk, name: str = "Lenses", audit: int = 20, **told: Any) -> Any:
    """A campaign of the first 60, graded: 0 and 1 are found, 2 is possible, 3 nobody can judge; not closed."""
    if "top" not in desk.ledger.selection_names():
        keep(desk, "top", np.arange(60))
    made = desk.campaigns.of_selection(plan(name, audit=audit, **told), "top", "owner-1")
    grade(desk, made, "grader-1", {0: "A", 1: "B", 2: "C", 3: "Q"})
    return made
