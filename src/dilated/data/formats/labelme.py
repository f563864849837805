"""Files of the annotation tool labelme: NAME.json beside the images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from os.path import dirname, realpath
from pathlib import Path
from typing import Any

from dilated.data.formats._classes import (
    BACKGROUND,
    BACKGROUND_LABELS,
    class_name,
    classes_from_names,
    prepend_background,
)
from dilated.data.formats._format import Format, Parsed, make_folders, require_writable_names, save_image
from dilated.data.formats._labelme_shapes import (
    IGNORE_LABEL,
    ShapeReader,
    is_labelme_folder,
    lacks_mask,
    list_labelme_files,
    read_embedded_image,
    read_shapes,
    shape_kind,
)
from dilated.data.formats._match import SPLITS, MatchResult, find_split
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.formats._tree import ImageIndex, list_folders
from dilated.data.images import is_file, list_image_files
from dilated.data.labels import Classes, ObjectRules
from dilated.data.polygons import compute_signed_area, trace_polygons
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import atomic_write, plural, read_lines
from dilated.label_ids import LabelArray, ignore_id_of


class LabelMe(Format):
    """Files of the annotation tool labelme: NAME.json beside the images, or in folders of their own.

        a.jpg  a.json                                    in the data folder, or in folders train/, val/, test/
        images/a.jpg  labels/a.json                      or any other folders, with train/ and val/ inside or outside

    Shapes are drawn in the order of the file, later ones over earlier ones, as labelme2voc does: polygons, rectangles
    (of two corners, or four that may be rotated), circles and masks; a pixel is a shape's if its center is. Lines and
    points have no pixels of their own: `line_width = 10` in classes.toml, labelme's own width, draws them as wide, and
    `objects_without_mask = "skip"` leaves them out. Class 0 is `background`, pixels of no shape and shapes called
    `_background_` or `__background__`; shapes called `__ignore__` are ignored. The other classes are those of
    labels.txt, one per line as labelme2voc takes them, or where there is none the labels of all files, sorted. Images
    without a file are not labeled and left out. An image is the one that `imagePath` says, or the only one of its name
    in the data folder; where there is none, that inside the file (`imageData`), which a note says.
    """

    name = "labelme"
    draws_objects = True
    lacks_colors = "labelme's files have"

    def detect(self) -> bool:
        return bool(self._folders)

    def parse(self) -> Parsed:
        return Parsed(self._folders, self._match_folder, self._read_classes, self._describe)

    @cached_property
    def _folders(self) -> dict[str, list[Path]]:
        """The folders of each split that have files of labelme, otherwise all of them."""
        folders = self._all_folders
        return {split: folders[split] for split in SPLITS if split in folders} or folders

    @cached_property
    def _all_folders(self) -> dict[str, list[Path]]:
        folders: dict[str, list[Path]] = {}
        for folder in list_folders(self.root, depth=2):
            if is_labelme_folder(folder):
                folders.setdefault(find_split(folder.relative_to(self.root).parts), []).append(folder)
        return folders

    @cached_property
    def _files(self) -> dict[str, list[_File]]:
        """The files of each split."""
        rules = self.classes_file.object_rules
        self._require_no_damaged_split()
        return {
            split: [_File.read(path, rules) for folder in folders for path in list_labelme_files(folder)]
            for split, folders in self._folders.items()
        }

    def _require_no_damaged_split(self) -> None:
        """Raise where all files of a split are damaged: it would be missing without a word."""
        for folder in list_folders(self.root, depth=2):
            split = find_split(folder.relative_to(self.root).parts)
            if split in SPLITS and split not in self._all_folders:
                images = {path.stem for path in list_image_files(folder)}
                for path in list_labelme_files(folder):
                    if path.stem in images:
                        read_shapes(path)

    @cached_property
    def _class_names(self) -> list[str]:
        """The classes, the background first."""
        listing = self.root / "labels.txt"
        if listing.is_file():
            return prepend_background(class_name(line) for _, line in read_lines(listing) if line != IGNORE_LABEL)
        labels = {class_name(label) for files in self._files.values() for file in files for label in file.labels}
        return prepend_background(sorted(labels - {IGNORE_LABEL}))

    def _read_classes(self) -> Classes:
        listing = self.root / "labels.txt"
        return classes_from_names(self._class_names, str(listing) if listing.is_file() else "labelme")

    @cached_property
    def _images(self) -> ImageIndex:
        return ImageIndex(self.root)

    def _match_folder(self, split: str) -> MatchResult:
        """The samples in the order of the files' names."""
        ids = (
            *self.classes_file.map_names_to_ids(self._class_names, "the data").items(),
            (IGNORE_LABEL, self.classes.ignore_id),
        )
        rules = self.classes_file.object_rules
        files = self._files[split]
        stems = Counter(file.path.stem for file in files)
        samples = []
        for file in files:
            image = file.find_image(self._images)
            reader = ShapeReader(image, ids, rules)
            parts = file.path.relative_to(self.root).with_suffix("").parts
            stem = file.path.stem if stems[file.path.stem] == 1 else "__".join(parts)
            if image is None:
                samples.append(Sample(file.path, file.path, reader, read_embedded_image, stem=stem))
            else:
                samples.append(Sample(image, file.path, reader, stem=stem))
        return MatchResult(samples)

    def _describe(self) -> list[str]:
        lines = ["Pixels of no shape are the class background; later shapes are drawn over earlier ones."]
        rules = self.classes_file.object_rules
        files = [file for split in self._files.values() for file in split]
        for kind, count in sum((file.without_mask for file in files), Counter[str]()).items():
            if rules.objects_without_mask == "skip":
                lines.append(
                    f"{plural(count, 'shape')} of the type {kind} left out, which have no pixels of their own."
                )
        if left_out := [
            folder for split in self._all_folders.keys() - self._folders for folder in self._all_folders[split]
        ]:
            lines.append(f"The files of {left_out[0]} are left out, for {', '.join(self._folders)} have folders.")
        try:
            images = {file.path: file.find_image(self._images) for file in files}
        except InputError:
            return lines  # reported when the samples are asked for
        embedded = [path for path, image in images.items() if image is None]
        if embedded:
            lines.append(
                f"{plural(len(embedded), 'image')} read from imageData inside the files, for no file has the name that "
                f"imagePath says; the first is {embedded[0]}."
            )
        used = {realpath(image) for image in images.values() if image is not None}  # which stops at a loop of links
        folders = {dirname(image) for image in used} | {realpath(f) for group in self._folders.values() for f in group}
        unlabeled = [p for folder in sorted(folders) for p in list_image_files(Path(folder)) if realpath(p) not in used]
        if unlabeled:
            lines.append(f"{len(unlabeled)} images without a .json are left out, the first is {unlabeled[0]}.")
        return lines

    @classmethod
    def _write(cls, root: Path, split: str, samples: Iterable[SampleArrays], classes: Classes) -> None:
        """Each 4-connected region is a polygon, larger ones first, so that what lies in a hole is drawn on top."""
        if classes.names[0] != BACKGROUND:
            raise InputError(f"{root}: the first class is {classes.names[0]!r}", hint="give background, then others")
        require_writable_names(classes, root, reserved=(*BACKGROUND_LABELS, IGNORE_LABEL))
        folder = root / split
        make_folders(folder)
        names = [BACKGROUND_LABELS[0], *classes.names[1:]]
        atomic_write(root / "labels.txt", "".join(f"{name}\n" for name in [IGNORE_LABEL, *names]))
        for stem, image, ids in samples:
            save_image(image, folder / f"{stem}.png")
            data = {
                "version": "5.0.1",  # of the file's form
                "flags": {},
                "shapes": _describe_shapes(ids, names),
                "imagePath": f"{stem}.png",
                "imageData": None,
                "imageHeight": ids.shape[0],
                "imageWidth": ids.shape[1],
            }
            atomic_write(folder / f"{stem}.json", json.dumps(data) + "\n")


@dataclass(frozen=True)
class _File:
    """What is kept of a file of labelme while the data set is read; the shapes are read again with the image."""

    path: Path
    image_path: object
    labels: tuple[str, ...]
    has_image_data: bool
    without_mask: Counter[str]
    """Shapes that have no pixels of their own, by their type."""

    @classmethod
    def read(cls, path: Path, rules: ObjectRules) -> _File:
        data = read_shapes(path)
        shapes = data["shapes"]
        return cls(
            path,
            data.get("imagePath"),
            tuple(dict.fromkeys(shape["label"] for shape in shapes)),
            isinstance(data.get("imageData"), str),
            Counter(shape_kind(shape) for shape in shapes if lacks_mask(shape, rules)),
        )

    def find_image(self, images: ImageIndex) -> Path | None:
        """The image, where `imagePath` says, beside the file or elsewhere in the data folder; None for `imageData`."""
        name = self.image_path
        if not isinstance(name, str) or not name:
            if self.has_image_data:
                return None
            raise InputError(f"{self.path}: imagePath: found {name!r}", hint="give the image's path from the file")
        image = self.path.parent / name.replace("\\", "/")  # as Windows has it
        sibling = self.path.parent / image.name
        candidates = [path for path in (image, sibling) if is_file(path)] or images.find(image.name, self.path)
        if len(candidates) > 1 and candidates[0] not in (image, sibling):
            raise InputError(
                f"{self.path}: imagePath: found {name!r}, and both {candidates[0]} and {candidates[1]}",
                hint="keep one of them, or put each beside its file",
            )
        if candidates:
            return candidates[0]
        if self.has_image_data:
            return None
        raise InputError(
            f"{self.path}: imagePath: found {name!r}, but neither {image} nor {sibling} exists, nor another image of "
            "this name in the data folder"
        )


def _describe_shapes(ids: LabelArray, names: list[str]) -> list[dict[str, Any]]:
    """The shapes of a label map (H, W), in the order in which they are drawn."""
    height, width = ids.shape
    rings = []
    for outline in trace_polygons(ids):
        left, top, box_width, box_height = outline.bbox
        is_interior = left > 0 and top > 0 and left + box_width < width and top + box_height < height
        if outline.value or is_interior:  # background at the border is in no hole
            rings.append(
                (outline.rings[0], IGNORE_LABEL if outline.value == ignore_id_of(ids) else names[outline.value])
            )
    rings.sort(key=lambda entry: compute_signed_area(entry[0]), reverse=True)
    return [
        {"label": name, "points": ring.tolist(), "group_id": None, "shape_type": "polygon", "flags": {}}
        for ring, name in rings
    ]
