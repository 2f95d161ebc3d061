"""The map that a user writes with plain HoloViews, on the synthetic cloud: what ours is measured against.

``python -m tests.benchmarks.stock_map N PORT WIDTH HEIGHT`` serves ``/count``, ``/mean`` and ``/datashade``, framed to
that many pixels.
"""

import sys

import datashader as ds
import holoviews as hv
import holoviews.operation.datashader as hd
import pandas as pd
import panel as pn

from tests.benchmarks.synthetic import cloud


def main(n: int, port: int, width: int, height: int) -> None:
    """Serve the three stock maps of `n` points until the process ends."""
    hv.extension("bokeh")
    xyz, score = cloud(n)
    points = hv.Points(pd.DataFrame({"x": xyz[:, 0], "y": xyz[:, 1], "score": score}), ["x", "y"], ["score"])
    size = {"frame_width": width, "frame_height": height, "active_tools": ["pan", "wheel_zoom"]}
    mean = ds.mean("score")
    maps = {
        "count": lambda: hd.rasterize(points).opts(cnorm="eq_hist", cmap="viridis", **size),
        "mean": lambda: hd.rasterize(points, aggregator=mean).opts(cmap="viridis", **size),
        "datashade": lambda: hd.datashade(points, cmap="viridis").opts(**size),
    }
    print(f"http://127.0.0.1:{port}/", flush=True)
    pn.serve({name: lambda plot=plot: pn.pane.HoloViews(plot()) for name, plot in maps.items()}, port=port, show=False)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
