"""The renderer's kernels: points in cell order to sums of a pixel, and those to bytes.

`explorer.raster` calls them, a stretch of pixel rows a thread. A point's pixel is found for a thousand at a time, which
the compiler does four or eight at once, and only then written: twice as fast as one by one. Arrays that are only read
are given as read-only, whether they lie in memory or in a file: to the compiler these are two types, and one is enough.

Layers are (1, h, w) where nothing is selected, else (2, h, w): the rest, and the selected.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

LEVELS = 126
FINE = 252  # levels of a code that is equalised over the view: more than are drawn, for a view holds but some of them
EMPTY, MISSING, MISSING_DIM, DIM, FULL = 0, 1, 2, 3, 3 + LEVELS
NO_VALUE = 255  # code of a subject without a category
NOTHING, UNKNOWN = np.float32(-np.inf), np.finfo(np.float32).min  # highest of no subject, and of none with a value
ENDLESS = np.float32(np.inf)
LEAST = 0.2499  # of a subject: less of the shares of cells is nothing; a narrow cell on a corner is in all four pixels

CHUNK = 1024

_jit: Any = njit(cache=True, nogil=True)
_fast: Any = njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz"})


def read_only(array: np.ndarray) -> np.ndarray:
    """The same numbers as a plain array that cannot be written."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


# ------------------------------------------------------------------------------------------------- points to pixels
@_fast
def _pixels(px, py, low, high, x0, y0, sx, sy, w, top, bottom, right, at):
    # of points low … high: the place in an (h, w) array, -1 outside of the pixel rows top … bottom
    for j in range(high - low):
        fx, fy = (px[low + j] - x0) * sx, (py[low + j] - y0) * sy
        ok = (fx >= 0) & (fy >= top) & (fx < right) & (fy < bottom)
        k = np.int32(fy) * np.int32(w) + np.int32(fx)
        at[j] = k if ok else np.int32(-1)


@_fast
def _bit(words, r):
    return np.int64((words[r >> 6] >> np.uint64(r & 63)) & np.uint64(1))


@_fast
def _lift(words, how, rows, low, high, size, at):
    # the selected, to the second layer; how: 0 nothing is selected, 1 bits are by row, 2 bits are in cell order
    if how == 1:
        for j in range(high - low):
            if at[j] >= 0:
                at[j] += size * _bit(words, np.int64(rows[low + j]))
    elif how == 2:
        for j in range(high - low):
            if at[j] >= 0:
                at[j] += size * _bit(words, low + j)


@_fast
def _read(values, other, weight, low, high, out):
    # what is no number is UNKNOWN
    if other.size:
        rest = 1 - weight
        for j in range(high - low):
            v = np.float32(rest * values[low + j] + weight * other[low + j])
            out[j] = v if (v > NOTHING) & (v < ENDLESS) else UNKNOWN
    else:
        for j in range(high - low):
            v = values[low + j]
            out[j] = v if (v > NOTHING) & (v < ENDLESS) else UNKNOWN


@_fast
def count(points, words, how, grid, box, frame, r0, r1, out):
    px, py, rows, start = points
    cx0, cx1, cy0, cy1 = box
    x0, y0, sx, sy = frame
    _, h, w = out.shape
    size, flat, seen, at = h * w, out.reshape(out.size), 0, np.empty(CHUNK, np.int32)
    for cy in range(cy0, cy1 + 1):
        low, end = start[cy * grid + cx0], start[cy * grid + cx1 + 1]
        while low < end:
            high = min(end, low + CHUNK)
            _pixels(px, py, low, high, x0, y0, sx, sy, w, float(r0), float(r1), float(w), at)
            _lift(words, how, rows, low, high, size, at)
            for j in range(high - low):
                if at[j] >= 0:
                    flat[at[j]] += np.uint32(1)
                    seen += 1
            low = high
    return seen


@_fast
def highest(points, words, how, grid, box, frame, r0, r1, values, other, weight, out):
    px, py, rows, start = points
    cx0, cx1, cy0, cy1 = box
    x0, y0, sx, sy = frame
    _, h, w = out.shape
    size, flat, seen = h * w, out.reshape(out.size), 0
    at, v = np.empty(CHUNK, np.int32), np.empty(CHUNK, np.float32)
    for cy in range(cy0, cy1 + 1):
        low, end = start[cy * grid + cx0], start[cy * grid + cx1 + 1]
        while low < end:
            high = min(end, low + CHUNK)
            _pixels(px, py, low, high, x0, y0, sx, sy, w, float(r0), float(r1), float(w), at)
            _lift(words, how, rows, low, high, size, at)
            _read(values, other, weight, low, high, v)
            for j in range(high - low):
                k = at[j]
                if k >= 0:
                    flat[k] = max(flat[k], v[j])  # without a branch, which nobody could foresee
                    seen += 1
            low = high
    return seen


@_fast
def sums(points, words, how, grid, box, frame, r0, r1, values, other, weight, center, out, missing):
    # out: (layers, h, w, 2 or 3): how many have a value, the sum of value - center, and of its square
    px, py, rows, start = points
    cx0, cx1, cy0, cy1 = box
    x0, y0, sx, sy = frame
    layers, h, w, powers = out.shape
    size, seen = h * w, 0
    at, v = np.empty(CHUNK, np.int32), np.empty(CHUNK, np.float32)
    flat, no_value = out.reshape((layers * size, powers)), missing.reshape(missing.size)
    for cy in range(cy0, cy1 + 1):
        low, end = start[cy * grid + cx0], start[cy * grid + cx1 + 1]
        while low < end:
            high = min(end, low + CHUNK)
            _pixels(px, py, low, high, x0, y0, sx, sy, w, float(r0), float(r1), float(w), at)
            _lift(words, how, rows, low, high, size, at)
            _read(values, other, weight, low, high, v)
            for j in range(high - low):
                k = at[j]
                if k >= 0:
                    seen += 1
                    if v[j] == UNKNOWN:
                        no_value[k] = 1
                        continue
                    d = np.float64(v[j]) - center
                    flat[k, 0] += 1
                    flat[k, 1] += d
                    if powers == 3:
                        flat[k, 2] += d * d
            low = high
    return seen


@_fast
def per_category(points, words, how, grid, box, frame, r0, r1, codes, out):
    # out: (layers, r1 - r0, w, categories + 1): the pixel rows r0 … r1; the last category is missing
    px, py, rows, start = points
    cx0, cx1, cy0, cy1 = box
    x0, y0, sx, sy = frame
    layers, h, w, kinds = out.shape
    size, seen, at = h * w, 0, np.empty(CHUNK, np.int32)
    flat, shift = out.reshape((layers * size, kinds)), r0 * w
    for cy in range(cy0, cy1 + 1):
        low, end = start[cy * grid + cx0], start[cy * grid + cx1 + 1]
        while low < end:
            high = min(end, low + CHUNK)
            _pixels(px, py, low, high, x0, y0, sx, sy, w, float(r0), float(r1), float(w), at)
            _lift(words, how, rows, low, high, size, at)
            for j in range(high - low):
                if at[j] >= 0:
                    c = codes[low + j]
                    flat[at[j] - shift, kinds - 1 if c == NO_VALUE else c] += np.uint32(1)
                    seen += 1
            low = high
    return seen


@_jit
def bits_in_order(words, rows, first, last, out):
    # a selection's bits by place: the words first … last of `out`
    for word in range(first, last):
        bits = np.uint64(0)
        for b in range(min(64, rows.size - word * 64)):
            r = rows[word * 64 + b]
            bits |= ((words[r >> 6] >> np.uint64(r & 63)) & np.uint64(1)) << np.uint64(b)
        out[word] = bits


@_jit
def extremes(values, other, weight, first, last, out):
    # lowest and highest finite value of first … last
    low, high = np.inf, -np.inf
    for i in range(first, last):
        v = np.float64(values[i])
        if other.size:
            v = (1 - weight) * v + weight * other[i]
        if np.isfinite(v):
            low, high = min(low, v), max(high, v)
    out[0], out[1] = low, high


# -------------------------------------------------------------------------------------------------- sums to levels
@_jit
def steps_of(edges, bins):
    """Of `bins` even steps from the first edge to the last: how many edges are at or below the start of each."""
    n, level = edges.size, 0
    steps = np.empty(bins + 1, np.uint8)
    low, span = edges[0], edges[n - 1] - edges[0]
    for b in range(bins + 1):
        while level < n and edges[level] <= low + b * span / bins:
            level += 1
        steps[b] = level
    return steps


@_jit
def _level(v, edges, steps):
    n, bins = edges.size, steps.size - 1
    span = edges[n - 1] - edges[0]
    b = int(min(bins - 1.0, max(0.0, (v - edges[0]) * (bins / span if span > 0 else 0.0))))
    level, above = np.int64(steps[b]), np.int64(steps[b + 1])
    while level < above:
        middle = (level + above) >> 1
        if edges[middle] <= v:
            level = middle + 1
        else:
            above = middle
    # the ends of a step are rounded
    while level > 0 and edges[level - 1] > v:
        level -= 1
    while level < n and edges[level] <= v:
        level += 1
    return level


# codes of a pixel: 0 nothing, 1 only subjects without a value, 2 + level
@_jit
def codes_of_highest(found, r0, r1, edges, steps, out):
    for s in range(out.shape[0]):
        for y in range(r0, r1):
            for x in range(out.shape[2]):
                v = found[s, y, x]
                if v == NOTHING:
                    out[s, y, x] = 0
                elif v == UNKNOWN:
                    out[s, y, x] = 1
                else:
                    out[s, y, x] = 2 + _level(np.float64(v), edges, steps)


@_jit
def codes_of_sums(found, missing, r0, r1, least, center, edges, steps, out):
    is_spread = found.shape[3] == 3
    for s in range(out.shape[0]):
        for y in range(r0, r1):
            for x in range(out.shape[2]):
                n = found[s, y, x, 0]
                if n >= least:
                    v = found[s, y, x, 1] / n
                    if is_spread:
                        v = math.sqrt(max(0.0, found[s, y, x, 2] / n - v * v))
                    else:
                        v += center
                    out[s, y, x] = 2 + _level(v, edges, steps)
                else:
                    out[s, y, x] = 1 if missing[s, y, x] else 0


@_jit
def codes_of_categories(per, r0, out):
    categories = per.shape[3] - 1
    for s in range(per.shape[0]):
        for y in range(per.shape[1]):
            for x in range(per.shape[2]):
                best, most = -1, 0
                for c in range(categories):
                    if per[s, y, x, c] > most:
                        best, most = c, per[s, y, x, c]
                if best >= 0:
                    out[s, r0 + y, x] = best + 2
                else:
                    out[s, r0 + y, x] = 1 if per[s, y, x, categories] else 0


@_jit
def codes_of_shares(counts, out):
    # out: (1, h, w); any selected is above level 0, all selected is the highest
    for y in range(out.shape[1]):
        for x in range(out.shape[2]):
            selected = counts[1, y, x] if counts.shape[0] == 2 else np.uint32(0)
            n = counts[0, y, x] + selected
            out[0, y, x] = 2 + math.ceil(selected / n * (FINE - 1)) if n else 0


@_jit
def levels_seen(codes, seen):
    """Add to `seen` how many pixels of the frame show each level."""
    last = codes.shape[0] - 1
    for y in range(codes.shape[1]):
        for x in range(codes.shape[2]):
            code = codes[last, y, x] if codes[last, y, x] else codes[0, y, x]
            if code > 1:
                seen[code - 2] += 1


@_jit
def counts_seen(counts, step, seen):
    """Add to `seen` how many pixels, of both layers, have each count // step."""
    flat = counts.reshape(counts.size)
    for k in range(flat.size):
        if flat[k]:
            seen[flat[k] // step] += 1


@_jit
def bytes_of_counts(counts, table, step, out):
    h, w = out.shape
    top, last = table.size - 1, counts.shape[0] - 1
    for y in range(h):
        for x in range(w):
            if counts[last, y, x]:
                out[y, x] = FULL + table[min(top, counts[last, y, x] // step)]
            elif counts[0, y, x]:
                out[y, x] = DIM + table[min(top, counts[0, y, x] // step)]
            else:
                out[y, x] = EMPTY


@_jit
def bytes_of_codes(codes, table, out):
    h, w = out.shape
    last = codes.shape[0] - 1
    for y in range(h):
        for x in range(w):
            code = codes[last, y, x]
            if code:
                out[y, x] = MISSING if code == 1 else FULL + table[code - 2]
            elif codes[0, y, x]:
                out[y, x] = MISSING_DIM if codes[0, y, x] == 1 else DIM + table[codes[0, y, x] - 2]
            else:
                out[y, x] = EMPTY


@_jit
def grow(frame, offsets, out):
    """Draw each pixel as a disc; selected before others, then the higher byte wins: nothing interesting is covered."""
    h, w = frame.shape
    for y in range(h):
        for x in range(w):
            b = frame[y, x]
            if b == EMPTY:
                continue
            for k in range(len(offsets)):
                yy, xx = y + offsets[k, 0], x + offsets[k, 1]
                if 0 <= yy < h and 0 <= xx < w:
                    old = out[yy, xx]
                    # order: empty < dim missing < dim ramp < missing < full ramp
                    old_rank = old + 300 if (old == MISSING or old >= FULL) else old
                    rank = b + 300 if (b == MISSING or b >= FULL) else b
                    if rank > old_rank:
                        out[yy, xx] = b


# ------------------------------------------------------------------------------------------------ cells to pixels
@_fast
def _value(values, other, weight, i):
    v = np.float32((1 - weight) * values[i] + weight * other[i]) if other.size else values[i]
    return v if (v > NOTHING) & (v < ENDLESS) else UNKNOWN


@_fast
def cells_counted(start, words, how, grid, cy0, cy1, out):
    # out: (layers, grid, grid) float32; how: 0, or 2
    for cell in range(cy0 * grid, cy1 * grid):
        low, high = start[cell], start[cell + 1]
        selected = 0
        if how:
            i = low
            while i < high:
                end = min(high, (i | 63) + 1)
                bits = words[i >> 6] >> np.uint64(i & 63)
                if end - i < 64:
                    bits &= (np.uint64(1) << np.uint64(end - i)) - np.uint64(1)
                while bits:
                    bits &= bits - np.uint64(1)
                    selected += 1
                i = end
            out[1, cell // grid, cell % grid] = selected
        out[0, cell // grid, cell % grid] = high - low - selected


@_fast
def cells_highest(start, words, how, grid, cy0, cy1, values, other, weight, out):
    flat = out.reshape((out.shape[0], grid * grid))
    for cell in range(cy0 * grid, cy1 * grid):
        rest, selected = NOTHING, NOTHING
        if how:
            for i in range(start[cell], start[cell + 1]):
                v = _value(values, other, weight, i)
                if _bit(words, i):
                    selected = max(selected, v)
                else:
                    rest = max(rest, v)
            flat[1, cell] = selected
        else:
            for i in range(start[cell], start[cell + 1]):
                rest = max(rest, _value(values, other, weight, i))
        flat[0, cell] = rest


@_fast
def cells_summed(start, words, how, grid, cy0, cy1, values, other, weight, center, out):
    # out: (2 or 3, layers, grid, grid) float32, as of `sums`
    powers, layers = out.shape[:2]
    flat = out.reshape((powers, layers, grid * grid))
    total = np.empty((layers, 3), np.float64)
    for cell in range(cy0 * grid, cy1 * grid):
        total[:] = 0
        for i in range(start[cell], start[cell + 1]):
            v = _value(values, other, weight, i)
            if v != UNKNOWN:
                s, d = _bit(words, i) if how else 0, np.float64(v) - center
                total[s, 0] += 1
                total[s, 1] += d
                total[s, 2] += d * d
        for s in range(layers):
            for p in range(powers):
                flat[p, s, cell] = total[s, p]


@_fast
def cells_heaviest(start, words, how, grid, cy0, cy1, codes, kinds, category, number):
    # of each cell and layer: its commonest category, NO_VALUE where none is known, and how many are of it
    layers = category.shape[0]
    tally = np.zeros((layers, 256), np.int64)
    for cell in range(cy0 * grid, cy1 * grid):
        y, x = cell // grid, cell % grid
        low, high = start[cell], start[cell + 1]
        for i in range(low, high):
            tally[_bit(words, i) if how else 0, codes[i]] += 1
        for s in range(layers):
            best, most = NO_VALUE, 0
            if low < high:
                for c in range(kinds):
                    if tally[s, c] > most:
                        best, most = c, tally[s, c]
                    tally[s, c] = 0
                if best == NO_VALUE:
                    most = tally[s, NO_VALUE]
                tally[s, NO_VALUE] = 0
            category[s, y, x], number[s, y, x] = best, most


@_fast
def halve_sums(fine, y0, y1, out):
    for s in range(out.shape[0]):
        for y in range(y0, y1):
            for x in range(out.shape[2]):
                out[s, y, x] = (
                    fine[s, 2 * y, 2 * x]
                    + fine[s, 2 * y, 2 * x + 1]
                    + fine[s, 2 * y + 1, 2 * x]
                    + fine[s, 2 * y + 1, 2 * x + 1]
                )


@_fast
def halve_highest(fine, y0, y1, out):
    for s in range(out.shape[0]):
        for y in range(y0, y1):
            for x in range(out.shape[2]):
                out[s, y, x] = max(
                    max(fine[s, 2 * y, 2 * x], fine[s, 2 * y, 2 * x + 1]),
                    max(fine[s, 2 * y + 1, 2 * x], fine[s, 2 * y + 1, 2 * x + 1]),
                )


@_fast
def spread_sums(cells, box, frame, r0, r1, out):
    """Add the cells to pixels by the share of each cell's area; frame: left edge of cell 0 and width, in pixels."""
    cx0, cx1, cy0, cy1 = box
    fx, fy, cw, ch = frame
    layers, _, w = out.shape
    line = np.empty(w + 2, np.float32)  # a pixel more on both sides, for what lies outside
    first, share = np.empty(cx1 - cx0 + 1, np.int32), np.empty(cx1 - cx0 + 1, np.float32)
    is_narrow = cw <= 1
    for cx in range(cx0, cx1 + 1):  # of a narrow cell: its first pixel, and the share of it that lies there
        left = fx + cx * cw
        ix = math.floor(left)
        share[cx - cx0] = min(1.0, (ix + 1 - left) / cw)
        first[cx - cx0] = ix + 1
        if ix < -1 or ix >= w:
            share[cx - cx0], first[cx - cx0] = 1.0, 0 if ix < -1 else w + 1
    for s in range(layers):
        for cy in range(cy0, cy1 + 1):
            low, high = fy + cy * ch, fy + (cy + 1) * ch
            iy0, iy1 = max(r0, math.floor(low)), min(r1, math.ceil(high))
            if iy0 >= iy1:
                continue
            line[:] = 0
            if is_narrow:
                for k in range(cx1 - cx0 + 1):
                    v = cells[s, cy, cx0 + k]
                    part = v * share[k]
                    line[first[k]] += part
                    line[min(first[k] + 1, w + 1)] += v - part
            else:
                for cx in range(cx0, cx1 + 1):
                    per = cells[s, cy, cx] / np.float32(cw)
                    if per == 0:
                        continue
                    left, right = fx + cx * cw, fx + (cx + 1) * cw
                    for k in range(max(0, math.floor(left)), min(w, math.ceil(right))):
                        line[k + 1] += per * np.float32(min(right, k + 1.0) - max(left, float(k)))
            for iy in range(iy0, iy1):
                tall = np.float32((min(high, iy + 1.0) - max(low, float(iy))) / ch)
                for k in range(w):
                    out[s, iy, k] += tall * line[k + 1]


@_fast
def _covered(low, high):
    # the pixels whose middle lies from low to high; where there is none, the one that the middle lies in
    first, last = math.ceil(low - 0.5), math.ceil(high - 0.5)
    if first >= last:
        first = math.floor((low + high) / 2)
        last = first + 1
    return first, last


@_fast
def _columns(cx0, cx1, fx, cw, w):
    # of each column of cells: its pixels, first … last
    first, last = np.empty(cx1 - cx0 + 1, np.int32), np.empty(cx1 - cx0 + 1, np.int32)
    for cx in range(cx0, cx1 + 1):
        low, high = _covered(fx + cx * cw, fx + (cx + 1) * cw)
        first[cx - cx0], last[cx - cx0] = min(w, max(0, low)), min(w, max(0, high))
    return first, last


@_fast
def spread_highest(cells, box, frame, r0, r1, out):
    """Draw cells, the highest above others, on the pixels whose middle they cover, or that their own middle lies in."""
    cx0, cx1, cy0, cy1 = box
    fx, fy, cw, ch = frame
    layers, _, w = out.shape
    first, last = _columns(cx0, cx1, fx, cw, w)
    line = np.empty(w, np.float32)
    for s in range(layers):
        for cy in range(cy0, cy1 + 1):
            iy0, iy1 = _covered(fy + cy * ch, fy + (cy + 1) * ch)
            iy0, iy1 = max(r0, iy0), min(r1, iy1)
            if iy0 >= iy1:
                continue
            line[:] = NOTHING
            for k in range(cx1 - cx0 + 1):
                v = cells[s, cy, cx0 + k]
                for ix in range(first[k], last[k]):
                    line[ix] = max(line[ix], v)
            for iy in range(iy0, iy1):
                for ix in range(w):
                    out[s, iy, ix] = max(out[s, iy, ix], line[ix])


@_fast
def spread_heaviest(category, number, box, frame, r0, r1, out):
    """Add to out (layers, r1 - r0, w, kinds + 1) how many are of each cell's commonest category; pixels as above."""
    cx0, cx1, cy0, cy1 = box
    fx, fy, cw, ch = frame
    layers, _, w, kinds = out.shape
    first, last = _columns(cx0, cx1, fx, cw, w)
    for s in range(layers):
        for cy in range(cy0, cy1 + 1):
            iy0, iy1 = _covered(fy + cy * ch, fy + (cy + 1) * ch)
            iy0, iy1 = max(r0, iy0), min(r1, iy1)
            if iy0 >= iy1:
                continue
            for cx in range(cx0, cx1 + 1):
                n = number[s, cy, cx]
                if n == 0:
                    continue
                c = category[s, cy, cx]
                c = kinds - 1 if c == NO_VALUE else c
                for iy in range(iy0, iy1):
                    for ix in range(first[cx - cx0], last[cx - cx0]):
                        out[s, iy - r0, ix, c] += n


@_fast
def counts_of(shares, r0, r1, least, out):
    """Numbers of subjects from sums of shares of cells: a pixel with `least` of one has one."""
    for s in range(out.shape[0]):
        for y in range(r0, r1):
            for x in range(out.shape[2]):
                n = shares[s, y, x]
                out[s, y, x] = max(1, int(n + 0.5)) if n >= least else 0
