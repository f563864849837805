"""Fifty thousand damaged files of six kinds through the program; it goes on where it was stopped.

    python tests/fuzz/fuzz_all.py --out fuzz                         # all of them: hours on one core
    python tests/fuzz/fuzz_all.py --out fuzz --share 0.1             # the first tenth of each kind
    python tests/fuzz/fuzz_all.py --out fuzz --part 1/2 &            # the halves at once, on two cores; then, for the
    python tests/fuzz/fuzz_all.py --out fuzz --part 2/2; wait        # table of both, the first line again
    python tests/fuzz/fuzz_all.py --out fuzz --kinds labels --only 17    # one again, and what it gave

Each case depends on the seed, its kind and its number alone. `OUT/KIND-SEED.jsonl`, or with a part
`OUT/KIND-SEED.PART-of-PARTS.jsonl`, gets a line for each; a case that ends the process, or does not end, is counted as
such and the next one is begun. What another part has done is not done again. `traceback`, `silent`, `slow`, `reached`
and `died` must be 0, else the exit status is 1; with `--share` or `--part` of what was asked for alone.
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


def work(kind: str, seed: int, numbers: Sequence[int], path: Path) -> None:
    """Run cases in this process, a line for each."""
    torch.set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    last = time.monotonic()
    with path.open("a", encoding="utf-8") as file:
        for outcome in run(kind, seed, numbers):
            last, before = time.monotonic(), last
            line = {"number": outcome.number, "kind": outcome.kind, "changes": outcome.changes}
            line["seconds"] = round(last - before, 3)
            if outcome.kind in FATAL:
                line["text"] = outcome.text[-3000:]
            file.write(json.dumps(line) + "\n")
            file.flush()


def read(folder: Path, kind: str, seed: int) -> dict[int, dict[str, object]]:
    """The lines of a kind by number, of all its files; a last line that was not finished is left out."""
    lines: dict[int, dict[str, object]] = {}
    for path in sorted(folder.glob(f"{kind}-{seed}*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
                lines[line["number"]] = line
            except (ValueError, TypeError, KeyError):
                continue
    return lines


def drive(kind: str, seed: int, numbers: range, path: Path) -> None:
    """Run the cases of a kind that have no line yet, in processes that are started again where one dies or hangs."""
    while left := sorted({*numbers} - {*read(path.parent, kind, seed)}):
        if path.is_file() and not path.read_bytes().endswith(b"\n"):
            with path.open("a") as file:
                file.write("\n")
        command = [sys.executable, __file__, "--work", kind, str(seed), str(path)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(left))
            process.stdin.close()
            reason = wait(process, path)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        undone = sorted({*left} - {*read(path.parent, kind, seed)})
        if undone:  # they are done in order
            with path.open("a", encoding="utf-8") as file:
                reason = reason or "the process ended without a line for it"
                file.write(json.dumps({"number": undone[0], "kind": "died", "changes": [], "text": reason}) + "\n")


def wait(process: subprocess.Popen[str], path: Path) -> str:
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


def summarize(lines: dict[str, list[dict[str, object]]]) -> str:
    """A table of kinds, a row for each, and below it every case that was bad."""
    titles = ("cases", "loaded", "refused", *FATAL)
    rows = [f"{'':12}" + "".join(f"{title:>10}" for title in titles) + "  per minute"]
    total: Counter[str] = Counter()
    bad = []
    for kind, entries in lines.items():
        words = {"clean": "loaded", "reported": "refused"}  # of data sets
        counts = Counter(words.get(str(line["kind"]), str(line["kind"])) for line in entries)
        total += counts
        timed = [float(str(line["seconds"])) for line in entries if "seconds" in line]
        pace = f"{60 * len(timed) / sum(timed):12.0f}" if sum(timed) else ""
        cells = (counts.total(), *(counts[title] for title in titles[1:]))
        rows.append(f"{kind:12}" + "".join(f"{cell:10}" for cell in cells) + pace)
        bad += [
            f"{kind} {line['number']}: {line['kind']}: {(str(line['text']).strip().splitlines() or [''])[-1][:200]}"
            for line in entries
            if line["kind"] in FATAL
        ]
    cells = (total.total(), *(total[title] for title in titles[1:]))
    rows.append(f"{'all':12}" + "".join(f"{cell:10}" for cell in cells))
    return "\n".join((*rows, *bad))


def parse_part(text: str) -> tuple[int, int]:
    """`2/3` as (1, 3): an offset and a step."""
    try:
        part, parts = map(int, text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a part such as 1/2") from None
    if not 1 <= part <= parts:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected 1/{parts} to {parts}/{parts}")
    return part - 1, parts


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        kind, seed, path = sys.argv[2:]
        work(kind, int(seed), json.load(sys.stdin), Path(path))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="part of the 50,000")
    parser.add_argument("--part", type=parse_part, default=(0, 1), help="such as 1/2: these of the cases alone")
    parser.add_argument("--kinds", nargs="+", choices=NUMBERS, default=list(NUMBERS))
    parser.add_argument("--only", type=int, help="run the case of this number alone, of the first of --kinds")
    options = parser.parse_args()
    if options.only is not None:
        print(*run(options.kinds[0], options.seed, [options.only]), sep="\n")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    part, parts = options.part
    name = f".{part + 1}-of-{parts}" if parts > 1 else ""
    lines = {}
    for kind in options.kinds:
        numbers = range(part, round(NUMBERS[kind] * options.share), parts)
        drive(kind, options.seed, numbers, options.out / f"{kind}-{options.seed}{name}.jsonl")
        done = read(options.out, kind, options.seed)
        lines[kind] = [done[number] for number in numbers]
        print(f"{kind}: {len(numbers)} done", file=sys.stderr, flush=True)
    print(summarize(lines))
    sys.exit(any(line["kind"] in FATAL for entries in lines.values() for line in entries))


if __name__ == "__main__":
    main()
