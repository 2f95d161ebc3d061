"""Which tags mean the same: spelling, plurals, slips of the finger, groups that may be edited, the study's groups."""

import csv
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.errors import SurveyError
from explorer.ingest.tags import TagGroups, default_text, key_of, slips, study_groups
from explorer.votes import TAG_GROUPS
from tests.conftest import SHARED_DATA


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def groups(tmp_path: Path) -> TagGroups:
    text = '[groups]\nmerger = ["merging", "post-merger"]\nring = ["rings"]\nlens = ["gravitational_lens"]\n'
    return TagGroups.read(write(tmp_path / "map.toml", text))


def group_of(groups: TagGroups, *raw: str, n: int = 1) -> list[tuple[str, str]]:
    return [tuple(found) for found in groups.grouped(dict.fromkeys(raw, n)).values()]


@pytest.mark.parametrize("raw", ["merging", "Merging", "MERGING", "merger", "post_merger", "Post merger", "postmerger"])
def test_case_and_separators_make_no_difference_and_a_group_has_its_own_name(groups: TagGroups, raw: str):
    assert group_of(groups, raw) == [("merger", "listed")]


def test_plurals_are_told_by_the_map_or_by_another_tag(groups: TagGroups):
    found = groups.grouped(
        {"mergers": 9, "ring": 9, "red_dots": 9, "red-dot": 1, "galaxies": 1, "lens": 1, "lenses": 1}
    )
    assert {raw: tuple(told) for raw, told in found.items()} == {
        "mergers": ("merger", "plural"),
        "ring": ("ring", "listed"),
        "red_dots": ("red_dot", "plural"),
        "red-dot": ("red_dot", "own"),
        "galaxies": ("galaxies", "own"),  # nobody said galaxy
        "lens": ("lens", "listed"),
        "lenses": ("lens", "plural"),
    }


@pytest.mark.parametrize(
    ("raw", "group"),
    [
        ("nerging", "merger"),  # the key beside it
        ("mergign", "merger"),  # exchanged
        ("meging", "merger"),  # left out
        ("merrging", "merger"),  # put in
        ("marging", "merger"),  # a vowel for a vowel
        ("gravitatational_lens", "lens"),  # two slips in a long word
        ("graviational lense", "lens"),
        ("emerging", "emerging"),  # the first letter is seldom wrong
        ("verging", "verging"),  # v is not beside m
        ("merxing", "merxing"),
        ("rinh", "rinh"),  # too short
        ("no_lens", "no_lens"),
    ],
)
def test_a_slip_of_the_finger_is_forgiven_where_it_is_one(groups: TagGroups, raw: str, group: str):
    assert group_of(groups, raw) == [(group, "typing" if group != raw else "own")]


def test_what_is_in_use_or_ambiguous_is_no_slip(tmp_path: Path):
    told = TagGroups.read(write(tmp_path / "map.toml", '[groups]\na = ["barred"]\nb = ["barren"]\n'))
    assert group_of(told, "barreq") == [("barreq", "own")]
    assert group_of(told, "barrrd", n=4) == [("a", "typing")]
    assert group_of(told, "barrrd", n=5) == [("barrrd", "own")]
    assert group_of(told, "barre") == [("barre", "own")]  # five letters, and both are as near
    both = TagGroups.read(write(tmp_path / "two.toml", '[groups]\na = ["clumpy"]\nb = ["clumps"]\n'))
    assert group_of(both, "clumpt") == [("a", "typing")]  # t is beside y, not beside s
    same = TagGroups.read(write(tmp_path / "three.toml", '[groups]\na = ["stream"]\nb = ["strean"]\n'))
    assert group_of(same, "streab") == [("b", "typing")]
    assert group_of(same, "streamn") == [("streamn", "own")]  # one slip from both


def _slowly(a: str, b: str) -> int:
    """Slips by trying everything, from the definition."""
    rows = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    at = {c: (r, i + r / 2) for r, keys in enumerate(rows) for i, c in enumerate(keys)}

    def other(x: str, y: str, is_first: bool) -> int:
        if x == y:
            return 0
        is_vowel = x in "aeiouy" and y in "aeiouy"
        is_key = x in at and y in at and all(abs(p - q) <= 1 for p, q in zip(at[x], at[y], strict=True))
        if is_first:
            return 1 if is_key and not is_vowel else 3
        return 1 if is_key or is_vowel else 2

    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j and i + j + 2
        found = [distance(i - 1, j) + 1, distance(i, j - 1) + 1]
        found.append(distance(i - 1, j - 1) + other(a[i - 1], b[j - 1], i == 1 or j == 1))
        if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
            found.append(distance(i - 2, j - 2) + 1)
        return min(found)

    return distance(len(a), len(b))


@given(st.text("aemnx", max_size=5), st.text("aemnx", max_size=5))
def test_slips_are_those_of_the_definition(a: str, b: str):
    assert slips(a, b) == _slowly(a, b) == slips(b, a)


def test_what_is_near_is_found_as_by_comparing_with_every_word(groups: TagGroups):
    default = TagGroups.default()
    words = {key_of(tag): group for group, tags in default.groups.items() for tag in (group, *tags)}
    long = [word for word in words if len(word) >= 6]
    tried = {w[:i] + w[i + 1 :] for w in long for i in range(1, len(w))}
    tried |= {w[:i] + w[i + 1] + w[i] + w[i + 2 :] for w in long for i in range(len(w) - 1)}
    tried |= {f"{w[:4]}{c}{w[4:]}" for w, c in itertools.product(long, "nz")}
    tried = {w for w in tried if w not in words and len(w) >= 6 and not w.endswith("s")}
    found = default.grouped(dict.fromkeys(sorted(tried)[::7], 1))
    for raw, told in found.items():
        limit = 1 if len(raw) < 10 else 2
        near = {
            words[w]
            for w in words
            if len(w) >= 6 and abs(len(w) - len(raw)) <= limit and slips(raw, w) <= min(limit, 1 if len(w) < 10 else 2)
        }
        if told.how in ("typing", "own"):
            assert ({told.group} if told.how == "typing" else None) == (near if len(near) == 1 else None), raw
    assert sum(told.how == "typing" for told in found.values()) > 100


def test_a_tag_in_no_group_is_its_own_by_its_usual_spelling(groups: TagGroups):
    found = groups.grouped({"Off-center": 1, "off center": 3, "##": 1, "звезда": 2, "86412446": 1})
    assert [told.group for told in found.values()] == ["off_center", "off_center", "##", "звезда", "86412446"]


# ----------------------------------------------------------------------------------------------------------- files
def test_a_map_in_the_survey_comes_before_the_default(tmp_path: Path):
    assert TagGroups.of(tmp_path).groups == TagGroups.default().groups
    write(tmp_path / TAG_GROUPS, '[groups]\n"all of it" = ["merger", "ring"]\n')
    assert group_of(TagGroups.of(tmp_path), "merger") == [("all of it", "listed")]
    write(tmp_path / TAG_GROUPS, default_text())
    assert TagGroups.of(tmp_path).stamp == TagGroups.default().stamp


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[groups\n", "is not TOML"),
        ("groups = 3\n", r"has no table \[groups\]; `voorwerp tags SURVEY --write` writes one"),
        ('[groups]\nring = "ring"\n', "group \"ring\" is 'ring'; write a list of tags in quotes"),
        ("[groups]\nring = [1]\n", "write a list of tags in quotes"),
        ('[groups]\na = ["Red dot"]\nb = ["red-dot"]\n', '"red-dot" is in the groups "a" and "b"; leave it in one'),
    ],
)
def test_a_map_that_is_none_says_what_is_wrong(tmp_path: Path, text: str, said: str):
    with pytest.raises(SurveyError, match=f"tag_groups.toml.*{said}"):
        TagGroups.of(write(tmp_path / TAG_GROUPS, text).parent)


def test_the_default_corrects_the_study_and_loses_nothing_rare():
    default, study = TagGroups.default(), study_groups()
    found = {raw: told.group for raw, told in default.grouped(dict.fromkeys(study, 9)).items()}
    moved = {
        raw: (study[raw], found[raw]) for raw in ("galaxy", "starburst", "interesting", "colliding", "double", "trail")
    }
    assert moved == {
        "galaxy": ("spiral", "galaxy"),
        "starburst": ("clumps", "star_formation"),
        "interesting": ("interacting_irregular", "interesting"),
        "colliding": ("collisional_ring", "interacting"),
        "double": ("disturbed", "double"),
        "trail": ("tidal_features", "trail"),
    }
    rare = ("supernova", "white_dwarf", "pea", "voorwerp", "quasar", "red_dot", "no_lens", "never_seen_before")
    found = {raw: told.group for raw, told in default.grouped(dict.fromkeys(rare, 1)).items()}
    assert len(set(found.values())) == len(rare)
    assert found["pea"] == "green_pea" and found["no_lens"] == "no_lens"
    assert "merging_cluster" in default.groups and "merging_cluster" not in default.groups["merger"]


def test_each_departure_from_the_study_is_told_in_a_comment():
    default = TagGroups.default()
    comments = " ".join(line.partition("#")[2] for line in default_text().splitlines())
    spoken = {key_of(word) for word in re.findall(r'"([^"]+)"', comments)}
    same = {"WW": "weird_wonderful", "rings": "ring", "rps": "ram_pressure_stripping", "dust-lane": "dust_lane"}
    same |= {"jellyfish_candidate": "jellyfish", "edge-on": "edge_on"}
    for raw, found in default.grouped(dict.fromkeys(study_groups(), 9)).items():
        before = study_groups()[raw]
        assert found.group == same.get(before, before) or {key_of(raw), key_of(before.replace("_", ""))} & spoken, raw


def test_the_study_grouping_is_the_published_one():
    path = SHARED_DATA.parent / "reference" / "tag_groups.csv"
    if not path.exists():
        pytest.skip(f"the study's grouping is not here ({path} does not exist)")
    with path.open() as handle:
        published = {raw: row["group"] for row in csv.DictReader(handle) for raw in row["raw_tags"].split()}
    assert study_groups() == published
