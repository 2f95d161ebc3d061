"""The table that a user writes with pandas and Panel, of the synthetic subjects: what ours is measured against.

``python -m tests.benchmarks.stock_table N PORT`` serves it at ``/``, paged by the server.
"""

import sys

import numpy as np
import pandas as pd
import panel as pn

from tests.benchmarks.synthetic import cloud


def main(n: int, port: int) -> None:
    """Serve the table of `n` subjects until the process ends."""
    pn.extension("tabulator")
    score = cloud(n)[1]
    feature = np.clip(score + np.random.default_rng(1).normal(0, 0.1, n), 0, 1).astype(np.float32)
    mixed = 0.8 * score + 0.2 * feature
    frame = pd.DataFrame(
        {"source_id": np.arange(n).astype(str), "anomaly_score": mixed, "feature_score": feature, "image_score": score}
    )
    options = {"pagination": "remote", "page_size": 100, "show_index": False, "disabled": True, "height": 320}
    print(f"http://127.0.0.1:{port}/", flush=True)
    pn.serve(lambda: pn.widgets.Tabulator(frame, **options), port=port, show=False)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
