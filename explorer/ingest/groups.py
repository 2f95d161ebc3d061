"""Which subjects show the same sky, and which half of the survey each is in. Pure functions on arrays in row order.

Subjects are in one *duplicate group* when the pixels of their crops are identical, when they are within 1″, or, for
cut-outs of one image, when the center of one lies in the central quarter of the other; and so on through common
members. Every split keeps groups whole. The *half* (tune or test) is a hash of the group, so it never changes when
subjects are added.
"""

from dataclasses import dataclass

import numpy as np

SAME_SKY_ARCSEC = 1.0
#: Where one group of overlapping cut-outs would hold a larger share of the survey, sky tiles take the groups' place.
LARGEST_GROUP = 0.05
#: Side of a sky tile, in cut-outs.
TILE = 6


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of n subjects.

    Attributes
    ----------
    first
        int64 (n,): the row of the first member of each row's group.
    is_in_a_half
        bool (n,): False where a cut-out straddles the border of two sky tiles.
    notes
        What reports must say about it.
    """

    first: np.ndarray
    is_in_a_half: np.ndarray
    notes: tuple[str, ...] = ()


def identical_pairs(digests: np.ndarray) -> np.ndarray:
    """Pairs (m, 2) of rows with equal digests, uint64 (n, 2): each row with the next one of its kind."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    same = (digests[order[1:]] == digests[order[:-1]]).all(axis=1)
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def sky_pairs(ra: np.ndarray, dec: np.ndarray, radius_arcsec: float = SAME_SKY_ARCSEC) -> np.ndarray:
    """Pairs (m, 2) that connect rows closer than `radius_arcsec`; `ra`, `dec` in degrees, NaN where unknown.

    Of rows at the very same place each is paired with the next one only, and the first one with other places.
    """
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if len(known) < 2:
        return np.empty((0, 2), np.int64)
    from scipy.spatial import cKDTree  # takes 0.2 s, and most manifests have no coordinates

    # each place once: ten thousand rows at (0, 0) would be fifty million pairs
    places, place_of = np.unique(np.stack([ra[known], dec[known]], axis=1), axis=0, return_inverse=True)
    order = np.argsort(place_of, kind="stable")
    same = np.flatnonzero(place_of[order[1:]] == place_of[order[:-1]])
    first = known[order[np.searchsorted(place_of[order], np.arange(len(places)))]]
    a, d = np.radians(places.T)
    vectors = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)
    chord = 2 * np.sin(np.radians(radius_arcsec / 3600) / 2)
    near = first[cKDTree(vectors).query_pairs(chord, output_type="ndarray").reshape(-1, 2)]
    return np.concatenate([near, known[np.stack([order[same], order[same + 1]], axis=1)]])


def overlap_pairs(x: np.ndarray, y: np.ndarray, image: np.ndarray, extent: int) -> np.ndarray:
    """Pairs (m, 2) of cut-outs of one image, each centered in the central quarter (half the side) of the other.

    Parameters
    ----------
    x, y
        Centers, px.
    image
        Integer code of the image that each was cut from.
    extent
        Side of the cut-outs, px.
    """
    from scipy.spatial import cKDTree

    apart = (np.ptp(x) + extent + 1) * image  # images side by side, too far to meet
    points = np.stack([x + apart, y], axis=1)
    return np.asarray(cKDTree(points).query_pairs(extent / 4, p=np.inf, output_type="ndarray"), np.int64).reshape(-1, 2)


def connected(n: int, pairs: np.ndarray) -> np.ndarray:
    """The first member (smallest row) of each row's connected component, int64 (n,)."""
    first = np.arange(n)
    if len(pairs) == 0:
        return first
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, place = np.unique(pairs, return_inverse=True)  # only rows that have a partner
    place = place.reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs), bool), (place[:, 0], place[:, 1])), shape=(len(rows), len(rows)))
    _, labels = connected_components(graph, directed=False)
    _, earliest = np.unique(labels, return_index=True)  # `rows` rise, so the first occurrence is the smallest row
    first[rows] = rows[earliest[labels]]
    return first


def group(digests: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> Groups:
    """Groups of images that come from anywhere: identical crops, or within 1″."""
    pairs = np.concatenate([identical_pairs(digests), sky_pairs(ra, dec)])
    n = len(digests)
    return Groups(connected(n, pairs), np.ones(n, bool))


def group_cut_outs(
    digests: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    image: np.ndarray,
    extent: int,
    ra: np.ndarray | None = None,
    dec: np.ndarray | None = None,
    pixel_scale: float | None = None,
) -> Groups:
    """Groups of cut-outs of one or a few images; by sky tiles where a crowded field would be all one group.

    Parameters
    ----------
    x, y, image, extent
        See `overlap_pairs`.
    ra, dec
        Degrees, NaN where unknown: places within 1″ are one, too.
    pixel_scale
        arcsec per px: where it is known, cut-outs of unlike images overlap by their distance on the sky.
    """
    n = len(digests)
    ra = np.full(n, np.nan) if ra is None else ra
    dec = np.full(n, np.nan) if dec is None else dec
    pairs = [identical_pairs(digests), overlap_pairs(x, y, image, extent), sky_pairs(ra, dec)]
    across = np.empty((0, 2), np.int64)
    if pixel_scale and len(np.unique(image)) > 1:
        across = sky_pairs(ra, dec, extent / 4 * pixel_scale)
        across = across[image[across[:, 0]] != image[across[:, 1]]]
    first = connected(n, np.concatenate([*pairs, across]))
    largest = int(np.bincount(first).max()) if n else 0
    if largest <= max(1, LARGEST_GROUP * n):
        return Groups(first, np.ones(n, bool))
    side = TILE * extent
    column, row = (x + 0.5) // side, (y + 0.5) // side
    tiles = np.stack([image, column, row], axis=1)
    _, earliest, place = np.unique(tiles, axis=0, return_index=True, return_inverse=True)
    inside = np.ones(n, bool)
    for center, tile in ((x + 0.5, column), (y + 0.5, row)):
        inside &= (center - extent / 2 >= tile * side) & (center + extent / 2 <= (tile + 1) * side)
    inside[across.ravel()] = False
    note = (
        f"cut-outs overlap so much that one duplicate group would hold {largest:,} of {n:,}: groups are sky tiles of "
        f"{side:,} px, and {int((~inside).sum()):,} cut-outs that straddle a tile's border are in neither half"
    )
    return Groups(earliest[place.reshape(-1)].astype(np.int64), inside, (note,))


def extend(first_before: np.ndarray, digests: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """The first member of the group of each row that is added; the groups before stay as they are.

    Added rows that touch each other (identical crops, or within 1″) are together. Where one of them touches rows from
    before, they all join the group among those that begins first.

    Parameters
    ----------
    first_before
        int64 (n_before,): the first member of each row's group.
    digests, ra, dec
        Of all n rows, those before first; uint64 (n, 2) and deg, NaN where unknown.

    Returns
    -------
    np.ndarray
        int64 (n - n_before,): rows among all n.
    """
    n_before, n = len(first_before), len(digests)
    pairs = np.concatenate([identical_pairs(digests), sky_pairs(ra, dec)])
    pairs = np.sort(pairs[(pairs >= n_before).any(axis=1)], axis=1)
    among = pairs[pairs[:, 0] >= n_before] - n_before
    together = connected(n - n_before, among)
    joined = np.full(n - n_before, n)  # beyond every row: touches nothing from before
    across = pairs[pairs[:, 0] < n_before]
    np.minimum.at(joined, together[across[:, 1] - n_before], first_before[across[:, 0]])
    # a crop may be that of rows in several groups, of which the pairs name one
    same = _lowest_of_identical(digests, first_before)
    np.minimum.at(joined, together, same)
    of_all = joined[together]
    return np.where(of_all < n, of_all, together + n_before)


def _lowest_of_identical(digests: np.ndarray, first_before: np.ndarray) -> np.ndarray:
    """For each added row the earliest group that has the same crop, int64; as many as there are rows where none has."""
    n_before, n = len(first_before), len(digests)
    _, kind = np.unique(digests, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    lowest = np.full(n, n)
    np.minimum.at(lowest, kind[:n_before], first_before)
    return np.asarray(lowest[kind[n_before:]])


def half_of(groups: np.ndarray) -> np.ndarray:
    """ "tune" or "test" for each duplicate group id (int64), as object (n,): the top bit of splitmix64 of the id.

    Source: Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    z = groups.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.where(z >> np.uint64(63), "test", "tune").astype(object)
