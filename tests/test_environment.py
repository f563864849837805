from __future__ import annotations

import errno

import pytest
import torch

from dilated.environment import is_out_of_memory, require_memory, resolve_device
from dilated.errors import InputError, ShortMemoryError


@pytest.mark.parametrize("available", [True, False])
def test_the_default_device_is_cuda_only_where_it_is_available(
    monkeypatch: pytest.MonkeyPatch, available: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device().type == ("cuda" if available else "cpu")
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "CPU"])
def test_a_name_that_is_not_a_device_is_an_input_error_that_lists_the_devices(name: str) -> None:
    with pytest.raises(InputError, match=f"device: '{name}' is not the name of a device") as error:
        resolve_device(name)
    assert error.value.hint.startswith("give cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "meta"])
def test_a_device_that_this_machine_lacks_is_an_input_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"device: '{name}' is not available on this machine") as error:
        resolve_device(name)
    assert error.value.hint == "give cpu"


def test_mps_and_each_cuda_device_are_accepted_where_torch_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for name in ("mps", "cuda", "cuda:1"):
        assert resolve_device(name) == torch.device(name)
    with pytest.raises(InputError, match="device: 'cuda:2' does not exist, this machine has 2 CUDA devices"):
        resolve_device("cuda:2")


def test_running_out_of_memory_is_recognized_on_each_device_and_nothing_else_is() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))
    assert is_out_of_memory(RuntimeError("unable to mmap 400 bytes from file: Cannot allocate memory (12)"))
    assert is_out_of_memory(RuntimeError("could not create a memory object"))
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not is_out_of_memory(OSError(errno.ENOSPC, "No space left on device"))


def test_short_memory_is_said_before_something_else_is_blamed() -> None:
    require_memory(RuntimeError("expected 4 channels"), "backbone")
    with pytest.raises(ShortMemoryError, match=r"^backbone: memory ran out") as raised:
        require_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"), "backbone")
    assert isinstance(raised.value, InputError)
    with pytest.raises(ShortMemoryError, match=r"^evaluate: memory ran out"):  # said once more, where it surfaced
        require_memory(raised.value, "evaluate")
