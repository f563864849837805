"""What became of a case of a fuzzer, and the clock and the memory that each case is held to."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dilated.errors import InputError

BAD = ("traceback", "silent", "slow")
SECONDS = 10
"""What a case may take before it counts as hanging."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case: `loaded`, `refused` by an `InputError` that names the file, or one of `BAD`."""

    number: int
    changes: tuple[str, ...]
    kind: str
    seconds: float = 0.0
    text: str = ""


class SilentError(Exception):
    """Something was read as something else than its file says."""


def examine(number: int, changes: tuple[str, ...], path: Path, read: Callable[[], object]) -> Outcome:
    """Read a file, and see what happens.

    Args:
        path: the file, which an error must name.
        read: reads it; raises `SilentError` where what is read is not what the file says.
    """
    kind, text, start = "loaded", "", time.monotonic()
    try:
        with limit(SECONDS):
            read()
    except InputError as error:
        kind, text = "refused", str(error)
    except SilentError as error:
        kind, text = "silent", str(error)
    except TimeoutError:
        kind, text = "slow", traceback.format_exc()
    except BaseException:
        kind, text = "traceback", traceback.format_exc()
    if kind == "refused" and (str(path) not in text or len(text) > 4000):
        kind, text = "traceback", f"an error that does not name the file, or of {len(text)} characters: {text[:500]}"
    return Outcome(number, changes, kind, time.monotonic() - start, text)


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Raise `TimeoutError` where the time is up."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done in {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
