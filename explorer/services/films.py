"""Many small JPEGs as one tall one, without decoding any: a browser decodes a film in a seventh of the time.

A JPEG may say that its decoder starts anew after so many blocks. Pictures of one size, made by one encoder, have equal
heads; so one of them may stand below the other, each as the stretch of blocks between two such starts, its bytes as
they are. A frame of a film is its picture, but for the seams: color is stored at half the resolution, and decoders
smooth it into the neighbor by a grey level or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

#: Frames of a film at most: some are decoded at once, on several threads, and none is larger than a page needs.
LONGEST = 48
#: No JPEG is higher.
MOST_LINES = 65_500


@dataclass(frozen=True, slots=True)
class Film:
    """Pictures of one size, one below the other.

    Attributes
    ----------
    at
        Positions of its pictures in what was given, from the top.
    width, height
        Of a picture, px; 0, 0 where it is one picture of which nothing is known.
    pitch
        Lines from one picture to the next: `height`, rounded up to whole blocks.
    content
        One image file; as it was given where the film has one picture.
    """

    at: tuple[int, ...]
    width: int
    height: int
    pitch: int
    content: bytes


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands before the first block of a baseline JPEG."""

    content: bytes
    size_at: int  # of the two bytes of its height
    scan_at: int  # of the marker of its only scan
    width: int
    height: int
    pitch: int
    blocks: int  # of a picture, as a decoder counts them


def films(pictures: Sequence[bytes], longest: int = LONGEST) -> list[Film]:
    """Pictures as films, of as many as may stand together; what is no baseline JPEG is a film of its own."""
    heads: list[_Head] = []  # of the pictures so far: mostly one
    grouped: dict[_Head | int, list[int]] = {}
    for at, picture in enumerate(pictures):
        head = next((h for h in heads if picture.startswith(h.content)), None)
        if head is None and (head := head_of(picture)) is not None:
            heads.insert(0, head)
        if head is None or not _is_whole(picture, len(head.content)):
            grouped[at] = [at]
        else:
            grouped.setdefault(head, []).append(at)
    made = []
    for head_, positions in grouped.items():
        if isinstance(head_, int):
            made.append(Film((head_,), 0, 0, 0, pictures[head_]))
            continue
        step = max(1, min(longest, MOST_LINES // head_.pitch))
        parts = -(-len(positions) // step)
        for part in range(parts):
            some = positions[part * len(positions) // parts : (part + 1) * len(positions) // parts]
            content = _joined(head_, [pictures[at] for at in some])
            made.append(Film(tuple(some), head_.width, head_.height, head_.pitch, content))
    return made


def _joined(head: _Head, pictures: list[bytes]) -> bytes:
    if len(pictures) == 1:
        return pictures[0]
    content, start = head.content, len(head.content)
    lines = (head.pitch * len(pictures)).to_bytes(2, "big")
    parts = [content[: head.size_at], lines, content[head.size_at + 2 : head.scan_at]]
    parts += [b"\xff\xdd\x00\x04", head.blocks.to_bytes(2, "big"), content[head.scan_at :]]
    for i, picture in enumerate(pictures):
        parts += [picture[start:-2], _RESTARTS[i % 8]]
    parts[-1] = b"\xff\xd9"
    return b"".join(parts)


_RESTARTS = [bytes((0xFF, 0xD0 + i)) for i in range(8)]


def _is_whole(picture: bytes, start: int) -> bool:
    """Whether there is nothing but blocks up to the end: no marker that would end the film, or start another frame."""
    if not picture.endswith(b"\xff\xd9"):
        return False
    return picture.count(b"\xff", start, -2) == picture.count(b"\xff\x00", start, -2)


def head_of(picture: bytes) -> _Head | None:
    """The head of a baseline JPEG of one scan; None for anything else."""
    found = _size_of_head(picture[:4096])
    return None if found is None else _parsed(picture[:found])


def _size_of_head(content: bytes) -> int | None:
    at = 2
    if not content.startswith(b"\xff\xd8"):
        return None
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        at += 2 + length
        if marker == 0xDA:
            return at if at <= len(content) else None
    return None


@lru_cache(64)
def _parsed(content: bytes) -> _Head | None:
    at, size_at, found = 2, 0, (0, 0, 0, 0)
    while True:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xDA:
            break
        if marker == 0xDD or (0xC1 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return None  # has starts of its own, or is not baseline
        if marker == 0xC0 and length >= 11:
            size_at = at + 5
            height, width = (int.from_bytes(content[i : i + 2], "big") for i in (size_at, size_at + 2))
            n = content[at + 9]
            sampling = [content[at + 11 + 3 * k] for k in range(n)] if length == 8 + 3 * n else []
            if not sampling:
                return None
            # a lone component is coded in single blocks, whatever it says of its sampling
            across = max(s >> 4 for s in sampling) if n > 1 else 1
            down = max(s & 15 for s in sampling) if n > 1 else 1
            found = height, width, 8 * down, 8 * across
        at += 2 + length
    height, width, down, across = found
    if not (height and width and down and across) or content[at + 4] != content[size_at + 4]:  # several scans
        return None
    lines = -(-height // down)
    blocks = lines * -(-width // across)
    return _Head(content, size_at, at, width, height, down * lines, blocks) if blocks < 1 << 16 else None
