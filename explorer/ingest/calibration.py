"""What holds for every image of a survey: its bands, its stretch, its pixel scale. Found once, before any is decoded.

Up to `PROBED` images at even distances through the listing are looked at. Where any of them holds physical values, the
stretch is by default the one of percentiles; pictures keep the range of their file type. What the stretch leaves open
comes from up to `SAMPLED` images at even distances, up to 4,096 pixels each of what the network sees; images of the
sample that cannot be read are left out. The same files give the same stretch.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from explorer.errors import UsageError
from explorer.ingest.decoder import Decoders, Described, Item, Reading, describe, sample
from explorer.survey import SurveyInfo
from models.images import MAX_BANDS, Crop, ImageError, Stretch

PROBED = 64
SAMPLED = 256


def evenly(n: int, most: int) -> list[int]:
    """Up to `most` places at even distances among `n`, the first and the last included."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist() if n else []


def bands_and_picks(bands: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``("g=0", "r=1")`` as names and what is picked; no picks where only names are given.

    Raises
    ------
    UsageError
        Too many bands, a name that is there twice, empty or odd, or a pick for some only.
    """
    pairs = [band.partition("=") for band in bands]
    names, picks = tuple(p[0].strip() for p in pairs), tuple(p[2].strip() for p in pairs if p[1])
    if len(names) > MAX_BANDS:
        raise UsageError(f"--bands names {len(names)} bands; at most {MAX_BANDS} are possible")
    if len(set(names)) != len(names):
        raise UsageError(f"--bands names a band twice: {', '.join(names)}")
    if odd := [name for name in names if not (1 <= len(name) <= 32 and name.isprintable())]:
        raise UsageError(f"--bands has the name {odd[0]!r}; a name has 1 to 32 printable characters")
    if picks and (len(picks) != len(names) or not all(picks)):
        raise UsageError("--bands picks some of the bands only; write name=INDEX or name=HDU for each, or for none")
    return names, picks


def survey_wide(
    decoders: Decoders,
    n: int,
    items: Callable[[Sequence[int]], list[Item]],
    crop: Crop,
    reading: Reading,
    stretch: Stretch | None,
    listed_bands: Sequence[str] = (),
    stretch_bands: Sequence[str] = (),
) -> dict[str, Any]:
    """The part of the plan that holds for every image: bands, stretch, reading, pixel scale, extent; notes.

    Parameters
    ----------
    n, items
        Images of the listing, and those at given places.
    reading
        As the user asked; its bands may be empty.
    stretch
        As the user asked; None leaves it to the images.
    listed_bands
        Bands that the listing names, where it has one file for each.
    stretch_bands
        Bands that the stretch's values are of, where it is another survey's.

    Raises
    ------
    UsageError
        Options that do not fit the images.
    """
    probed = _described(
        decoders, items(evenly(n, PROBED)), replace(reading, bands=reading.bands or tuple(listed_bands))
    )
    bands = reading.bands or tuple(listed_bands) or _bands(probed)
    if listed_bands and len(bands) != len(listed_bands):
        raise UsageError(f"--bands names {len(bands)} bands; the manifest has a path for {len(listed_bands)}")
    notes = []
    if units := sorted({found.unit for found in probed if found.unit}):
        notes.append(
            f"values are in {units[0]}" if len(units) == 1 else f"values are in unlike units: {', '.join(units)}"
        )
    if len({found.is_physical for found in probed}) == 2:
        notes.append("pictures and physical values stand side by side; they are compared as they are")
    if several := Counter(found.choices for found in probed if len(found.choices) > 1).most_common(1):
        (choices, n_files), *_ = several
        who = "each file holds" if n_files == len(probed) else f"{n_files} of {len(probed)} files looked at hold"
        names = ", ".join(choices[:8]) + (" …" if len(choices) > 8 else "")
        notes.append(f"{who} {len(choices)} images ({names}); the first was read: --hdu or --bands name others")
    if reading.extent_arcsec and not reading.pixel_scale and not any(found.pixel_scale for found in probed):
        raise UsageError(
            f"an extent in arcsec needs a pixel scale, and none of {len(probed)} images looked at says one; "
            "give it with --pixel-scale"
        )
    if stretch is None:
        stretch = Stretch("percentile" if any(found.is_physical for found in probed) else "range")
    if len(stretch.low) not in (0, 1, len(bands)):
        raise UsageError(
            f"the stretch is for {len(stretch.low)} bands, the images have {len(bands)} ({', '.join(bands)})"
        )
    if len(stretch.low) > 1 and stretch_bands:
        stretch = _reordered(stretch, stretch_bands, bands)
    reading = replace(reading, bands=bands, stretch=stretch)
    if not stretch.is_derived:
        crop = replace(crop, n_bands=len(bands))
        values = _sampled(decoders, items(evenly(n, SAMPLED)), crop, reading)
        if values:
            stretch = stretch.derived(np.concatenate(values))
            sampled = f"a sample of {len(values):,} of {n:,} images" if len(values) < n else f"all {n:,} images"
            notes.append(f"the stretch is from {sampled}")
        else:  # none can be read: the decoding says why
            stretch = Stretch()
    plan: dict[str, Any] = {
        "bands": list(bands),
        "stretch": stretch.to_dict(),
        "reading": reading.to_dict(),
        "notes": notes,
    }
    if reading.pixel_scale:
        plan["pixel_scale_arcsec"] = reading.pixel_scale
    if reading.extent_arcsec:
        plan["extent_arcsec"] = reading.extent_arcsec
    return plan


def how_read(
    plan: Mapping[str, Any], crop: Crop, originals: Literal["keep", "link"] = "keep", roots: Sequence[str] = ()
) -> tuple[Crop, Reading]:
    """How the images of a plan, or of a survey with the same keys, are cut and read."""
    told = plan.get("reading") or {}
    scale, extent = plan.get("pixel_scale_arcsec"), plan.get("extent_arcsec")
    if scale and extent:  # the same square in every image
        crop, extent = replace(crop, extent=max(1, round(extent / scale))), None
    reading = Reading(
        hdu=told.get("hdu"),
        dataset=told.get("dataset"),
        bands=tuple(plan["bands"]),
        picks=tuple(told.get("picks", ())),
        pixel_scale=scale,
        extent_arcsec=extent,
        stretch=Stretch.from_dict(plan.get("stretch") or {"mode": "range"}),
        originals=originals,
        roots=tuple(roots),
    )
    return replace(crop, n_bands=len(plan["bands"])), reading


def how_made(info: SurveyInfo) -> tuple[Crop, Reading]:
    """How the images of a survey that is there were cut and read, so that they can be read again."""
    plan = {
        "bands": info.bands,
        "reading": info.reading,
        "stretch": info.stretch.to_dict(),
        "pixel_scale_arcsec": info.reading.get("pixel_scale"),  # as it was told: else each image says its own
        "extent_arcsec": info.extent_arcsec,
    }
    return how_read(plan, info.cut)


def _reordered(stretch: Stretch, before: Sequence[str], bands: Sequence[str]) -> Stretch:
    """A stretch of the bands `before` with its values in the order of `bands`."""
    if sorted(before) != sorted(bands):
        raise UsageError(
            f"the other survey's stretch is for the bands {', '.join(before)}, the images have {', '.join(bands)}; "
            "name them alike with --bands, or leave out --stretch-from"
        )
    places = [list(before).index(band) for band in bands]
    return replace(stretch, low=tuple(stretch.low[i] for i in places), high=tuple(stretch.high[i] for i in places))


def _described(decoders: Decoders, items: Sequence[Item], reading: Reading) -> list[Described]:
    found = []
    for item in items:
        with contextlib.suppress(ImageError, OSError):  # the decoding says why
            found.append(decoders.call(describe, item, reading))
    return found


def _sampled(decoders: Decoders, items: Sequence[Item], crop: Crop, reading: Reading) -> list[np.ndarray]:
    values = []
    for item in items:
        with contextlib.suppress(ImageError, OSError):  # likewise
            found = decoders.call(sample, item, crop, reading)
            if found.shape[1] == crop.n_bands:
                values.append(found)
    return values


def _bands(probed: Sequence[Described]) -> tuple[str, ...]:
    """The bands' names, where nobody says them."""
    if any(found.is_physical for found in probed):
        (n, _), *_ = Counter(found.n_bands for found in probed).most_common()
    else:
        n = max((found.n_bands for found in probed), default=1)
    named = {found.names for found in probed if found.n_bands == n}
    if len(named) == 1 and len(names := named.pop()) == n:
        return names
    return ("grey",) if n == 1 else tuple(f"band_{i}" for i in range(1, n + 1))
