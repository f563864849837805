"""The points of fault injection that were tried, in a file, so that hours of them can be interrupted."""

from __future__ import annotations

import json
from pathlib import Path


class PointLog:
    """A line for each point: job, mode, calls of the undisturbed job, call of the fault, and what was wrong."""

    def __init__(self, path: str) -> None:
        self.path = Path(path) if path else None
        lines = self.path.read_text().splitlines() if self.path and self.path.exists() else []
        self.clean = {tuple(fields[:4]) for fields in map(json.loads, lines) if not fields[4]}

    def is_clean(self, job: str, mode: str, calls: int, k: int) -> bool:
        return (job, mode, calls, k) in self.clean

    def add(self, job: str, mode: str, calls: int, k: int, wrong: str) -> None:
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps([job, mode, calls, k, wrong]) + "\n")
