"""Label files as the evaluation servers of PASCAL VOC and Cityscapes take them.

    server = SERVERS["cityscapes"]
    save = server.make_writer(segmenter.classes)         # an error if the classes are others
    save(prediction, server.label_path(Path("berlin_000000_000019_leftImg8bit.png"), Path("out")))

The networks' classes are matched with the server's by name, in any order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from dilated.data.formats import cityscapes, voc
from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.palettes import voc_color
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage, Source, SourceKind
from dilated.prediction.writers.base import PredictionWriter, output_file

ServerFormat = Literal["palette", "voc-comp6", "cityscapes"]
"""What `dilated predict --format` takes: the package's own palette PNGs, or a server's."""


@dataclass(frozen=True)
class EvaluationServer:
    """What a server expects.

    Args:
        name: its name in messages.
        classes: its classes, whose values are those in its files.
        folder: where its files are, below the output folder.
        stem_pattern: what the stem of an image must match; the first group is the stem of its label file.
        stem_description: the pattern in words.
        suffix: what follows the stem.
        palette: whether its files show VOC's colors, or are plain gray.
    """

    name: str
    classes: Classes
    folder: str
    stem_pattern: str
    stem_description: str
    suffix: str
    palette: bool

    def label_path(self, image: Path, out: Path) -> Path:
        """Return the label file of an image.

        Raises:
            InputError: a name that the server does not know.

        Example:
            >>> SERVERS["cityscapes"].label_path(Path("bonn_000031_000019_leftImg8bit.png"), Path("out")).name
            'bonn_000031_000019_pred.png'
            >>> SERVERS["voc-comp6"].label_path(Path("2008_000006.jpg"), Path("out")).as_posix()
            'out/results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png'
        """
        match = re.fullmatch(self.stem_pattern, image.stem)
        if match is None:
            raise InputError(
                f"{image}: the stem {image.stem!r} is not {self.stem_description}, by which the {self.name} server "
                "finds the labels",
                hint="use --format palette for other images",
            )
        return out / self.folder / f"{match[1]}{self.suffix}"

    def make_writer(self, classes: Sequence[str]) -> Callable[[Prediction, Path], None]:
        """Return the function that writes a prediction of these classes to a path.

        Args:
            classes: the network's names, in the order of its ids.

        Raises:
            InputError: names that are not the server's.
        """
        if set(classes) != set(self.classes.names):
            unexpected = sorted(set(classes) - set(self.classes.names))
            missing = sorted(set(self.classes.names) - set(classes))
            raise InputError(
                f"format: the network's classes are not those of the {self.name} server: only the network has "
                f"{unexpected}, only the server has {missing}",
                hint=f"give a network with the server's {len(self.classes)} names, in any order",
            )
        values = dict(zip(self.classes.names, self.classes.values, strict=True))
        id_to_value = np.array([values[name][0] for name in classes], dtype=np.uint8)

        def write(prediction: Prediction, path: Path) -> None:
            image = Image.fromarray(id_to_value[prediction.labels])
            if self.palette:
                image.putpalette([channel for i in range(256) for channel in voc_color(i)])  # mode L becomes P
            image.save(path, format="PNG")

        return write


SERVERS = {
    "voc-comp6": EvaluationServer(
        name="PASCAL VOC 2012",
        classes=voc.CLASSES,
        folder="results/VOC2012/Segmentation/comp6_test_cls",
        stem_pattern="(.+)",
        stem_description="an image of VOC",
        suffix=".png",
        palette=True,
    ),
    "cityscapes": EvaluationServer(
        name="Cityscapes",
        classes=cityscapes.CLASSES,
        folder="",
        stem_pattern=r"([^_]+_\d{6}_\d{6})(?:_leftImg8bit)?",
        stem_description="CITY_SEQUENCE_FRAME_leftImg8bit with two numbers of six digits",
        suffix="_pred.png",  # the official evaluation looks for CITY_SEQUENCE_FRAME*.png in all folders
        palette=False,
    ),
}


class ServerWriter(PredictionWriter):
    """Files with the places, names and values that a server expects."""

    def __init__(self, out: Path, server: EvaluationServer) -> None:
        super().__init__(out)
        self.server = server
        self.save: Callable[[Prediction, Path], None] | None = None

    def path(self, image: InputImage) -> Path:
        return self.server.label_path(image.source.path, self.out)

    def check_source(self, source: Source) -> None:
        if source.kind != SourceKind.IMAGE:
            raise InputError(f"format: the server does not know the {source.kind} {source.path}", hint="give images")

    def open(self, classes: Sequence[str], colors: Sequence[Any], append: bool = False) -> None:
        self.save = self.server.make_writer(classes)

    def write(self, image: InputImage, prediction: Prediction) -> None:
        assert self.save is not None, "open comes first"
        with output_file(self.path(image)) as temporary:
            self.save(prediction, temporary)
