"""An image that is no subject: what of a survey's own files comes out again, and what never gets in."""

import contextlib
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from explorer.errors import JobError, UsageError
from explorer.ingest.calibration import how_made
from explorer.ingest.images import CreateOptions, create
from explorer.ingest.single import Single, cut_single
from explorer.services.dropped import HELD, MAX_BYTES, QUEUE, Drops
from explorer.services.explore import Explore
from explorer.services.inference import Inference
from explorer.services.originals import png
from explorer.survey import Survey
from models.artifacts import Run
from models.embedding import place
from models.images import ImageError
from tests.broken import write_broken
from tests.explorer.small_survey import write_survey
from tests.explorer.test_server import cookie
from tests.ui.serving import serve

ROWS = (0, 7, 199)


@pytest.fixture(scope="module")
def drops(finished_survey: Path) -> Iterator[Drops]:
    survey = Survey.open(finished_survey)
    inference = Inference(survey)
    drops = Drops(Explore(survey), inference)
    yield drops
    drops.close()
    inference.close()
    survey.close()


@pytest.fixture
def run_id(drops: Drops) -> str:
    return next(iter(drops.explore.runs()))


@pytest.fixture
def map_id(drops: Drops) -> str:
    return next(iter(drops.explore.maps()))


def written(folder: Path, content: bytes) -> Path:
    """A file of its own, without a name that says what it is."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "image"
    path.write_bytes(content)
    return path


def told_of(drops: Drops, path: Path, run_id: str, map_id: str, lambda_: float = 0.2, mode: Any = "raw") -> Any:
    dropped = drops.take(path)
    return drops.tell(dropped, drops.judge(dropped, run_id).result(120), run_id, map_id, lambda_, mode)


def noise(seed: int = 0, side: int = 40) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)).save(out, "png")
    return out.getvalue()


# ------------------------------------------------------------------------------------------- a survey's own images
@pytest.mark.parametrize("what", ["original", "crop"])
def test_what_the_survey_has_comes_out_again(drops: Drops, run_id: str, map_id: str, tmp_path: Path, what: str) -> None:
    survey, explore = drops.explore.survey, drops.explore
    latents, rows = survey.latents(run_id)
    for row in ROWS:
        content = survey.original(row)[0] if what == "original" else png(survey.images[row], survey.info.rgb)
        dropped = drops.take(written(tmp_path, content))
        assert np.array_equal(dropped.single.crop, survey.images[row])
        judged = drops.judge(dropped, run_id).result(120)
        np.testing.assert_allclose(judged.latents, latents[rows == row][0], atol=1e-5)
        told = drops.tell(dropped, judged, run_id, map_id, 0.35)
        for score in told["scores"]:
            known = explore.standing(f"scores.{score['name']}", row, run_id, 0.35)
            assert score["value"] == pytest.approx(known["value"], rel=1e-4)
            assert abs(score["below"] - known["below"]) <= 1  # by rounding it may stand on either side of itself
            assert score["of"] == known["of"] == survey.n
        assert told["split"] == survey.scores(run_id)["split"][row]
        nearest = told["neighbors"][0]
        assert (nearest["row"], nearest["source_id"]) == (row, survey.source_ids([row])[0])
        assert nearest["distance"] < 1e-4
        others = [(n["row"], pytest.approx(n["distance"], rel=1e-3)) for n in told["neighbors"][1:]]
        assert explore.neighbours(row, run_id, 11) == others
        np.testing.assert_allclose(told["place"]["at"], survey.coordinates(map_id)[row], atol=1e-2)
        assert not told["place"]["is_off_map"]


def test_the_cube_is_that_of_the_3_d_view(drops: Drops, run_id: str, map_id: str, tmp_path: Path) -> None:
    from explorer.services.explore import Plane

    told = told_of(drops, written(tmp_path, drops.explore.survey.original(7)[0]), run_id, map_id)
    np.testing.assert_allclose(
        told["place"]["solid"], drops.explore.at(Plane(map_id, turn=(0, 0)), np.array([7]))[0], atol=1e-2
    )


@pytest.mark.parametrize("mode", ["raw", "standardised"])
@pytest.mark.parametrize("lambda_", [0.0, 0.2, 1.0])
def test_scores_are_mixed_as_those_of_the_survey(
    drops: Drops, run_id: str, map_id: str, tmp_path: Path, mode: Any, lambda_: float
) -> None:
    explore = drops.explore
    told = told_of(drops, written(tmp_path, explore.survey.original(7)[0]), run_id, map_id, lambda_, mode)
    anomaly = next(s for s in told["scores"] if s["name"] == "anomaly_score")
    known = explore.values("scores.anomaly_score", run_id, lambda_, mode)[7]
    assert anomaly["mixed"]
    assert anomaly["value"] == pytest.approx(float(known), rel=1e-3, abs=1e-4)
    assert told["values"]["scores.anomaly_score"] == anomaly["value"]


def test_a_stranger_stands_where_comparing_with_all_puts_it(
    drops: Drops, run_id: str, map_id: str, tmp_path: Path
) -> None:
    survey = drops.explore.survey
    dropped = drops.take(written(tmp_path, noise()))
    judged = drops.judge(dropped, run_id).result(120)
    told = drops.tell(dropped, judged, run_id, map_id, 0.2)
    latents, rows = survey.latents(run_id)
    distances = np.sqrt(np.square(latents.astype(np.float64) - judged.latents).sum(1))
    order = np.argsort(distances)[:12]
    assert [n["row"] for n in told["neighbors"]] == rows[order].tolist()
    assert [n["distance"] for n in told["neighbors"]] == pytest.approx(distances[order].tolist(), rel=1e-5)
    k = json.loads((survey.map_folder(map_id) / "placing.json").read_text())["k"]
    at, distance = place(np.asarray(latents), survey.coordinates(map_id)[rows], judged.latents[None], k)
    np.testing.assert_allclose(told["place"]["at"], at[0], rtol=1e-5)
    own = np.load(survey.map_folder(map_id) / "knn_distances.npy")
    assert told["place"]["knn_ratio"] == pytest.approx(float(distance[0] / np.median(own)), rel=1e-5)
    assert told["place"]["knn_percentile"] == pytest.approx(100 * float((own < distance[0]).mean()), abs=1e-3)
    assert told["split"] == "unseen"
    for score in told["scores"]:
        values = drops.explore.values(f"scores.{score['name']}", run_id, 0.2)
        assert score["below"] == int((values < np.float32(score["value"])).sum())


def test_far_from_all_its_place_is_said_to_be_a_guess(drops: Drops, run_id: str, map_id: str, tmp_path: Path) -> None:
    dropped = drops.take(written(tmp_path, noise()))
    judged = drops.judge(dropped, run_id).result(120)
    told = drops.place(replace(judged, latents=judged.latents + 100), run_id, map_id)
    assert told["is_off_map"]
    assert told["said"].startswith("Far from every subject: its place is a guess. Its 14 nearest are ")
    nowhere = drops.place(replace(judged, latents=np.full_like(judged.latents, np.nan)), run_id, map_id)
    assert (nowhere["at"], nowhere["said"]) == (
        None,
        "The network gives it no finite latent vector, so it has no place.",
    )
    assert "no map" in drops.place(judged, run_id, "")["said"]


def test_on_the_map_of_another_network_it_has_no_place(
    drops: Drops, run_id: str, finished_survey: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished_survey, tmp_path / "survey")
    survey = Survey.open(folder)
    scored, trained = survey.runs("score")[0], survey.runs("train")[0]
    for run, own in ((trained, {}), (scored, {"train": f"{trained.run_id}-2"})):
        other = shutil.copytree(folder / "runs" / run.run_id, folder / "runs" / f"{run.run_id}-2")
        run = Run.read(other / "run.json")
        run.run_id, run.inputs = f"{run.run_id}-2", {**run.inputs, **own}
        run.checkpoint_sha256 = run.checkpoint_sha256 and "0" * 64
        run.write(other / "run.json")
    dropped = drops.take(written(tmp_path, survey.original(3)[0]))
    judged = drops.judge(dropped, run_id).result(120)
    both = Drops(Explore(survey), drops.inference)
    for other_id, has_place in ((scored.run_id, True), (f"{scored.run_id}-2", False)):
        told = both.tell(dropped, judged, other_id, survey.maps()[0].run_id, 0.2)
        assert bool(told["place"]["at"]) == has_place
        assert ("maps.umap_1" in told["values"]) == has_place
    assert "vectors that another network made" in told["place"]["said"]
    assert told["neighbors"][0]["row"] == 3


# --------------------------------------------------------------------------------------------- what never gets in
def test_what_is_broken_or_no_image_is_refused_in_a_sentence(
    drops: Drops, run_id: str, map_id: str, tmp_path: Path
) -> None:
    names = write_broken(tmp_path / "broken")
    files = [path for name in names if (path := tmp_path / "broken" / name).is_file()]
    alien = {
        "picture.svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "page.html": b"<!doctype html><script>alert(1)</script>",
        "archive.zip": b"PK\x03\x04" + bytes(200),
        "program": b"\x7fELF" + bytes(200),
    }
    for path in files:
        with pytest.raises(UsageError, match=r"^this image cannot be placed: ") as refused:
            drops.take(written(tmp_path, path.read_bytes()))
        if path.suffix in (".tif", ".npy", ".npz", ".h5") and path.stat().st_size:
            assert "it is not a PNG, JPEG or FITS file" in str(refused.value)
    for content in alien.values():
        with pytest.raises(UsageError, match="it is not a PNG, JPEG or FITS file"):
            drops.take(written(tmp_path, content))
    assert told_of(drops, written(tmp_path, noise()), run_id, map_id)["neighbors"]  # and the next one is read


def test_a_survey_without_images_or_networks_says_so(tmp_path: Path) -> None:
    survey = Survey.open(write_survey(tmp_path / "survey"))
    inference = Inference(survey)
    drops = Drops(Explore(survey), inference)
    try:
        with pytest.raises(UsageError, match=r"no network has scored this survey.*voorwerp run survey train"):
            drops.folder("page")
        shutil.rmtree(tmp_path / "survey" / "images.zarr")
        with pytest.raises(UsageError, match="has no images"):
            Drops(Explore(Survey.open(tmp_path / "survey")), inference).refuse()
    finally:
        inference.close()


def test_scores_without_a_network_say_so(drops: Drops, tmp_path: Path) -> None:
    dropped = drops.take(written(tmp_path, noise()))
    with pytest.raises(UsageError, match="not made by a network"):
        drops.judge(dropped, "")


def test_the_oldest_is_forgotten(drops: Drops, tmp_path: Path) -> None:
    first, *_, last = [drops.take(written(tmp_path, noise(seed))) for seed in range(HELD + 1)]
    assert drops.held(last.id) is last
    with pytest.raises(UsageError, match="drop it again"):
        drops.held(first.id)


# ------------------------------------------------------------------------------------- bands, stretch, pixel scale
@pytest.fixture(scope="module")
def physical(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A survey of physical values in g, r, i, cut at 20 px and averaged to 10, and its source files."""
    folder = tmp_path_factory.mktemp("physical")
    sources = []
    for i in range(12):
        random = np.random.default_rng(i)
        cube = random.normal(0, 1, (3, 36, 36)).astype(np.float32)
        cube[:, 14:22, 14:22] += np.array([4, 8, 12], np.float32)[:, None, None] * (1 + i / 4)
        parts = [fits.PrimaryHDU(), *(fits.ImageHDU(band, name=n) for n, band in zip("gri", cube, strict=True))]
        sources.append(folder / f"{i:02d}.fits")
        fits.HDUList(parts).writeto(sources[-1])
    options = CreateOptions(size=10, extent=20, bands=("g", "r", "i"), workers=1)
    for _ in create(folder / "survey", [folder], options):
        pass
    return folder / "survey", sources


def cut(survey: Survey, folder: Path, content: bytes) -> Single:
    return cut_single(str(written(folder, content)), *how_made(survey.info), survey.info.pixel_scale_arcsec)


def test_fits_is_cut_as_the_survey_was(physical: tuple[Path, list[Path]], tmp_path: Path) -> None:
    survey = Survey.open(physical[0])
    for row, source in enumerate(physical[1][:3]):
        content = source.read_bytes()
        for what in (content, gzip.compress(content), survey.original(row)[0]):
            found = cut(survey, tmp_path, what)
            assert np.array_equal(found.crop, survey.images[row])
            assert found.notes == ()


def test_bands_go_by_their_names(physical: tuple[Path, list[Path]], tmp_path: Path) -> None:
    survey = Survey.open(physical[0])
    with fits.open(physical[1][0]) as file:
        turned, one = io.BytesIO(), io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), *(file[name].copy() for name in "irg")]).writeto(turned)
        fits.HDUList([fits.PrimaryHDU(file["r"].data)]).writeto(one)
    assert np.array_equal(cut(survey, tmp_path, turned.getvalue()).crop, survey.images[0])
    with pytest.raises(ImageError, match=r"^it has 1 band in a survey of 3 \(g, r, i\)$"):
        cut(survey, tmp_path, one.getvalue())


def test_a_picture_is_taken_as_it_is_shown(physical: tuple[Path, list[Path]], tmp_path: Path) -> None:
    survey = Survey.open(physical[0])
    found = cut(survey, tmp_path, png(survey.images[2], survey.info.rgb))
    assert np.array_equal(found.crop, survey.images[2])  # its red is i
    assert "It has the size of a crop, 10 × 10 px" in found.notes[0]
    assert "A picture holds no physical values" in found.notes[1]
    wide = cut(survey, tmp_path, noise(side=60))
    assert wide.crop.shape == (10, 10, 3)
    assert len(wide.notes) == 1
    narrow = cut(survey, tmp_path, noise(side=14))
    assert narrow.quality[0] == pytest.approx(1 - (14 / 20) ** 2, abs=1e-6)
    assert narrow.notes[-1] == "51 % of the crop lie outside the image."


def test_a_picture_of_other_bands_is_refused(tmp_path: Path) -> None:
    survey = Survey.open(write_survey(tmp_path / "survey"))
    crop, reading = how_made(survey.info)
    five = replace(crop, n_bands=5), replace(reading, bands=tuple("grizy"))
    with pytest.raises(ImageError, match=r"survey's images have 5 bands \(g, r, i, z, y\): give a FITS file"):
        cut_single(str(written(tmp_path, noise())), *five)
    with pytest.raises(ImageError, match="it is a color image in a survey of grey images"):
        cut_single(str(written(tmp_path, noise())), replace(crop, n_bands=1), replace(reading, bands=("grey",)))
    wide = replace(reading, extent_arcsec=30.0)
    with pytest.raises(ImageError, match=r"30 arcsec wide, and a picture has no pixel scale.*32 × 32 px"):
        cut_single(str(written(tmp_path, noise())), crop, wide)
    assert cut_single(str(written(tmp_path, noise())), crop, wide, 0.5).quality[0] > 0  # 60 px of 40


# --------------------------------------------------------------------------------------------- what it leaves behind
def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rss(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def test_a_hundred_leave_nothing_on_the_disk_and_nothing_in_memory(
    drops: Drops, run_id: str, map_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = digests(drops.explore.survey.path)

    def drop(seed: int) -> None:
        intake = drops.folder("page")
        intake.write(noise(seed, 64))
        try:
            told_of(drops, intake.done(), run_id, map_id)
        finally:
            intake.close()

    for seed in range(25):
        drop(seed)
    assert drops._decoders is not None
    assert drops.inference._worker is not None
    processes = os.getpid(), drops._decoders._children[0].process.pid, drops.inference._worker.pid
    sizes = [rss(pid) for pid in processes]
    for seed in range(100):
        drop(seed)
    grown = [rss(pid) - size for pid, size in zip(processes, sizes, strict=True)]
    assert max(grown) < 12e6, grown
    assert list(tmp_path.iterdir()) == []
    assert digests(drops.explore.survey.path) == before


def test_a_dead_worker_is_replaced_and_one_that_dies_again_is_said(
    drops: Drops, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = drops.take(written(tmp_path, noise(1)))
    first = drops.judge(dropped, run_id).result(120)
    worker = drops.inference._worker
    assert worker is not None
    os.kill(worker.pid, signal.SIGSTOP)  # it is asked, and dies before it can answer
    dropped.judged.clear()
    answer = drops.judge(dropped, run_id)
    assert not answer.done()
    os.kill(worker.pid, signal.SIGKILL)
    again = answer.result(120)
    assert np.array_equal(first.latents, again.latents)
    assert drops.inference._worker is not None
    assert drops.inference._worker.pid != worker.pid

    def dies(*_: object) -> None:
        raise EOFError

    dropped.judged.clear()
    with monkeypatch.context() as patched:
        patched.setattr(drops.inference, "_ask_worker", dies)
        with pytest.raises(JobError, match="ended twice at this image; see what the server printed"):
            drops.judge(dropped, run_id).result(120)
    assert np.array_equal(first.latents, drops.judge(dropped, run_id).result(120).latents)


# ------------------------------------------------------------------------------------------------------ the server
@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of temporary files of the server."""
    return tmp_path_factory.mktemp("room")


@pytest.fixture(scope="module")
def url(finished_survey: Path, room: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(room))
        with serve(finished_survey, tmp_path_factory.mktemp("drop") / "log") as url:
            yield url


@pytest.fixture
def told_headers(url: str) -> dict[str, str]:
    """What a page of ours sends with a POST."""
    origin = f"http://{urlsplit(url).netloc}"
    given = {"Cookie": cookie(url)}
    token = asked(url, "GET", "/token", given)[1].decode()
    return given | {"Origin": origin, "X-Voorwerp-Token": token}


def asked(url: str, method: str, path: str, headers: dict[str, str], body: Any = None, **how: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    try:
        connection.request(method, path, body, headers, **how)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_only_a_page_of_ours_drops(url: str, told_headers: dict[str, str]) -> None:
    def refused(**changed: str | None) -> tuple[int, bytes]:
        sent = {**told_headers, **changed}
        return asked(url, "POST", "/drop", {k: v for k, v in sent.items() if v is not None}, noise())

    assert refused(Cookie=None) == (403, b'{"error": "not logged in"}')
    assert refused(Cookie="voorwerp-classify=somebody.0") == (403, b'{"error": "not logged in"}')
    assert refused(Origin=None)[0] == 403
    assert refused(Origin="http://elsewhere.example")[0] == 403
    assert refused(**{"X-Voorwerp-Token": None})[0] == 403
    assert refused(**{"X-Voorwerp-Token": "0" * 64})[0] == 403
    assert asked(url, "GET", "/drop", told_headers)[0] == 405


def test_an_image_is_taken_in_and_told_of(
    url: str, told_headers: dict[str, str], drops: Drops, run_id: str, map_id: str, room: Path
) -> None:
    content = drops.explore.survey.original(7)[0]
    status, body = asked(url, "POST", "/drop", told_headers, content)
    assert status == 200, body
    query = urlencode({"run": run_id, "map": map_id, "lambda": 0.5, "lambda_mode": "raw"})
    address = f"/drop/{json.loads(body)['id']}?{query}"
    status, body = asked(url, "GET", address, told_headers)
    told = json.loads(body)
    assert status == 200, told
    assert told["neighbors"][0]["row"] == 7
    assert set(told["pictures"]) == {"crop", "reconstruction", "residual", "feature"}
    assert asked(url, "GET", address, {})[0] == 403
    assert asked(url, "GET", address.replace(run_id, "nothing"), told_headers)[0] == 404
    status, body = asked(url, "GET", f"/drop/unknown?{query}", told_headers)
    assert (status, json.loads(body)["error"]) == (400, "this image is not held any more; drop it again")
    status, body = asked(url, "POST", "/drop", told_headers, b"<svg/>")
    assert status == 400
    assert "it is not a PNG, JPEG or FITS file" in json.loads(body)["error"]
    assert (asked(url, "POST", "/drop", told_headers, b"")[0]) == 400
    assert list(room.glob("voorwerp-drop-*")) == []


def test_what_is_too_large_is_refused_while_it_comes(url: str, told_headers: dict[str, str], room: Path) -> None:
    sentence = {"error": "the file is larger than 50 MB, which is the most that is read"}
    status, body = asked(url, "POST", "/drop", told_headers, bytes(MAX_BYTES + 1))
    assert (status, json.loads(body)) == (413, sentence)
    chunks = (bytes(1 << 20) for _ in range(MAX_BYTES // (1 << 20) + 2))  # its length is not told before
    status, body = asked(url, "POST", "/drop", told_headers, chunks, encode_chunked=True)
    assert (status, json.loads(body)) == (413, sentence)
    assert list(room.glob("voorwerp-drop-*")) == []


def test_one_at_a_time_and_few_wait(url: str, told_headers: dict[str, str], room: Path, eventually: Any) -> None:
    def begun(page: str) -> socket.socket:
        """An upload of which half has come."""
        host, port = urlsplit(url).netloc.split(":")
        connection = socket.create_connection((host, int(port)), 20)
        sent = told_headers | {"Host": f"{host}:{port}", "X-Voorwerp-Page": page, "Content-Length": "2000"}
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        connection.sendall(f"POST /drop HTTP/1.1\r\n{head}\r\n".encode() + bytes(1000))
        return connection

    def waiting() -> int:
        return len(list(room.glob("voorwerp-drop-*")))

    with contextlib.ExitStack() as stack:
        stack.enter_context(begun("a"))
        eventually(waiting, 1)
        status, body = asked(url, "POST", "/drop", told_headers | {"X-Voorwerp-Page": "a"}, noise())
        assert (status, json.loads(body)["error"]) == (409, "one image at a time: the last one is still being read")
        assert asked(url, "POST", "/drop", told_headers | {"X-Voorwerp-Page": "b"}, noise())[0] == 200
        for page in range(QUEUE - 1):
            stack.enter_context(begun(str(page)))
        eventually(waiting, QUEUE)
        status, body = asked(url, "POST", "/drop", told_headers | {"X-Voorwerp-Page": "b"}, noise())
        assert (status, json.loads(body)["error"]) == (409, "4 images are being read already; try again in a moment")
    eventually(waiting, 0)  # who sent them is gone
    assert asked(url, "POST", "/drop", told_headers | {"X-Voorwerp-Page": "a"}, noise())[0] == 200


@pytest.fixture
def eventually() -> Callable[[Callable[[], int], int], None]:
    from tests.ui.browser import eventually

    return lambda read, wanted: eventually(read, lambda found: found == wanted, 20)
