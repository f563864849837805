"""Pictures that are the same, or nearly: found among 100,000 in seconds.

    prints = [fingerprint(read_image(path)) for path in paths]
    identical(prints)                                    # groups of places with the same pixels
    near(prints).pairs                                   # pairs of places that look the same

A fingerprint has 64 bits, each of which says whether a cell of an 8 x 9 reduction is clearly brighter than that to its
left. Two pictures whose bits differ in at most 7 places share one of four 16-bit quarters up to one bit (otherwise each
quarter had two that differ), so only pictures in equal or neighbouring buckets are compared. What passes is compared
again, by the correlation of 32 x 32 grey reductions.

The limits were set on photographs of streets and on microscope pictures. Pictures that were compressed again, enlarged,
reduced, made brighter or richer in contrast stay within 7 bits and above 0.98 nearly always; different pictures of
the same kind had 0.90 at most. Mirrored and cropped pictures are not found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.images import Pixels

DISTANCE = 7
CORRELATION = 0.98
SIDE = 32
STEP = 2  # grey levels; with 0 the noise of flat areas would set the bits
CROWD = 200  # a bucket of more is compared along its sorted hashes, each with the next `REACH`
REACH = 50
MOST = 2_000_000  # pairs of close hashes after which the search ends
CHUNK = 1 << 21
_ONES = np.array([bin(i).count("1") for i in range(1 << 16)], dtype=np.uint8)


@dataclass(frozen=True)
class Print:
    """What is kept of a picture to find others like it: about a kilobyte.

    `digest` is of all pixels, empty for a picture of a single colour: such are no duplicates but have no content.
    `thumb` is the 32 x 32 grey reduction, empty where it is too flat to tell one picture from another.
    """

    digest: bytes
    bits: int
    thumb: bytes


@dataclass(frozen=True)
class Near:
    """Pairs (first, second, bits that differ, correlation), first < second; and whether all were compared.

    They are not where so many pictures are alike, as those of a fixed camera, that comparing all would take hours.
    """

    pairs: list[tuple[int, int, int, float]]
    complete: bool


def fingerprint(pixels: Pixels) -> Print:
    """The fingerprint of an RGB picture.

    Args:
        pixels: (H, W, 3) uint8.

    Example:
        >>> stripes = np.zeros((64, 64, 3), np.uint8)
        >>> stripes[:, ::16] = 255
        >>> fingerprint(stripes) == fingerprint(stripes.copy()), fingerprint(stripes * 0).digest
        (True, b'')
    """
    if (pixels[0] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all():
        return Print(b"", 0, b"")
    content = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    content.update(np.ascontiguousarray(pixels).data)
    grey = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    thumb = np.asarray(grey)
    if thumb.std() < 1:
        return Print(content.digest(), 0, b"")
    cells = np.asarray(grey.resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    bits = np.packbits(cells[:, 1:] > cells[:, :-1] + STEP)
    return Print(content.digest(), int.from_bytes(bits.tobytes(), "big"), thumb.tobytes())


def identical(prints: Sequence[Print]) -> list[list[int]]:
    """The groups of places of the same pixels, of two at least, in order of their first.

    Example:
        >>> identical([Print(b"a", 0, b""), Print(b"b", 0, b""), Print(b"a", 0, b""), Print(b"", 0, b"")])
        [[0, 2]]
    """
    groups: dict[bytes, list[int]] = {}
    for place, one in enumerate(prints):
        if one.digest:
            groups.setdefault(one.digest, []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def near(prints: Sequence[Print]) -> Near:
    """The pairs that look the same without having the same pixels; of those with the same pixels the first stands.

    Example:
        >>> near([])
        Near(pairs=[], complete=True)
    """
    firsts: dict[bytes, int] = {}
    for place, one in enumerate(prints):
        if one.thumb:
            firsts.setdefault(one.digest, place)
    places = np.array(list(firsts.values()), dtype=np.int64)
    bits = np.array([prints[place].bits for place in places.tolist()], dtype=np.uint64)
    keys = [np.zeros(0, dtype=np.int64)]
    complete = True
    many = 0
    for first, second, whole in candidates(bits):
        close = distance(bits[first], bits[second]) <= DISTANCE
        low, high = np.minimum(first[close], second[close]), np.maximum(first[close], second[close])
        keys.append(np.unique(low * len(bits) + high))
        many += len(keys[-1])
        complete = complete and whole and many <= MOST
        if many > MOST:
            break
    key = np.unique(np.concatenate(keys))
    if not len(key):
        return Near([], complete)
    first, second = np.divmod(key, len(bits))
    same = np.concatenate(
        [
            _correlation([prints[p].thumb for p in places[a]], [prints[p].thumb for p in places[b]])
            for a, b in ((first[i : i + 4096], second[i : i + 4096]) for i in range(0, len(key), 4096))
        ]
    )
    apart = distance(bits[first], bits[second])
    kept = same >= CORRELATION
    rows = zip(places[first[kept]], places[second[kept]], apart[kept], same[kept], strict=True)
    return Near([(int(a), int(b), int(d), float(c)) for a, b, d, c in rows], complete)


def distance(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many of the 64 bits differ.

    Example:
        >>> distance(np.array([0, 7], np.uint64), np.array([1 << 63, 2], np.uint64)).tolist()
        [1, 2]
    """
    return _ONES[(first ^ second).view(np.uint16).reshape(-1, 4)].sum(1, dtype=np.int64)


def candidates(bits: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], bool]]:
    """Pairs of places among which are all whose bits differ in at most 7, unless a bucket is crowded.

    Returns:
        Blocks of first places, second places, and whether none was left out.
    """
    for shift in range(0, 64, 16):
        quarter = ((bits >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.lexsort((bits, quarter))
        count = np.bincount(quarter, minlength=1 << 16)
        start = np.cumsum(count) - count
        there = np.flatnonzero(count)
        for flip in (0, *(1 << bit for bit in range(16))):
            mine = there[((there ^ flip) >= there) & (count[there ^ flip] > 0)]
            if not flip:
                mine = mine[count[mine] > 1]
            other = mine ^ flip
            work = count[mine] * count[other]
            crowded = work > CROWD * CROWD
            for a, b in _products(start, count, mine[~crowded], other[~crowded], work[~crowded]):
                yield order[a[a != b]], order[b[a != b]], True
            for bucket in mine[crowded] if not flip else ():
                row = np.arange(start[bucket], start[bucket] + count[bucket])
                for step in range(1, REACH + 1):
                    yield order[row[:-step]], order[row[step:]], False


def _products(
    start: NDArray[np.int64],
    count: NDArray[np.int64],
    mine: NDArray[np.int64],
    other: NDArray[np.int64],
    work: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of a place in a bucket and one in the other, in blocks of bounded size."""
    block = np.cumsum(work) // CHUNK
    for number in np.unique(block):
        chosen = block == number
        own, theirs, many = mine[chosen], other[chosen], work[chosen]
        which = np.repeat(np.arange(len(own)), many)
        within = np.arange(len(which)) - np.repeat(np.cumsum(many) - many, many)
        down, across = np.divmod(within, count[theirs][which])
        yield start[own][which] + down, start[theirs][which] + across


def _correlation(first: list[bytes], second: list[bytes]) -> NDArray[np.float32]:
    """The normalised correlation of thumbs, pair by pair."""
    a, b = (np.frombuffer(b"".join(t), np.uint8).reshape(-1, SIDE * SIDE).astype(np.float32) for t in (first, second))
    a -= a.mean(1, keepdims=True)
    b -= b.mean(1, keepdims=True)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
