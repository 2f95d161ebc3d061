"""What is drawn on the map as a part of a boundary: which regions lie on a plane, and how a new one meets them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.boundary import And, BoundaryError, Gate, Learned, Not, Or, Path, Region, Term, at, check, leaves, replaced

#: Vertices of a freehand outline at most, and by how many pixels of the screen it may leave the hand's line at first.
MOST_VERTICES = 200
TOLERANCE = 1.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A region of a boundary as it stands on the map.

    Attributes
    ----------
    path
        Where it is in the boundary.
    is_added
        Whether being inside speaks for a subject: it stands under an even number of `Not`.
    """

    path: Path
    region: Region
    is_added: bool


def drawn_on(keep: Term, x: str, y: str) -> list[Drawn]:
    """The regions of a boundary that lie on the plane of two columns, in the order they are written."""
    found = []
    for path, leaf in leaves(keep):
        if isinstance(leaf, Region) and (leaf.x, leaf.y) == (x, y):
            n_not = sum(isinstance(at(keep, path[:depth]), Not) for depth in range(len(path)))
            found.append(Drawn(path, leaf, n_not % 2 == 0))
    return found


def joined(keep: Term, region: Region, mode: str) -> Term:
    """The boundary once a region meets those that are drawn on its plane; nothing that was drawn is replaced.

    What is drawn there is what the boundary demands of the plane alone: those terms of the outermost "and" that have
    regions of this plane and nothing else. Whatever else the boundary demands stays as it is, and so does a region
    that is an alternative to something that is not drawn there. Where nothing is drawn yet, any mode but `subtract`
    draws the first region, and `subtract` leaves out what is inside.

    Parameters
    ----------
    mode
        add, subtract or intersect; replace, which is a selection's, adds.

    Returns
    -------
    Term
        An "and" of what is drawn on the plane, what is left out of it last, and then the rest.

    Raises
    ------
    BoundaryError
        The boundary would have too many terms or vertices.
    """
    parts = _demands(keep, region)
    drawn = tuple(part for part in parts if _is_drawn(part, region))
    rest = tuple(part for part in parts if not _is_drawn(part, region))
    new = Not(region) if mode == "subtract" else region
    if mode in ("replace", "add") and drawn:
        one = drawn[0] if len(drawn) == 1 else And(drawn)
        drawn = (Or((*(one.terms if isinstance(one, Or) else (one,)), new)),)
    else:
        drawn = (*drawn, new)
    return check(And((*sorted(drawn, key=lambda part: isinstance(part, Not)), *rest)))


def _demands(term: Term, region: Region) -> tuple[Term, ...]:
    """The terms that must all hold; an "and" among them is opened where it mixes the region's plane with others."""
    if not isinstance(term, And):
        return (term,)
    found: list[Term] = []
    for part in term.terms:
        is_mixed = isinstance(part, And) and not _is_drawn(part, region) and drawn_on(part, region.x, region.y)
        found += _demands(part, region) if is_mixed else (part,)
    return tuple(found)


def _is_drawn(term: Term, region: Region) -> bool:
    """Whether a term has regions of a plane, and no other leaf."""
    found = [leaf for _, leaf in leaves(term)]
    return bool(found) and all(
        not isinstance(leaf, Gate | Learned) and (leaf.x, leaf.y) == (region.x, region.y) for leaf in found
    )


def reshaped(keep: Term, path: Path, vertices: Sequence[Sequence[float]], x: str, y: str) -> Term:
    """The boundary with other vertices of the region at a path.

    Raises
    ------
    BoundaryError
        There is no region of this plane, or these are no vertices of its shape.
    """
    region = _region(keep, path, x, y)
    pairs = tuple((float(vx), float(vy)) for vx, vy in vertices)
    return check(replaced(keep, path, replace(region, vertices=pairs)))


def without(keep: Term, path: Path, x: str, y: str) -> Term:
    """The boundary without the region at a path; a group that has one term left becomes that term.

    Raises
    ------
    BoundaryError
        There is no region of this plane.
    """
    _region(keep, path, x, y)
    keep = replaced(keep, path, None)
    return And(tuple(map(_tidied, keep.terms))) if isinstance(keep, And) else _tidied(keep)


def _tidied(term: Term) -> Term:
    match term:
        case And() | Or() if len(term.terms) == 1:
            return _tidied(term.terms[0])
        case And():
            return And(tuple(map(_tidied, term.terms)))
        case Or():
            return Or(tuple(map(_tidied, term.terms)))
        case Not():
            return Not(_tidied(term.term))
    return term


def _region(keep: Term, path: Path, x: str, y: str) -> Region:
    found = at(keep, path)
    if not isinstance(found, Region) or (found.x, found.y) != (x, y):
        raise BoundaryError("the boundary has changed meanwhile: this region is not there any more")
    return found


def simplified(
    outline: np.ndarray, per_pixel: tuple[float, float], most: int = MOST_VERTICES
) -> tuple[np.ndarray, float]:
    """A hand's line with as few vertices as look the same (Douglas and Peucker 1973), closed.

    Parameters
    ----------
    outline
        float (k, 2), k ≥ 3; the last joins the first.
    per_pixel
        So much of x and of y is a pixel of the screen, both > 0.

    Returns
    -------
    outline
        float (m, 2), 3 ≤ m ≤ `most`: some of the given vertices, in their order.
    tolerance
        In pixels: no vertex that was left out is farther from the new line.
    """
    points = np.asarray(outline, np.float64) / per_pixel
    far = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    closed = np.vstack((points, points[:1]))
    weight = np.zeros(len(points))  # the greatest tolerance at which each vertex stays
    weight[[0, far]] = np.inf
    for first, last in ((0, far), (far, len(points))):
        _weigh(closed, first, last, weight)
    tolerance = max(TOLERANCE, float(np.sort(weight)[-most - 1]) if len(weight) > most else 0.0)
    kept = weight > tolerance
    for k in np.argsort(-weight, kind="stable"):
        if kept.sum() >= 3:
            break
        kept[k] = True
    return np.asarray(outline, np.float64)[kept], tolerance


def _weigh(points: np.ndarray, first: int, last: int, weight: np.ndarray) -> None:
    """Between two vertices of a line, by how much each is off what is left of it when it is its turn to go."""
    spans = [(first, last, math.inf)]
    while spans:
        a, b, above = spans.pop()
        if b - a < 2:
            continue
        away = _away(points[a + 1 : b], points[a], points[b])
        k = int(np.argmax(away))
        weight[a + 1 + k] = own = min(above, float(away[k]))  # it goes before those that it was found between
        if own > TOLERANCE:
            spans += [(a, a + 1 + k, own), (a + 1 + k, b, own)]


def _away(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far points are from the piece of a line between two: float (k,)."""
    along = b - a
    share = np.clip((points - a) @ along / max(float(along @ along), 1e-300), 0, 1)
    apart = points - a - share[:, None] * along
    away: np.ndarray = np.hypot(apart[:, 0], apart[:, 1])
    return away
