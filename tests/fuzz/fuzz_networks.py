"""Thousands of hostile network files through the program: one error each, and nothing else is opened, asked or started.

    python tests/fuzz/fuzz_networks.py --number 2000 --seed 0
    python tests/fuzz/fuzz_networks.py --seed 0 --only 1234 --keep hostile.safetensors     # one again

Each case changes the header of a healthy file in one to three ways: values of the description, the table of tensors,
the factory and its options, the bytes. An audit hook of its own watches what the program does with it. The outcomes:

    loaded      a network, as where a color was changed
    refused     an `InputError` that names the file
    traceback   any other exception
    reached     something was opened beside the file and what is imported, or a socket or a process
    slow        more than two seconds of the processor
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import timm
import torch
import torchvision

from dilated import AdapterConfig, SegmenterConfig
from dilated.cli.info import _network_table
from dilated.errors import InputError
from dilated.models.factory import build_from_factory
from dilated.models.network_file import read_description
from dilated.models.paper import VGGConfig
from dilated.weights.bundled import load

BAD = ("traceback", "reached", "slow")
SECONDS = 2.0
ATTACKS = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.spawn",
    "pickle.find_class",
)
IMPORTS = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    number: int
    changes: tuple[str, ...]
    kind: str
    seconds: float
    text: str = ""


class Watch:
    """Records what is reached for while a file is read; there is no way to remove an audit hook."""

    def __init__(self) -> None:
        self.file = ""
        self.events: list[str] | None = None
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        events = self.events
        if events is None:
            return
        if event.startswith(ATTACKS):
            events.append(f"{event} {str(arguments)[:100]}")
        elif event == "open" and str(arguments[0]) != self.file:
            self.events = None  # what the hook itself does is not looked at
            if not (_is_importing(sys._getframe(1)) or str(arguments[0]).endswith(".py")):
                events.append(f"open {str(arguments[0])[:100]}")
            self.events = events


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename in IMPORTS:
            return True
        frame = frame.f_back
    return False


@dataclass
class File:
    """A network file in parts: the description, the table of tensors, the bytes behind the header."""

    description: dict[str, Any]
    tensors: dict[str, Any]
    data: bytes

    @classmethod
    def read(cls, path: Path) -> File:
        content = path.read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        description = json.loads(header.pop("__metadata__")["dilated"])
        return cls(description, header, content[8 + length :])

    def to_bytes(self) -> bytes:
        metadata = {"dilated": json.dumps(self.description)}
        header = json.dumps({"__metadata__": metadata, **self.tensors}).encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(header)) + header + self.data


def make_healthy(folder: Path) -> list[File]:
    """One file of each kind of network."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    names, card = ["road", "sky"], {"data": "none", "val": {"mean_iou": 0.5}}
    lraspp = "torchvision.models.segmentation:lraspp_mobilenet_v3_large"
    configs = [
        SegmenterConfig("test_efficientnet", features=8, context="basic", detail=4),
        VGGConfig(width=1 / 32, context="basic", tile=(436, 436)),
        AdapterConfig(factory=lraspp, options={"num_classes": 2}, layer="classifier.high_classifier"),
    ]
    for i, config in enumerate(configs):
        config.build(names, card=card).save(folder / f"{i}.safetensors")
    return [File.read(path) for path in sorted(folder.glob("*.safetensors"))]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


HOSTILE_TEXTS = (
    *("hf-hub:somebody/evil", "hf_hub:somebody/evil", "local-dir:/etc", "/etc/passwd", "../../x", "https://evil.example/x"),
    *("tu-hf-hub:somebody/evil", "os:system", "builtins:eval", "torch.hub:load", "timm.models._hub:torch", "file:///etc/passwd"),
    *("", "\x1b[2J", "[red]x[/red]", "a\nb", "\ud800", "x" * 5000, "\0", "resnet50", "none", "identity"),
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, [], {}, [[]], {"a": 1}, [None], [1, 2], "1", nested(20), nested(900), [1] * 100_000),
    *(-1, 0, 1, 2, 3, 255, 256, 2**31, 2**63, 2**64, 10**300, -(2**64), 0.5, 1e308, -1e308, 1e-320),
    *(
        float("nan"),
        float("inf"),
        -float("inf"),
        {"factory": "os:system"},
        {"factory": "torch:load", "f": "/etc/passwd"},
    ),
)
FACTORIES = (
    *("timm:create_model", "timm.models:resnet18", "torchvision.models:resnet18", "torchvision.models:get_model"),
    *("torchvision.models.segmentation:fcn_resnet50", "torchvision.models.segmentation:deeplabv3_mobilenet_v3_large"),
    *(
        "segmentation_models_pytorch:Unet",
        "segmentation_models_pytorch:FPN",
        "segmentation_models_pytorch:from_pretrained",
    ),
    *("transformers:SegformerForSemanticSegmentation", "transformers:UperNetForSemanticSegmentation"),
    *("transformers:AutoModel", "transformers:TimmWrapperModel", "timm:create_model", "torch.nn:Identity", "os:system"),
)
OPTIONS = (
    *(
        "model_name",
        "num_classes",
        "classes",
        "config",
        "encoder_name",
        "encoder_weights",
        "weights",
        "weights_backbone",
    ),
    *("pretrained", "checkpoint_path", "in_chans", "img_size", "depth", "embed_dim", "window_size", "num_heads"),
    *("pretrained_cfg", "cache_dir", "backbone", "attn_implementation", "trust_remote_code", "decoder_channels", "x"),
)


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: what it is in, and its key there."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items)[:50]:
        found.append((value, key))
        found += spots(inner)
    return found


def odd(random: Random) -> Any:
    return random.choice(HOSTILE_TEXTS) if random.random() < 0.4 else random.choice(ODD_VALUES)


def change_value(file: File, random: Random) -> None:
    where, key = random.choice(spots(file.description))
    where[key] = odd(random)


def change_setting(file: File, random: Random) -> None:
    config = file.description.get("config")
    if isinstance(config, dict) and config:
        config[random.choice(list(config))] = odd(random)


def remove_value(file: File, random: Random) -> None:
    where, key = random.choice(spots(file.description))
    del where[key]


def add_value(file: File, random: Random) -> None:
    tables = [file.description, *(v for v in file.description.values() if isinstance(v, dict))]
    random.choice(tables)[str(odd(random))[:100]] = odd(random)


def change_backbone(file: File, random: Random) -> None:
    config = {"backbone": random.choice(timm.list_models()), "features": random.choice([8, 1, 8192, 10**6])}
    config["dilation"] = random.choice(["timm", "exact"])
    config["levels"] = random.choice([0, 0, 1, 3, 9])
    file.description["config"] = config


def change_factory(file: File, random: Random) -> None:
    options: dict[str, Any] = {}
    for _ in range(random.randrange(4)):
        value = odd(random)
        if random.random() < 0.3:
            value = {"factory": f"transformers:{random.choice(['SegformerConfig', 'TimmWrapperConfig', 'AutoConfig'])}"}
            value |= {random.choice(["architecture", "model_args", "num_labels", "_name_or_path"]): odd(random)}
        options[random.choice(OPTIONS)] = value
    if random.random() < 0.3:
        options["model_name"] = random.choice(timm.list_models())
    factory = random.choice(FACTORIES)
    if random.random() < 0.2:
        factory = f"torchvision.models:{random.choice(torchvision.models.list_models())}"
    file.description["config"] = {"kind": "adapter", "factory": factory, "options": options}


def change_tensor(file: File, random: Random) -> None:
    name = random.choice(list(file.tensors))
    entry = file.tensors[name]
    how = random.randrange(7)
    if how == 0:
        del file.tensors[name]
    elif how == 1:
        file.tensors[name + random.choice(["x", "", "\x1b[2J", ".weight"])] = file.tensors.pop(name)
    elif how == 2:
        entry["dtype"] = random.choice(["F8_E4M3", "F8_E5M2", "I64", "BOOL", "F64", "BF16", "U8", "C64", "F4", "", 3])
    elif how == 3:
        entry["shape"] = random.choice(
            [[-1], [2**63, 2], [2**32, 2**32], [0], [], [1] * 100, entry["shape"][::-1], "x", None]
        )
    elif how == 4:
        start, end = entry["data_offsets"]
        entry["data_offsets"] = random.choice(
            [[end, start], [0, 2**63], [start, end + 8], [-1, 4], [0], None, "ab", [0, 0]]
        )
    elif how == 5:
        file.tensors[name] = odd(random)
    else:
        file.tensors["extra"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def change_data(file: File, random: Random) -> None:
    if not file.data:
        return
    how, at = random.randrange(3), random.randrange(len(file.data))
    if how == 0:
        file.data = file.data[:at]
    elif how == 1:
        file.data = (
            file.data[:at] + random.choice([b"\xff\xff\xff\x7f", b"\0\0\xc0\x7f", b"\xff"]) + file.data[at + 4 :]
        )
    else:
        file.data += bytes(random.choice([1, 8, 4096]))


def change_bytes(content: bytes, random: Random) -> bytes:
    """Other bytes in the header, or another length of it."""
    how, length = random.randrange(4), struct.unpack("<Q", content[:8])[0]
    at = 8 + random.randrange(max(1, length))
    if how == 0:
        return content[:at] + bytes([random.randrange(256)]) + content[at + 1 :]
    if how == 1:
        return struct.pack("<Q", random.choice([0, 1, length - 1, length + 1, 2**40, 2**63, 2**64 - 1])) + content[8:]
    if how == 2:
        return content[:at]
    return content[:at] + random.choice([b"{" * 5000, b"[" * 5000, b'"', b"9" * 5000, b"\xff\xfe"]) + content[at:]


CHANGES: dict[str, Callable[[File, Random], None]] = {
    "value": change_value,
    "setting": change_setting,
    "removed value": remove_value,
    "added value": add_value,
    "backbone": change_backbone,
    "factory": change_factory,
    "tensor": change_tensor,
    "data": change_data,
}


def run(seed: int, numbers: range | list[int], keep: Path | None = None) -> Iterator[Outcome]:
    """The cases of these numbers; each depends on the seed and its number alone."""
    for library in ("segmentation_models_pytorch", "transformers"):  # whose import takes seconds, once
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    with contextlib.suppress(Exception):
        build_from_factory(
            "transformers:SegformerForSemanticSegmentation", {"config": {"factory": "transformers:SegformerConfig"}}
        )
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_healthy(Path(folder) / "healthy")
        path = Path(folder) / "hostile.safetensors"
        for number in numbers:
            random = Random(f"{seed}/{number}")
            source = random.choice(sorted((Path(folder) / "healthy").iterdir()))
            changes = change(File.read(source), random, path)
            if keep is not None:
                keep.write_bytes(path.read_bytes())
            yield examine(watch, path, number, changes)


def change(file: File, random: Random, path: Path) -> tuple[str, ...]:
    """Change a file in one to three ways, and write it; the names of the changes."""
    done: list[str] = []
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        name = random.choice([*CHANGES, "setting", "value"])
        try:
            CHANGES[name](file, random)
        except (KeyError, TypeError, IndexError, ValueError, AttributeError):
            continue  # what was changed before cannot be changed so
        done.append(name)
    content = file.to_bytes()
    if random.random() < 0.1:
        content = change_bytes(content, random)
        done.append("bytes")
    path.write_bytes(content)
    return tuple(done)


def examine(watch: Watch, path: Path, number: int, changes: tuple[str, ...]) -> Outcome:
    """Read a file as `info` and as every other verb does, and see what happens."""
    kind, text, start = "loaded", "", time.process_time()
    watch.file, watch.events = str(path), []
    events = watch.events
    try:
        _network_table(read_description(path))
        load(path)
    except InputError as error:
        kind, text = "refused", str(error)
    except BaseException:
        kind, text = "traceback", traceback.format_exc()
    watch.events = None
    seconds = time.process_time() - start
    if kind == "refused" and (str(path) not in text or len(text) > 2000):
        kind = "traceback"
    if events:
        kind, text = "reached", "; ".join(events[:3])
    elif seconds > SECONDS and kind != "traceback":
        kind = "slow"
    return Outcome(number, changes, kind, seconds, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run the case of this number alone, and show what it gave")
    parser.add_argument("--keep", type=Path, help="keep the file of the one case here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    numbers = range(options.number) if options.only is None else [options.only]
    outcomes = []
    for outcome in run(options.seed, numbers, options.keep):
        outcomes.append(outcome)
        if outcome.kind in BAD or options.only is not None:
            changes = ", ".join(outcome.changes)
            print(f"{outcome.number}: {changes}: {outcome.kind}, {outcome.seconds:.2f} s: {outcome.text}", flush=True)
    slowest = max(outcome.seconds for outcome in outcomes)
    print(dict(Counter(outcome.kind for outcome in outcomes)), f"slowest {slowest:.2f} s of the processor")
    sys.exit(any(outcome.kind in BAD for outcome in outcomes))


if __name__ == "__main__":
    main()
