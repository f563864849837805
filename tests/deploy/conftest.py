"""Exports that leave out what takes seconds each, but for the tests that are about it."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def quick_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured in two processes of its own; only the test marked `real_memory` starts them."""
    if "real_memory" not in request.fixturenames:
        monkeypatch.setattr("dilated.deploy.export.measure_peak", lambda network, image: 2**20)


@pytest.fixture
def real_memory() -> None:
    """Asks for the processes that measure memory."""
