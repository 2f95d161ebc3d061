"""``python -m tests.benchmarks.stock_gallery THUMBNAILS N PORT``: one `pn.pane.JPG` per image, made by a click."""

import sys
from pathlib import Path

import panel as pn

from explorer.survey import Pack


def page(folder: Path, n: int) -> pn.Column:
    """A button that shows the next `n` thumbnails of a pack, each as a pane of its own."""
    pack = Pack(folder)
    grid = pn.FlexBox()
    button = pn.widgets.Button(name="Next")
    size = {"width": 40, "height": 40, "margin": 2, "fixed_aspect": False}

    def show(_: object) -> None:
        start = button.clicks * n
        rows = range(start, start + n)
        grid[:] = [pn.pane.JPG(pack.read(row % len(pack)), embed=True, alt_text=f"row {row}", **size) for row in rows]

    button.on_click(show)
    return pn.Column(button, grid)


if __name__ == "__main__":
    folder, n, port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    print(f"http://127.0.0.1:{port}/", flush=True)
    pn.serve(lambda: page(folder, n), port=port, address="127.0.0.1", show=False)
