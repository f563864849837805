"""The verbs of the Python API: one function per command of the command line.

    import dilated
    print(dilated.evaluate("street", "my-data"))
    print(dilated.compare("street", "runs/mine", "my-data"))
    dilated.write_report("runs/mine", "my-data")

A network is a segmenter, a predictor, a bundled name, a network file or a run's folder. Data is a folder in any layout
that `dilated check` knows, or what `open_dataset` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dilated.data.dataset import Dataset, open_dataset
from dilated.evaluation import compare as comparison
from dilated.evaluation import evaluate as evaluation
from dilated.evaluation.accumulator import MetricsConfig
from dilated.evaluation.compare import Comparison
from dilated.evaluation.result import EvaluationResult
from dilated.models.base import BaseSegmenter
from dilated.prediction.predictor import Predictor
from dilated.report.write import write_report as write_dataset_report
from dilated.weights.bundled import load

Network = str | Path | BaseSegmenter | Predictor


def evaluate(
    network: Network,
    data: str | Path | Dataset,
    split: str = "val",
    metrics: MetricsConfig | None = None,
    device: str | None = None,
    on_progress: Callable[[], object] | None = None,
) -> EvaluationResult:
    """Measure a network with one confusion matrix over all labelled pixels, at the images' own resolution.

    Args:
        network: a segmenter, a predictor, a bundled name, a network file or a run's folder.
        data: a data folder or an opened one, with the network's class names in any order.
        split: the part of the data to measure.
        metrics: what to measure besides the confusion matrix; boundary IoU if not given.
        device: `cpu` or `cuda`; CUDA where there is one if not given. A predictor keeps its own.
        on_progress: called after each image.

    Returns:
        The result; `print` shows the metrics with their intervals, `to_dict` converts them to JSON values.

    Raises:
        InputError: no such network or data, classes that differ, or an unreadable image or label.
    """
    dataset = _open(data)
    config = metrics or MetricsConfig(boundary=True)
    samples = dataset.samples(split)
    return evaluation.evaluate(_predictor(network, device), samples, dataset.classes, config, on_progress)


def compare(
    candidate: Network,
    baseline: Network,
    data: str | Path | Dataset,
    split: str = "val",
    metrics: MetricsConfig | None = None,
    device: str | None = None,
    on_progress: Callable[[], object] | None = None,
) -> Comparison:
    """Measure two networks on the same images, and tell whether their difference is more than chance.

    Args:
        candidate, baseline: two networks of the same classes, each as for `evaluate`.
        data, split, metrics, device, on_progress: as for `evaluate`.

    Returns:
        The comparison; `print` shows both means, the difference with its interval, and what that says.

    Raises:
        InputError: no such network or data, classes that differ, or an unreadable image or label.
    """
    dataset = _open(data)
    return comparison.compare(
        _predictor(candidate, device),
        _predictor(baseline, device),
        dataset.samples(split),
        dataset.classes,
        metrics or MetricsConfig(boundary=True),
        on_progress,
        (_name(candidate, "the candidate"), _name(baseline, "the baseline")),
    )


def write_report(
    run: str | Path,
    data: str | Path | Dataset,
    out: str | Path | None = None,
    split: str = "val",
    device: str | None = None,
    on_progress: Callable[[], object] | None = None,
) -> Path:
    """Measure a run's best network and write one page about it: metrics, curves, images, recipe, commands.

    Args:
        run: the folder of a training.
        data: a data folder or an opened one, with the network's class names in any order.
        out: the page's file; `report.html` in the run if not given.
        split: the part of the data to measure.
        device: `cpu` or `cuda`; CUDA where there is one if not given.
        on_progress: called after each image.

    Returns:
        The page's file.

    Raises:
        InputError: no such run or data, classes that differ, an unreadable file, or nowhere to write.
    """
    return write_dataset_report(Path(run), _open(data), Path(out) if out else None, split, device, on_progress)


def _open(data: str | Path | Dataset) -> Dataset:
    return data if isinstance(data, Dataset) else open_dataset(data)


def _predictor(network: Network, device: str | None) -> Predictor:
    if isinstance(network, Predictor):
        return network
    return Predictor(network if isinstance(network, BaseSegmenter) else load(str(network)), device=device)


def _name(network: Network, fallback: str) -> str:
    return str(network) if isinstance(network, str | Path) else fallback
