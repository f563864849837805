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
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
MODULES = (
    "dilated",
    "dilated.paper",
    "dilated.fields",
    "dilated.losses",
    "dilated.data.formats",
    "dilated.prediction.writers",
)
SECTIONS = ("Args", "Shapes", "Returns", "Yields", "Raises", "Example", "Examples")


def render() -> dict[str, str]:
    """Every page by its file name."""
    values = {f"{name}.{item}": value for name in MODULES for item, value in _public_values(_module(name))}
    class_pages = {value: f"{name}.md" for name, value in values.items() if inspect.isclass(value)}
    pages = {f"{name}.md": _page(name, value, class_pages) for name, value in values.items()}
    index = ["# Reference", "", "Made from the docstrings by `make reference`; every example runs in the tests.", ""]
    for name in MODULES:
        index += [f"## `{name}`", "", _first_line(_module(name)), ""]
        index += [f"- [`{item}`]({name}.{item}.md): {_first_line(v)}" for item, v in _public_values(_module(name))]
        index.append("")
    pages["README.md"] = "\n".join(index).rstrip() + "\n"
    return pages


def _module(name: str) -> Any:
    package, _, attribute = name.rpartition(".")
    if not package:
        return importlib.import_module(name)
    return getattr(importlib.import_module(package), attribute, None) or importlib.import_module(name)


def _public_values(module: ModuleType) -> list[tuple[str, Any]]:
    """The functions and classes that a module offers: those in `__all__`, else those of its package."""
    names = getattr(module, "__all__", None)
    if names is None:
        defined = ((name, getattr(value, "__module__", "")) for name, value in vars(module).items())
        names = [name for name, home in defined if home.startswith(module.__name__) and not name.startswith("_")]
    values = ((name, getattr(module, name)) for name in sorted(names, key=str.casefold))
    return [(name, value) for name, value in values if inspect.isclass(value) or inspect.isfunction(value)]


def _page(name: str, value: Any, class_pages: Mapping[type, str]) -> str:
    lines = [f"# `{name}`", "", "```python", _signature(name.rsplit(".", 1)[1], value), "```", ""]
    lines += [_markdown(inspect.getdoc(value) or ""), ""]
    if inspect.isclass(value):
        bases = [base for base in value.__mro__[1:] if base in class_pages]
        links = ", ".join(f"[`{base.__name__}`]({class_pages[base]})" for base in bases)
        lines += [f"A kind of {links}, with its attributes and methods.", ""] if links else []
        lines += [*_fields(value), *_methods(value, bases)]
    source = inspect.getsourcefile(value)
    lines += [f"Source: `{Path(source).relative_to(ROOT).as_posix()}`"] if source else []
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _signature(name: str, value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return name
    shown, star = [], False
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    for parameter in parameters:
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
    return "..." if "<" in text or " at 0x" in text else text


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


def _methods(value: type, bases: Sequence[type]) -> Iterator[str]:
    """The documented methods and properties of a class, without those of bases that have a page."""
    kinds = [kind for kind in value.__mro__ if kind.__module__.startswith("dilated") and kind not in bases]
    for name, member in inspect.getmembers(value):
        if name.startswith("_") or not any(name in vars(kind) for kind in kinds):
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
