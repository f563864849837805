"""Early stopping: a timed stage whose validations no longer gain gives most of the time that it has left back.

    seconds = shorten_on_plateau([0.61, 0.70, 0.70, 0.69, 0.70, 0.70], patience=4, elapsed=300.0, seconds=600.0)

The learning rate falls with the time, and its fall gains something by itself. So a stage is not cut off: it keeps a
quarter of what is left, in which the rate falls to 0. The plateau must be clear: none of the last validations is better
by 0.003 than the best before them, and less than 0.7 of the stage is over, or there is little to give back.
"""

from __future__ import annotations

from collections.abc import Sequence

from dilated.files import plural

PATIENCE = 4
"""Validations without a gain that a plan waits for."""
_LEAST_GAIN = 0.003
"""Mean IoU by which a validation must be better to count as a gain."""
_KEPT = 0.25
"""Fraction of the time left that the stage keeps."""
_LATEST = 0.7
"""Fraction of a stage after which it is not shortened."""


def shorten_on_plateau(values: Sequence[float], patience: int, elapsed: float, seconds: float) -> float:
    """Return the seconds of a stage, fewer where its validations have stopped to gain.

    Args:
        values: mean IoU of the stage's validations, in their order.
        patience: of the last validations, how many must be without a gain; 0 for never.
        elapsed: seconds of the stage so far.
        seconds: that it has.

    Example:
        >>> shorten_on_plateau([0.61, 0.70, 0.70, 0.69, 0.70, 0.70], 4, elapsed=300.0, seconds=600.0)
        375.0
        >>> shorten_on_plateau([0.61, 0.70, 0.70, 0.69, 0.70, 0.71], 4, elapsed=300.0, seconds=600.0)
        600.0
    """
    if not patience or len(values) <= patience or elapsed >= _LATEST * seconds:
        return seconds
    if max(values[-patience:]) >= max(values[:-patience]) + _LEAST_GAIN:
        return seconds
    return elapsed + _KEPT * (seconds - elapsed)


def describe_plateau(values: Sequence[float], patience: int, saved: float) -> str:
    """Say that a stage was shortened, by how much, and why.

    Example:
        >>> describe_plateau([0.7, 0.7, 0.69], 2, 225.0)
        'plateau: the last 2 validations gained nothing on 0.7000; 225 s are given back, the rest lets the rate fall'
    """
    best = max(values[:-patience])
    return (
        f"plateau: the last {plural(patience, 'validation')} gained nothing on {best:.4f}; {saved:.0f} s are given "
        "back, the rest lets the rate fall"
    )
