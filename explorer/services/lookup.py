"""Finding subjects by what a person types or pastes: an id, a place on the sky, or a list of ids.

Nothing is indexed: a list is compared with a column of 1.5 million texts in 0.1 s, so an answer is never older than
the survey.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from explorer.errors import UsageError
from explorer.services.links import hms
from explorer.survey import Survey

#: Around a coordinate without a radius, arcsec.
RADIUS = 10.0
#: Missing ids that a message names.
N_NAMED = 5

Kind = Literal["id", "coordinate", "list"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a text names.

    Attributes
    ----------
    rows
        uint32 (n,), each once: in the order asked for; around a coordinate nearest first.
    missing
        Ids that are not in the survey, as typed.
    separations
        float64 (n,) for a coordinate: arcsec from it; else (0,).
    message
        One sentence for the person who asked.
    """

    rows: np.ndarray
    kind: Kind
    message: str
    missing: list[str] = field(default_factory=list)
    separations: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class Cone:
    """A circle on the sky: center in degrees (ICRS), radius in arcsec."""

    ra: float
    dec: float
    radius: float = RADIUS


def find(survey: Survey, text: str) -> Found:
    """Whatever `text` names in a survey.

    Parameters
    ----------
    text
        One of:

        - an id: a source_id, else a subject_id, a zooniverse_subject_id, or the name of an image file, with or without
          folder and suffix; else the only source_id that begins so, whatever its case;
        - a coordinate, see `cone_of`;
        - a list of ids, separated by new lines, commas, semicolons or tabs, else by blanks; quotes are taken off.

        Two whole numbers are ids where one of them is an id, else degrees.

    Returns
    -------
    Found
        Whatever the text: what makes no sense finds nothing, and the message says why.
    """
    text = text.encode(errors="replace").decode().strip(_AROUND)  # half a character (a lone surrogate) is no text
    if not text:
        return Found(_rows([]), "id", "type an id, a coordinate (150.1 2.2 or 10:00:24 +02:12:00) or a list of ids")
    rows, _ = _match(survey, [text])
    if rows.size:
        return _one(survey, text, rows)
    names = _names(text)
    if not names:
        return Found(_rows([]), "id", f'"{_shown(text)}" holds no id', [text])
    if not (_WHOLE_NUMBERS.fullmatch(text) and _match(survey, names)[0].size):
        try:
            cone = cone_of(text)
            if cone is None:
                _check_unit(survey, text, names)
        except UsageError as error:
            return Found(_rows([]), "coordinate", str(error))
        if cone is not None:
            return _around(survey, cone)
    if len(names) == 1:
        rows, _ = _match(survey, names)
        return _one(survey, names[0], rows) if rows.size else _nearly(survey, names[0])
    return _listed(survey, names)


# ------------------------------------------------------------------------------------------------------------ ids
#: What a copy from a page or a spreadsheet brings along at both ends.
_AROUND = " \t\r\n\f\v\u00a0\u200b\ufeff"
_ENTRY = re.compile(r'[ ]*"((?:[^"\r\n]|"")+)"(?=\s*(?:[,;\t\r\n]|$))|([^,;\t\r\n]+)')
_WHOLE_NUMBERS = re.compile(r"\d+[\s,;]+\d+")


def _names(text: str) -> list[str]:
    """The entries of a list, each once, in order."""
    if re.search(r"[,;\t\r\n]", text):
        entries = [quoted.replace('""', '"') if quoted else plain for quoted, plain in _ENTRY.findall(text)]
    else:
        entries = [text] if _unquoted(text) != text else text.split()
    return [name for name in dict.fromkeys(map(_unquoted, entries)) if name]


def _unquoted(entry: str) -> str:
    entry = entry.strip(_AROUND)
    if len(entry) > 1 and entry[0] == entry[-1] and entry[0] in "\"'":
        return entry[1:-1].strip(_AROUND)
    return entry


def _columns(survey: Survey) -> Iterator[tuple[bool, pa.ChunkedArray]]:
    """What an id is compared with, the most exact first: whether it is a column of integers, and the column."""
    yield False, survey._arrow("source_id")
    yield True, pa.chunked_array([survey.subject_ids])
    yield True, survey._arrow("zooniverse_subject_id")
    image = survey._arrow("image")
    yield False, image
    for part, pattern in (("file name", r"^.*/"), ("file name without suffix", r"^.*/|\.[^.]*$")):
        yield False, survey._cached(part, "image", functools.partial(pc.replace_substring_regex, image, pattern, ""))


def _match(survey: Survey, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows that `names` (each once) name, and the places of those names, both int64 (m,), in the order of the names."""
    left = np.arange(len(names))
    rows, places = [], []
    for is_integer, column in _columns(survey):
        asked = np.array([i for i in left if not is_integer or _is_id(names[i])], np.int64)
        wanted = pa.array([int(names[i]) if is_integer else names[i] for i in asked], column.type)
        at = pc.index_in(column, value_set=wanted).fill_null(-1).to_numpy()
        found = np.flatnonzero(at >= 0)
        rows.append(found)
        places.append(asked[at[found]])
        left = np.setdiff1d(left, places[-1])
        if not left.size:
            break
    all_rows, all_places = np.concatenate([*rows, _rows([])]), np.concatenate([*places, _rows([])])
    order = np.argsort(all_places, kind="stable")
    return all_rows[order].astype(np.int64), all_places[order].astype(np.int64)


def _is_id(text: str) -> bool:
    """Whether a text is an integer ≥ 0 that int64 holds, written as we write it."""
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63 and str(int(text)) == text


def _one(survey: Survey, name: str, rows: np.ndarray) -> Found:
    if len(rows) > 1:
        return Found(_rows(rows), "id", f'{len(rows):,} subjects are from "{_shown(name)}"')
    return Found(_rows(rows), "id", f"found {_shown(survey.source_ids(rows)[0])}")


def _nearly(survey: Survey, name: str) -> Found:
    """An id that is not there: the only one that begins so, or what comes near."""
    ids = survey._arrow("source_id")

    def beginning(length: int) -> np.ndarray:
        rows: np.ndarray = pc.indices_nonzero(pc.starts_with(ids, name[:length], ignore_case=True)).to_numpy()
        return rows

    rows = beginning(len(name)) if len(name) <= _LONGEST else _rows([])
    same = [row for row in rows[:1000] if len(survey.source_ids([row])[0]) == len(name)]  # but for their case
    if len(same) == 1 or len(rows) == 1:
        row = same[0] if same else rows[0]
        only = "but for the case" if same else "the only id that begins so"
        return Found(_rows([row]), "id", f'found {survey.source_ids([row])[0]}: {only} "{_shown(name)}"')
    sentence = f'"{_shown(name)}" is not in this survey'
    if rows.size:
        named = ", ".join(map(_shown, survey.source_ids(rows[:3])))
        return Found(_rows([]), "id", f"{sentence}; {len(rows):,} ids begin so: {named}{_more(len(rows), 3)}", [name])
    good, bad = len(name) // 2, len(name)  # the longest beginning that some id has
    if good and len(name) <= _LONGEST and beginning(good).size:
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if beginning(middle).size else (good, middle)
        near = difflib.get_close_matches(name, survey.source_ids(beginning(good)[:1000]), n=3)
        if near:
            return Found(_rows([]), "id", f"{sentence}; did you mean {' or '.join(map(_shown, near))}?", [name])
    return Found(_rows([]), "id", sentence, [name])


#: A longer text is no id that someone mistyped.
_LONGEST = 200


def _listed(survey: Survey, names: list[str]) -> Found:
    rows, places = _match(survey, names)
    is_found = np.isin(np.arange(len(names)), places)
    # an entry with blanks is several ids where one of them is known; else it is one id that is not
    split = {i: names[i].split() for i in np.flatnonzero(~is_found).tolist() if len(names[i].split()) > 1}
    pieces = list(dict.fromkeys(piece for words in split.values() for piece in words))
    known = {pieces[i] for i in set(_match(survey, pieces)[1].tolist())} if pieces else set()
    if known:
        entries = [split[i] if known & set(split.get(i, ())) else [name] for i, name in enumerate(names)]
        names = list(dict.fromkeys(name for words in entries for name in words))
        rows, places = _match(survey, names)
        is_found = np.isin(np.arange(len(names)), places)
    missing = [name for name, is_there in zip(names, is_found.tolist(), strict=True) if not is_there]
    rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
    if not missing:
        return Found(_rows(rows), "list", f"all {len(names):,} found")
    named = ", ".join(map(_shown, missing[:N_NAMED])) + _more(len(missing), N_NAMED)
    are = "is" if len(missing) == 1 else "are"
    message = (
        f"{len(names) - len(missing):,} of {len(names):,} found; {len(missing):,} {are} not in this survey: {named}"
    )
    return Found(_rows(rows), "list", message, missing)


def _rows(rows: list[int] | np.ndarray) -> np.ndarray:
    return np.asarray(rows, np.uint32)


def _more(n: int, n_named: int) -> str:
    return f" and {n - n_named:,} more" if n > n_named else ""


def _shown(text: str) -> str:
    """A person's text in a sentence: on one line, and not longer than one."""
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:59]}…"


# ---------------------------------------------------------------------------------------------------- coordinates
_N = r"(\d+(?:\.\d*)?|\.\d+)"
_I = r"(\d{1,2})"
_SIGN = r"([+-]?)\s*"
_BETWEEN = r"(?:\s*[,;]\s*|\s+|(?=[+-]))"
_DEGREES = re.compile(rf"{_SIGN}{_N}\s*(?:°|d|deg)?{_BETWEEN}{_SIGN}{_N}\s*(?:°|d|deg)?")
#: Hours, minutes, seconds; sign, degrees, minutes, seconds. Every group may be missing but the first of each.
_SEXAGESIMAL = [
    re.compile(rf"{_I}:{_I}(?::{_N})?{_BETWEEN}{_SIGN}{_I}:{_I}(?::{_N})?"),
    re.compile(rf"{_I}\s+{_I}\s+{_N}{_BETWEEN}{_SIGN}{_I}\s+{_I}\s+{_N}"),
    re.compile(
        rf"{_I}\s*h\s*(?:{_N}\s*m\s*)?(?:{_N}\s*s)?{_BETWEEN}"
        rf"{_SIGN}{_I}\s*[d°]\s*(?:{_N}\s*[m'′]\s*)?(?:{_N}\s*(?:s|\"|″|''))?"
    ),
]
_IAU = re.compile(r"(?:[A-Za-z][\w-]*\s+)?J(\d\d)(\d\d)(?:(\d\d)(\.\d*)?)?([+-])(\d\d)(\d\d)(?:(\d\d)(\.\d*)?)?")
_WITHIN = re.compile(
    rf"(.+?)(?:\s*[,;]\s*|\s+)(?:r(?:adius)?\s*[=:]?\s*)?{_N}\s*"
    r"(arcsec(?:onds?)?|\"|″|''|arcmin(?:utes?)?|'|′|deg(?:rees?)?|°)",
    re.IGNORECASE | re.DOTALL,
)
_ODD_UNIT = re.compile(rf"(.+?)(?:\s*[,;]\s*|\s+)({_N}\s*[A-Za-z]+)")
#: arcsec; the first that a unit begins with.
_UNITS = {"arcsec": 1, '"': 1, "″": 1, "''": 1, "arcmin": 60, "'": 60, "′": 60, "deg": 3600, "°": 3600}
_WORDS = re.compile(r"\b(?:r\.?a|dec(?:l|lination)?|j2000|icrs|fk5)\b\.?\s*[=:]?|[()\[\]]", re.IGNORECASE)
_TYPOGRAPHY = str.maketrans({"−": "-", "–": "-", "º": "°", "’": "′", "”": "″", "\u00a0": " ", "\u2009": " "})


def cone_of(text: str) -> Cone | None:
    """The place that a text gives, and the radius to look in (`RADIUS` arcsec where it has none); None for no place.

    Read are degrees (``150.1 2.2``, ``150.1, +2.2``), sexagesimal hours and degrees (``10:00:24 +02:12:00``,
    ``10 00 24 +02 12 00``, ``10h00m24s +2d12m``) and IAU names (``J100024.0+021200``, whose digits are cut off, not
    rounded: the radius is never less than what that leaves open); each may be followed by a radius: ``5arcsec``,
    ``2′``, ``0.1deg``.

    Raises
    ------
    UsageError
        A coordinate that is not on the sky.
    """
    if len(text) > _LONGEST or "\n" in text:
        return None
    text = text.translate(_TYPOGRAPHY)
    if text.count("J") != 1 or not _IAU.match(text):
        text = " ".join(_WORDS.sub(" ", text).strip(" ,;").split())
    place = _place_of(text)
    if place is not None:
        return Cone(place[0], place[1], max(RADIUS, place[2]))
    within = _WITHIN.fullmatch(text)
    place = _place_of(within[1].strip(), may_be_ids=False) if within else None
    if within is None or place is None:
        return None
    radius = float(within[2]) * next(size for unit, size in _UNITS.items() if within[3].lower().startswith(unit))
    if not 0 < radius <= 180 * 3600:
        raise UsageError(f"the radius {within[2]}{within[3]} is not above 0 and at most 180 degrees")
    return Cone(place[0], place[1], radius)


def _check_unit(survey: Survey, text: str, names: list[str]) -> None:
    """Refuse a coordinate and a number in an unknown unit, where none of it is an id."""
    odd = _ODD_UNIT.fullmatch(text) if len(text) <= _LONGEST else None
    if odd and cone_of(odd[1]) and not _match(survey, names)[0].size:
        raise UsageError(f"{odd[2]} is no radius: its unit is arcsec, arcmin or deg, as in 5arcsec")


def _place_of(text: str, may_be_ids: bool = True) -> tuple[float, float, float] | None:
    """RA and Dec in degrees, and what their digits leave open, arcsec (0 where nothing says that they are cut off)."""
    if match := _DEGREES.fullmatch(text):
        ra = float(match[2]) * (-1 if match[1] == "-" else 1)
        dec = float(match[4]) * (-1 if match[3] == "-" else 1)
        is_on_the_sky = -180 <= ra <= 360 and -90 <= dec <= 90
        if not is_on_the_sky and may_be_ids and _WHOLE_NUMBERS.fullmatch(text):
            return None  # two ids
        if not is_on_the_sky:
            raise UsageError(f"RA {ra:g}°, Dec {dec:+g}° is not on the sky: RA is 0 to 360, Dec −90 to +90")
        return ra % 360, dec, 0.0
    if match := _IAU.fullmatch(text):
        h, m, s, fraction, sign, d, dm, ds, dec_fraction = match.groups()
        place = _sexagesimal((h, m, (s or "0") + (fraction or "")), sign, (d, dm, (ds or "0") + (dec_fraction or "")))
        ra_step = 15 * (60.0 if s is None else 10.0 ** -max(len(fraction or ".") - 1, 0))
        dec_step = 60.0 if ds is None else 10.0 ** -max(len(dec_fraction or ".") - 1, 0)
        return *place, float(np.hypot(ra_step * np.cos(np.radians(place[1])), dec_step))
    for pattern in _SEXAGESIMAL:
        if match := pattern.fullmatch(text):
            h, m, s, sign, d, dm, ds = match.groups()
            return *_sexagesimal((h, m, s), sign, (d, dm, ds)), 0.0
    return None


def _sexagesimal(hours: tuple[str | None, ...], sign: str, degrees: tuple[str | None, ...]) -> tuple[float, float]:
    """RA and Dec in degrees."""
    h, m, s = (float(part or 0) for part in hours)
    d, dm, ds = (float(part or 0) for part in degrees)
    ra, dec = 15 * (h + m / 60 + s / 3600), (d + dm / 60 + ds / 3600) * (-1 if sign == "-" else 1)
    if h >= 24 or max(m, s, dm, ds) >= 60 or abs(dec) > 90:
        raise UsageError(
            f"{h:g}h {m:g}m {s:g}s, {sign}{d:g}° {dm:g}′ {ds:g}″ is not on the sky: "
            "hours end at 24, minutes and seconds at 60, Dec at ±90°"
        )
    return ra, dec


def _around(survey: Survey, cone: Cone) -> Found:
    """Subjects within a cone, nearest first, by the haversine of their separation (Sinnott 1984): right at the poles,
    across RA 0, and for arcseconds."""
    ra, dec = np.radians(survey.column("ra")), np.radians(survey.column("dec"))
    at_ra, at_dec = np.radians(cone.ra), np.radians(cone.dec)
    haversine = np.sin((dec - at_dec) / 2) ** 2 + np.cos(dec) * np.cos(at_dec) * np.sin((ra - at_ra) / 2) ** 2
    separations = np.degrees(2 * np.arcsin(np.sqrt(np.minimum(haversine, 1)))) * 3600  # NaN where no place is known
    place = f"{_angle(cone.radius)} of {hms(cone.ra, cone.dec)}"
    if not np.isfinite(separations).any():
        return Found(_rows([]), "coordinate", "no subject of this survey has RA and Dec, so none is near a coordinate")
    rows = np.flatnonzero(separations <= cone.radius)
    rows = rows[np.argsort(separations[rows], kind="stable")]
    if rows.size:
        nearest = f"; the nearest is {_angle(separations[rows[0]])} away" if len(rows) > 1 else ""
        here = f", {_angle(separations[rows[0]])} away" if len(rows) == 1 else ""
        return Found(_rows(rows), "coordinate", f"{len(rows):,} within {place}{here}{nearest}", [], separations[rows])
    row = int(np.nanargmin(separations))
    name = _shown(survey.source_ids([row])[0])
    message = f"none within {place}; the nearest, {name}, is {_angle(separations[row])} away"
    return Found(_rows([]), "coordinate", message)


def _angle(arcsec: float) -> str:
    """An angle with three digits, in the unit that suits it."""
    for unit, size in (("°", 3600), ("′", 60)):
        if arcsec >= size:
            return f"{arcsec / size:.3g}{unit}"
    return f"{arcsec:.3g}″" if arcsec >= 0.01 else "under 0.01″"
