"""How long steps take, and how long each of them waits for its batch before.

timer = StepTimer()
for batch in batches:
    timer.on_batch()
    ...                                                       # the step
    timer.on_step()
    seconds, wait = timer.pop_means()                              # means over the steps since the last call
    ...                                                       # a validation, which is not counted
    timer.resume()
"""

from __future__ import annotations

import time


class StepTimer:
    """Sums the seconds of steps, and of the waiting before each.

    A GPU computes while the next steps are handed to it, so one step alone says nothing; the mean over ten, at the end
    of which a loss is read, does.
    """

    def __init__(self) -> None:
        self._mark = time.perf_counter()
        self._steps, self._seconds, self._wait = 0, 0.0, 0.0

    def _lap(self) -> float:
        previous, self._mark = self._mark, time.perf_counter()
        return self._mark - previous

    def on_batch(self) -> None:
        """A batch has arrived."""
        self._wait += self._lap()

    def on_step(self) -> None:
        """Its step is done, or handed to the device."""
        self._seconds += self._lap()
        self._steps += 1

    def resume(self) -> None:
        """Leave out what was done since the step."""
        self._lap()

    def pop_means(self) -> tuple[float, float]:
        """Return the mean seconds of a step and of the waiting before it, and begin anew."""
        self._seconds += self._lap()  # the loss has been read, for which a device is waited for
        steps = max(1, self._steps)
        means = round(self._seconds / steps, 4), round(self._wait / steps, 4)
        self._steps, self._seconds, self._wait = 0, 0.0, 0.0
        return means
