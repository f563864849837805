from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dilated.prediction.views import TileCache

FEATURES = torch.arange(2 * 4 * 6, dtype=torch.float32).reshape(2, 4, 6)
FINE = -torch.arange(8 * 12, dtype=torch.float32).reshape(1, 8, 12)


@pytest.fixture(params=["memory", "files"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "a" / "maps" if request.param == "files" else None


def test_windows_are_those_of_the_maps(folder: Path | None) -> None:
    with TileCache(folder) as cache:
        cache[(0, 3, 1)] = [FEATURES, FINE]
        assert torch.equal(cache.read_window((0, 3, 1), 0, slice(1, 3), slice(0, 5)), FEATURES[:, 1:3, :5])
        assert torch.equal(cache.read_window((0, 3, 1), 1, slice(0, 8), slice(11, 12)), FINE[:, :, 11:])
        assert cache.read_window((0, 3, 1), 0, slice(0, 4), slice(0, 6)).dtype == torch.float32


def test_a_key_is_there_once_it_is_set(folder: Path | None) -> None:
    with TileCache(folder) as cache:
        assert (1, 2) not in cache
        cache[(1, 2)] = [FEATURES]
        assert (1, 2) in cache
        assert (2, 1) not in cache
        assert (12,) not in cache


def test_maps_can_be_set_anew(folder: Path | None) -> None:
    with TileCache(folder) as cache:
        cache[(0,)] = [FEATURES]
        cache[(0,)] = [FEATURES + 1]
        assert torch.equal(cache.read_window((0,), 0, slice(0, 4), slice(0, 6)), FEATURES + 1)


def test_keep_forgets_the_rest_and_nothing_else(folder: Path | None) -> None:
    keys = [(0, 1, 1), (0, 1, 11), (0, 11, 1), (1, 1, 1), (10, 1, 1)]
    with TileCache(folder) as cache:
        for i, key in enumerate(keys):
            cache[key] = [FEATURES + i, FINE]
        cache.retain(lambda key: key != (0, 1, 1))
        assert [key in cache for key in keys] == [False, True, True, True, True]
        for i, key in enumerate(keys[1:], 1):
            assert torch.equal(cache.read_window(key, 0, slice(0, 4), slice(0, 6)), FEATURES + i)
        if folder is not None:
            assert len(list(folder.iterdir())) == 8
        cache.retain(lambda key: False)
        assert not any(key in cache for key in keys)
        if folder is not None:
            assert not list(folder.iterdir())


def test_the_folder_is_emptied_at_the_start_and_removed_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / "0-0.0.npy").write_bytes(b"of a run that was killed")
    with TileCache(folder) as cache:
        assert not list(folder.iterdir())
        assert (0, 0) not in cache
        cache[(0, 0)] = [FEATURES]
        assert len(list(folder.iterdir())) == 1
    assert not folder.exists()
    assert tmp_path.exists()


def test_the_folder_is_removed_after_an_error_too(tmp_path: Path) -> None:
    def fail() -> None:
        with TileCache(tmp_path / "maps") as cache:
            cache[(0, 0)] = [FEATURES]
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    assert not (tmp_path / "maps").exists()


def test_a_window_of_a_file_is_a_copy(tmp_path: Path) -> None:
    with TileCache(tmp_path / "maps") as cache:
        cache[(0,)] = [FEATURES]
        window = cache.read_window((0,), 0, slice(0, 2), slice(0, 2))
        cache[(0,)] = [FEATURES + 1]
        cache.retain(lambda key: False)
        assert torch.equal(window, FEATURES[:, :2, :2])
        window += 1  # it can be written to
    assert torch.equal(window, FEATURES[:, :2, :2] + 1)


def test_what_is_held_in_memory_is_let_go_at_the_end() -> None:
    with TileCache() as cache:
        cache[(0,)] = [FEATURES]
    assert (0,) not in cache
