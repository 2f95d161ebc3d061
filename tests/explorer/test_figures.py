"""Figures for papers: sizes, colors, words, metadata; the same bytes twice."""

import io
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from explorer.cli import main
from explorer.commands import exporting
from explorer.errors import UsageError
from explorer.raster import Overlay
from explorer.services.colors import palette
from explorer.services.explore import Color, Explore, Plane
from explorer.services.figures import DPI, FORMS, KINDS, WIDTHS, Drawn, Screen, _Sheet, draw, figure, number
from explorer.services.notes import Place
from explorer.services.simulated import Worth, simulate
from explorer.services.volunteers import recount
from explorer.state import COMPONENTS, NORMS, PALETTES, Selection
from explorer.survey import SURVEY_TOML, Survey
from tests.benchmarks.synthetic import write_survey

N = 600
AT = datetime(2026, 11, 22, 16, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def explore(tmp_path_factory: pytest.TempPathFactory) -> Explore:
    folder = tmp_path_factory.mktemp("figures") / "survey"
    write_survey(folder, N)
    return Explore(Survey.open(folder))


@pytest.fixture(scope="module")
def pictures(image_survey: Path) -> Explore:
    return Explore(Survey.open(image_survey))


@pytest.fixture
def screen(explore: Explore) -> Screen:
    run_id, map_id = next(iter(explore.runs())), next(iter(explore.maps()))
    return Screen(Plane(map_id), Color("scores.anomaly_score", run_id), map_id)


def some(n: int, of: int = N) -> Selection:
    return Selection.of_rows(range(0, 3 * n, 3), of)


def texts(drawn: Drawn) -> list[str]:
    """Every text of a figure."""
    return [t.get_text() for t in drawn.figure.findobj(mpl.text.Text) if t.get_text()]


def svg_texts(content: bytes) -> str:
    return " ".join("".join(e.itertext()) for e in ET.fromstring(content).iter("{http://www.w3.org/2000/svg}text"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("form", FORMS)
def test_a_figure_has_the_width_of_a_column_in_print(explore: Explore, screen: Screen, form, width) -> None:
    content = figure(explore, "map", screen, form, width)
    if form == "png":
        image = Image.open(io.BytesIO(content))
        assert image.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
        mm = image.width / DPI * 25.4
    elif form == "svg":
        mm = float(ET.fromstring(content).get("width").removesuffix("pt")) / 72 * 25.4
    else:
        mm = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", content)[1]) / 72 * 25.4
    assert mm == pytest.approx(WIDTHS[width], abs=0.1)


@pytest.mark.parametrize("kind", ["map", "histograms"])
@pytest.mark.parametrize("form", FORMS)
def test_the_same_input_gives_the_same_bytes_but_for_the_date(explore: Explore, screen: Screen, kind, form) -> None:
    screen = replace(screen, selection=some(50))
    first = figure(explore, kind, screen, form, "single", at=AT)
    assert figure(explore, kind, screen, form, "single", at=AT) == first
    later = draw(explore, kind, screen, "single", at=AT.replace(year=2027))
    assert "2027-11-22T16:00:00+00:00" in " ".join(texts(later))


def test_figures_drawn_at_once_are_those_drawn_one_by_one(explore: Explore, screen: Screen) -> None:
    screens = [replace(screen, selection=some(n)) for n in (10, 50, 90)]
    alone = [figure(explore, "map", s, "svg", "single", at=AT) for s in screens]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda s: figure(explore, "map", s, "svg", "single", at=AT), screens))
    assert together == alone


@pytest.mark.parametrize("norm", ["percentile", "equalised", "linear", "log"])
@pytest.mark.parametrize("selection", [None, some(80)])
def test_the_map_has_the_frame_s_colors_and_the_bar_its_ticks(
    explore: Explore, screen: Screen, norm, selection
) -> None:
    screen = replace(screen, color=replace(screen.color, norm=norm), selection=selection, palette="magma")
    drawn = draw(explore, "map", screen)
    axes, bar = drawn.figure.axes[:2]
    shown = np.asarray(axes.images[0].get_array())
    h, w = shown.shape[:2]
    selection_id = explore.keep(selection) if selection is not None else ""
    view = (*axes.get_xlim(), *axes.get_ylim())
    frame, _ = explore.frame(screen.plane, view, w, h, screen.color, selection_id, w / screen.size[0], screen.map_id)
    colors = palette(screen.color.by, 0, "magma", "light")
    wanted = np.array([(0xFF,) * 3] + [tuple(bytes.fromhex(c[1:7])) for c in colors[1:]], np.uint8)
    assert (shown[..., :3] == wanted[frame.pixels]).all()
    ticks = {number(value): at for at, value in reversed(frame.ticks)}
    assert [t.get_text() for t in bar.get_yticklabels()] == list(ticks)
    assert bar.get_yticks() == pytest.approx(list(ticks.values()))
    ramp = np.asarray(bar.images[0].get_array())[:, 0]  # lowest first, and high is dark on white
    assert ramp[0].sum() > ramp[-1].sum()


def test_the_map_is_drawn_at_print_resolution_in_the_shape_it_has_on_screen(explore: Explore, screen: Screen) -> None:
    axes = draw(explore, "map", replace(screen, size=(1000, 500), view=(-5, 5, -2, 2))).figure.axes[0]
    h, w = np.asarray(axes.images[0].get_array()).shape[:2]
    wide = axes.get_position().width * WIDTHS["double"]
    assert w == pytest.approx(wide / 25.4 * DPI, abs=1)
    assert h / w == pytest.approx(0.5, abs=0.002)
    assert (*axes.get_xlim(), *axes.get_ylim()) == (-5, 5, -2, 2)


def test_the_caption_says_what_is_shown(explore: Explore, screen: Screen) -> None:
    screen = replace(screen, selection=some(80), selected_by="lasso", view=(-5, 5, -2, 2))
    caption = draw(explore, "map", screen).caption
    xy = explore.survey.coordinates(screen.map_id)
    n = int(((abs(xy[:, 0]) <= 5) & (abs(xy[:, 1]) <= 2)).sum())
    assert f"{n:,} of {N:,} subjects on the map are in view" in caption
    assert "Anomaly score (λ = 0.2), the highest of a pixel" in caption
    assert "percentile" in caption
    assert screen.color.run_id in caption
    assert f"80 of {N:,} subjects are selected (lasso); the others are dimmed." in caption
    assert "Subjects, scores and map are random numbers." in caption  # the survey's own note
    other = Plane("", "scores.feature_score", "scores.image_score", screen.color.run_id)
    assert "Image score against Feature score" in draw(explore, "map", replace(screen, plane=other)).caption
    turned = replace(screen, plane=Plane(screen.map_id, turn=(np.pi / 4, 0.0)), view=None)
    assert "turned by 45° and 0°" in draw(explore, "map", turned).caption


@pytest.mark.parametrize("by", ["count", "share"])
def test_counts_and_shares_say_what_a_pixel_is(explore: Explore, screen: Screen, by) -> None:
    drawn = draw(explore, "map", replace(screen, color=Color(by, norm="linear"), selection=some(80)))
    assert "per pixel of 0.085 mm" in drawn.caption
    assert "linear scale" in drawn.caption


def test_categories_have_a_legend_and_missing_values_a_word(pictures: Explore) -> None:
    plane = Plane("", "subjects.background_rms", "subjects.magnitude")
    drawn = draw(pictures, "map", Screen(plane, Color("subjects.shape")))
    assert {"spiral", "elliptical"} <= set(texts(drawn))
    assert "the commonest of a pixel" in drawn.caption
    assert "199 of 199 subjects with both values" in drawn.caption


def test_missing_values_are_grey_and_the_legend_says_so(explore: Explore, screen: Screen) -> None:
    drawn = draw(explore, "map", replace(screen, color=Color("subjects.ra")))  # nobody has one
    assert "no value" in texts(drawn)
    seen = np.asarray(drawn.figure.axes[0].images[0].get_array())[..., :3]
    assert {tuple(c) for c in seen[seen[..., 0] < 255]} == {(0x6B, 0x72, 0x80)}
    assert "no value" not in texts(draw(explore, "map", screen))


def test_few_selected_are_ringed_and_named_in_the_frame(explore: Explore, screen: Screen) -> None:
    drawn = draw(explore, "map", replace(screen, selection=Selection.of_rows([5, 17], N)))
    rings = drawn.figure.axes[0].collections[-1]
    assert (rings.get_offsets() == explore.survey.coordinates(screen.map_id)[[5, 17], :2]).all()
    assert {"5", "17", "selected"} <= set(texts(drawn))
    assert "they are ringed" in drawn.caption


def place(name: str, x: float) -> Place:
    return Place(1, name, "", "", *COMPONENTS, ((x - 1, -1), (x + 1, -1), (x, 1)), (x, 0.0), "someone", "")


def test_what_lies_above_the_map_is_drawn(explore: Explore, screen: Screen) -> None:
    marked = Overlay("merger", np.arange(5), 12)
    screen = replace(screen, contours=True, overlays=(marked,), places=[place("Tails", 0.0), place("Far away", 1e3)])
    drawn = draw(explore, "map", screen)
    assert "Lines hold 50, 80 and 95 %" in drawn.caption
    assert drawn.figure.axes[0].lines
    assert "merger (5 of 12)" in texts(drawn)
    assert "Tails" in texts(drawn)
    assert "Far away" not in texts(drawn)


def test_histograms_count_every_subject_and_the_selected(explore: Explore, screen: Screen) -> None:
    screen = replace(screen, selection=some(80), columns=("scores.feature_score",))
    drawn = draw(explore, "histograms", screen, "single")
    values = explore.values("scores.feature_score", screen.color.run_id)
    steps = [p for p in drawn.figure.axes[0].patches if p.get_fill()]
    for patch, of in zip(steps, (values, values[screen.selection.rows()]), strict=True):
        counts, edges, _ = patch.get_data()
        assert np.where(counts >= 1, counts, 0).tolist() == np.histogram(of, edges)[0].tolist()
    lines = [line.get_xdata()[0] for line in drawn.figure.axes[0].lines]
    assert lines == pytest.approx(np.percentile(values, [50, 90, 95, 99, 99.9]), rel=1e-5)
    assert f"80 of {N:,} subjects are selected (blue)" in drawn.caption


def test_histograms_are_of_the_coloring_and_the_scores_unless_named(explore: Explore, screen: Screen) -> None:
    drawn = draw(explore, "histograms", screen)
    titles = [axes.get_xlabel() for axes in drawn.figure.axes]
    assert titles == ["Anomaly score", "Feature score", "Image score"]


def test_a_sheet_shows_the_first_sixty_in_order_with_their_ids(pictures: Explore) -> None:
    screen = Screen(selection=some(66, 200), sort="subjects.magnitude", descending=False)
    content = figure(pictures, "sheet", screen, "svg")
    order = np.argsort(pictures.values("subjects.magnitude")[screen.selection.rows()], kind="stable")
    ids = pictures.survey.source_ids(screen.selection.rows()[order])
    shown = re.findall(r"\b\d{18}\b", svg_texts(content))
    assert shown == [str(i) for i in ids[:60]]
    drawn = draw(pictures, "sheet", screen)
    assert len(drawn.figure.axes[0].images) == 60
    assert "The first 60, by magnitude, lowest first" in drawn.caption


def test_a_sheet_may_be_ordered_by_a_column_of_the_map(finished_survey: Path) -> None:
    explore = Explore(Survey.open(finished_survey))
    map_id = next(iter(explore.maps()))
    column = next(r for r in explore.colors("", map_id) if r.startswith("maps."))
    screen = Screen(map_id=map_id, selection=some(66, 200), sort=column)
    values = explore.values(column, map_id=map_id)
    rows = _Sheet(explore, screen, 180.0).rows
    assert np.unique(values[rows]).size > 1
    assert values[rows].tolist() == np.sort(values[screen.selection.rows()])[::-1][:60].tolist()


def test_words_and_provenance_are_in_the_metadata(explore: Explore, screen: Screen) -> None:
    screen = replace(screen, selection=some(80))
    drawn = draw(explore, "map", screen, at=AT)
    told = drawn.provenance
    assert told["run"] == screen.color.run_id
    assert told["selection"] == screen.selection.id[:16]
    assert "color=scores.anomaly_score" in told["view"]
    text = Image.open(io.BytesIO(figure(explore, "map", screen, "png", at=AT))).text
    assert text["Description"] == drawn.caption
    assert json.loads(text["voorwerp"]) == told
    svg = figure(explore, "map", screen, "svg", at=AT)
    dc = "{http://purl.org/dc/elements/1.1/}"
    assert [e.text for e in ET.fromstring(svg).iter(f"{dc}description")] == [drawn.caption]
    assert json.loads(next(e.text for e in ET.fromstring(svg).iter(f"{dc}source"))) == told
    pdf = figure(explore, "map", screen, "pdf", at=AT)
    assert b"/CreationDate (D:20261122160000Z)" in pdf
    assert b"/Title" in pdf
    assert b"/Subject" in pdf


def test_text_stays_text(explore: Explore, screen: Screen) -> None:
    svg = svg_texts(figure(explore, "map", screen, "svg"))
    for word in ("UMAP 1", "Anomaly score (λ = 0.2)", "highest of a pixel", f"{N} of {N} subjects", screen.map_id):
        assert word in svg
    pdf = figure(explore, "map", screen, "pdf")
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


def test_the_caption_can_be_left_to_the_metadata(explore: Explore, screen: Screen) -> None:
    bare = draw(explore, "map", screen, with_caption=False)
    assert bare.caption not in " ".join(texts(bare))
    assert bare.figure.get_figheight() < draw(explore, "map", screen).figure.get_figheight()
    image = Image.open(io.BytesIO(figure(explore, "map", screen, "png", with_caption=False)))
    assert "subjects on the map are in view" in image.text["Description"]


def test_a_figure_of_simulated_votes_says_so_and_one_of_scores_does_not(
    explore: Explore, screen: Screen, tmp_path: Path
) -> None:
    folder = shutil.copytree(explore.survey.path, tmp_path / "survey")
    survey = Survey.open(folder)
    is_worth = np.arange(N) < 50
    simulate(survey, Worth(is_worth, is_worth.astype(np.float32), "planted"))
    survey.close()
    recount(folder)
    voted = Explore(Survey.open(folder))
    chosen = "subjects.chosen_fraction"
    by_votes = replace(screen, color=replace(screen.color, by=chosen))
    picked = replace(screen, selection=some(5), selected_by="chosen_fraction > 0.5")
    for kind, shown in (
        ("map", by_votes),
        ("map", replace(screen, plane=replace(screen.plane, x=chosen))),
        ("map", picked),
        ("histograms", replace(screen, columns=(chosen,))),
    ):
        drawn = draw(voted, kind, shown)  # type: ignore[arg-type]
        assert drawn.title.startswith("Simulated: ")
        assert drawn.caption.startswith("Simulated votes.")
    for kind, shown in (
        ("map", screen),
        ("map", replace(screen, columns=(chosen,))),  # those of the histograms
        ("histograms", replace(by_votes, columns=("scores.anomaly_score",))),
    ):
        assert "imulated" not in draw(voted, kind, shown).title  # type: ignore[arg-type]


def test_simulated_data_are_called_so_and_any_name_can_be_drawn(explore: Explore, screen: Screen, tmp_path) -> None:
    folder = tmp_path / "survey"
    shutil.copytree(explore.survey.path, folder)
    name = "Simulated $x_1$ & <b>銀河</b>"
    toml = (folder / SURVEY_TOML).read_text()
    (folder / SURVEY_TOML).write_text(re.sub(r'(?m)^name = ".*"$', f'name = "{name}"', toml))
    other = Explore(Survey.open(folder))
    drawn = draw(other, "map", screen)
    assert drawn.title.startswith("Simulated: ")
    assert drawn.caption.startswith("Simulated data.")
    content = figure(other, "map", screen, "svg")
    assert "$x_1$ & <b>" in svg_texts(content)  # no formula, no markup; the font has no Chinese
    assert name in ET.tostring(ET.fromstring(content), "unicode", "xml").replace("&lt;", "<").replace(
        "&gt;", ">"
    ).replace("&amp;", "&")
    figure(other, "map", screen, "png")
    figure(other, "map", screen, "pdf")


def test_what_cannot_be_drawn_says_why(explore: Explore, pictures: Explore, screen: Screen) -> None:
    with pytest.raises(UsageError, match="this survey has no images, so there is no contact sheet"):
        draw(explore, "sheet", replace(screen, selection=some(3)))
    with pytest.raises(UsageError, match="nothing is selected"):
        draw(pictures, "sheet", Screen())
    with pytest.raises(UsageError, match=r'"magnitud" is not in .*did you mean "magnitude"'):
        draw(pictures, "histograms", Screen(columns=("subjects.magnitud",)))
    with pytest.raises(UsageError, match="at most 12 histograms, not 13"):
        draw(explore, "histograms", replace(screen, columns=("scores.anomaly_score",) * 13))
    with pytest.raises(UsageError, match="there is no column to draw"):
        draw(pictures, "histograms", Screen())
    with pytest.raises(UsageError, match="there is no map yet"):
        draw(pictures, "map", Screen())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (142.66, "142.7"),
        (-0.25, "−0.25"),
        (1234.5, "1,234"),
        (0.00012, "1.20×10⁻⁴"),
        (3e7, "3.00×10⁷"),
        (-2e6, "−2.00×10⁶"),
    ],
)
def test_numbers_have_four_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_every_kind_is_drawn_without_the_state_of_pyplot() -> None:
    assert KINDS == ("map", "histograms", "sheet")
    code = "import sys, explorer.services.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------------------------- the command line
def test_the_command_draws_what_the_app_opens_with(explore: Explore, tmp_path: Path, voorwerp) -> None:
    survey = tmp_path / "survey"
    shutil.copytree(explore.survey.path, survey)
    said = voorwerp("figure", survey, tmp_path / "map.png", "--width", "single", "--where", "feature_score > 0.5")
    assert said == f"{tmp_path / 'map.png'} written\n"
    image = Image.open(tmp_path / "map.png")
    n = int((explore.values("scores.feature_score", next(iter(explore.runs()))) > 0.5).sum())
    assert f"{n:,} of {N:,} subjects are selected (feature_score > 0.5)" in image.text["Description"]
    assert "Anomaly score (λ = 0.2)" in image.text["Description"]
    assert image.width == pytest.approx(88 / 25.4 * DPI, abs=1)


def test_the_command_takes_columns_axes_and_a_view(explore: Explore, tmp_path: Path, monkeypatch) -> None:
    screens = []

    def kept(explore: Explore, kind: str, screen: Screen, form: str, width: str, *, with_caption: bool) -> bytes:
        screens.append((kind, screen, form, width, with_caption))
        return b"drawn"

    monkeypatch.setattr("explorer.services.figures.figure", kept)
    options = "--kind histograms --width single --column scores.image_score --column scores.feature_score --no-caption"
    options += " --x scores.image_score --view=-1,1,0,2 --norm log --aggregate mean --palette magma --lambda 0.5"
    path = tmp_path / "a.svg"
    assert main(["figure", str(explore.survey.path), str(path), *options.split()]) == 0
    assert path.read_bytes() == b"drawn"
    ((kind, screen, form, width, with_caption),) = screens
    assert (kind, form, width, with_caption) == ("histograms", "svg", "single", False)
    run_id, map_id = next(iter(explore.runs())), next(iter(explore.maps()))
    assert screen.plane == Plane(map_id, "scores.image_score", COMPONENTS[1], run_id)
    assert screen.color == Color("scores.anomaly_score", run_id, 0.5, "mean", "log")
    assert (screen.view, screen.palette, screen.contours) == ((-1, 1, 0, 2), "magma", False)
    assert screen.columns == ("scores.image_score", "scores.feature_score")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a.jpg"], "has none of the suffixes .png, .svg, .pdf"),
        (["nowhere/a.pdf"], "there is no folder"),
        (["a.pdf", "--view", "1,2,3"], '"1,2,3" is no view'),
        (["a.pdf", "--view", "2,1,0,1"], "is empty"),
        (["a.pdf", "--color", "scores.feature_scor"], 'did you mean "feature_score"'),
        (["a.pdf", "--kind", "sheet", "--selection", "none"], 'there is no selection "none"'),
    ],
)
def test_the_command_refuses_what_it_cannot_draw(explore: Explore, tmp_path: Path, capsys, arguments, sentence) -> None:
    first, *rest = arguments
    assert main(["figure", str(explore.survey.path), str(tmp_path / first), *rest]) > 0
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "a.pdf").exists()


def test_the_command_offers_what_the_session_has() -> None:
    assert (exporting.NORMS, exporting.PALETTES, tuple(exporting.FIGURES.values())) == (NORMS, PALETTES, tuple(FORMS))
