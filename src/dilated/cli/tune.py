"""`dilated tune`: what can be fitted to a network without training it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, write_line
from dilated.data.splitting import open_divided
from dilated.errors import InputError
from dilated.evaluation.tune import TuneOptions
from dilated.files import atomic_write
from dilated.tuning import tune
from dilated.weights.catalog import find_network

_SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class _Options:
    """Which data, and where the results are written."""

    out: arguments.OptionalPath = None
    """write the network there; by default tuned.safetensors in the run's folder, or NAME.tuned.safetensors beside a
    network file, and in this folder for a bundled network."""
    format: arguments.Format = None
    group_by: arguments.GroupBy = None
    lists: arguments.Lists = None
    fold: arguments.Fold = None
    device: arguments.Device = None
    json_file: arguments.JsonFile = None
    """write what was fitted there too, and what each part gains."""

    def __post_init__(self) -> None:
        for file in (self.json_file, self.out):
            if file is not None and not file.absolute().parent.is_dir():
                raise InputError(f"{file}: its folder is not there", hint="make the folder first")
        if self.out is not None and self.out.suffix != _SUFFIX:
            raise InputError(f"out: {self.out} is no {_SUFFIX} file", hint=f"give a name that ends in {_SUFFIX}")


def run(
    network: arguments.Network,
    data: arguments.Data,
    /,
    options: arguments.Options[_Options],
    tune_options: arguments.Options[TuneOptions],
) -> None:
    """Fit biases of classes, a temperature and thresholds of risk on images that the network was not trained on.

    Biases are added to the last layer only where an interval over groups shows that they raise mean IoU on images that
    they were not fitted on. The network is written to a new file; figures of it on the same images flatter it a little.

    Args:
        data: a data folder with the same class names.
    """
    out = options.out or _default_out(network)
    dataset = open_divided(data, options.format, options.group_by, options.lists, options.fold)
    for note in dataset.notes:
        write_line(f"note: {note}", stderr=True)
    with ProgressBar("tuning") as bar:
        tuned = tune(network, dataset, tune_options, options.device, bar.update)
    tuned.segmenter.save(out)
    for line in str(tuned).splitlines():
        write_line(line)
    write_line(f"{out}: the network with what was kept")
    if options.json_file is not None:
        atomic_write(options.json_file, json.dumps(tuned.to_dict(), indent=2, allow_nan=False) + "\n")


def _default_out(network: str) -> Path:
    """Where the network is written if no place is given.

    Example:
        >>> _default_out("street").as_posix()
        'street.tuned.safetensors'
    """
    path = Path(network)
    if path.is_dir():
        return path / f"tuned{_SUFFIX}"
    return path.with_suffix(f".tuned{_SUFFIX}") if find_network(network) == path else Path(f"{network}.tuned{_SUFFIX}")
