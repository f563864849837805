"""Images that are the same, or nearly: found among 100,000 in seconds.

    hashes = [hash_image(read_image(path)) for path in paths]
    find_identical(hashes)                               # groups of indices with the same pixels
    find_near_duplicates(hashes).matches                 # pairs of indices that look the same

A hash has 64 bits (dHash), each of which says whether a cell of an 8 x 9 reduction is clearly brighter than that to its
left. Two images whose bits differ in at most 7 places share one of four 16-bit quarters up to one bit (otherwise two
bits would differ in each quarter), so only images in equal or neighboring buckets are compared. What passes is compared
again, by the correlation of 32 x 32 grey reductions.

The limits were set on photographs of streets and on microscope images. Images that were compressed again, enlarged,
reduced, made brighter or richer in contrast stay within 7 bits and above 0.98 nearly always; different images of
the same kind had 0.90 at most. Mirrored and cropped images are not found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.input_config import BandArray, to_display

_MAX_HAMMING_DISTANCE = 7
_MIN_CORRELATION = 0.98
_THUMBNAIL_SIDE = 32
_MIN_BRIGHTNESS_STEP = 2  # grey levels; with 0 the noise of flat areas would set the bits
_MAX_BUCKET_SIZE = 200  # a bucket of more is compared along its sorted hashes, each with the next `_CROWDED_NEIGHBORS`
_CROWDED_NEIGHBORS = 50
_MAX_CLOSE_PAIRS = 2_000_000  # pairs of close hashes after which the search ends
_BLOCK_PAIRS = 1 << 21
_BLOCK_THUMBNAILS = 4096
_POPCOUNT = np.array([bin(i).count("1") for i in range(1 << 16)], dtype=np.uint8)


@dataclass(frozen=True)
class ImageHash:
    """What is kept of an image to find others like it: about a kilobyte."""

    digest: bytes
    """Of all pixels; empty for an image of a single color, which has no content and so no duplicate."""
    dhash: int
    """64 bits."""
    thumbnail: bytes
    """The 32 x 32 grey reduction; empty where it is too flat to tell one image from another."""


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of images that look the same."""

    matches: list[tuple[int, int, int, float]]
    """First index, second index, bits that differ, correlation; first < second."""
    complete: bool
    """False where so many images are alike, as those of a fixed camera, that comparing all would take hours."""


def hash_image(pixels: BandArray) -> ImageHash:
    """Hash an image.

    Args:
        pixels: (H, W, 3) uint8, or (H, W, n) of any bands.

    Example:
        >>> stripes = np.zeros((64, 64, 3), np.uint8)
        >>> stripes[:, ::16] = 255
        >>> hash_image(stripes) == hash_image(stripes.copy()), hash_image(stripes * 0).digest
        (True, b'')
    """
    if (pixels[0] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all():
        return ImageHash(b"", 0, b"")
    content = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    content.update(np.ascontiguousarray(pixels).data)
    gray = (
        Image.fromarray(to_display(pixels))
        .convert("L")
        .resize((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.BOX)
    )
    thumbnail = np.asarray(gray)
    if thumbnail.std() < 1:
        return ImageHash(content.digest(), 0, b"")
    cells = np.asarray(gray.resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    bits = np.packbits(cells[:, 1:] > cells[:, :-1] + _MIN_BRIGHTNESS_STEP)
    return ImageHash(content.digest(), int.from_bytes(bits.tobytes(), "big"), thumbnail.tobytes())


def find_identical(image_hashes: Sequence[ImageHash]) -> list[list[int]]:
    """Groups of two or more indices with the same pixels, in the order of their first.

    Example:
        >>> find_identical([ImageHash(digest, 0, b"") for digest in (b"a", b"b", b"a", b"")])
        [[0, 2]]
    """
    groups: dict[bytes, list[int]] = {}
    for index, image_hash in enumerate(image_hashes):
        if image_hash.digest:
            groups.setdefault(image_hash.digest, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def find_near_duplicates(image_hashes: Sequence[ImageHash]) -> NearDuplicates:
    """Find pairs that look the same without having the same pixels; of those with the same pixels the first counts.

    Example:
        >>> find_near_duplicates([])
        NearDuplicates(matches=[], complete=True)
    """
    first_index: dict[bytes, int] = {}
    for index, image_hash in enumerate(image_hashes):
        if image_hash.thumbnail:
            first_index.setdefault(image_hash.digest, index)
    indices = np.array(list(first_index.values()), dtype=np.int64)
    bits = np.array([image_hashes[index].dhash for index in indices.tolist()], dtype=np.uint64)
    keys = [np.zeros(0, dtype=np.int64)]
    complete = True
    num_pairs = 0
    for first, second, exhaustive in _iter_candidate_pairs(bits):
        close = _hamming_distance(bits[first], bits[second]) <= _MAX_HAMMING_DISTANCE
        low, high = np.minimum(first[close], second[close]), np.maximum(first[close], second[close])
        keys.append(np.unique(low * len(bits) + high))
        num_pairs += len(keys[-1])
        complete = complete and exhaustive and num_pairs <= _MAX_CLOSE_PAIRS
        if num_pairs > _MAX_CLOSE_PAIRS:
            break
    key = np.unique(np.concatenate(keys))
    matches: list[tuple[int, int, int, float]] = []
    for start in range(0, len(key), _BLOCK_THUMBNAILS):
        first, second = np.divmod(key[start : start + _BLOCK_THUMBNAILS], len(bits))
        distances, left, right = _hamming_distance(bits[first], bits[second]), indices[first], indices[second]
        correlations = _correlate_thumbnails(*([image_hashes[i].thumbnail for i in side] for side in (left, right)))
        rows = zip(left.tolist(), right.tolist(), distances.tolist(), correlations.tolist(), strict=True)
        matches += [row for row in rows if row[3] >= _MIN_CORRELATION]
    return NearDuplicates(matches, complete)


def _hamming_distance(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many of the 64 bits differ."""
    return _POPCOUNT[(first ^ second).view(np.uint16).reshape(-1, 4)].sum(1, dtype=np.int64)


def _iter_candidate_pairs(bits: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], bool]]:
    """Yield pairs of indices, among them all whose bits differ in at most 7, unless a bucket is crowded.

    Yields:
        Blocks of first indices, second indices, and whether none was left out.
    """
    for shift in range(0, 64, 16):
        quarter = ((bits >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.lexsort((bits, quarter))
        count = np.bincount(quarter, minlength=1 << 16)
        start = np.cumsum(count) - count
        occupied = np.flatnonzero(count)
        for flip in (0, *(1 << bit for bit in range(16))):
            buckets = occupied[((occupied ^ flip) >= occupied) & (count[occupied ^ flip] > 0)]
            if not flip:
                buckets = buckets[count[buckets] > 1]
            partners = buckets ^ flip
            pair_counts = count[buckets] * count[partners]
            crowded = pair_counts > _MAX_BUCKET_SIZE * _MAX_BUCKET_SIZE
            for a, b in _iter_bucket_products(
                start, count, buckets[~crowded], partners[~crowded], pair_counts[~crowded]
            ):
                yield order[a[a != b]], order[b[a != b]], True
            for bucket in buckets[crowded] if not flip else ():
                row = np.arange(start[bucket], start[bucket] + count[bucket])
                for step in range(1, _CROWDED_NEIGHBORS + 1):
                    yield order[row[:-step]], order[row[step:]], False


def _iter_bucket_products(
    start: NDArray[np.int64],
    count: NDArray[np.int64],
    buckets: NDArray[np.int64],
    partners: NDArray[np.int64],
    pair_counts: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield all pairs of an index in a bucket and one in its partner, in blocks of bounded size."""
    block = np.cumsum(pair_counts) // _BLOCK_PAIRS
    for number in np.unique(block):
        chosen = block == number
        block_buckets, block_partners, num_pairs = buckets[chosen], partners[chosen], pair_counts[chosen]
        product = np.repeat(np.arange(len(block_buckets)), num_pairs)
        offset = np.arange(len(product)) - np.repeat(np.cumsum(num_pairs) - num_pairs, num_pairs)
        down, across = np.divmod(offset, count[block_partners][product])
        yield start[block_buckets][product] + down, start[block_partners][product] + across


def _correlate_thumbnails(first: list[bytes], second: list[bytes]) -> NDArray[np.float32]:
    """The normalized correlation of thumbnails, pair by pair."""
    a, b = (
        np.frombuffer(b"".join(t), np.uint8).reshape(-1, _THUMBNAIL_SIDE * _THUMBNAIL_SIDE).astype(np.float32)
        for t in (first, second)
    )
    a -= a.mean(1, keepdims=True)
    b -= b.mean(1, keepdims=True)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
