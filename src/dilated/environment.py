"""The machine: which devices torch can use on it, what it is made of, and whether its memory ran out.

>>> "python" in describe_machine("cpu")
True
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from dilated._version import __version__
from dilated.errors import InputError, ShortMemoryError
from dilated.files import plural
from dilated.system import free_address_space

_CONTROL_GROUP_FOLDERS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))
_OUT_OF_MEMORY_WORDS = (
    *("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "bad_alloc"),
    *("could not create a memory object", "cublas_status_alloc_failed", "can't start new thread"),
    "failed to map segment",
)
"""In the errors of torch's allocator, the C library, C++, oneDNN, CUDA and the loader of shared libraries; a thread
needs memory for its stack."""


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device to run on: the one given, by default CUDA if it is available, else the CPU.

    Args:
        device: as torch names it, such as `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        InputError: a name that torch does not know, or a device that this machine or this torch does not have.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hint = f"give {' or '.join(_available_devices())}"
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device: {str(device)!r} is not the name of a device", hint=hint) from error
    if resolved.type not in _available_devices():
        raise InputError(f"device: {str(device)!r} is not available on this machine", hint=hint)
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        count = plural(torch.cuda.device_count(), "CUDA device")
        raise InputError(f"device: {str(device)!r} does not exist, this machine has {count}", hint="give cuda:0")
    return resolved


def has_bf16(device: torch.device) -> bool:
    """Return whether a processor multiplies in bf16; emulating it is slower than fp32, on a CPU 15 to 40 times.

    Example:
        >>> has_bf16(torch.device("meta"))
        False
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = _cpu_capabilities() if device.type == "cpu" else {}
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def require_bf16(device: torch.device, setting: str, hint: str) -> None:
    """Raise where bf16 is asked of a CPU that emulates it.

    Args:
        setting: what asks for it, for the message.

    Raises:
        InputError: on a CPU without instructions for bf16.
    """
    is_known = _cpu_capabilities().get("architecture") == "x86_64"
    if device.type == "cpu" and is_known and not has_bf16(device):
        raise InputError(f"{setting}: this processor only emulates bf16, many times slower than fp32", hint=hint)


def _cpu_capabilities() -> dict[str, Any]:
    """What torch says of the processor; nothing before torch 2.9."""
    get_capabilities: Callable[[], dict[str, Any]] | None = getattr(torch.cpu, "get_capabilities", None)
    return get_capabilities() if get_capabilities is not None else {}


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on a GPU or on the CPU.

    torch raises an exception class of its own on GPUs only; its CPU allocator and the libraries below it are recognized
    by their messages, the system by its error number.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("mat1 and mat2 cannot be multiplied"))
        (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError | ShortMemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    is_foreign = not isinstance(error, ValueError | AssertionError)  # an InputError is a ValueError
    return is_foreign and any(words in str(error).lower() for words in _OUT_OF_MEMORY_WORDS)


def require_memory(error: BaseException, task: str, hint: str = "") -> None:
    """Raise where an error means that memory ran out, before something else is blamed for it.

    Args:
        error: what was raised.
        task: what was being done, where.
        hint: what takes less memory.

    Raises:
        ShortMemoryError: memory ran out.

    Example:
        >>> require_memory(ValueError("channels"), "backbone")
        >>> require_memory(MemoryError(), "backbone")
        Traceback (most recent call last):
        dilated.errors.ShortMemoryError: backbone: memory ran out. Close other programs, or give a smaller network.
    """
    if is_out_of_memory(error):
        raise ShortMemoryError(
            f"{task}: memory ran out", hint or "close other programs, or give a smaller network"
        ) from error


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process may still take on a device: what is free, within the limits set for it.

    Limits of a control group (containers, SLURM) and of the address space (`ulimit -v`) are respected.

    Example:
        >>> free_memory(torch.device("cpu")) > 0
        True
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    left = [psutil.virtual_memory().available]
    for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        for folder in _CONTROL_GROUP_FOLDERS:
            with contextlib.suppress(OSError, ValueError):  # not there, or "max": no limit
                left.append(int((folder / limit).read_text()) - int((folder / usage).read_text()))
    address_space = free_address_space()
    if address_space is not None:
        left.append(address_space)
    return max(0, min(left))


def describe_machine(device: str) -> dict[str, str]:
    """Describe processor, memory, system and versions; never names of hosts or users, never paths."""
    facts = {"processor": f"{_processor_name()}, {plural(os.cpu_count() or 1, 'logical core')}"}
    facts["memory"] = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
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
    """Write a length of time for people to read.

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


def _available_devices() -> list[str]:
    """Return the types of the devices that can be used, the CPU first."""
    accelerators = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return ["cpu", *(name for name, is_available in accelerators.items() if is_available)]


def _processor_name() -> str:
    """Return the processor's name where the system tells it, else its kind."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return f"{platform.system()} {platform.release()}"
