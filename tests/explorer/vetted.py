"""Surveys to be vetted, and the services that it takes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.ledger import Ledger
from explorer.services.boundaries import Boundaries
from explorer.services.campaigns import Campaigns
from explorer.services.explore import Explore
from explorer.services.notes import Notes
from explorer.services.vetting import Vetting
from explorer.survey import Survey
from tests.explorer.small_survey import write_survey


def write_graded(path: Path, n: int = 200) -> Path:
    """`n` subjects: 7 is withdrawn, 8 is planted; those from 100 to 119 are in pairs of the same sky; ``magnitude``
    rises, ``kind`` has three categories, ``chosen_fraction`` falls from 1 to 0.
    """
    write_survey(path, n, 8)
    table = pq.read_table(path / "subjects.parquet")

    def put(name: str, values: list[object], type_: pa.DataType) -> None:
        nonlocal table
        i = table.schema.get_field_index(name)
        array = pa.array(values, type_)
        table = table.set_column(i, table.schema.field(i), array) if i >= 0 else table.append_column(name, array)

    put("is_withdrawn", [k == 7 for k in range(n)], pa.bool_())
    put("duplicate_group", [k // 2 if 100 <= k < 120 else 10_000 + k for k in range(n)], pa.int64())
    put("source_id", [f"s{k}" for k in range(n)], pa.string())
    put("injected_kind", ["ring" if k == 8 else None for k in range(n)], pa.string())
    put("magnitude", np.linspace(15, 25, n).tolist(), pa.float64())
    put("chosen_fraction", np.linspace(1, 0, n).tolist(), pa.float64())
    kind = pa.field("kind", pa.string(), metadata={"kind": "category"})
    table = table.append_column(kind, pa.array([("spiral", "elliptical", "odd")[k % 3] for k in range(n)]))
    pq.write_table(table, path / "subjects.parquet")
    return path


def campaigns_of(survey: Survey, ledger: Ledger) -> Campaigns:
    """The campaigns of a survey."""
    explore = Explore(survey)
    return Campaigns(explore, ledger, Boundaries(explore, ledger), Notes(ledger, explore))


def vetting_of(survey: Survey, ledger: Ledger) -> Vetting:
    """The votes of a survey, as a server that was just started has them."""
    campaigns = campaigns_of(survey, ledger)
    return Vetting(campaigns.explore, ledger, campaigns)
