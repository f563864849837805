"""Fifty thousand damaged files of six kinds through the program; it goes on where it was stopped.

    python tests/fuzz/fuzz_all.py --out fuzz                         # all of them: hours on one core
    python tests/fuzz/fuzz_all.py --out fuzz --share 0.1             # the first tenth of each kind
    python tests/fuzz/fuzz_all.py --out fuzz --kinds labels --only 17    # one again, and what it gave

Each case depends on the seed, its kind and its number alone. `OUT/KIND-SEED.jsonl` gets a line for each; a case that
ends the process, or does not end, is counted as such and the next one is begun. `traceback`, `silent`, `slow` and
`died` must be 0.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from fuzz_outcome import BAD, Outcome

NUMBERS = {
    "images": 14_000,
    "labels": 14_000,
    "recipes": 10_000,
    "networks": 4_000,
    "checkpoints": 3_000,
    "annotations": 5_000,
}
"""How many cases of each kind are 50,000."""
FATAL = (*BAD, "reached", "died")
PATIENCE = 150
"""Seconds without a new line after which a process counts as hanging; a data set of `annotations` may take 120."""
MEMORY = 6 << 30
"""Bytes of address space beyond what is there at the start that a process may take."""


def run(kind: str, seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """The cases of a kind."""
    if kind in ("images", "labels"):
        yield from getattr(importlib.import_module("fuzz_encoded"), f"run_{kind}")(seed, numbers)
    elif kind == "annotations":
        for case in importlib.import_module("fuzz_data").run(seed, list(numbers)):
            yield Outcome(case.number, (case.name, *case.changes), case.kind, 0.0, case.text)
    else:
        yield from importlib.import_module(f"fuzz_{kind}").run(seed, list(numbers))


def work(kind: str, seed: int, numbers: range, path: Path) -> None:
    """Run cases in this process, a line for each."""
    torch.set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    with path.open("a", encoding="utf-8") as file:
        for outcome in run(kind, seed, numbers):
            line = {"number": outcome.number, "kind": outcome.kind, "changes": outcome.changes}
            if outcome.kind in FATAL:
                line["text"] = outcome.text[-3000:]
            file.write(json.dumps(line) + "\n")
            file.flush()


def read(path: Path) -> dict[int, dict[str, object]]:
    """The lines of a kind by number; a last line that was not finished is left out."""
    lines: dict[int, dict[str, object]] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        lines[line["number"]] = line
    return lines


def drive(kind: str, seed: int, total: int, path: Path) -> None:
    """Run the cases of a kind that have no line yet, in processes that are started again where one dies or hangs."""
    while (first := max(read(path), default=-1) + 1) < total:
        if path.is_file() and not path.read_bytes().endswith(b"\n"):
            with path.open("a") as file:
                file.write("\n")
        command = [sys.executable, __file__, "--work", kind, str(seed), str(first), str(total), str(path)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            reason = wait(process, path)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        done = max(read(path), default=-1) + 1
        if reason and done < total:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"number": done, "kind": "died", "changes": [], "text": reason}) + "\n")


def wait(process: subprocess.Popen[bytes], path: Path) -> str:
    """Wait for the end of a process; why it was no good one."""
    size, since = -1, time.monotonic()
    while True:
        try:
            status = process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            status = None
        if status is not None:
            return f"the process ended with {status}" if status else ""
        new = path.stat().st_size if path.is_file() else 0
        if new != size:
            size, since = new, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            return f"no end after {PATIENCE} seconds"


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        kind, seed, first, total, path = sys.argv[2:]
        work(kind, int(seed), range(int(first), int(total)), Path(path))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="part of the 50,000")
    parser.add_argument("--kinds", nargs="+", choices=NUMBERS, default=list(NUMBERS))
    parser.add_argument("--only", type=int, help="run the case of this number alone, of the first of --kinds")
    options = parser.parse_args()
    if options.only is not None:
        print(*run(options.kinds[0], options.seed, [options.only]), sep="\n")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    total: Counter[str] = Counter()
    for kind in options.kinds:
        path = options.out / f"{kind}-{options.seed}.jsonl"
        drive(kind, options.seed, round(NUMBERS[kind] * options.share), path)
        lines = read(path).values()
        counts = Counter(str(line["kind"]) for line in lines)
        total += counts
        print(f"{kind:12} {len(lines):6} {dict(counts)}", flush=True)
        for line in lines:
            if line["kind"] in FATAL:
                print(f"  {line['number']}: {line['kind']}: {str(line['text']).strip().splitlines()[-1][:200]}")
    print(f"{'all':12} {total.total():6} {dict(total)}")
    sys.exit(any(total[kind] for kind in FATAL))


if __name__ == "__main__":
    main()
