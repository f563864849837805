"""The part of YAML that data.yaml files are written in; anything else is an error with its line.

    >>> parse("path: ../set  # where\\nnames:\\n  0: cell\\n  1: 'a: b'\\nnc: 2\\n")
    {'path': '../set', 'names': {'0': 'cell', '1': 'a: b'}, 'nc': '2'}

Keys at the left margin with a word, a quoted text, a list in brackets, a map in braces, a list of dashes, a map one
level deeper, or a block after `|`. Words are kept as texts; those that YAML would turn into something else than a text
or a number (`yes`, `no`, `on`, `null`, ...) are an error in lists and maps, where they are names.
"""

from __future__ import annotations

import re

from dilated.errors import InputError

Value = str | list[str] | dict[str, str]
TURNED = {"yes", "no", "on", "off", "true", "false", "null", "~", "y", "n"}
KEY = re.compile(r"""("[^"\\]*"|'[^']*'|[^\s"'\[\]{}#&*!|>%@,:-][^:#\[\]{}"']*?)\s*:(?:\s+(.*))?$""")
QUOTED = re.compile(r"""("(?:[^"\\]|\\["\\/])*"|'(?:[^']|'')*')\s*(?:#.*)?$""")
ITEM = re.compile(r"""\s*("(?:[^"\\]|\\["\\/])*"|'(?:[^']|'')*'|[^,\[\]{}"'#]+?)\s*(,|$)""")


def parse(text: str, where: str = "YAML") -> dict[str, Value]:
    """The table of a file.

    Args:
        where: the file, for messages.

    Raises:
        InputError: anything that is not of the part of YAML above.
    """
    table: dict[str, Value] = {}
    lines = text.removeprefix("\ufeff").split("\n")
    at = 0
    while at < len(lines):
        line = lines[at].rstrip()
        here = f"{where}, line {at + 1}"
        at += 1
        if "\0" in line:
            raise _error(here, line)
        if not line.strip() or line.lstrip().startswith("#") or line == "---":
            continue
        match = KEY.match(line)
        if match is None or line[0].isspace():
            raise _error(here, line)
        key = _scalar(match[1], here)
        if key in table:
            raise InputError(f"{here}: found the key {key!r} a second time; expected it once")
        rest = _bare(match[2] or "")
        begin = at
        while at < len(lines) and (not lines[at].strip() or lines[at][0] in " \t#" or lines[at].startswith("- ")):
            if lines[at].startswith("- ") and rest:
                break
            at += 1
        block = [(number + 1, lines[number].rstrip()) for number in range(begin, at)]
        if rest in ("|", ">", "|-", ">-"):
            table[key] = "\n".join(line.strip() for _, line in block).strip()
            continue
        block = [(n, line) for n, line in block if line.strip() and not line.lstrip().startswith("#")]
        if rest[:1] in ("[", "{"):
            whole = " ".join([rest, *(_bare(line.strip()) for _, line in block)])
            table[key] = _list(whole, here) if rest[0] == "[" else _map(whole, here)
        elif rest:
            if block:
                raise _error(f"{where}, line {block[0][0]}", block[0][1])
            table[key] = _scalar(rest, here)
        else:
            table[key] = _block(block, where)
    return table


def _block(block: list[tuple[int, str]], where: str) -> Value:
    """A list of dashes or a map, of lines that are indented alike."""
    if not block:
        return ""
    depth = len(block[0][1]) - len(block[0][1].lstrip())
    entries: dict[str, str] = {}
    items: list[str] = []
    for number, line in block:
        here = f"{where}, line {number}"
        word = line.strip()
        match = KEY.match(word)
        if "\0" in line:
            raise _error(here, line)
        if len(line) - len(line.lstrip()) != depth or "\t" in line[:depth]:
            raise _error(here, line)
        if word.startswith("- ") and not entries:
            items.append(_name(_bare(word[2:]), here))
        elif match and match[2] and not items:
            key = _scalar(match[1], here)
            if key in entries:
                raise InputError(f"{here}: found the key {key!r} a second time; expected it once")
            entries[key] = _name(_bare(match[2]), here)
        else:
            raise _error(here, line)
    return items or entries


def _list(text: str, here: str) -> list[str]:
    if not text.endswith("]"):
        raise _error(here, text)
    return _items(text[1:-1], here)


def _map(text: str, here: str) -> dict[str, str]:
    if not text.endswith("}"):
        raise _error(here, text)
    entries: dict[str, str] = {}
    for part in re.findall(r"""(?:"[^"]*"|'[^']*'|[^,"'])+""", text[1:-1]):
        match = KEY.match(part.strip())
        if match is None or not match[2] or _scalar(match[1], here) in entries:
            raise _error(here, part)
        entries[_scalar(match[1], here)] = _name(match[2], here)
    return entries


def _items(text: str, here: str) -> list[str]:
    items = []
    at = 0
    while text[at:].strip():
        match = ITEM.match(text, at)
        if match is None:
            raise _error(here, text[at:])
        items.append(_name(match[1], here))
        at = match.end()
    return items


def _bare(text: str) -> str:
    """The text without a comment at its end."""
    text = text.strip()
    if text[:1] in ("'", '"'):
        return text
    return re.split(r"(?:^|\s)#", text)[0].strip()


def _name(text: str, here: str) -> str:
    if text.lower() in TURNED:
        raise InputError(f"{here}: found the bare word {text}, which YAML takes for no text; expected it in quotes")
    return _scalar(text, here)


def _scalar(text: str, here: str) -> str:
    """A quoted or bare text."""
    text = text.strip()
    if text[:1] in ("'", '"'):
        match = QUOTED.match(text)
        if match is None:
            raise _error(here, text)
        inner = match[1][1:-1]
        return inner.replace("''", "'") if text[0] == "'" else re.sub(r"\\(.)", r"\1", inner)
    if text[:1] in tuple("&*!%@`|>?[]{},") or ": " in text or text.startswith("- "):
        raise _error(here, text)
    return text


def _error(here: str, line: str) -> InputError:
    return InputError(
        f"{here}: found {line.strip()[:80]!r}, which is not of the part of YAML that is read here; expected `key: "
        "value`, a list [a, b] or of dashes, or a map of one level"
    )
