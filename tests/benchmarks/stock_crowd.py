"""crowd-kit on a crowd's votes, run by the Python of its own environment: ``stock_crowd.py VOTES ANSWERS``.

``VOTES`` is JSON: ``task``, ``worker`` and ``label`` of each vote, and ``given``, a list of {task: label}, the answers
that each repeat may use. ``ANSWERS`` gets {way: [P(label 1) of each task, for each repeat]}.
"""

import json
import sys
from pathlib import Path


def main(votes: Path, answers: Path) -> None:
    """Fit each way, on the votes alone once, and with the given answers once per repeat."""
    import pandas as pd
    from crowdkit.aggregation import GLAD, DawidSkene, MajorityVote

    asked = json.loads(votes.read_text())
    table = pd.DataFrame({name: asked[name] for name in ("task", "worker", "label")})
    tasks = range(1 + max(asked["task"]))

    def of_one(probabilities: pd.DataFrame) -> list[float]:
        return probabilities[1].reindex(tasks).fillna(0.0).tolist()

    found = {
        "majority": [of_one(MajorityVote().fit_predict_proba(table))],
        "Dawid–Skene": [of_one(DawidSkene(n_iter=100).fit_predict_proba(table))],
        "GLAD": [of_one(GLAD(n_iter=100).fit_predict_proba(table))],
        "Dawid–Skene, half given": [
            of_one(DawidSkene(n_iter=100).fit_predict_proba(table, pd.Series({int(t): x for t, x in given.items()})))
            for given in asked["given"]
        ],
    }
    answers.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
