"""The arguments that several verbs have, each described once; none shows the name of a Python type or value.

A verb with more than 7 arguments takes its options as one frozen dataclass; the help shows their docstrings:

@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    split: Name = "val"
    '''the part of the data to measure.'''

def run(network: Network, data: Data, /, options: Options[EvaluateOptions]) -> None: ...
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, TypeVar

from tyro.conf import DisallowNone, FlagCreatePairsOff, OmitArgPrefixes, Positional, arg
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

PARSER_CONFIG = (DisallowNone, OmitArgPrefixes)

_T = TypeVar("_T")
Options = Annotated[_T, arg(name="")]
Network = Annotated[
    str,
    Positional,
    arg(
        metavar="NETWORK",
        help="a network file, a run's folder, a bundled name, hf://OWNER/NAME, or an exported .onnx or .xml.",
    ),
]
Data = Annotated[Path, Positional, arg(metavar="DATA")]
Name = Annotated[str, arg(metavar="NAME")]
Flag = Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")]
"""Off unless given."""
Switch = Annotated[bool, arg(help_behavior_hint="(default: yes)")]
"""On unless given as `--no-...`."""
Text = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
Duration = Annotated[str | None, arg(metavar="TIME", help_behavior_hint="")]
NetworkOption = Annotated[str | None, arg(metavar="NETWORK", help_behavior_hint="")]
RequiredPath = Annotated[Path, arg(metavar="PATH")]
OptionalPath = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]
OptionalFolder = Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")]
Fold = Annotated[
    str | None,
    arg(
        metavar="K/N",
        help="divide train and val by group into N folds, the same each time, and make the K-th val; as many folds as "
        "groups leave one group out at a time.",
        help_behavior_hint="",
    ),
]
Lists = Annotated[
    Path | None,
    arg(
        metavar="FOLDER",
        help="a folder with train.txt and val.txt, as `dilated split` writes, which replace the data's splits.",
        help_behavior_hint="",
    ),
]
JsonFile = Annotated[Path | None, arg(name="json", metavar="FILE", help_behavior_hint="")]
CsvFile = Annotated[Path | None, arg(name="csv", metavar="FILE", help_behavior_hint="")]
Format = Annotated[
    str | None,
    arg(name="format", metavar="NAME", help="the data's layout, where it is not recognized.", help_behavior_hint=""),
]
GroupBy = Annotated[
    str | None,
    arg(
        metavar="RULE",
        help="what tells which images belong together, as frames of a film do: a CSV file of name,group; name, exif or "
        "image; or a regular expression. By default groups.csv or classes.toml of the data, else what is found.",
        help_behavior_hint="",
    ),
]
Device = Annotated[
    str | None,
    arg(metavar="DEVICE", help="cpu, cuda, cuda:1 or mps; by default CUDA where available.", help_behavior_hint=""),
]
Count = Annotated[int, arg(metavar="N")]
OptionalCount = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
OptionalFraction = Annotated[float | None, arg(metavar="X", help_behavior_hint="")]
Number = Annotated[float, arg(metavar="X")]
Counts = Annotated[tuple[int, ...], arg(metavar="N...", help_behavior_hint="")]
OptionalCounts = Annotated[tuple[int, ...] | None, arg(metavar="N...", help_behavior_hint="")]
Numbers = Annotated[tuple[float, ...], arg(metavar="X...")]
Names = Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="")]


_METAVARS = {
    int: "N",
    int | None: "N",
    float: "X",
    float | None: "X",
    tuple[int, ...]: "N...",
    tuple[int, int] | None: "HEIGHT WIDTH",
    tuple[float, ...]: "X...",
    tuple[str, ...] | None: "[NAME=VALUE...]",
}


def make_registry() -> ConstructorRegistry:
    """Return the parser's rule for options whose dataclass lies in another layer: plain types become those above."""
    registry = ConstructorRegistry()
    is_nested = False

    @registry.struct_rule
    def annotate_options(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal is_nested
        if is_nested or not dataclasses.is_dataclass(info.type):
            return None
        is_nested = True  # once more, without this rule
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            is_nested = False
        assert isinstance(spec, StructConstructorSpec)
        return dataclasses.replace(spec, fields=tuple(map(_annotate_field, spec.fields)))

    return registry


def _annotate_field(field: StructFieldSpec) -> StructFieldSpec:
    """Give a field of a plain type its metavar, no hint of an empty default, and help that the parser wraps."""
    annotated: Any = field.type
    if field.type is bool:
        annotated = Switch if field.default else Flag
    else:
        metavar = field.name.upper() if field.type in (str, str | None) else _METAVARS.get(field.type)
        hint = "" if field.default in (None, ()) else None
        if metavar or hint is not None:
            annotated = Annotated[field.type, arg(metavar=metavar, help_behavior_hint=hint)]
    return dataclasses.replace(field, type=annotated, helptext=lambda: _to_help(field))


def _to_help(field: StructFieldSpec) -> str | None:
    """Return a field's docstring as a line that begins like those of arguments."""
    text = " ".join(((field.helptext() if callable(field.helptext) else field.helptext) or "").split())
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
