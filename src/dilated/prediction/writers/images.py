"""Labels, overlays and probabilities as images and arrays, one file per image; overlays of a video as a video.

Evaluation servers take label images with places, names and values of their own. The networks' classes are matched with
a server's by name, in any order:

    server = SERVERS["cityscapes"]
    save = server.make_writer(segmenter.classes)         # an error if the classes are others
    save(prediction, server.label_path(Path("berlin_000000_000019_leftImg8bit.png"), Path("out")))
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dilated.data.formats import cityscapes, voc
from dilated.data.labels import IGNORE, Classes
from dilated.errors import InputError
from dilated.palettes import Color, voc_color
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage, Source, SourceKind
from dilated.prediction.video import VideoEncoder
from dilated.prediction.writers.base import ImageFormat, PerImageWriter, PredictionWriter, output_file


def _save_palette(prediction: Prediction, path: Path, image: InputImage) -> None:
    """Mode P: a reader of indices gets the ids, a viewer shows the colors; 16-bit gray for more than 255 classes."""
    prediction.label_image().save(path, format="PNG", pnginfo=_describe(prediction))


def _save_ids(prediction: Prediction, path: Path, image: InputImage) -> None:
    """Gray, for programs that do not read palettes; 16 bits for more than 255 classes."""
    Image.fromarray(prediction.labels).save(path, format="PNG", pnginfo=_describe(prediction))


def _save_color(prediction: Prediction, path: Path, image: InputImage) -> None:
    Image.fromarray(prediction.color_image()).save(path, format="PNG", pnginfo=_describe(prediction))


def _describe(prediction: Prediction) -> PngInfo | None:
    """Return what decided the labels, for the file's text `dilated`; None for the greatest logit alone."""
    if not prediction.how:
        return None
    info = PngInfo()
    info.add_text("dilated", prediction.how)
    return info


def _save_confidence(prediction: Prediction, path: Path, image: InputImage) -> None:
    """Gray of 16 bits: 65535 times the greatest probability, at the temperature in the file's text."""
    values = np.rint(prediction.confidence * 65535).astype(np.uint16)
    info = PngInfo()
    info.add_text("dilated", json.dumps({"scale": 65535, "temperature": prediction.temperature}))
    Image.fromarray(values).save(path, format="PNG", pnginfo=info)


def _save_overlay(prediction: Prediction, path: Path, image: InputImage) -> None:
    prediction.overlay().save(path, format="JPEG", quality=92)


def _save_probabilities(prediction: Prediction, path: Path, image: InputImage) -> None:
    """`probabilities` (C, H, W) float16 and `classes`, their names; not compressed."""
    with path.open("wb") as file:  # given a name, numpy would add a suffix
        np.savez(file, probabilities=_half_probabilities(prediction), classes=np.array(prediction.classes))


def _save_probability_tiff(prediction: Prediction, path: Path, image: InputImage) -> None:
    """A page of float16 for each class, described by its name."""
    from tifffile import TiffWriter

    with TiffWriter(path) as file:
        for name, page in zip(prediction.classes, _half_probabilities(prediction), strict=True):
            file.write(page, photometric="minisblack", description=name.encode(), metadata=None)


def _half_probabilities(prediction: Prediction) -> NDArray[np.float16]:
    """Return the probabilities in 16 bits, (C, H, W), which keep three decimal digits."""
    values: NDArray[np.float16] = prediction.probabilities.half().numpy()
    return values


LABEL_FORMATS = {
    "palette": ImageFormat(".png", _save_palette),
    "ids": ImageFormat(".png", _save_ids),
    "color": ImageFormat(".png", _save_color),
}
OVERLAY_FORMAT = ImageFormat(".overlay.jpg", _save_overlay)
PROBABILITY_FORMATS = {
    "confidence": ImageFormat(".confidence.png", _save_confidence, needs_logits=True),
    "probabilities": ImageFormat(".npz", _save_probabilities, needs_logits=True),
    "probabilities-tif": ImageFormat(
        ".probabilities.tif", _save_probability_tiff, needs_logits=True, package="tifffile"
    ),
}


class _IncompleteVideoError(Exception):
    """Discards the file of a video that was not labelled to its end."""


class VideoWriter(PredictionWriter):
    """`NAME.mp4`, with the video's size and frame rate. Written by one thread, one video after the other."""

    def __init__(self, out: Path) -> None:
        super().__init__(out, (SourceKind.VIDEO, SourceKind.CAMERA))
        self.encoder: VideoEncoder | None = None
        self.open_file = ExitStack()

    def path(self, image: InputImage) -> Path:
        path = self.out / image.source.name
        return path.with_name(f"{path.name}.mp4")

    def write(self, image: InputImage, prediction: Prediction) -> None:
        assert image.frame is not None
        height, width = prediction.labels.shape
        if self.encoder is None:
            path = self.path(image)
            # The file exists only when the whole video is done, which is how a later run knows.
            path.unlink(missing_ok=True)
            with ExitStack() as stack:
                temporary = stack.enter_context(output_file(path))
                self.encoder = VideoEncoder(temporary, height, width, image.frame.rate)
                self.open_file = stack.pop_all()
        encoder = self.encoder
        if (height, width) != (encoder.height, encoder.width):
            raise InputError(
                f"{image}: the frame has {width}x{height} pixels, those before {encoder.width}x{encoder.height}",
                hint="convert the video to one size",
            )
        encoder.write(np.asarray(prediction.overlay(legend=False)), image.frame.seconds)

    def finish_video(self, source: Source, complete: bool) -> None:
        if self.encoder is None:
            return
        encoder, self.encoder = self.encoder, None
        with suppress(_IncompleteVideoError), self.open_file:
            encoder.close()
            if not complete:
                raise _IncompleteVideoError


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
        id_to_value = np.full(256, IGNORE, dtype=np.uint8)  # which is what servers read as no class
        id_to_value[: len(classes)] = [values[name][0] for name in classes]

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


class ServerWriter(PerImageWriter):
    """Files with the places, names and values that a server expects."""

    def __init__(self, out: Path, server: EvaluationServer) -> None:
        super().__init__(out, ImageFormat("", _save_palette, video_error="format: the server does not know"))
        self.server = server

    def path(self, image: InputImage) -> Path:
        return self.server.label_path(image.source.path, self.out)

    def open(self, classes: Sequence[str], colors: Sequence[Color], append: bool = False) -> None:
        save = self.server.make_writer(classes)
        self.format = replace(self.format, save=lambda prediction, path, image: save(prediction, path))
