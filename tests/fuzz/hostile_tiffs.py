"""A small writer of TIFF files that no program writes: chains of pages without end, huge tags, wrong strips, bombs.

    path.write_bytes(make("cycle", Random(0)))           # every kind in KINDS

A file is a list of tags with any type, count and value; nothing is checked.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random

Tags = dict[int, tuple[int, int, int | bytes]]
"""By number: type, count, and the value, or bytes that are put behind the directory."""
BYTE, ASCII, SHORT, LONG, RATIONAL, LONG8 = 1, 2, 3, 4, 5, 16
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, ROWS, SIZES = 256, 257, 258, 259, 262, 273, 278, 279
SAMPLES, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 277, 284, 317, 322, 323, 324, 325
SUB_PAGES, ORIENTATION, FORMAT, NODATA, COLOR_MAP = 330, 274, 339, 42113, 320
HEAD = 8


def build(tags: Tags, data: bytes = b"", following: int = 0, order: str = "<") -> bytes:
    """A file of one page: head, pixels, directory, then the values that do not fit into the directory.

    Args:
        data: the pixels, at the 8th byte.
        following: where the next page is said to be.
    """
    first = HEAD + len(data)
    behind = first + 2 + 12 * len(tags) + 4
    directory, values = struct.pack(order + "H", len(tags)), b""
    for number, (kind, count, value) in sorted(tags.items()):
        if isinstance(value, bytes):
            place = struct.pack(order + "I", behind + len(values))
            values += value
        elif kind == SHORT and count == 1:
            place = struct.pack(order + "HH", value % 65536, 0)
        else:
            place = struct.pack(order + "I", value % 2**32)
        directory += struct.pack(order + "HHI", number, kind % 65536, count % 2**32) + place
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return (
        mark + struct.pack(order + "I", first) + data + directory + struct.pack(order + "I", following % 2**32) + values
    )


def plain(
    width: int = 24, height: int = 16, data: bytes | None = None, **changes: tuple[int, int, int | bytes]
) -> Tags:
    """The tags of a whole gray image of 8 bits; `t123` replaces the tag 123."""
    size = len(data) if data is not None else width * height
    tags: Tags = {
        WIDTH: (LONG, 1, width),
        HEIGHT: (LONG, 1, height),
        BITS: (SHORT, 1, 8),
        COMPRESSION: (SHORT, 1, 1),
        PHOTOMETRIC: (SHORT, 1, 1),
        OFFSETS: (LONG, 1, HEAD),
        SAMPLES: (SHORT, 1, 1),
        ROWS: (LONG, 1, height),
        SIZES: (LONG, 1, size),
    }
    return tags | {int(name[1:]): value for name, value in changes.items()}


def pixels(random: Random, size: int = 24 * 16) -> bytes:
    return bytes(random.randrange(3) for _ in range(size))


def cycle(random: Random) -> bytes:
    """The next page is this page."""
    data = pixels(random)
    return build(plain(), data, following=HEAD + len(data))


def ring(random: Random) -> bytes:
    """Two pages, each of which says that the other one is next."""
    data, size = pixels(random), 24 * 16
    first = build(plain(), data)
    second = HEAD + size + 2 + 12 * len(plain()) + 4
    page = first[HEAD + size : second - 4]
    return first[: second - 4] + struct.pack("<I", second) + page + struct.pack("<I", HEAD + size)


def sub_pages(random: Random) -> bytes:
    """A page that lies within itself."""
    data = pixels(random)
    return build(plain(t330=(LONG, 1, HEAD + len(data))), data)


def many_pages(random: Random) -> bytes:
    """Thousands of pages that are all the same bytes but for the next one."""
    data = pixels(random)
    content = bytearray(build(plain(), data))
    length = 2 + 12 * len(plain()) + 4
    page = bytes(content[HEAD + len(data) :])
    for _ in range(random.choice([500, 3000])):
        content[-4:] = struct.pack("<I", len(content))
        content += page[: length - 4] + bytes(4)
    return bytes(content)


def huge_tag(random: Random) -> bytes:
    """A tag of billions of values."""
    number = random.choice([270, 305, 700, 34675, 34853, 37510, NODATA, 42112, 50838, COLOR_MAP, OFFSETS, SIZES, BITS])
    kind = random.choice([BYTE, ASCII, SHORT, LONG, RATIONAL, 11, 12, 13, LONG8, 99, 0])
    count = random.choice([2**20, 2**28, 2**31, 2**32 - 1])
    tags = plain() | {number: (kind, count, random.choice([0, 8, 200, 2**31, 2**32 - 1]))}
    return build(tags, pixels(random))


def wrong_strips(random: Random) -> bytes:
    """Strips that lie outside the file, are of another length, or too few."""
    odd = random.choice([0, 1, 23, 383, 385, 2**16, 2**31, 2**32 - 1])
    where, size, rows = (LONG, 1, HEAD), (LONG, 1, 384), (LONG, 1, 16)
    what = random.randrange(5)
    if what == 0:
        where = (LONG, 1, odd)
    elif what == 1:
        size = (LONG, 1, odd)
    elif what == 2:
        rows = (LONG, 1, odd)
    elif what == 3:
        where = (LONG, random.choice([0, 2, 3, 1000]), struct.pack("<3I", HEAD, odd, 2**32 - 1))
    else:
        size = (random.choice([SHORT, BYTE, 0, 99]), 1, odd)
    return build(plain(t273=where, t279=size, t278=rows), pixels(random))


def bomb(random: Random) -> bytes:
    """A few bytes that say they are an image of billions of pixels."""
    width, height = random.choice(
        [(100_000, 100_000), (2**31, 2), (2**32 - 1, 2**32 - 1), (65_535, 65_535), (1, 2**31)]
    )
    data = zlib.compress(bytes(10**6))
    return build(plain(width, height, data, t259=(SHORT, 1, random.choice([8, 1, 5, 32773]))), data)


def inflated(random: Random) -> bytes:
    """A strip that unpacks to a thousand times what the image has."""
    data = zlib.compress(bytes(400 * 10**6 if random.random() < 0.05 else 20 * 10**6))
    return build(plain(data=data, t259=(SHORT, 1, 8)), data)


def odd_size(random: Random) -> bytes:
    """No width, no height, or none that fits."""
    odd = random.choice([0, 1, 3, 2**16, 2**31])
    number = random.choice([WIDTH, HEIGHT])
    tags = plain() | {number: (random.choice([SHORT, LONG, RATIONAL, ASCII]), random.choice([0, 1, 2]), odd)}
    if random.random() < 0.2:
        del tags[number]
    return build(tags, pixels(random))


def odd_form(random: Random) -> bytes:
    """Bits, samples, compressions, predictors and orders of colors that contradict each other."""
    tags = plain()
    for _ in range(random.choice([1, 2, 3])):
        number = random.choice(
            [BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, PREDICTOR, ORIENTATION, FORMAT, 338, 266]
        )
        value = random.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 32, 64, 255, 32773, 34712, 34925, 50000, 65535])
        tags[number] = (random.choice([SHORT, SHORT, LONG, BYTE]), random.choice([1, 1, 1, 3, 0]), value)
    return build(tags, pixels(random), order=random.choice("<>"))


def tiles(random: Random) -> bytes:
    """Tiles of no size, of an odd one, or of one larger than the file."""
    tags = plain()
    for number in (OFFSETS, SIZES, ROWS):
        del tags[number]
    side = random.choice([0, 1, 15, 16, 2**16, 2**31, 2**32 - 1])
    other = random.choice([16, side])
    tags |= {TILE_WIDTH: (LONG, 1, side), TILE_HEIGHT: (LONG, 1, other)}
    tags |= {
        TILE_OFFSETS: (LONG, random.choice([0, 1, 2**20]), HEAD),
        TILE_SIZES: (LONG, 1, random.choice([256, 0, 2**31])),
    }
    return build(tags, pixels(random))


def large_directory(random: Random) -> bytes:
    """A directory of 65,535 tags, most of which are not there."""
    content = bytearray(build(plain(), pixels(random)))
    content[HEAD + 384 : HEAD + 386] = struct.pack("<H", random.choice([0, 200, 65535]))
    return bytes(content + (random.randbytes(4000) if random.random() < 0.5 else b""))


def big_tiff(random: Random) -> bytes:
    """The 64-bit form with counts and places of 64 bits."""
    odd = random.choice([0, 1, 16, 2**40, 2**63, 2**64 - 1])
    entries = [(WIDTH, 4, 1, 24), (HEIGHT, 4, 1, 16), (BITS, 3, 1, 8), (COMPRESSION, 3, 1, 1), (PHOTOMETRIC, 3, 1, 1)]
    entries += [(OFFSETS, 16, 1, 16), (SAMPLES, 3, 1, 1), (ROWS, 4, 1, 16), (SIZES, 16, 1, 384)]
    at = random.randrange(len(entries))
    number, kind, count, value = entries[at]
    entries[at] = (
        (number, kind, odd, value) if random.random() < 0.5 else (number, random.choice([kind, 16]), count, odd)
    )
    directory = struct.pack("<Q", random.choice([len(entries), len(entries), odd]))
    directory += b"".join(struct.pack("<HHQQ", *entry) for entry in entries)
    following = random.choice([0, 16 + 384, odd])
    return b"II+\0" + struct.pack("<HHQ", 8, 0, 16 + 384) + pixels(random) + directory + struct.pack("<Q", following)


KINDS: dict[str, Callable[[Random], bytes]] = {
    make.__name__.replace("_", " "): make
    for make in (
        *(cycle, ring, sub_pages, many_pages, huge_tag, wrong_strips, bomb, inflated, odd_size, odd_form, tiles),
        *(large_directory, big_tiff),
    )
}


def make(kind: str, random: Random) -> bytes:
    """A file of this kind."""
    return KINDS[kind](random)
