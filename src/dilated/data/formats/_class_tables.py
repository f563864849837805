"""Tables of classes that tools and data sets write beside their masks: CSV files, lists of names, data.yaml.

table = find_class_table(root, [root / "train"])
table.value_classes(), table.color_classes()         # as labels of values, or masks of colors, need them
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dilated.data.formats._classes import class_name, parse_color
from dilated.data.formats._yolo_config import find_config, parse_class_names, read_config
from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.files import read_lines
from dilated.palettes import Color, voc_color

_LISTS = ("class_names.txt", "classes.txt", "label_names.txt", "labels.txt", "codes.txt", "label_colors.txt")
_CSV_WORDS = ("class", "label", "color", "palette", "categor")
"""What the name of a CSV file has that is a table of classes."""
_COLUMNS = {
    "name": ("name", "class", "classname", "label", "labelname", "category", "classes"),
    "value": ("pixelvalue", "value", "id", "classid", "labelid", "index", "idx", "class", "label", "number"),
    "red": ("r", "red"),
    "green": ("g", "green"),
    "blue": ("b", "blue"),
    "color": ("color", "rgb", "colorrgb", "rgbcolor", "hex"),
}
"""What the columns of a CSV file are called, in lower case without marks, the more usual first."""
_ROBOFLOW_TABLE = "_classes.csv"  # which is nothing else
_IGNORED_NAME = "__ignore__"  # labelme's, of no value


@dataclass(frozen=True)
class ClassTable:
    """The classes that a file names."""

    path: Path
    names: tuple[str, ...]
    values: tuple[int, ...] | None
    """The value of each class; None where the file says colors alone."""
    colors: tuple[Color, ...] | None

    def value_classes(self) -> Classes | None:
        """The classes of labels of values; None where the file does not say their values."""
        if self.values is None:
            return None
        colors = self.colors or tuple(voc_color(i) for i in range(len(self.names)))
        return Classes(self.names, colors, tuple((value,) for value in self.values), source=str(self.path))

    def color_classes(self) -> Classes | None:
        """The classes of masks of colors; None where the file does not say their colors."""
        if self.colors is None:
            return None
        return Classes(self.names, self.colors, source=str(self.path), read="colors")


def find_class_table(root: Path, folders: Iterable[Path]) -> ClassTable | None:
    """The table of classes in a data folder, or in the folders of its images.

    Raises:
        InputError: a table that is damaged, or two that differ.
    """
    candidates = _list_tables(root)
    for folder in folders:
        if folder != root:
            candidates += [path for path in (folder / _ROBOFLOW_TABLE,) if path.is_file()]
    read = {path: _read_table(path) for path in candidates}
    if lacking := next((path for path, table in read.items() if path.name == _ROBOFLOW_TABLE and not table), None):
        raise InputError(
            f"{lacking}: is no table of classes, with a row for each", hint="export it again, or write a classes.toml"
        )
    tables = [table for table in read.values() if table]
    for other in tables[1:]:
        if (other.names, other.values) != (tables[0].names, tables[0].values):
            raise InputError(
                f"{other.path}: names other classes than {tables[0].path}: {list(other.names)[:6]} and "
                f"{list(tables[0].names)[:6]}",
                hint="keep the right one, or write a classes.toml",
            )
    return next((table for table in tables if table.colors), tables[0] if tables else None)


def _list_tables(root: Path) -> list[Path]:
    """The files of a data folder that may be tables of classes, by their names."""
    paths = [path for path in sorted(root.glob("*.csv")) if any(word in path.stem.lower() for word in _CSV_WORDS)]
    paths += [path for name in _LISTS if (path := root / name).is_file()]
    config = find_config(root)
    return [*paths, config] if config else paths


def _read_table(path: Path) -> ClassTable | None:
    if path.suffix == ".csv":
        return _read_csv(path)
    if path.suffix == ".txt":
        return _read_list(path)
    config = read_config(path)
    if "names" not in config:
        return None
    names = parse_class_names(config, path, needs_all=False)
    return _make_table(path, list(names.values()), list(names), None)


def _read_csv(path: Path) -> ClassTable | None:
    """The classes of a CSV file with a row for each; None where it is something else."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:  # a folder, or a link to nothing
        raise InputError(f"{path}: {error.strerror or error}", hint="remove it, or put the table there") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text", hint="save the file as UTF-8") from error
    if "\0" in text:
        raise InputError(f"{path}: found a NUL character: the file is damaged", hint="copy it again, or remove it")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        table = _parse_rows(path, list(csv.reader(text.splitlines(), delimiter=delimiter)))
    except csv.Error:  # a cell of more than 131,072 characters: a table of something else
        return None
    if table is not None:
        _check_quotes(path, text, delimiter)
    return table


def _check_quotes(path: Path, text: str, delimiter: str) -> None:
    """Refuse a class table with a quote that ends within a cell: `"1"0` would be read as 10."""
    reader = csv.reader(text.splitlines(), delimiter=delimiter, strict=True)
    try:
        for _ in reader:
            pass
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}", hint='write quotes around whole cells, as "10", or none'
        ) from error


def _parse_rows(path: Path, cells_of: Sequence[Sequence[str]]) -> ClassTable | None:
    rows = [row for row in ([cell.strip() for cell in cells] for cells in cells_of) if any(row)]
    columns = _find_columns(rows[0]) if rows else {}
    body = rows[1:]
    if not columns and rows:
        columns, body = _guess_columns(rows[0]), rows
    has_colors = {"red", "green", "blue"} <= columns.keys() or "color" in columns
    if not body or "name" not in columns or not (has_colors or "value" in columns):
        return None
    names: list[str] = []
    values: list[int] = []
    colors: list[Color] = []
    for number, row in enumerate(body, len(rows) - len(body) + 1):
        cells = {name: row[i] if i < len(row) else "" for name, i in columns.items()}
        is_split = "red" in columns
        words = [cells[c] for c in ("red", "green", "blue")] if is_split else _color_words(cells.get("color", ""))
        color = parse_color(words)
        value = cells.get("value", "0")
        if not cells["name"] or (has_colors and color is None) or not value.isdecimal() or len(value) > 5:
            if not names:
                return None  # a table of something else, such as of images
            raise InputError(f"{path}, row {number}: found {row}", hint="give a name and whole numbers in each row")
        names.append(cells["name"])
        values.append(int(value))
        colors.append(color or (0, 0, 0))
    if len(set(names)) < len(names):
        return None  # the class of each image
    return _make_table(path, names, values if "value" in columns else None, colors if has_colors else None)


def _find_columns(header: Sequence[str]) -> dict[str, int]:
    """The place of each column that the first row names; none where it is no header."""
    titles = [re.sub(r"[^a-z]", "", title.lower()) for title in header]
    columns: dict[str, int] = {}
    for column, synonyms in _COLUMNS.items():
        place = next((titles.index(title) for title in synonyms if title in titles), None)
        if place is not None and place not in columns.values():
            columns[column] = place
    return columns


def _guess_columns(row: Sequence[str]) -> dict[str, int]:
    """The columns of a file without a header: one name, and a value, three numbers of a color, or all four."""
    numbers = [i for i, cell in enumerate(row) if cell.isdecimal()]
    texts = [i for i, cell in enumerate(row) if cell and not cell.isdecimal()]
    titles = {1: ("value",), 3: ("red", "green", "blue"), 4: ("value", "red", "green", "blue")}.get(len(numbers), ())
    if len(texts) != 1 or not titles:
        return {}
    return {"name": texts[0], **dict(zip(titles, numbers, strict=True))}


def _color_words(text: str) -> list[str]:
    """The three numbers of a color such as `(128, 64, 0)`, `128 64 0` or `#804000`."""
    if match := re.fullmatch(r"#?([0-9A-Fa-f]{2})([0-9A-Fa-f]{2})([0-9A-Fa-f]{2})", text):
        return [str(int(digits, 16)) for digits in match.groups()]
    return re.findall(r"\d+", text)


def _read_list(path: Path) -> ClassTable | None:
    """The classes of a text file with a line for each: `NAME`, `VALUE NAME`, `VALUE: NAME` or `RED GREEN BLUE NAME`."""
    lines = [line for _, line in read_lines(path) if line != _IGNORED_NAME and not line.startswith("#")]
    if not lines:
        return None
    colored = [re.fullmatch(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\S.*)", line) for line in lines]
    if all(colored):
        colors = [parse_color(match.groups()[:3]) for match in colored if match]
        if None in colors:
            raise InputError(f"{path}: found a color that is not three of 0 to 255", hint="give RED GREEN BLUE NAME")
        names = [match[4] for match in colored if match]
        return _make_table(path, names, None, [color for color in colors if color])
    numbered = [re.fullmatch(r"(\d{1,5})\s*[\s:,]\s*(\D.*)", line) for line in lines]
    if all(numbered):
        return _make_table(path, [m[2] for m in numbered if m], [int(m[1]) for m in numbered if m], None)
    return _make_table(path, lines, list(range(len(lines))), None)


def _make_table(
    path: Path, names: Sequence[str], values: Sequence[int] | None, colors: Sequence[Color] | None
) -> ClassTable:
    given = tuple(class_name(name) for name in names)
    return ClassTable(path, given, tuple(values) if values else None, tuple(colors) if colors else None)
