"""The checkpoint that ships with the demo: whole, small, described, and of galaxies."""

import json
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from explorer import ASSETS
from explorer.ingest.decoder import Reading
from explorer.ingest.detection import detect
from models import scoring
from models.artifacts import CHECKPOINT, RUN_JSON, Run, sha256_file

DEMO = Path(ASSETS) / "demo"
HUBBLE = Path(skimage.__file__).parent / "data" / "hubble_deep_field.jpg"


def test_it_is_small_and_the_file_its_run_describes() -> None:
    run = Run.read(DEMO / RUN_JSON)
    assert (run.kind, run.state) == ("train", "done")
    assert run.checkpoint_sha256 == sha256_file(DEMO / CHECKPOINT)
    assert (DEMO / CHECKPOINT).stat().st_size < 3_000_000
    text = json.dumps(run.results | run.config)
    assert all(word in text for word in ("epochs", "learning_rate", "n_train", "seed"))


def test_it_reconstructs_the_galaxies_better_than_their_mean_does() -> None:
    run = Run.read(DEMO / RUN_JSON)
    model = scoring.load_model(DEMO, run.preprocessing, device="cpu")
    size = model.scorer.model.architecture.size
    sources, pixels = detect((str(HUBBLE),), Reading()), np.asarray(Image.open(HUBBLE))
    x, y = np.rint(sources["x"]).astype(int) - size // 2, np.rint(sources["y"]).astype(int) - size // 2
    inside = (x >= 0) & (y >= 0) & (x + size <= pixels.shape[1]) & (y + size <= pixels.shape[0])
    galaxies = np.stack([pixels[j : j + size, i : i + size] for i, j in zip(x[inside], y[inside], strict=True)])
    truth = galaxies.astype(float)
    error = np.median(((truth - model.reconstruct(galaxies)) ** 2).mean((1, 2, 3)))
    error_of_mean = np.median(((truth - truth.mean(0)) ** 2).mean((1, 2, 3)))
    assert len(galaxies) > 400
    assert error < 0.7 * error_of_mean


def test_its_latent_vectors_have_axes_as_the_default_scores_need_them() -> None:
    run = Run.read(DEMO / RUN_JSON)
    loaded = scoring.load_model(DEMO, run.preprocessing, {"preset": "compact"}, "cpu")
    axes = loaded.scorer.model.latent_axes.numpy()
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-4)
