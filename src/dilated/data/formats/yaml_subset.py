"""The part of YAML that data.yaml files are written in; anything else is an error with its line.

    >>> parse_yaml("path: ../set  # where\\nnames:\\n  0: cell\\n  1: 'a: b'\\nnc: 2\\n")
    {'path': '../set', 'names': {'0': 'cell', '1': 'a: b'}, 'nc': '2'}

Keys at the left margin with a word, a quoted text, a list in brackets, a map in braces, a list of dashes, a map one
level deeper, or a block after `|`. Words are kept as texts; those that YAML would turn into something else than a text
or a number (`yes`, `no`, `on`, `null`, ...) are an error in lists and maps, where they are names.
"""

from __future__ import annotations

import re

from dilated.errors import InputError

Value = str | list[str] | dict[str, str]
_RESERVED_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "~", "y", "n"}
_KEY = re.compile(r"""("[^"\\]*"|'[^']*'|[^\s"'\[\]{}#&*!|>%@,:-][^:#\[\]{}"']*?)\s*:(?:\s+(.*))?$""")
_QUOTED = re.compile(r"""("(?:[^"\\]|\\["\\/])*"|'(?:[^']|'')*')\s*(?:#.*)?$""")
_ITEM = re.compile(r"""\s*("(?:[^"\\]|\\["\\/])*"|'(?:[^']|'')*'|[^,\[\]{}"'#]+?)\s*(,|$)""")


def parse_yaml(text: str, where: str = "YAML") -> dict[str, Value]:
    """The table of a file.

    Args:
        where: the file, for messages.

    Raises:
        InputError: anything that is not of the part of YAML above.
    """
    table: dict[str, Value] = {}
    lines = text.removeprefix("\ufeff").split("\n")
    position = 0
    while position < len(lines):
        line = lines[position].rstrip()
        location = f"{where}, line {position + 1}"
        position += 1
        if "\0" in line:
            raise _syntax_error(location, line)
        if not line.strip() or line.lstrip().startswith("#") or line == "---":
            continue
        match = _KEY.match(line)
        if match is None or line[0].isspace():
            raise _syntax_error(location, line)
        key = _parse_scalar(match[1], location)
        if key in table:
            raise InputError(f"{location}: found the key {key!r} a second time; expected it once")
        inline_value = _strip_comment(match[2] or "")
        block_start = position
        while position < len(lines) and (
            not lines[position].strip() or lines[position][0] in " \t#" or lines[position].startswith("- ")
        ):
            if lines[position].startswith("- ") and inline_value:
                break
            position += 1
        block = [(number + 1, lines[number].rstrip()) for number in range(block_start, position)]
        if inline_value in ("|", ">", "|-", ">-"):
            table[key] = "\n".join(line.strip() for _, line in block).strip()
            continue
        block = [(n, line) for n, line in block if line.strip() and not line.lstrip().startswith("#")]
        if inline_value[:1] in ("[", "{"):
            joined_text = " ".join([inline_value, *(_strip_comment(line.strip()) for _, line in block)])
            table[key] = (
                _parse_list(joined_text, location) if inline_value[0] == "[" else _parse_map(joined_text, location)
            )
        elif inline_value:
            if block:
                raise _syntax_error(f"{where}, line {block[0][0]}", block[0][1])
            table[key] = _parse_scalar(inline_value, location)
        else:
            table[key] = _parse_block(block, where)
    return table


def _parse_block(block: list[tuple[int, str]], where: str) -> Value:
    """A list of dashes or a map, of lines that are indented alike."""
    if not block:
        return ""
    indent = len(block[0][1]) - len(block[0][1].lstrip())
    entries: dict[str, str] = {}
    items: list[str] = []
    for number, line in block:
        location = f"{where}, line {number}"
        word = line.strip()
        match = _KEY.match(word)
        if "\0" in line:
            raise _syntax_error(location, line)
        if len(line) - len(line.lstrip()) != indent or "\t" in line[:indent]:
            raise _syntax_error(location, line)
        if word.startswith("- ") and not entries:
            items.append(_parse_name(_strip_comment(word[2:]), location))
        elif match and match[2] and not items:
            key = _parse_scalar(match[1], location)
            if key in entries:
                raise InputError(f"{location}: found the key {key!r} a second time; expected it once")
            entries[key] = _parse_name(_strip_comment(match[2]), location)
        else:
            raise _syntax_error(location, line)
    return items or entries


def _parse_list(text: str, location: str) -> list[str]:
    if not text.endswith("]"):
        raise _syntax_error(location, text)
    return _parse_items(text[1:-1], location)


def _parse_map(text: str, location: str) -> dict[str, str]:
    if not text.endswith("}"):
        raise _syntax_error(location, text)
    entries: dict[str, str] = {}
    for part in re.findall(r"""(?:"[^"]*"|'[^']*'|[^,"'])+""", text[1:-1]):
        match = _KEY.match(part.strip())
        if match is None or not match[2] or _parse_scalar(match[1], location) in entries:
            raise _syntax_error(location, part)
        entries[_parse_scalar(match[1], location)] = _parse_name(match[2], location)
    return entries


def _parse_items(text: str, location: str) -> list[str]:
    items = []
    position = 0
    while text[position:].strip():
        match = _ITEM.match(text, position)
        if match is None:
            raise _syntax_error(location, text[position:])
        items.append(_parse_name(match[1], location))
        position = match.end()
    return items


def _strip_comment(text: str) -> str:
    """The text without a comment at its end."""
    text = text.strip()
    if text[:1] in ("'", '"'):
        return text
    return re.split(r"(?:^|\s)#", text)[0].strip()


def _parse_name(text: str, location: str) -> str:
    if text.lower() in _RESERVED_WORDS:
        raise InputError(f"{location}: found the bare word {text}, which YAML takes for no text; expected it in quotes")
    return _parse_scalar(text, location)


def _parse_scalar(text: str, location: str) -> str:
    """A quoted or bare text."""
    text = text.strip()
    if text[:1] in ("'", '"'):
        match = _QUOTED.match(text)
        if match is None:
            raise _syntax_error(location, text)
        inner = match[1][1:-1]
        return inner.replace("''", "'") if text[0] == "'" else re.sub(r"\\(.)", r"\1", inner)
    if text[:1] in tuple("&*!%@`|>?[]{},") or ": " in text or text.startswith("- "):
        raise _syntax_error(location, text)
    return text


def _syntax_error(location: str, line: str) -> InputError:
    return InputError(
        f"{location}: found {line.strip()[:80]!r}, which is not of the part of YAML that is read here; expected `key: "
        "value`, a list [a, b] or of dashes, or a map of one level"
    )
