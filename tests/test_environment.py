from __future__ import annotations

import pytest
import torch

from dilated.environment import is_out_of_memory, resolve_device
from dilated.errors import InputError


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
