"""`dilated predict`: label pictures and folders of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from dilated.predict.files import plan, predict_files
from dilated.predict.prediction import Prediction
from dilated.predict.predictor import Predictor
from dilated.predict.server import SERVERS, Form
from dilated.weights.bundled import load


def run(
    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")],
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT...")],
    /,
    out: Path,
    form: Annotated[Form, tyro.conf.arg(name="format")] = "palette",
    overlay: bool = False,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Write one palette PNG of label ids per picture, of the same size and stem; or what an evaluation server takes.

    A picture that cannot be read is reported with its reason, the others are labelled, and the exit status is 1.

    Args:
        network: a network file, a run's folder, or a bundled name.
        inputs: pictures, and folders that are searched for pictures.
        out: where the labels are written; made if missing.
        form: palette, or voc-comp6 for PASCAL VOC's server (OUT/results/VOC2012/Segmentation/comp6_test_cls), or
            cityscapes for Cityscapes' (OUT/CITY_SEQUENCE_FRAME_pred.png, of its label ids).
        overlay: write STEM.overlay.jpg too: the picture tinted, with a legend.
        device: cpu or cuda; CUDA where there is one if not given.
        precision: fp32, or bf16, which is faster on some machines and changes a few pixels.
    """
    server = SERVERS.get(form)
    jobs = plan(inputs, out, server)
    segmenter = load(network)
    save = server.writer(segmenter.classes) if server else Prediction.save
    predictor = Predictor(segmenter, device=device, precision=precision)
    out.mkdir(parents=True, exist_ok=True)
    errors = Console(stderr=True, soft_wrap=True)
    bar = iter(track(range(len(jobs) + 1), description="labelling", console=errors, transient=True))
    next(bar)
    failures = predict_files(predictor, jobs, overlay, lambda: next(bar, None), save)
    for failure in failures:
        errors.print(f"[bold red]error:[/] {escape(failure.reason)}", highlight=False)
    done = len(jobs) - len(failures)
    Console().print(f"{done} of {len(jobs)} pictures labelled in {out}/", highlight=False, soft_wrap=True)
    if failures:
        raise SystemExit(1)
