"""The pages of docs/reference, one for every public name, from its docstring.

python tools/make_reference.py            # writes the pages; `--check` only compares and exits with 1
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
MODULES = ("dilated", "dilated.fields", "dilated.losses", "dilated.paper")
SECTIONS = ("Args", "Shapes", "Returns", "Yields", "Raises", "Example", "Examples")


def render() -> dict[str, str]:
    """Every page by its file name."""
    pages, index = (
        {},
        ["# Reference", "", "Made from the docstrings by `make reference`; every example runs in the tests.", ""],
    )
    for name in MODULES:
        module = _module(name)
        index += [f"## `{name}`", "", _first_line(module), ""]
        for item in sorted(module.__all__, key=str.casefold):
            value = getattr(module, item)
            if isinstance(value, ModuleType) or item.startswith("__"):
                continue
            file = f"{name}.{item}.md"
            pages[file] = _page(f"{name}.{item}", value)
            index.append(f"- [`{item}`]({file}): {_first_line(value)}")
        index.append("")
    pages["README.md"] = "\n".join(index).rstrip() + "\n"
    return pages


def _module(name: str) -> Any:
    package, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(package), attribute) if package else importlib.import_module(name)


def _page(name: str, value: Any) -> str:
    source = inspect.getsourcefile(value) if callable(value) else None
    lines = [f"# `{name}`", ""]
    if callable(value):
        lines += ["```python", _signature(name.rsplit(".", 1)[1], value), "```", ""]
    lines += [_markdown(inspect.getdoc(value) or ""), ""]
    if inspect.isclass(value):
        lines += [*_fields(value), *_methods(value)]
    if source:
        lines += [f"Source: `{Path(source).relative_to(ROOT).as_posix()}`"]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _signature(name: str, value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return name
    shown, star = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            shown.append("*")
        star = star or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        prefix = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        annotation = "" if parameter.annotation is parameter.empty else f": {_annotation(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        shown.append(f"{prefix}{parameter.name}{annotation}{default if annotation else default.replace(' ', '')}")
    returned = signature.return_annotation
    result = "" if returned in (signature.empty, None, "None") else f" -> {_annotation(returned)}"
    line = f"{name}({', '.join(shown)}){result}"
    return line if len(line) <= 100 else "\n".join([f"{name}(", *(f"    {text}," for text in shown), f"){result}"])


def _annotation(value: Any) -> str:
    return value if isinstance(value, str) else getattr(value, "__name__", str(value))


def _default(value: Any) -> str:
    text = repr(value)
    return "..." if " at 0x" in text or text.startswith("<") else text


def _fields(value: type) -> Iterator[str]:
    if not dataclasses.is_dataclass(value):
        return
    documented = dict(_field_docstrings(value))
    yield from ("## Fields", "")
    for field in dataclasses.fields(value):
        default = "" if field.default is dataclasses.MISSING else f" = `{field.default!r}`"
        text = " ".join(documented.get(field.name, "").split())
        yield f"- `{field.name}`: `{field.type!s}`{default}{'. ' + text if text else ''}"
    yield ""


def _field_docstrings(value: type) -> Iterator[tuple[str, str]]:
    for kind in reversed(value.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        except (OSError, TypeError):
            continue
        statements = getattr(body, "body", [])
        for field, text in pairwise(statements):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                    yield name, doc


def _methods(value: type) -> Iterator[str]:
    for name, member in inspect.getmembers(value):
        own = any(name in vars(kind) for kind in value.__mro__ if kind.__module__.startswith("dilated"))
        if name.startswith("_") or not own:
            continue
        plain = member.fget if isinstance(member, property) else member
        if not (inspect.isfunction(plain) or inspect.ismethod(plain)) or not plain.__doc__:
            continue
        head = name if isinstance(member, property) else _signature(name, plain)
        yield from (f"## `{name}`", "", "```python", head, "```", "", _markdown(inspect.getdoc(plain) or ""), "")


def _markdown(text: str) -> str:
    """A docstring with its sections as bold heads, lists and code blocks."""
    lines, section, code = [], "", False
    for line in text.splitlines():
        head = line.rstrip(":")
        if line.endswith(":") and head in SECTIONS:
            section = head
            lines += ["", f"**{section}**", ""]
            continue
        if section and line and not line.startswith(" "):
            section = ""
        stripped = line.strip()
        starts_code = stripped.startswith(">>>") or (line.startswith("    ") and not section)
        if starts_code and not code:
            lines.append("```python")
            code = True
        if code and not stripped:
            lines.append("```")
            code = False
        if code:
            lines.append(line.removeprefix("    "))
        elif section and re.match(r"    \S", line) and section != "Example":
            lines.append(f"- {stripped}")
        else:
            lines.append(stripped)
    return "\n".join([*lines, *(["```"] if code else [])]).strip()


def _first_line(value: Any) -> str:
    return (inspect.getdoc(value) or "").split("\n\n", 1)[0].replace("\n", " ")


def main() -> None:
    pages = render()
    existing = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.md")}
    if "--check" in sys.argv:
        raise SystemExit(0 if existing == pages else "docs/reference is out of date: run `make reference`")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in existing.keys() - pages.keys():
        (FOLDER / name).unlink()
    for name, text in pages.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
