"""A threshold with plain Panel, on the synthetic cloud: what our moved limit is measured against.

``python -m tests.benchmarks.stock_threshold N PORT`` serves a slider, and what a cut at it is worth by scikit-learn.
"""

import sys

import numpy as np
import panel as pn
from sklearn.metrics import precision_recall_fscore_support

from tests.benchmarks.synthetic import cloud


def main(n: int, port: int) -> None:
    """Serve the slider over `n` subjects until the process ends."""
    pn.extension()
    _, score = cloud(n)
    truth = np.random.default_rng(4).random(n) < 0.5 * np.clip(score, 0, 1) ** 6

    def page() -> pn.Column:
        slider = pn.widgets.FloatSlider(name="At least", start=0, end=1, step=0.001, value=0.5)

        def numbers(low: float) -> str:
            kept = score >= low
            p, r, f1, _ = precision_recall_fscore_support(truth, kept, average="binary", zero_division=0)
            return f"kept {kept.sum():,}, precision {p:.4f}, recall {r:.4f}, F1 {f1:.4f}"

        return pn.Column(slider, pn.pane.Markdown(pn.bind(numbers, slider), css_classes=["numbers"]))

    print(f"http://127.0.0.1:{port}/", flush=True)
    pn.serve({"threshold": page}, port=port, show=False)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
