"""Label Studio's exports "JSON" and "JSON-MIN": the regions of each task."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dilated.data.formats._annotations import AnnotatedImage, AnnotationFormat, Annotations
from dilated.data.formats._label_studio_regions import read_regions
from dilated.data.formats._objects import ObjectCounts
from dilated.data.formats._scan import holds_words
from dilated.data.images import IMAGE_SUFFIXES
from dilated.errors import InputError
from dilated.files import plural, read_json

_FULL_WORDS = (b'"result"', b'"data"', b'"to_name"')
_MIN_WORDS = (b'"annotation_id"', b'"original_width"')
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")


class LabelStudio(AnnotationFormat):
    """Label Studio's exports "JSON" and "JSON-MIN": the regions of each task.

        project-1-at-2024-05-01-....json   the one export, of any name
        images/NAME.jpg                    as uploaded (1a2b3c4d-NAME.jpg) or without the prefix, here or anywhere below

    Polygons, brush masks, rectangles and ellipses, which may be rotated, are drawn in the order of the file, later ones
    over earlier ones. Class 0 is `background`, pixels of no region; the labels of the regions follow, sorted by name,
    and a label called `background` is the background.

    Cancelled annotations are not read, nor are predictions and drafts. Of several annotations of a task the one that is
    marked as ground truth is read, otherwise the one that was updated last. Tasks without an annotation are left out;
    an annotation without regions is an image of background. Regions without area (key points, open lines) or without a
    label are an error, unless `objects_without_mask = "skip"` in classes.toml leaves them out.
    """

    name = "label_studio"
    title = "Label Studio JSON"
    lacks_colors = "Label Studio's export has"

    def detect(self) -> bool:
        return bool(self._paths)

    @cached_property
    def _paths(self) -> list[Path]:
        paths = sorted(self.root.glob("*.json"))
        return [path for path in paths if holds_words(path, b"[", _FULL_WORDS) or holds_words(path, b"[", _MIN_WORDS)]

    def _read(self) -> Annotations:
        if not self._paths:
            return Annotations([], [])
        path = self._paths[0]
        if len(self._paths) > 1:
            raise InputError(
                f"{self._paths[1]}: is a second export of {self.title}, beside {path.name}",
                hint="leave one of them in the folder",
            )
        entries = read_json(path)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"{path}: {self.title}: is not a list of tasks", hint="export the project again")
        is_full = any(isinstance(entry.get("data"), dict) for entry in entries)
        tasks = _read_tasks(path, entries) if is_full else _read_minimal(path, entries)
        counts = ObjectCounts(self.classes_file.object_rules)
        images = [_read_image(path, task, counts) for task in tasks.chosen]
        names = sorted({entry.class_name for image in images for entry in image.objects})
        return Annotations(names, images, notes=[*tasks.describe(path.name), *counts.describe(path.name)])


@dataclass(frozen=True)
class _Task:
    """The annotation of a task that is read."""

    id: object
    data: dict[str, Any]
    upload: object
    """The name of the file that was uploaded, where the export says it."""
    regions: list[dict[str, Any]]
    """The fields of each region, and those of its value, in one."""


@dataclass
class _Tasks:
    """What was chosen of an export."""

    chosen: list[_Task] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def describe(self, name: str) -> list[str]:
        """A line for each kind of choice."""
        lines = []
        if count := self.counts["without"]:
            lines.append(f"{name}: {plural(count, 'task')} without an annotation left out.")
        if count := self.counts["cancelled"]:
            lines.append(f"{name}: {plural(count, 'cancelled annotation')} not read.")
        if count := self.counts["several"]:
            lines.append(
                f"{name}: {plural(count, 'task')} with several annotations: the one marked as ground truth is read, "
                "otherwise the one updated last."
            )
        return lines


def _read_tasks(path: Path, entries: list[dict[str, Any]]) -> _Tasks:
    """The tasks of the full export."""
    tasks = _Tasks()
    for entry in entries:
        where = f"{path}: task {entry.get('id')}"
        versions = entry.get("annotations", entry.get("completions"))
        if not isinstance(versions, list) or not all(isinstance(version, dict) for version in versions):
            raise InputError(f"{where}: its annotations are {versions!r:.60}", hint="export the project again")
        valid = [version for version in versions if not (version.get("was_cancelled") or version.get("skipped"))]
        tasks.counts["cancelled"] += len(versions) - len(valid)
        tasks.counts["several"] += len(valid) > 1
        if not valid:
            tasks.counts["without"] += 1
            continue
        annotation = max(valid, key=lambda version: (bool(version.get("ground_truth")), _moment(version)))
        results, data = annotation.get("result"), entry.get("data")
        if not isinstance(results, list) or not isinstance(data, dict):
            raise InputError(f"{where}: lacks its data, or its annotation a result", hint="export the project again")
        regions = []
        for number, result in enumerate(results):
            if not isinstance(result, dict) or not isinstance(result.get("value", {}), dict):
                raise InputError(f"{where}: result {number} is {result!r:.60}", hint="export the project again")
            regions.append({**result, **result.get("value", {})})
        tasks.chosen.append(_Task(entry.get("id"), data, entry.get("file_upload"), regions))
    return tasks


def _read_minimal(path: Path, entries: list[dict[str, Any]]) -> _Tasks:
    """The tasks of JSON-MIN, in which each entry is an annotation, cancelled ones left out."""
    tasks = _Tasks()
    by_task: dict[str, list[dict[str, Any]]] = {}
    for number, entry in enumerate(entries):
        by_task.setdefault(repr(entry.get("id", f"entry {number}")), []).append(entry)
    for versions in by_task.values():
        tasks.counts["several"] += len(versions) > 1
        entry = max(versions, key=_moment)
        regions = [region for value in entry.values() if isinstance(value, list) for region in value]
        tasks.chosen.append(
            _Task(entry.get("id"), entry, None, [region for region in regions if isinstance(region, dict)])
        )
    return tasks


def _moment(annotation: dict[str, Any]) -> str:
    """When an annotation was last changed, as texts that sort in time."""
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _read_image(path: Path, task: _Task, counts: ObjectCounts) -> AnnotatedImage:
    where = f"{path}: task {task.id}"
    names = list(_image_names(where, task))
    size, regions = read_regions(where, task.regions, counts)
    return AnnotatedImage(names[0], path, size, regions, other_names=names[1:])


def _image_names(where: str, task: _Task) -> Iterator[str]:
    """The names that a task's image may have: as stored, and without the prefix of an upload."""
    paths = {key: _path_of_link(value) for key, value in task.data.items() if isinstance(value, str)}
    images = {key: path for key, path in paths.items() if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES}
    if len(images) > 1 and "image" not in images:
        raise InputError(f"{where}: its data name several images: {', '.join(images)}", hint="leave one in the task")
    name = images.get("image") or next(iter(images.values()), "")
    name = name or (task.upload if isinstance(task.upload, str) else "") or paths.get("image", "")
    if not name:
        raise InputError(f"{where}: its data name no image: {task.data!r:.80}", hint="export tasks of images")
    yield name
    if _UPLOAD_PREFIX.match(PurePosixPath(name).name):
        yield str(PurePosixPath(name).with_name(PurePosixPath(name).name[9:]))


def _path_of_link(link: str) -> str:
    """The path in a link of Label Studio's.

    Example:
        >>> _path_of_link("/data/local-files/?d=street/a%20b.jpg"), _path_of_link("s3://bucket/street/a.jpg")
        ('street/a b.jpg', '/street/a.jpg')
    """
    try:
        parts = urlsplit(link.replace("\\", "/"))
        return parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    except ValueError:  # brackets that are no address
        return link
