"""The arguments that several verbs have, each described once; none shows the name of a Python type or value.

A verb with more than 7 arguments takes its options as one frozen dataclass; the help shows their docstrings:

@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    split: Name = "val"
    '''the part of the data to measure.'''

def run(network: Network, data: Data, /, options: Options[EvaluateOptions]) -> None: ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from tyro.conf import DisallowNone, FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

PARSER_CONFIG = (DisallowNone, OmitArgPrefixes)

_T = TypeVar("_T")
Options = Annotated[_T, arg(name="")]
Network = Annotated[str, Positional, arg(metavar="NETWORK", help="a network file, a run's folder, or a bundled name.")]
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
JsonFile = Annotated[Path | None, arg(name="json", metavar="FILE", help_behavior_hint="")]
CsvFile = Annotated[Path | None, arg(name="csv", metavar="FILE", help_behavior_hint="")]
Format = Annotated[
    str | None,
    arg(name="format", metavar="NAME", help="the data's layout, where it is not recognized.", help_behavior_hint=""),
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
