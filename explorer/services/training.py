"""Training subjects of our own page: what is known of them, and duds, known to be nothing new."""

from contextlib import suppress

import numpy as np

from explorer.errors import LedgerError
from explorer.ledger import Ledger
from explorer.services.counting import read_table
from explorer.survey import Survey
from explorer.votes import CHOSEN, GOLD, GOLD_SCHEMA, GRID_TASK

#: Kept selections whose subjects are training subjects, by name in any case.
TRAINING, DUDS = "training", "duds"


def training_classes(survey: Survey, ledger: Ledger) -> np.ndarray:
    """What choosing a subject on our own page would be: int8 (N,), 1 right, 0 wrong (a dud), −1 not known.

    Known objects (column ``is_known``), known answers to `GRID_TASK`, and kept selections "training" and "duds"; what
    is called both is a dud.
    """
    classes = np.full(survey.n, -1, np.int8)
    if any(column.name == "is_known" for column in survey.columns()):
        classes[survey.column("is_known") == "true"] = 1
    gold = read_table(survey.path / GOLD, GOLD_SCHEMA)
    rows = survey.rows_of(gold.column("subject_id").to_numpy())
    is_ours = (rows >= 0) & (np.array(gold.column("task").to_pylist(), object) == GRID_TASK)
    answers = np.array(gold.column("answer").to_pylist(), object)
    classes[rows[is_ours & (answers == CHOSEN)]] = 1
    duds = [rows[is_ours & (answers == "")]]
    for name in ledger.selection_names():
        if name.lower() in (TRAINING, DUDS):
            with suppress(LedgerError):  # a damaged one: `voorwerp check` names it
                kept = survey.rows_of(ledger.selection(name, survey.subject_ids).subject_ids)
                if name.lower() == TRAINING:
                    classes[kept[kept >= 0]] = 1
                else:
                    duds.append(kept[kept >= 0])
    for one in duds:
        classes[one] = 0
    return classes
