"""A place on the sky as text, and where else to look at it."""

from __future__ import annotations

import math
from urllib.parse import quote, urlencode


def links(ra: float | None, dec: float | None, fov_arcsec: float = 60.0) -> list[dict[str, str]]:
    """Pages about a place, each ``{"title", "url"}``; [] where the place is not known.

    Parameters
    ----------
    ra, dec
        Degrees, ICRS; None or NaN where missing.
    fov_arcsec
        Side of what is to be seen, arcsec.

    References
    ----------
    SIMBAD, Query by URLs, https://simbad.cds.unistra.fr/guide/sim-url.htx; ESASky, "Link to ESASky",
    https://www.cosmos.esa.int/web/esdc/esasky-how-to; Legacy Survey viewer, https://www.legacysurvey.org/viewer; Aladin
    Lite, https://aladin.cds.unistra.fr/AladinLite/doc/.
    """
    if ra is None or dec is None or not (math.isfinite(ra) and -90 <= dec <= 90):
        return []
    fov = fov_arcsec if math.isfinite(fov_arcsec) and fov_arcsec > 0 else 60.0
    ra_text, dec_text = f"{ra % 360:.7f}", f"{dec:+.7f}"
    target = f"{ra_text} {dec_text}"
    # the viewer's Mercator tiles have 256 px a side, and 2^zoom of them go around the equator
    zoom = min(max(round(math.log2(360 * 3600 * 512 / 256 / fov)), 1), 16)
    simbad = {"Coord": target, "CooFrame": "ICRS", "Radius": f"{max(fov / 2, 5):.4g}", "Radius.unit": "arcsec"}
    sky = {"target": target, "fov": f"{max(fov, 5) / 3600:.6f}"}
    legacy = {"ra": ra_text, "dec": f"{dec:.7f}", "layer": "ls-dr10", "zoom": str(zoom)}
    pages = {
        "SIMBAD": ("https://simbad.cds.unistra.fr/simbad/sim-coo", simbad),
        "ESASky": ("https://sky.esa.int/esasky/", sky | {"cooframe": "J2000", "sci": "true"}),
        "Legacy Survey": ("https://www.legacysurvey.org/viewer", legacy | {"mark": f"{ra_text},{dec:.7f}"}),
        "Aladin Lite": ("https://aladin.cds.unistra.fr/AladinLite/", sky),
    }
    return [
        {"title": title, "url": f"{page}?{urlencode(query, quote_via=quote, safe=',')}"}
        for title, (page, query) in pages.items()
    ]


def hms(ra: float, dec: float) -> str:
    """RA and Dec, degrees, as ``10:00:24.00 +02:12:00.0``: to 0.1″; "" where one is missing.

    Rounded once, in whole units of the last digit, so that no second is ever 60.
    """
    if not (math.isfinite(ra) and math.isfinite(dec)):
        return ""
    hundredths = round(ra % 360 / 15 * 360_000) % (24 * 360_000)
    tenths = round(abs(dec) * 36_000)
    seconds, hundredth = divmod(hundredths, 100)
    arcsec, tenth = divmod(tenths, 10)
    sign = "-" if dec < 0 and tenths else "+"
    return (
        f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{hundredth:02} "
        f"{sign}{arcsec // 3600:02}:{arcsec // 60 % 60:02}:{arcsec % 60:02}.{tenth}"
    )
