"""Publishing networks: a folder in the layout of the Hugging Face Hub, and the Hub itself.

    save_pretrained(segmenter, "street-v2")          # model.safetensors, config.json, README.md
    push_to_hub(segmenter, "owner/street-v2")
    from_pretrained("owner/street-v2", revision="main")

`model.safetensors` is the network file, whole; config.json repeats its description, and README.md is the model card.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dilated.errors import InputError
from dilated.files import atomic_write, printable
from dilated.models.base import BaseSegmenter
from dilated.weights.bundled import load
from dilated.weights.remote import WEIGHTS_FILE

CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
_MARKUP = re.compile(r"[\\`*|<>\[\]#]")
"""What Markdown would read as more than text."""
_TEMPLATES = Environment(
    loader=PackageLoader("dilated.weights", "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["plain"] = lambda text: _MARKUP.sub(r"\\\g<0>", printable(" ".join(str(text).split())))


def save_pretrained(
    segmenter: BaseSegmenter, folder: Path | str, *, name: str = "", license: str = "", half: bool = True
) -> None:
    """Write a network as a folder that the Hub, `load` and `from_pretrained` read.

    Args:
        folder: made where it is missing; files of the same names there are replaced.
        name: `owner/name`, for the card's example; by default the folder's name.
        license: the identifier of the weights' licence as the Hub knows it, such as `apache-2.0`; none is assumed.
        half: store matrices and kernels in fp16; biases and normalization are kept in fp32.

    Raises:
        InputError: it cannot be written there.

    Example:
        >>> folder = Path(tempfile.mkdtemp()) / "street"
        >>> save_pretrained(load("street"), folder, license="cc-by-nc-4.0")
        >>> sorted(path.name for path in folder.iterdir())
        ['README.md', 'config.json', 'model.safetensors']
        >>> load(folder).classes[:2]
        ('Sky', 'Building')
    """
    folder = Path(folder)
    config = {
        "library_name": "dilated",
        "config": dataclasses.asdict(segmenter.config),
        "classes": segmenter.classes,
        "colors": segmenter.colors,
        "mean": segmenter.mean,
        "std": segmenter.std,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        segmenter.save(folder / WEIGHTS_FILE, half=half)
        atomic_write(folder / CONFIG_FILE, json.dumps(config, indent=2) + "\n")
        atomic_write(folder / CARD_FILE, model_card(segmenter, name or folder.resolve().name, license))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error})", hint="give a folder with room for it") from error


def from_pretrained(name_or_folder: Path | str, revision: str | None = None) -> BaseSegmenter:
    """Load a network that `save_pretrained` or `push_to_hub` wrote.

    Args:
        name_or_folder: a folder, or `owner/name` of the Hub.
        revision: a branch, tag or commit of the repository.

    Raises:
        InputError: nothing there, no network of this program, or a revision of a folder.

    Example:
        >>> folder = Path(tempfile.mkdtemp()) / "cells"
        >>> save_pretrained(load("cells"), folder)
        >>> from_pretrained(folder).classes
        ('background', 'nucleus')
    """
    text = str(name_or_folder)
    if Path(name_or_folder).exists():
        if revision is not None:
            raise InputError(f"{text}: a folder here has no revisions", hint="leave `revision` out")
        return load(name_or_folder)
    address = text if text.startswith("hf://") else f"hf://{text}"
    return load(address if revision is None else f"{address}@{revision}")


def push_to_hub(
    segmenter: BaseSegmenter,
    repository: str,
    *,
    license: str = "",
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload network",
    half: bool = True,
) -> str:
    """Publish a network on the Hugging Face Hub; log in first by `hf auth login`, or set HF_TOKEN.

    Args:
        repository: `owner/name`; made where it is missing.
        license: the identifier of the weights' licence, such as `apache-2.0`; none is assumed.
        private: whether a new repository is private.
        revision: the branch, by default the main one.
        message: the title of the commit.
        half: store matrices and kernels in fp16.

    Returns:
        The address to load it by: `hf://owner/name@` and the commit.

    Raises:
        InputError: the Hub refuses it or cannot be reached.
    """
    from huggingface_hub import HfApi  # here, as it takes a second to import

    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(segmenter, folder, name=repository, license=license, half=half)
        try:
            api = HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository, folder_path=folder, revision=revision, commit_message=message
            )
        except Exception as error:  # the Hub's client and its transport raise errors of many libraries
            raise InputError(
                f"{repository}: the Hub did not take it ({type(error).__name__}: {str(error)[:300]})",
                hint="log in by `hf auth login` with a token that may write, and give OWNER/NAME of your own",
            ) from error
    return f"hf://{repository}@{commit.oid}"


def model_card(segmenter: BaseSegmenter, name: str, license: str = "") -> str:
    """The model card of a network, Markdown with the Hub's metadata: classes, use, figures with their intervals.

    Args:
        name: `owner/name`, or a folder.
        license: the identifier of the weights' licence; without one, the card states none.

    Example:
        >>> print(model_card(load("cells"), "owner/cells").splitlines()[1])
        library_name: dilated
    """
    from huggingface_hub import EvalResult, ModelCardData  # here, as it takes a second to import

    stored = segmenter.card.get("val")
    val: Mapping[str, Any] = stored if isinstance(stored, Mapping) else {}
    data = str(segmenter.card.get("data", ""))
    results = [
        EvalResult("image-segmentation", "custom", data or "val", metric, value, dataset_split="val")
        for metric in ("mean_iou", "pixel_accuracy")
        if isinstance(value := val.get(metric), float)
    ]
    title = name.rpartition("/")[2]
    metadata = ModelCardData(
        license=license or None,
        library_name="dilated",
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "dilated-convolution"],
        model_name=title,
        eval_results=results or None,
    )
    return _TEMPLATES.get_template("model_card.md.j2").render(
        metadata=metadata.to_yaml(),
        title=title,
        address=f"hf://{name}" if "/" in name else name,
        segmenter=segmenter,
        data=data,
        data_licence=str(segmenter.card.get("data_licence", "")),
        val=val,
        mean_iou=_format_figure(val.get("mean_iou"), val.get("mean_iou_interval")),
        unit=str((val.get("interval_over") or {}).get("text", "Intervals are 95% over images.")),
        rows=_class_rows(segmenter, val),
        parameters=sum(parameter.numel() for parameter in segmenter.parameters()),
    )


def _class_rows(segmenter: BaseSegmenter, val: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, color and IoU with its interval, where the card has it, of each class."""
    iou, intervals = val.get("iou") or {}, val.get("iou_intervals") or {}
    return [
        (name, "#{:02x}{:02x}{:02x}".format(*color), _format_figure(iou.get(name), intervals.get(name)))
        for name, color in zip(segmenter.classes, segmenter.colors, strict=True)
    ]


def _format_figure(value: object, interval: object) -> str:
    """A figure with its interval, or what is known of both."""
    if not isinstance(value, float):
        return "-"
    if isinstance(interval, list | tuple) and len(interval) == 2 and all(isinstance(x, float) for x in interval):
        return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"{value:.3f}"
