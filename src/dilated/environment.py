"""The machine that made the page, without anything that says whose it is.

>>> "python" in describe_machine("cpu")
True
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from dilated._version import __version__
from dilated.files import plural


def describe_machine(device: str) -> dict[str, str]:
    """Processor, memory, system and versions; never names of hosts or users, never paths."""
    facts = {"processor": f"{_processor_name()}, {plural(os.cpu_count() or 1, 'logical core')}"}
    memory = _total_memory()
    if memory:
        facts["memory"] = f"{memory / 2**30:.0f} GiB"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts["graphics processor"] = (
            f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {torch.cuda.device_count()} in the machine"
        )
    facts |= {
        "measured on": f"{device}, {plural(torch.get_num_threads(), 'thread')}",
        "system": _system_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "dilated": __version__,
    }
    return facts


def format_duration(value: float) -> str:
    """A length of time to be read.

    Example:
        >>> format_duration(0.4), format_duration(75), format_duration(7400)
        ('0.4 s', '1 min 15 s', '2 h 3 min')
    """
    rounded = round(value)
    if rounded < 60:
        return f"{value:.1f} s" if value < 10 else f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"


def _processor_name() -> str:
    """Its name where the system tells it, else its kind."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _total_memory() -> int:
    """Bytes; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return f"{platform.system()} {platform.release()}"
