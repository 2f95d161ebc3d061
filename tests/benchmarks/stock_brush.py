"""A map and a histogram linked with plain HoloViews, on the synthetic cloud: what our brush is measured against.

``python -m tests.benchmarks.stock_brush N PORT WIDTH HEIGHT`` serves it with a map of that many pixels.
"""

import sys

import holoviews as hv
import holoviews.operation.datashader as hd
import pandas as pd
import panel as pn

from tests.benchmarks.synthetic import cloud


def main(n: int, port: int, width: int, height: int) -> None:
    """Serve the linked plots of `n` points until the process ends."""
    hv.extension("bokeh")
    xyz, score = cloud(n)
    points = hv.Points(pd.DataFrame({"x": xyz[:, 0], "y": xyz[:, 1], "score": score}), ["x", "y"], ["score"])

    def linked() -> pn.Column:
        link = hv.link_selections.instance()
        plot = hd.rasterize(points).opts(cnorm="eq_hist", frame_width=width, frame_height=height)
        counts = hv.operation.histogram(points, dimension="score", num_bins=80, normed=False)
        counts = counts.opts(frame_width=width, frame_height=120, tools=["xbox_select"], active_tools=["xbox_select"])
        return pn.Column(pn.pane.HoloViews(link(plot)), pn.pane.HoloViews(link(counts)))

    print(f"http://127.0.0.1:{port}/", flush=True)
    pn.serve({"brush": linked}, port=port, show=False)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
