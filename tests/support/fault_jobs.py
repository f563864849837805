"""Does a short job with a fault at the k-th call that changes files, then does what the user would do next.

    LD_PRELOAD=faults.so python fault_jobs.py JOB MODE FOLDER SHARE [LOG]

JOB is a name below, or several with commas between; MODE too is a name, or `all`, or `thin`, two kinds of fault for
each job. Prints JSON, a line for each job and mode: `calls` that the undisturbed job makes, `points` that were tried,
and `failures`, each with its call and what was wrong: other bytes at the end than those of the undisturbed job, a stray
file, an error that is no plain message, or a message that promises what is not so. Each attempt is a fork of this
process, so hundreds of them cost no import. FOLDER is fastest in memory (/dev/shm). Each point is a line of the file
LOG as well; started again with it, those that stand there without a failure are not tried again.

MODE `kill` ends the job with SIGKILL at a random moment, of a training often in a stage, a checkpoint or the report as
drawn by chance, and goes on with it, and again, SHARE times in all; each time
that it comes to its end, its bytes are compared. `ends` counts these, and `moments` what the kills met: a stage of the
training, the writing of a checkpoint, or of the report. Each failure is also written to stderr at once.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 -- threads wait by `time.monotonic`, and take it before it is stopped
import contextlib
import ctypes
import gc
import io
import json
import os
import queue  # noqa: F401
import random
import shutil
import signal
import sys
import threading  # noqa: F401
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

if __name__ == "__main__":  # collecting doctests imports this file as well, and its clock must go on
    time.monotonic = time.perf_counter = lambda: 0.0  # durations are in checkpoints, logs and pages

from fault_data import CAMVID, narrow, prepare
from fault_digests import digest
from fault_log import PointLog
from fault_moments import MOMENT, MOMENTS

from dilated import Predictor, api, convert, write_report
from dilated.cli.main import main as dilated_command
from dilated.data.dataset import open_dataset
from dilated.errors import InputError
from dilated.lock import LOCK_FILE, lock_folder
from dilated.prediction.journal import Journal
from dilated.prediction.pipeline import PipelineOptions, predict_sources
from dilated.prediction.raster_prediction import is_finished, predict_raster
from dilated.prediction.sources import search_sources
from dilated.run_folder import CHECKPOINT_FILE
from dilated.weights import published

MODES = {"crash": 1, "tear": 2, "full": 3, "fail": 4, "power": 5, "lost": 6, "reorder": 7}


def is_running(child: int) -> bool:
    """Whether a child has not ended; it is not yet waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def run_command(*arguments: object) -> None:
    """Run a command in this process, its output taken off; what it refuses is an `InputError`."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            dilated_command([str(argument) for argument in arguments])
    except SystemExit as error:
        if error.code:
            raise InputError(errors.getvalue()) from error


def train(root: Path, work: Path, again: bool, report: bool = False) -> None:
    """Resume where there is a checkpoint, and start anew where there is none."""
    options = api.TrainOptions(device="cpu", progress=MOMENT, report=report)
    resume = again and (work / "run" / CHECKPOINT_FILE).exists()
    recipe = None if resume else root / "recipe.toml"
    api.train(root / "data", work / "run", recipe=recipe, resume=resume, options=options)


def train_and_report(root: Path, work: Path, again: bool) -> None:
    train(root, work, again, report=True)


def predict(root: Path, work: Path, again: bool) -> None:
    options = PipelineOptions(save=("palette", "probabilities", "geojson", "csv"), overlay=True, skip_existing=again)
    sources = search_sources([root / "data" / "images"], exclude=work).sources
    predictor = Predictor(api.load(str(root / "network.safetensors")), device="cpu")
    with lock_folder(work / "out", "prediction"):
        journal = Journal(work / "out", predictor)
        writers = options.make_writers(work / "out", sources)
        result = predict_sources(predictor, sources, writers, options, None, journal)
    if result.failures:
        raise InputError(result.failures[0].reason, result.failures[0].hint)


def raster(root: Path, work: Path, again: bool) -> None:
    predictor = Predictor(api.load(str(root / "local.safetensors")), device="cpu", tile=64)
    if not (again and is_finished(work / "labels.tif")):
        predict_raster(predictor, root / "raster.png", work / "labels.tif")


def convert_data(root: Path, work: Path, again: bool) -> None:
    try:
        convert(root / "data", work / "out", "voc")
    except InputError as error:
        if not (again and "is not empty" in str(error)):  # it was done
            raise


def report(root: Path, work: Path, again: bool) -> None:
    if not (root / "run").exists():
        train(root, root, again=False)
    write_report(root / "run", root / "data", work / "report.html", device="cpu")


def convert_network(root: Path, work: Path, again: bool) -> None:
    published.published = lambda name, classes=None: narrow(name)  # of few maps
    run_command("convert", root / "theirs.caffemodel", "--network", CAMVID, "--out", work / "net.safetensors")


def split(root: Path, work: Path, again: bool) -> None:
    run_command("split", root / "data", "--out", work / "lists", "--by", "image", "--val", 0.4)


def split_within(root: Path, work: Path, again: bool) -> None:
    """Write the lists into the data folder, where they are looked for."""
    for kind in ("images", "labels"):
        (work / kind).mkdir(exist_ok=True)
        for split_name in ("train", "val"):
            for path in (root / "data" / kind / split_name).iterdir():
                target = work / kind / f"{split_name}_{path.name}"
                if not target.exists():
                    os.link(path, target)
    if not (work / "classes.toml").exists():
        os.link(root / "data" / "classes.toml", work / "classes.toml")
    try:
        run_command("split", work, "--by", "image", "--val", 0.4)
    except InputError as error:
        if not (again and "has splits of its own, train, val" in str(error)):  # it was done
            raise


def score(root: Path, work: Path, again: bool) -> None:
    files = ("--page", work / "page.html", "--json", work / "all.json", "--csv", work / "each.csv")
    run_command("score", root / "data" / "labels" / "val", root / "data", *files)


def evaluate(root: Path, work: Path, again: bool) -> None:
    files = ("--json", work / "all.json", "--csv", work / "each.csv", "--device", "cpu")
    run_command("evaluate", root / "network.safetensors", root / "data", *files)


def unpack(root: Path, work: Path, again: bool) -> None:
    os.environ["DILATED_CACHE"] = str(work)
    open_dataset(root / "data.zip")


JOBS: dict[str, Callable[[Path, Path, bool], None]] = {
    "train": train,
    "train-and-report": train_and_report,
    "predict": predict,
    "raster": raster,
    "convert": convert_data,
    "report": report,
    "network": convert_network,
    "split": split,
    "split-within": split_within,
    "score": score,
    "evaluate": evaluate,
    "unpack": unpack,
}


class Attempts:
    """Makes attempts at one job in forks of this process."""

    def __init__(self, job: str, root: Path) -> None:
        self.job, self.mode, self.root = JOBS[job], 0, root
        self.work, self.message = root / "work", root / "message.txt"
        self.faults = ctypes.CDLL(None)
        self.warm_up()
        if job == "report":
            train(root, root, again=False)
        self.expected, self.calls = self.undisturbed()

    def warm_up(self) -> None:
        """Do the job on data of its own, so that forks need not import and compile; it halves their time."""
        warm = self.root / "warm"
        if not warm.exists():
            warm.mkdir()
            prepare(warm)
        (warm / "work").mkdir()
        self.job(warm, warm / "work", False)
        shutil.rmtree(warm / "work")
        gc.collect()
        gc.freeze()  # forks that collect nothing of it copy no pages

    def undisturbed(self) -> tuple[dict[str, str], int]:
        """Do the job twice, so that what differs by itself is not blamed on a fault."""
        trees = []
        for _ in range(2):
            self.run(0, again=False)
            status, _, calls = self.message.read_text().split("\n")[0].split(" ")
            assert status == "done", self.message.read_text()
            trees.append(self.tree())
        assert trees[0] == trees[1], sorted(name for name in trees[0] if trees[0][name] != trees[1].get(name))
        return trees[0], int(calls)

    def tree(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.work)): digest(path) if path.is_file() else ""
            for path in sorted(self.work.rglob("*"))
        }

    def run(self, k: int, again: bool) -> None:
        """Do the job in a fork with a fault at call k, 0 for none; the message says how it ended."""
        os.waitpid(self.start(k, again), 0)

    def start(self, k: int, again: bool) -> int:
        """Start the job in a fork, and return its process."""
        if not again:
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir()
        self.message.write_text("killed\n")
        MOMENT.note("begin")
        child = os.fork()
        if child == 0:
            status, text = "done", ""
            random.seed(0)  # a fork seeds it anew, and checkpoints hold its state
            self.faults.faults_arm(os.fsencode(self.work), k, self.mode)
            try:
                self.job(self.root, self.work, again)
            except (InputError, OSError) as error:
                status, text = "error", str(error)
            except BaseException:
                status, text = "traceback", traceback.format_exc()
            self.message.write_text(f"{status} calls {self.faults.faults_calls()}\n{text}")
            self.faults.faults_end()
            os._exit(0)
        return child

    def at(self, k: int) -> str:
        """Make the fault at call k and go on; say what was wrong, if anything."""
        self.run(k, again=False)
        before = self.message.read_text()
        if before.startswith("traceback"):
            return before
        promises_checkpoint = "--resume" in before or "checkpoint before it is whole" in before
        if promises_checkpoint and not (self.work / "run" / CHECKPOINT_FILE).exists():
            return f"a promise of a checkpoint that is not there: {before}"
        return self.finish(before)

    def finish(self, before: str) -> str:
        """Go on to the end; say what is other than it is without a disturbance."""
        self.run(0, again=True)
        after = self.message.read_text()
        if not after.startswith("done"):
            return f"{before}; and then {after}"
        tree = self.tree()
        differing = [name for name in {*tree, *self.expected} if tree.get(name) != self.expected.get(name)]
        if before.startswith("done") and len(differing) == 1 and differing[0].endswith(LOCK_FILE):
            return ""  # removing it failed, and the job was done: it is free, and the next job there takes it
        return f"{before}; and then these differ: {sorted(differing)}" if differing else ""

    def kill_often(self, number: int) -> dict[str, object]:
        """Kill the job so often, at moments of its usual time, going on each time."""
        moments, began = random.Random(0), time.time()
        self.run(0, again=False)
        usual, kills, ends, again = time.time() - began, 0, 0, False
        failures: dict[int, str] = {}
        met: Counter[str] = Counter()
        while kills < number:
            wanted = moments.choice(("", *MOMENTS)) if self.job is train_and_report else ""
            child = self.start(0, again)
            while wanted and MOMENT.read() != wanted and is_running(child):
                time.sleep(0.0005)
            time.sleep(moments.uniform(0, 0.05 if wanted else usual))
            os.kill(child, signal.SIGKILL)
            again = os.WIFSIGNALED(os.waitpid(child, 0)[1])
            kills += again
            met[MOMENT.read()] += again
            if not again or kills == number:
                ends += 1
                if text := self.finish(self.message.read_text()):
                    failures[kills] = text
                    print(f"kill {kills}: {text}", file=sys.stderr, flush=True)
        return {"points": kills, "ends": ends, "moments": dict(sorted((+met).items())), "failures": failures}


def main(job: str, mode: str, folder: str, share: str, log_file: str = "") -> None:
    log = PointLog(log_file)
    torch.set_num_threads(1)
    root = Path(folder)
    prepare(root)
    open_dataset(root / "data")
    time.sleep(2.1)  # from then on the times of files tell of a change
    for i, name in enumerate(job.split(",")):
        attempts, kinds = Attempts(name, root), list(MODES)
        if mode == "kill":
            print(json.dumps({"job": name, "mode": mode, **attempts.kill_often(int(share))}), flush=True)
            continue
        for kind in {"all": kinds, "thin": [kinds[i % len(kinds)], kinds[(i + 2) % len(kinds)]]}.get(mode, [mode]):
            attempts.mode = MODES[kind]
            points = range(1, attempts.calls + 1 + (MODES[kind] >= MODES["power"]))  # at the end as well
            chosen = sorted(random.Random(f"{name} {kind}").sample(points, max(1, round(float(share) * len(points)))))
            failures = {}
            for k in chosen:
                if log.is_clean(name, kind, attempts.calls, k):
                    continue
                text = attempts.at(k)
                log.add(name, kind, attempts.calls, k, text)
                if text:
                    failures[k] = text
                    print(f"{name} {kind} {k}: {text}", file=sys.stderr, flush=True)
            result = {"calls": attempts.calls, "points": len(chosen), "failures": failures}
            print(json.dumps({"job": name, "mode": kind, **result}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
