"""Which networks `dilate` takes: every architecture of timm and torchvision, held to the definition on its own.

    python benchmarks/compatibility.py                       # measures what is not yet in the results, small ones first
    python benchmarks/compatibility.py --only 'timm/resnet*'
    python benchmarks/compatibility.py --table               # writes docs/networks.md
    python benchmarks/compatibility.py --merge OTHER.jsonl   # takes over what was measured elsewhere, by name

Weights are random and other than those of `dilate`'s own check, so are the images. A network is "exact" if, at output
stride 8, every sample is the original's within 1e-10 in float64 (relative to the greatest value), and the float32 error
is given beside it. Networks run in processes of their own, so that one that crashes or hangs is a result as well.
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "compatibility.jsonl"
TABLE = HERE.parent / "docs" / "networks.md"
OUTPUT_STRIDE = 8
SIZES = ((136, 200), (117, 171), (160, 192), (224, 224), (256, 256), (288, 288), (240, 240), (336, 336), (384, 384))
IMAGES = 2
BIG = 350e6
EXACT = 1e-10
ROUNDING = 1e-4  # in float32


def names() -> list[str]:
    """All architectures, `library/name`."""
    import timm
    import torchvision

    ours = [f"timm/{name}" for name in timm.list_models()]
    return ours + [f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)]


def create(name: str) -> Any:
    """A network with random weights."""
    import timm
    import torchvision

    library, _, architecture = name.partition("/")
    if library == "timm":
        return timm.create_model(architecture).eval()
    heads = {"aux_logits": False, "init_weights": False} if architecture in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(architecture, weights=None, **heads).eval()


def parameters(name: str) -> int:
    """How many parameters a network has; it is built without memory where that works."""
    import torch

    try:
        with torch.device("meta"):
            network = create(name)
    except Exception:  # any architecture may fail to build so; it is then put last
        return int(1e12)
    return sum(parameter.numel() for parameter in network.parameters())


def measure(name: str, big: bool) -> dict[str, Any]:
    """The verdict on one network."""
    from dilated.dilation.dilate import dilate
    from dilated.dilation.trace import DilationError, trace_network

    network = create(name)
    count = sum(parameter.numel() for parameter in network.parameters())
    record: dict[str, Any] = {"name": name, "family": family(name), "parameters": count}
    if count > BIG and not big:
        return record | {"verdict": "skipped", "reason": f"{count / 1e6:.0f} M parameters; --big measures it too"}
    began = time.perf_counter()
    try:
        trace = trace_network(network)
        operations = [op for calls in trace.calls.values() for call in calls for op in call.operations]
        record["attention"] = any(op.kind == "attention" for op in operations)
        record["stride"] = trace.max_stride()
        fine = dilate(network, OUTPUT_STRIDE)
    except DilationError as refusal:
        verdict = "interior only" if refusal.only_at_border else "refused"
        return record | {"verdict": verdict, "reason": str(refusal)}
    record["seconds"] = round(time.perf_counter() - began, 1)
    kinds = [type(layer).__name__ for layer in fine.modules()]
    for kind in ("Dilated", "Phased", "Sampled"):
        record[kind] = sum(name.startswith(kind) for name in kinds)
    record |= errors(network, fine)
    if (
        record["float32"] > ROUNDING or record["float64"] > EXACT
    ):  # networks that multiply maps with each other run away with great weights
        record |= errors(network, fine, gain=0.3) | {"gentle": True}
    if record["stride"] <= OUTPUT_STRIDE:
        return record | {"verdict": "nothing to do"}
    return record | {"verdict": "exact" if record["float64"] < EXACT else "wrong"}


def errors(network: Any, fine: Any, gain: float = 1.5) -> dict[str, Any]:
    """The greatest relative errors at the samples over some images, in float32 and float64."""
    import torch

    from dilated.dilation.trace import _possible_input_channels

    generator = torch.Generator().manual_seed(20)
    with torch.no_grad():
        for label, parameter in network.named_parameters():
            if parameter.ndim > 1 and parameter[0].numel() > 1:
                parameter.normal_(0, (gain / parameter[0].numel()) ** 0.5, generator=generator)
            else:
                parameter.uniform_(-0.3 if label.endswith("bias") else 0.4, 1.1, generator=generator)
        for label, buffer in network.named_buffers():
            if label.endswith("running_mean"):
                buffer.uniform_(-0.4, 0.4, generator=generator)
            elif label.endswith("running_var"):
                buffer.uniform_(0.6, 1.6, generator=generator)
    fine.load_state_dict(network.state_dict())
    result: dict[str, Any] = {}
    for dtype in (torch.float32, torch.float64):
        network.to(dtype), fine.to(dtype)
        sizes = []
        worst = 0.0
        for size in SIZES:
            image = torch.rand(1, _possible_input_channels(network)[-1], *size, generator=generator, dtype=dtype)
            try:
                with torch.no_grad():
                    wanted = leaves(network(image))
            except (RuntimeError, ValueError, AssertionError, IndexError):
                continue  # not a size for this network
            with torch.no_grad():
                outputs = leaves(fine(image))
            worst = max([worst, *(error(a, b) for a, b in zip(outputs, wanted, strict=True))])
            sizes.append(size)
            if len(sizes) == IMAGES:
                break
        result |= {str(dtype)[6:]: worst if sizes else float("nan"), "sizes": sizes}
    return result


def leaves(output: Any) -> list[Any]:
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def describe_versions() -> str:
    """What a record was measured with: the day and the versions."""
    import timm
    import torch

    from dilated import __version__

    return f"{date.today().isoformat()}, dilated {__version__}, timm {timm.__version__}, torch {torch.__version__}"


def merge(out: Path, other: Path) -> None:
    """Take over the records of another file that are not of networks that were only out of time there."""
    records = read(out)
    for name, record in read(other).items():
        if not str(record.get("reason", "")).startswith("took longer"):
            records[name] = record
    out.write_text("".join(json.dumps(record) + "\n" for record in records.values()), encoding="utf-8")


def error(outputs: Any, wanted: Any) -> float:
    """By the definition: at every k-th position, the original's value."""
    if not wanted.isfinite().all() or outputs.ndim != wanted.ndim:
        return float("inf")
    steps = [[k for k in range(1, a + 1) if -(-a // k) == b] for a, b in zip(outputs.shape, wanted.shape, strict=True)]
    if outputs.shape == wanted.shape:
        steps = [[1]] * wanted.ndim
    errors = [float("inf")]
    for step in itertools.product(*steps):  # of the image's axes; maps are cropped to the image, so k is not a quotient
        samples = outputs[tuple(slice(None, None, k) for k in step)]
        errors.append(float((samples - wanted).abs().max() / wanted.abs().max().clamp(min=1e-300)))
    return min(errors)


def family(name: str) -> str:
    """The module that an architecture is defined in."""
    import timm
    import torchvision

    library, _, architecture = name.partition("/")
    if library == "timm":
        return str(timm.model_entrypoint(architecture).__module__.rpartition(".")[2])
    return str(torchvision.models.get_model_builder(architecture).__module__.rpartition(".")[2])


def work(todo: list[str], big: bool) -> None:
    """A process's part: a line of JSON for each network; what it is at goes before."""
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    versions = describe_versions()
    for name in todo:
        print(json.dumps({"begin": name}), flush=True)
        try:
            record = measure(name, big)
        except Exception as failure:  # whatever it is, it is this network's result
            record = {"name": name, "verdict": "failed", "reason": f"{type(failure).__name__}: {failure}"[:500]}
            record["family"] = family(name)
        record["measured"] = versions
        print(json.dumps(record), flush=True)


def drive(todo: list[str], out: Path, limit: float, memory: float, big: bool, lock: threading.Lock) -> None:
    """Feeds one process after another, and notes which network ended it, if one did."""
    while todo:
        command = [sys.executable, __file__, "--work", *(["--big"] if big else []), *todo]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        current, since = "", time.monotonic()
        while True:
            try:
                line = lines.get(timeout=1)
            except queue.Empty:
                reason = ""
                if current and time.monotonic() - since > limit:
                    reason = f"took longer than {limit:.0f} s"
                elif _resident(process.pid) > memory * 2**30:
                    reason = f"took more than {memory:g} GiB"
                if not reason:
                    continue
                process.kill()
                process.wait()
                _note(out, lock, {"name": current, "verdict": "failed", "reason": reason})
                todo = todo[todo.index(current) + 1 :]
                break
            if line is None:
                process.wait()
                if current:
                    _note(out, lock, {"name": current, "verdict": "failed", "reason": f"exit {process.returncode}"})
                    todo = todo[todo.index(current) + 1 :]
                else:
                    todo = []
                break
            record = json.loads(line)
            if "begin" in record:
                current, since = record["begin"], time.monotonic()
            else:
                _note(out, lock, record)
                todo = todo[todo.index(record["name"]) + 1 :]
                current = ""


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    for line in process.stdout or []:
        if line.startswith("{"):
            lines.put(line)
    lines.put(None)


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _note(out: Path, lock: threading.Lock, record: dict[str, Any]) -> None:
    with lock, out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    print(f"{record['name']:<48}{record['verdict']:<14}{record.get('reason', '')[:120]}", flush=True)


def read(out: Path) -> dict[str, dict[str, Any]]:
    """The latest record of each network."""
    if not out.exists():
        return {}
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return {record["name"]: record for record in records}


def table(records: dict[str, dict[str, Any]], total: int) -> str:
    """docs/networks.md, of `total_steps` architectures that there are."""
    kept = [record for record in records.values() if record["verdict"] != "skipped"]
    verdicts = ("exact", "nothing to do", "interior only", "refused", "wrong", "failed")
    counts = {verdict: sum(record["verdict"] == verdict for record in kept) for verdict in verdicts}
    convolutional = [record for record in kept if not record.get("attention") and record["verdict"] != "failed"]
    good = [record for record in convolutional if record["verdict"] in ("exact", "nothing to do")]
    exact = [record for record in kept if record["verdict"] == "exact"]
    versions = Counter(record.get("measured", "before versions were kept") for record in kept)
    lines = [
        "# Which networks `dilate` takes",
        "",
        f"{len(kept)} architectures of timm and torchvision at output stride {OUTPUT_STRIDE}, random weights, measured",
        "by `benchmarks/compatibility.py`. *Exact*: every sample is the original's within 1e-10 in float64. Attention:",
        "some product of two activations lets positions meet positions, as one run of the network tells.",
        "",
        f"- {', '.join(f'{count} {verdict}' for verdict, count in counts.items() if count)};",
        f"- of the {len(convolutional)} without attention, {len(good)} exact or with nothing to do;",
        f"- greatest relative error among the exact: {max((r['float64'] for r in exact), default=0):.0e} in float64, "
        f"{max((r['float32'] for r in exact), default=0):.0e} in float32;",
        f"- measured from the smallest on: {total - len(kept)} of the {total} architectures are not measured yet, most",
        "  of them larger ones;",
        f"- measured with: {'; '.join(f'{count} {version}' for version, count in versions.items())}.",
        "",
        "| family | networks | exact | nothing to do | refused | other | float64 | float32 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    families: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in kept:
        families[f"{record['name'].partition('/')[0]} {record.get('family', '?')}"].append(record)
    for label, members in sorted(families.items()):
        numbers = {verdict: sum(record["verdict"] == verdict for record in members) for verdict in verdicts}
        other = numbers["interior only"] + numbers["wrong"] + numbers["failed"]
        errors = [record for record in members if record["verdict"] == "exact"]
        worst = [f"{max(r[dtype] for r in errors):.0e}" if errors else "" for dtype in ("float64", "float32")]
        row = [label, len(members), numbers["exact"], numbers["nothing to do"], numbers["refused"], other, *worst]
        lines.append(f"| {' | '.join(map(str, row))} |")
    lines += ["", "## Exact, by name", ""]
    for label, members in sorted(families.items()):
        exact_names = [record["name"].partition("/")[2] for record in members if record["verdict"] == "exact"]
        lines += [f"- {label}: {', '.join(sorted(exact_names))}"] if exact_names else []
    lines += ["", "## Refused or failed, without attention", ""]
    for record in kept:
        if record["verdict"] not in ("exact", "nothing to do") and not record.get("attention"):
            reason = record.get("reason") or f"{record['float64']:.0e} in float64, {record['float32']:.0e} in float32"
            lines.append(f"- {record['name']}: {record['verdict']}: {reason}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="one line of JSON for each network; those in it are skipped"
    )
    parser.add_argument("--only", default="*", help="which networks, such as 'timm/resnet*'; several with commas")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one network")
    parser.add_argument("--memory", type=float, default=12, help="GiB for one process")
    parser.add_argument("--big", action="store_true", help="networks of more than 350 M parameters too")
    parser.add_argument("--table", action="store_true", help="write docs/networks.md from the results")
    parser.add_argument("--merge", type=Path, help="results to take over into --out")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.big)
        return
    if options.merge:
        merge(options.out, options.merge)
        return
    done = read(options.out)
    if options.table:
        TABLE.write_text(table(done, len(names())), encoding="utf-8")
        return
    warnings.simplefilter("ignore")
    patterns = options.only.split(",")
    todo = [name for name in names() if name not in done and any(fnmatch.fnmatch(name, p) for p in patterns)]
    sizes = {name: parameters(name) for name in todo}
    todo.sort(key=lambda name: sizes[name])
    print(f"{len(todo)} networks to do, {len(done)} done", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lock = threading.Lock()
    parts = [todo[first :: options.workers] for first in range(options.workers)]
    limits = (options.out, options.limit, options.memory, options.big, lock)
    threads = [threading.Thread(target=drive, args=(part, *limits)) for part in parts if part]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
