"""Label files as the evaluation servers of PASCAL VOC and Cityscapes take them.

    server = SERVERS["cityscapes"]
    save = server.writer(segmenter.classes)              # or an error where the classes are others
    save(prediction, server.target(Path("berlin_000000_000019_leftImg8bit.png"), Path("out")))

The networks' classes are matched with the server's by name, in any order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from dilated.data.formats import cityscapes, voc
from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.palettes import voc_color
from dilated.prediction.prediction import Prediction

ServerFormat = Literal["palette", "voc-comp6", "cityscapes"]
"""What `dilated predict --format` takes: the package's own palette PNGs, or a server's."""


@dataclass(frozen=True)
class EvaluationServer:
    """What a server expects.

    Args:
        name: what to call it in messages.
        classes: its classes, of which the values are those in its files.
        folder: where its files are, below the output folder.
        stem: what the stem of an image must match; the first group is the stem of its label file.
        expected: that in words.
        ending: what follows the stem.
        palette: whether its files show VOC's colors, or are plain grey.
    """

    name: str
    classes: Classes
    folder: str
    stem: str
    stem_description: str
    suffix: str
    palette: bool

    def label_path(self, image: Path, out: Path) -> Path:
        """The label file of an image.

        Raises:
            InputError: a name that the server would not know.

        Example:
            >>> SERVERS["cityscapes"].label_path(Path("bonn_000031_000019_leftImg8bit.png"), Path("out")).name
            'bonn_000031_000019_pred.png'
            >>> SERVERS["voc-comp6"].label_path(Path("2008_000006.jpg"), Path("out")).as_posix()
            'out/results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png'
        """
        match = re.fullmatch(self.stem, image.stem)
        if match is None:
            raise InputError(
                f"{image}: found the stem {image.stem!r}; expected {self.stem_description}, by which the {self.name} "
                "server finds the labels. Use --format palette for other images."
            )
        return out / self.folder / f"{match[1]}{self.suffix}"

    def make_writer(self, classes: Sequence[str]) -> Callable[[Prediction, Path], None]:
        """How predictions of these classes are written.

        Args:
            classes: the network's names, in the order of its ids.

        Raises:
            InputError: names that are not the server's.
        """
        if set(classes) != set(self.classes.names):
            unexpected, missing = (
                sorted(set(classes) - set(self.classes.names)),
                sorted(set(self.classes.names) - set(classes)),
            )
            raise InputError(
                f"format: the network's classes are not those of the {self.name} server: only the network has {unexpected}, "
                f"only the server has {missing}; expected its {len(self.classes)} names in any order"
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
        stem="(.+)",
        stem_description="an image of VOC",
        suffix=".png",
        palette=True,
    ),
    "cityscapes": EvaluationServer(
        name="Cityscapes",
        classes=cityscapes.CLASSES,
        folder="",
        stem=r"([^_]+_\d{6}_\d{6})(?:_leftImg8bit)?",
        stem_description="CITY_SEQUENCE_FRAME_leftImg8bit with two numbers of six digits",
        suffix="_pred.png",  # the official evaluation looks for CITY_SEQUENCE_FRAME*.png in all folders
        palette=False,
    ),
}
