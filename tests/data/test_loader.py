import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.data.loader import _iter_with_memory_errors, iter_batch_keys, iter_batches, named_killed_workers
from dilated.errors import ShortMemoryError

sizes = st.integers(1, 12)


def test_no_step_is_no_batch() -> None:
    assert list(iter_batch_keys(num_samples=3, batch_size=2, seed=0, start=4, stop=4)) == []


def test_a_batch_may_be_larger_than_the_data() -> None:
    (keys,) = iter_batch_keys(num_samples=2, batch_size=5, seed=0, start=0, stop=1)
    assert sorted(Counter(index for index, _ in keys).values()) == [2, 3]


@settings(deadline=None, max_examples=50)
@given(num_samples=sizes, batch_size=sizes, seed=st.integers(0, 99), start=st.integers(0, 20), more=st.integers(0, 20))
def test_going_on_from_a_step_gives_what_the_whole_run_had(
    num_samples: int, batch_size: int, seed: int, start: int, more: int
) -> None:
    whole = list(iter_batch_keys(num_samples, batch_size, seed, 0, start + more))
    assert list(iter_batch_keys(num_samples, batch_size, seed, start, start + more)) == whole[start:]


@settings(deadline=None, max_examples=50)
@given(num_samples=sizes, batch_size=sizes, seed=st.integers(0, 99), steps=st.integers(1, 30))
def test_every_sample_is_drawn_equally_often_and_every_draw_once(
    num_samples: int, batch_size: int, seed: int, steps: int
) -> None:
    keys = [key for each in iter_batch_keys(num_samples, batch_size, seed, 0, steps) for key in each]
    assert [draw for _, draw in keys] == list(range(steps * batch_size))
    counts = Counter(index for index, _ in keys)
    often = [counts[index] for index in range(num_samples)]
    assert set(counts) <= set(range(num_samples))
    assert max(often) - min(often) <= 1
    for epoch in range(len(keys) // num_samples):
        assert sorted(i for i, _ in keys[epoch * num_samples : (epoch + 1) * num_samples]) == list(range(num_samples))


def test_orders_differ_between_epochs_and_seeds() -> None:
    first, second = (
        [i for i, _ in keys] for keys in iter_batch_keys(num_samples=20, batch_size=20, seed=0, start=0, stop=2)
    )
    (other,) = (
        [i for i, _ in keys] for keys in iter_batch_keys(num_samples=20, batch_size=20, seed=1, start=0, stop=1)
    )
    assert first != second
    assert first != other


class _Killed:
    """Samples of which number 3 kills the process that reads it, as the system does where memory is short."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        if key[0] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(3, 2, 2), torch.zeros(2, 2)


class _TooLarge:
    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        raise MemoryError


def test_a_killed_worker_is_an_error_that_names_memory_workers_and_resume() -> None:
    batches = iter_batches(_Killed(), [[(0, 0)], [(1, 1)], [(3, 2)], [(2, 3)]], workers=2)
    with pytest.raises(ShortMemoryError, match=r"one of 2 worker processes was killed.*memory is short") as raised:
        list(batches)
    assert raised.value.hint == "continue with --resume and fewer workers, such as --set workers=1"
    assert not multiprocessing.active_children(), "the other worker would keep the process from ending"


def test_a_worker_killed_while_something_else_is_done_is_the_same_error() -> None:
    message = "DataLoader worker (pid 7) is killed by signal: Killed. "
    with pytest.raises(ShortMemoryError, match="one of 2 worker processes was killed"), named_killed_workers(2):
        raise RuntimeError(message)  # as torch's handler of a signal does, in the middle of a step
    with pytest.raises(RuntimeError, match="other"), named_killed_workers(2):
        raise RuntimeError("other")


class _Handover:
    """A loader whose worker died between making a batch and handing its memory over."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __iter__(self) -> "_Handover":
        return self

    def __next__(self) -> None:
        raise self.error

    def _shutdown_workers(self) -> None:
        pass


@pytest.mark.parametrize(
    "error",
    [
        EOFError(),
        ConnectionResetError(104, "reset"),
        ConnectionRefusedError(111, "refused"),
        FileNotFoundError(2, "no such socket"),
    ],
)
def test_a_worker_killed_in_the_middle_of_handing_over_a_batch_is_the_same_error(error: Exception) -> None:
    with pytest.raises(ShortMemoryError, match="one of 2 worker processes was killed"):
        next(_iter_with_memory_errors(cast(Any, _Handover(error)), workers=2))


@pytest.mark.parametrize(
    "error",
    [OSError(5, "Input/output error"), FileNotFoundError("Caught FileNotFoundError in DataLoader worker process 0.")],
)
def test_an_error_of_the_disk_is_not_taken_for_a_killed_worker(error: Exception) -> None:
    with pytest.raises(type(error)):
        next(_iter_with_memory_errors(cast(Any, _Handover(error)), workers=2))


@pytest.mark.parametrize(("workers", "hint"), [(0, "augment.crop"), (1, "--set workers=0")])
def test_memory_that_runs_out_in_reading_is_an_error_that_says_so(workers: int, hint: str) -> None:
    with pytest.raises(ShortMemoryError, match=f"workers = {workers}: memory ran out") as raised:
        list(iter_batches(_TooLarge(), [[(0, 0)]], workers))
    assert hint in raised.value.hint
    assert "--resume" in raised.value.hint


_KEPT = """
import torch
from dilated.data.loader import iter_batches

class Zeros:
    def __getitem__(self, key):
        return torch.zeros(3, 4, 4), torch.zeros(4, 4, dtype=torch.int64)

kept = iter_batches(Zeros(), iter([[(0, i)] for i in range(99)]), workers=1)
next(kept)
print("read", flush=True)
"""


@pytest.mark.slow
def test_a_process_ends_though_its_batches_are_not_read_to_the_end() -> None:
    run = subprocess.run([sys.executable, "-c", _KEPT], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout) == (0, "read\n")
