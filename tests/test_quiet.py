"""Warnings that are not shown, in several threads."""

from __future__ import annotations

import threading
import warnings

import pytest

from dilated.quiet import without_warnings


def test_a_block_in_another_thread_that_ends_first_brings_no_warning_back() -> None:
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with without_warnings(UserWarning):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    with without_warnings(UserWarning):
        leave.set()
        thread.join(60)
        warnings.warn("an error here if it were shown", stacklevel=1)
    assert warnings.filters == before


def test_a_block_that_ends_last_leaves_no_filter_behind() -> None:
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with without_warnings(DeprecationWarning):
            inside.set()
            leave.wait(60)

    with without_warnings(UserWarning):
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(60)
    leave.set()
    thread.join(60)
    assert warnings.filters == before
    with pytest.raises(UserWarning):
        warnings.warn("shown again", stacklevel=1)


def test_an_error_leaves_the_block() -> None:
    before = list(warnings.filters)
    with pytest.raises(KeyError), without_warnings(UserWarning):
        raise KeyError
    assert warnings.filters == before
