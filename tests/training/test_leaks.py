"""Neither memory nor open files grow with the epochs of a training. A process of its own is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_run import data_folder

SCRIPT = """
import ctypes, gc, json, sys
from pathlib import Path
import psutil, torch
from dilated.data.dataset import open_dataset
from dilated.training.config import load_recipe
from dilated.training.train import _Trainer, train

root, out, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
process, rows = psutil.Process(), []
validate = _Trainer._validate

def look(trainer):
    validate(trainer)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps for later is no leak
    rows.append((process.memory_info().rss, process.num_fds(), process.num_threads(), len(process.children())))

_Trainer._validate = look
recipe = root / "recipe.toml"
recipe.write_text(
    f'weights = "random"\\nbatch = 2\\nworkers = {sys.argv[4]}\\nprecision = "fp32"\\ncheckpoint_every = 2\\n'
    '[network]\\nbackbone = "test_efficientnet"\\nfeatures = 8\\n[augment]\\ncrop = [32, 32]\\n'
    f'[[stage]]\\nkind = "frontend"\\nepochs = {epochs}\\noutput_stride = 16\\nval_interval = {1 / epochs}\\n'
)
train(open_dataset(root), load_recipe(str(recipe)), out)
print(json.dumps(rows))
"""


def measure(root: Path, epochs: int, workers: int) -> np.ndarray:
    """Bytes, open files, threads and processes after each validation, (epochs, 4)."""
    data_folder(root / "data", ("road", "sky"))
    command = [sys.executable, "-c", SCRIPT, str(root / "data"), str(root / "run"), str(epochs), str(workers)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert result.returncode == 0, result.stderr[-3000:]
    return np.array(json.loads(result.stdout.splitlines()[-1]))


def assert_steady(rows: np.ndarray, bytes_per_epoch: float) -> None:
    later = rows[len(rows) // 4 :]  # the first epochs fill caches
    growth = np.polyfit(np.arange(len(later)), later[:, 0], 1)[0]
    assert growth < bytes_per_epoch, f"{growth:,.0f} bytes per epoch: {later[:, 0].tolist()}"
    assert (later[-1, 1:] <= later[0, 1:]).all(), later[:, 1:].tolist()


def test_a_leak_is_seen() -> None:
    steady = np.array([[10**8 + i % 3 * 10**5, 20, 3, 0] for i in range(40)])
    assert_steady(steady, 20_000)
    for column, amount in ((0, 10**5), (1, 1), (2, 1), (3, 1)):
        with pytest.raises(AssertionError):
            assert_steady(steady + np.outer(np.arange(40), np.eye(4, dtype=int)[column] * amount), 20_000)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts /proc's file handles, and trims glibc's heap")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("epochs", "workers"), [(300, 0), (60, 2)])
def test_neither_memory_nor_open_files_grow_with_epochs(epochs: int, workers: int, tmp_path: Path) -> None:
    assert_steady(measure(tmp_path, epochs, workers), bytes_per_epoch=50_000)
