"""Links to other people's pages, and a place as text."""

from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from explorer.services.links import hms, links


def test_every_link_leads_to_the_same_place_over_https():
    pages = {link["title"]: urlsplit(link["url"]) for link in links(150.1, -2.25, 30)}
    assert list(pages) == ["SIMBAD", "ESASky", "Legacy Survey", "Aladin Lite"]
    asked = {title: {k: v[0] for k, v in parse_qs(page.query).items()} for title, page in pages.items()}
    assert {page.scheme for page in pages.values()} == {"https"}
    assert asked["SIMBAD"] == {
        "Coord": "150.1000000 -2.2500000",
        "CooFrame": "ICRS",
        "Radius": "15",
        "Radius.unit": "arcsec",
    }
    assert asked["ESASky"]["target"] == asked["Aladin Lite"]["target"] == "150.1000000 -2.2500000"
    assert float(asked["ESASky"]["fov"]) == pytest.approx(30 / 3600, rel=1e-3)
    legacy = asked["Legacy Survey"]
    assert (legacy["ra"], legacy["dec"], legacy["mark"]) == ("150.1000000", "-2.2500000", "150.1000000,-2.2500000")


def test_a_sign_and_a_blank_are_quoted():
    simbad = links(0.5, 2.0)[0]["url"]
    assert "Coord=0.5000000%20%2B2.0000000&" in simbad


@pytest.mark.parametrize("fov, zoom", [(512 * 0.309, 14), (1, 16), (1e9, 1), (float("nan"), 15)])
def test_the_viewer_is_zoomed_to_the_field(fov: float, zoom: int):
    """At zoom 14 a pixel of the Legacy Survey viewer is 0.309″ on the equator."""
    assert f"&zoom={zoom}&" in links(10, 10, fov)[2]["url"]


@pytest.mark.parametrize("place", [(None, 2.0), (150.0, None), (float("nan"), 2.0), (150.0, float("nan")), (1, 91)])
def test_without_a_place_there_are_no_links(place: tuple[float | None, float | None]):
    assert links(*place) == []


def test_a_place_reads_as_astropy_writes_it():
    random = np.random.default_rng(0)
    ra = np.concatenate([random.uniform(0, 360, 300), [0, 359.99999999, 15, 150.1]])
    dec = np.concatenate([random.uniform(-90, 90, 300), [90, -0.5, -90, -0.0000001]])
    for a, d in zip(ra, dec, strict=True):
        place = SkyCoord(a * u.deg, d * u.deg)
        hours = place.ra.to_string("hour", sep=":", precision=2, pad=True).replace("24:00:00.00", "00:00:00.00")
        degrees = place.dec.to_string("deg", sep=":", precision=1, pad=True, alwayssign=True)
        assert hms(a, d) == f"{hours} {degrees.replace('-00:00:00.0', '+00:00:00.0')}"


def test_no_second_is_ever_sixty_and_nothing_is_said_of_a_missing_place():
    assert hms(15 - 1e-9, 10 - 1e-9) == "01:00:00.00 +10:00:00.0"
    assert hms(360 - 1e-9, -1e-9) == "00:00:00.00 +00:00:00.0"
    assert hms(float("nan"), 1) == hms(1, float("nan")) == ""
