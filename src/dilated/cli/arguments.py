"""The arguments that several verbs have, each described once; none shows the name of a Python type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

Network = Annotated[str, Positional, arg(metavar="NETWORK", help="a network file, a run's folder, or a bundled name.")]
Data = Annotated[Path, Positional, arg(metavar="DATA")]
Name = Annotated[str, arg(metavar="NAME")]
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
    arg(
        metavar="DEVICE", help="cpu, cuda, cuda:1 or mps; CUDA where there is one if not given.", help_behavior_hint=""
    ),
]
Count = Annotated[int, arg(metavar="N")]
OptionalCount = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
OptionalFraction = Annotated[float | None, arg(metavar="X", help_behavior_hint="")]
Number = Annotated[float, arg(metavar="X")]
Counts = Annotated[tuple[int, ...], arg(metavar="N...", help_behavior_hint="")]
OptionalCounts = Annotated[tuple[int, ...] | None, arg(metavar="N...", help_behavior_hint="")]
Numbers = Annotated[tuple[float, ...], arg(metavar="X...")]
Names = Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="")]
