"""What a file's name says of the series that it is from: a stem and a running number.

    >>> [split_running_number(name) for name in ("0016E5_08151", "0006R0_f00930", "town 3 (12)", "dawn")]
    [('0016E5', 8151), ('0006R0', 930), ('town 3', 12), ('dawn', None)]

Words that only say what the number counts (`f`, `frame`, `slice`, `tile`) belong to the number, not to the stem.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePosixPath

FILM_WORDS = frozenset({"clip", "film", "frame", "frames", "movie", "seq", "sequence", "shot", "video", "vid"})
"""Stems of frames of a film, where a name says no more than that."""
_COUNTED_WORDS = frozenset(
    re.findall(
        r"\w+",
        "aug c col copy crop f fr frame frames i image img n no nr p page part patch r row s slice t tile x y z ",
    )
)
_GENERIC_WORDS = frozenset(
    re.findall(
        r"\w+",
        "crop data dcim dsc dscf dscn file im image images img imgp input inputs jpegimages label labels "
        "leftimg8bit mask masks p patch photo photos pic rgb sample samples scan scans test testing tile "
        "train training trainval val valid validation ",
    )
)
_RUNNING_NUMBER = re.compile(r"^(?P<stem>.*?)(?P<separator>[\s_\-.(]*)(?P<number>\d{1,18})\)?$", re.DOTALL)
_DATE = re.compile(
    r"^(?P<stem>.*?)[\s_\-.(]*(?P<year>(?:19|20)\d\d)(?P<mark>[_\-.])(?P<month>0[1-9]|1[0-2])(?P=mark)"
    r"(?P<day>0[1-9]|[12]\d|3[01])$",
    re.DOTALL,
)
_EXPORT = re.compile(r"_(?:jpe?g|png|bmp|webp|tiff?)\.rf\.[0-9A-Za-z]{16,64}$")  # Roboflow's copies of one image
_SEPARATORS = " _-.("
_OFFSET = re.compile(r"^(?P<stem>.+?)[\s_\-.]+(?P<first>\D{0,4}\d{1,9})[\s_\-.]+(?P<second>\D{0,4}\d{1,9})$", re.DOTALL)
_MIN_TILE_STEP = 16  # pixels: smaller steps are rows and columns, or two numbers of another meaning
_MOST_ELONGATED = 4  # a grid of tiles: a film has many more frames than there are films
_AXIS_WORDS = ({"x", "y"}, {"r", "c"}, {"row", "col"})


def split_running_number(stem: str) -> tuple[str, int | None]:
    """Divide the stem of a file's name into what it shares with its series, and its number there.

    Returns:
        The series, which is empty where the name is nothing but a number, and the number; the name and None where it
        ends in no number.
    """
    if date := _DATE.match(stem):  # one number, not a year and a month with days to count
        return date["stem"].rstrip(_SEPARATORS), int(date["year"] + date["month"] + date["day"])
    match = _RUNNING_NUMBER.match(stem)
    if not match:
        return stem, None
    series = match["stem"].rstrip(_SEPARATORS)
    head, word = _split_last_word(series)
    if word.lower() in _COUNTED_WORDS and (head or word.lower() not in FILM_WORDS):
        series = head
    return series, int(match["number"])


def remove_running_number(stem: str) -> str:
    """The stem before its number, with a word that says what the number counts.

    Example:
        >>> remove_running_number("c_0012"), remove_running_number("0012")
        ('c', '')
    """
    match = _RUNNING_NUMBER.match(stem)
    return match["stem"].rstrip(_SEPARATORS) if match else stem


def remove_export_suffix(stem: str) -> str:
    """The name that an image had before a labelling service exported it, or several altered copies of it.

    Example:
        >>> remove_export_suffix("0016E5_08151_png.rf.0123456789abcdef0123456789abcdef")
        '0016E5_08151'
    """
    return _EXPORT.sub("", stem)


def find_common_ending(stems: Sequence[str]) -> str:
    """The last word of all stems, where they have the same and it is no number: that of the kind of file.

    Example:
        >>> find_common_ending(["aachen_000000_leftImg8bit", "ulm_000001_leftImg8bit"])
        '_leftImg8bit'
    """
    if len(stems) < 2:
        return ""
    match = re.search(r"[\s_\-.][^\s_\-.]*$", stems[0])
    if not match or match[0][1:].isdecimal() or not all(stem.endswith(match[0]) for stem in stems):
        return ""
    return match[0] if len(set(stems)) > 1 else ""


def remove_generic_words(series: str) -> str:
    """The words of a series that can name one: not `img`, `DSC` or `train`, nor a year alone.

    Example:
        >>> remove_generic_words("IMG"), remove_generic_words("ADE_train"), remove_generic_words("2007")
        ('', 'ADE', '')
    """
    words = [word for word in re.split(r"[\s_\-.]+", series) if word and word.lower() not in _GENERIC_WORDS]
    is_year = len(words) == 1 and re.fullmatch(r"(19|20)\d\d", words[0]) is not None
    return "" if is_year else "_".join(words)


def find_folder(name: str) -> str:
    """The folders of a path that can name a group: not `images` or `train`.

    Example:
        >>> find_folder("train/site 3/images/a.png"), find_folder("images/a.png")
        ('site 3', '')
    """
    return "/".join(part for part in PurePosixPath(name).parts[:-1] if part.lower() not in _GENERIC_WORDS | {"/", "."})


def find_tile_sources(stems: Sequence[str]) -> list[str] | None:
    """The image that each tile was cut from, where all names end in a position: two offsets, or a row and a column.

    Example:
        >>> find_tile_sources(["a_0_0", "a_0_512", "a_512_0", "b_512_512"])
        ['a', 'a', 'a', 'b']
        >>> find_tile_sources([f"{a}_{row}_{column}" for a in "ab" for row in (0, 1) for column in (0, 1)])
        ['a', 'a', 'a', 'a', 'b', 'b', 'b', 'b']
        >>> find_tile_sources(["patient1_1", "patient1_2"]) is None
        True
    """
    matches = [_OFFSET.match(stem) for stem in stems]
    parts = [(m["stem"], *_read_axis(m["first"]), *_read_axis(m["second"])) for m in matches if m]
    if not stems or len(parts) < len(stems):
        return None
    if any({first.lower(), second.lower()} in _AXIS_WORDS for _, first, _, second, _ in parts):
        return [part[0] for part in parts]
    if any(first or second for _, first, _, second, _ in parts):
        return None
    steps = _find_step({down for _, _, down, _, _ in parts}), _find_step({across for *_, across in parts})
    has_positions = min(steps) >= _MIN_TILE_STEP or (min(steps) == 1 and _are_grids(matches))
    return [part[0] for part in parts] if has_positions else None


def _are_grids(matches: Sequence[re.Match[str] | None]) -> bool:
    """Whether two numbers are the row and the column of a tile: each of several sources has half of a grid or more."""
    words = [(match["first"], match["second"]) for match in matches if match]
    lengths = {len(word) for pair in words for word in pair}
    if len(lengths) > 1 and any(len(word) > 1 and word[0] == "0" for pair in words for word in pair):
        return False  # numbers of two formats, as of a film and its frame
    cells: dict[str, set[tuple[int, int]]] = {}
    for match in matches:
        if match:
            cells.setdefault(match["stem"], set()).add((int(match["first"]), int(match["second"])))
    for positions in cells.values():
        rows, columns = (max(values) - min(values) + 1 for values in zip(*positions, strict=True))
        if min(rows, columns) < 2 or max(rows, columns) > _MOST_ELONGATED * min(rows, columns):
            return False
        if 2 * len(positions) < rows * columns:
            return False
    return len(cells) > 1


def _read_axis(word: str) -> tuple[str, int]:
    digits = re.sub(r"^\D+", "", word)
    return word[: len(word) - len(digits)], int(digits)


def _find_step(values: set[int]) -> int:
    """The least distance between two values; 0 where there is only one."""
    ordered = sorted(values)
    return min((b - a for a, b in pairwise(ordered)), default=0)


def _split_last_word(series: str) -> tuple[str, str]:
    match = re.search(r"^(.*?)([^\W\d_]+)$", series, re.DOTALL)
    if not match or (match[1] and match[1][-1] not in _SEPARATORS):
        return series, ""
    return match[1].rstrip(_SEPARATORS), match[2]
