"""What differs between Linux, macOS and Windows: the only module that imports what some of them do not have.

peak_memory()          # bytes that this process has had in use
free_address_space()   # bytes that `ulimit -v` leaves, None without a limit
lock_open_file(handle) # False where the system has no locks
"""

from __future__ import annotations

import sys

import psutil

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    resource = None  # type: ignore[assignment]


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had in use so far.

    Example:
        >>> peak_memory() > 0
        True
    """
    if resource is None:
        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_address_space() -> int | None:
    """Return the bytes that this process may still map under `ulimit -v`; None without a limit."""
    if resource is None:
        return None
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft_limit == resource.RLIM_INFINITY else soft_limit - psutil.Process().memory_info().vms


def lock_open_file(handle: int) -> bool:
    """Lock an open file for this process; return False where the operating or file system has no locks.

    Raises:
        BlockingIOError: another process has locked it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # POSIX allows both
        raise BlockingIOError from error
    except OSError:
        return False
    return True
