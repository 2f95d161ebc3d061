"""The map that a user writes with plain HoloViews, on the synthetic cloud: what ours is measured against.

``python -m tests.benchmarks.stock_map N PORT WIDTH HEIGHT`` serves ``/count``, ``/mean`` and ``/datashade``, framed to
that many pixels; ``/colored`` with a choice of coloring and a slider for λ; ``/hover`` with a thumbnail of the nearest
point in a pane beside the map.
"""

import functools
import sys

import datashader as ds
import holoviews as hv
import holoviews.operation.datashader as hd
import numpy as np
import pandas as pd
import panel as pn
from PIL import Image
from scipy.spatial import cKDTree

from models.images import thumbnail
from tests.benchmarks.synthetic import cloud
from tests.galaxies import galaxy


def main(n: int, port: int, width: int, height: int) -> None:
    """Serve the stock maps of `n` points until the process ends."""
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

    def colored() -> pn.Row:
        color = pn.widgets.Select(name="Color", options={"score": ds.max("score"), "count": ds.count()})
        weight = pn.widgets.FloatSlider(name="λ", start=0, end=1, step=0.01, value=0.2)
        other = np.random.default_rng(1).random(n, dtype=np.float32)

        def mixed(weight: float) -> hv.Points:
            return points.clone(points.data.assign(score=(1 - weight) * score + weight * other))

        plot = hd.rasterize(hv.DynamicMap(mixed, streams={"weight": weight.param.value}), aggregator=color.param.value)
        return pn.Row(pn.Column(color, weight), plot.opts(cmap="inferno", cnorm="eq_hist", **size))

    @functools.cache
    def nearest() -> tuple[cKDTree, list[bytes]]:
        rng = np.random.default_rng(2)
        return cKDTree(xyz[:, :2]), [thumbnail(Image.fromarray(galaxy(rng, 128))) for _ in range(256)]

    def hover() -> pn.Row:
        tree, pictures = nearest()
        pane = pn.pane.JPG(pictures[0], width=112, height=112)
        plot = hd.rasterize(points).opts(cnorm="eq_hist", cmap="viridis", **size)

        def look(x: float | None, y: float | None) -> None:
            if x is not None:
                pane.object = pictures[tree.query((x, y))[1] % len(pictures)]

        plot.pointer = hv.streams.PointerXY(source=plot)
        plot.pointer.add_subscriber(look)
        return pn.Row(plot, pane)

    print(f"http://127.0.0.1:{port}/", flush=True)
    pages = {name: lambda plot=plot: pn.pane.HoloViews(plot()) for name, plot in maps.items()}
    pn.serve({**pages, "colored": colored, "hover": hover}, port=port, show=False)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
