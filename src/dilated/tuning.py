"""`dilated.tune`: what can be fitted to a network without training it.

tuned = dilated.tune("runs/mine", "my-data")
print(tuned)
tuned.segmenter.save("tuned.safetensors")
"""

from __future__ import annotations

from pathlib import Path

from dilated.api import Network, make_predictor, open_data
from dilated.data.dataset import Dataset
from dilated.evaluation import tune as fit
from dilated.evaluation.tune import TuneOptions
from dilated.evaluation.tuning_result import TuningResult
from dilated.progress import ProgressCallback


def tune(
    network: Network,
    data: str | Path | Dataset,
    options: TuneOptions | None = None,
    device: str | None = None,
    on_progress: ProgressCallback | None = None,
) -> TuningResult:
    """Fit biases of classes, a temperature and thresholds of risk on images that the network was not trained on.

    Biases are kept only where an interval over groups shows that they raise mean IoU on images that they were not
    fitted on. They become part of the last layer, so tiles and exports need nothing; temperature and thresholds are
    kept in the network's card, for confidences and `Predictor(..., risk=0.02)`.

    Args:
        network: as for `evaluate`; it stays as it is.
        data: a data folder or an opened one, with the network's class names in any order.
        options: the split, the risks, and whether to choose a CRF.
        device, on_progress: as for `evaluate`; each image is labelled two or three times.

    Returns:
        The result; `print` shows it, `.segmenter.save(path)` writes the network, `to_dict` converts to JSON values.

    Raises:
        InputError: no such network or data, classes that differ, too few images, or an unreadable image or label.
    """
    dataset, options = open_data(data), options or TuneOptions()
    samples, groups = dataset.samples(options.split), dataset.groups(options.split)
    name = dataset.root.resolve().name
    return fit.tune(make_predictor(network, device), samples, dataset.classes, groups, name, options, on_progress)
