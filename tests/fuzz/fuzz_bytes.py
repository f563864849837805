"""Ways to damage the bytes of any file.

content = damage(content, Random(0))                 # other bytes, and what was done
"""

from __future__ import annotations

from random import Random

EXTREMES = (0, 1, 2, 3, 7, 8, 127, 128, 254, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def flip(content: bytearray, random: Random) -> None:
    for _ in range(random.choice([1, 1, 2, 8])):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def flip_head(content: bytearray, random: Random) -> None:
    """Change a byte of the first 64, where sizes and kinds stand."""
    content[random.randrange(min(64, len(content)))] = random.choice(EXTREMES[:10])


def truncate(content: bytearray, random: Random) -> None:
    del content[random.randrange(len(content)) :]


def cut(content: bytearray, random: Random) -> None:
    at = random.randrange(len(content))
    del content[at : at + random.choice([1, 2, 4, 16, 100])]


def insert(content: bytearray, random: Random) -> None:
    at = random.randrange(len(content) + 1)
    content[at:at] = random.randbytes(random.choice([1, 2, 4, 16, 100]))


def repeat(content: bytearray, random: Random) -> None:
    at, size = random.randrange(len(content)), random.choice([4, 12, 64, 256])
    content[at:at] = content[at : at + size] * random.choice([1, 2, 50])


def number(content: bytearray, random: Random) -> None:
    """Write a number of two or four bytes that is large, or on the edge of a type."""
    size, order = random.choice([2, 4]), random.choice(["little", "big"])
    at = random.randrange(max(1, len(content) - size))
    content[at : at + size] = (random.choice(EXTREMES) % (1 << 8 * size)).to_bytes(size, order)


def blank(content: bytearray, random: Random) -> None:
    at, size = random.randrange(len(content)), random.choice([4, 64, 512])
    content[at : at + size] = bytes([random.choice([0, 255])]) * len(content[at : at + size])


CHANGES = {change.__name__: change for change in (flip, flip_head, truncate, cut, insert, repeat, number, blank)}


def damage(content: bytes, random: Random) -> tuple[bytes, tuple[str, ...]]:
    """Damage a file in one to three ways; the bytes, and the names of the ways."""
    result, done = bytearray(content), []
    for _ in range(random.choice([1, 1, 2, 3])):
        if result:
            name = random.choice(list(CHANGES))
            CHANGES[name](result, random)
            done.append(name)
    return bytes(result), tuple(done)
