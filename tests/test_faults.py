"""Whatever call that changes a file goes wrong: the job, started again, ends with the bytes of an undisturbed one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import environment

SUPPORT = Path(__file__).parent / "support"
JOBS = (
    "train",
    "predict",
    "raster",
    "convert",
    "report",
    "network",
    "split",
    "split-within",
    "score",
    "evaluate",
    "unpack",
)
MODES = ("crash", "tear", "full", "fail", "power", "lost", "reorder")
AT_THE_END_AS_WELL = MODES[4:]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("faults are injected by a shared object: needs Linux and a C compiler (cc, gcc or clang)")
    path = tmp_path_factory.mktemp("shim") / "faults.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", path, SUPPORT / "faults.c", "-ldl"], check=True)
    return path


def inject(shim: Path, job: str, mode: str, folder: Path, share: float | int) -> list[dict[str, Any]]:
    """Inject faults into jobs; one result for each job and kind of fault."""
    paths = (SUPPORT, SUPPORT.parent, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    process = subprocess.run(
        [sys.executable, SUPPORT / "fault_jobs.py", job, mode, folder, str(share)],
        env=environment() | {"LD_PRELOAD": str(shim), "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
        timeout=7000,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]


def test_a_few_faults_of_each_kind_and_in_each_job_leave_no_trace(shim: Path, tmp_path: Path) -> None:
    jobs = ("train", "predict", "raster", "convert", "unpack")
    results = inject(shim, ",".join(jobs), "thin", tmp_path, 0.0)
    assert {result["job"] for result in results} == {*jobs}
    assert {result["mode"] for result in results} == {*MODES}
    assert all(result["points"] == 1 for result in results)
    assert [result for result in results if result["failures"]] == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("job", JOBS)
def test_a_fault_at_every_call_leaves_no_trace(job: str, shim: Path, tmp_path: Path) -> None:
    results = inject(shim, job, "all", tmp_path, 1.0)
    assert [result["mode"] for result in results] == list(MODES)
    for result in results:
        assert result["points"] == result["calls"] + (result["mode"] in AT_THE_END_AS_WELL)
    assert [result for result in results if result["failures"]] == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("job", "kills"), [("train-and-report", 100), ("raster", 50), ("predict", 50), ("convert", 50)]
)
def test_a_job_killed_at_random_moments_ends_with_the_same_bytes(
    job: str, kills: int, shim: Path, tmp_path: Path
) -> None:
    (result,) = inject(shim, job, "kill", tmp_path, kills)
    print(result)
    assert result["points"] == kills
    assert result["failures"] == {}
    if job == "train-and-report":
        assert {"stage 0", "stage 1", "checkpoint", "report"} <= {*result["moments"]}
