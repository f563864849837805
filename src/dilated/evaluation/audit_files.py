"""The regions of an audit as files that lead back to the labels: CSV, CVAT for images 1.1, LabelMe.

    write_region_csv(result, folder / "audit.csv")
    write_region_cvat(result, folder / "audit.cvat.xml")
    write_region_labelme(result, folder / "labelme")

Regions carry the suggested class, so that what is right can be kept and what is wrong deleted.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from dilated.data.formats._classes import BACKGROUND_LABELS
from dilated.data.polygons import trace_polygons
from dilated.evaluation.audit import AuditRegion, AuditResult
from dilated.files import atomic_write, printable

_COLUMNS = (
    "rank",
    "image",
    "label",
    "left",
    "top",
    "width",
    "height",
    "pixels",
    "kind",
    "labelled",
    "suggested",
    "confidence",
    "score",
)


def write_region_csv(result: AuditResult, path: Path) -> None:
    """Write a line for each region: its rank, files, box in pixels, labelled and suggested class."""
    names = result.classes.names
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for rank, region in enumerate(result.regions, 1):
        suspect = region.suspect
        classes = names[suspect.labeled], names[suspect.suggested]
        numbers = f"{suspect.confidence:.4f}", f"{region.score:.4f}"
        texts = (printable(str(value)) for value in (region.image, region.sample.label))
        writer.writerow([rank, *texts, *suspect.bbox, suspect.pixels, suspect.kind, *map(printable, classes), *numbers])
    atomic_write(path, file.getvalue())


def write_region_cvat(result: AuditResult, path: Path) -> None:
    """Write the regions as masks of CVAT for images 1.1, exact to the pixel, with their rank and what is labelled."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels")
    for name, color in zip(result.classes.names, result.classes.colors, strict=True):
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = printable(name)
        ElementTree.SubElement(label, "color").text = "#{:02x}{:02x}{:02x}".format(*color)
        attributes = ElementTree.SubElement(label, "attributes")
        for key in ("rank", "kind", "labelled"):
            attribute = ElementTree.SubElement(attributes, "attribute")
            for tag, text in (("name", key), ("mutable", "False"), ("input_type", "text")):
                ElementTree.SubElement(attribute, tag).text = text
    for number, entries in enumerate(_by_image(result)):
        first = entries[0][1]
        height, width = first.size
        image = ElementTree.SubElement(root, "image", id=str(number), name=printable(first.image.name))
        image.set("width", str(width))
        image.set("height", str(height))
        for rank, region in entries:
            suspect = region.suspect
            left, top, box_width, box_height = map(str, suspect.bbox)
            mask = ElementTree.SubElement(
                image,
                "mask",
                label=printable(result.classes.names[suspect.suggested]),
                source="auto",
                occluded="0",
                rle=", ".join(map(str, _run_lengths(suspect.read_mask()))),
                left=left,
                top=top,
                width=box_width,
                height=box_height,
                z_order="0",
            )
            labeled = printable(result.classes.names[suspect.labeled])
            for key, text in (("rank", str(rank)), ("kind", suspect.kind), ("labelled", labeled)):
                ElementTree.SubElement(mask, "attribute", name=key).text = text
    ElementTree.indent(root)
    atomic_write(path, ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n")


def write_region_labelme(result: AuditResult, folder: Path) -> None:
    """Write a file of LabelMe for each image with regions, whose polygons are their outer outlines, holes filled."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [BACKGROUND_LABELS[0] if name == "background" else name for name in result.classes.names]
    for number, entries in enumerate(_by_image(result)):
        image, (height, width) = entries[0][1].image, entries[0][1].size
        shapes = [
            {
                "label": names[region.suspect.suggested],
                "points": _outline(region).tolist(),
                "group_id": rank,
                "description": f"{region.suspect.kind}, labelled {names[region.suspect.labeled]}",
                "shape_type": "polygon",
                "flags": {},
            }
            for rank, region in entries
        ]
        table: dict[str, Any] = {
            "version": "5.0.1",  # of the file's form
            "flags": {},
            "shapes": shapes,
            "imagePath": os.path.relpath(image.absolute(), folder.absolute()),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        atomic_write(folder / f"{number:04d}-{entries[0][1].sample.name}.json", json.dumps(table) + "\n")


def _by_image(result: AuditResult) -> list[list[tuple[int, AuditRegion]]]:
    """The ranks and regions of each image, the image of the first region first."""
    groups: defaultdict[tuple[str, str], list[tuple[int, AuditRegion]]] = defaultdict(list)
    for rank, region in enumerate(result.regions, 1):
        groups[str(region.image), region.sample.name].append((rank, region))
    return list(groups.values())


def _outline(region: AuditRegion) -> NDArray[np.int64]:
    """(n, 2) corners of x and y of the outer outline."""
    left, top, _, _ = region.suspect.bbox
    outlines = trace_polygons(region.suspect.read_mask().astype(np.int64))
    return next(outline for outline in outlines if outline.value == 1).rings[0] + (left, top)


def _run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of runs of equal values, row by row, the first of zeros.

    Example:
        >>> _run_lengths(np.array([[True, True], [False, True]]))
        [0, 2, 1, 1]
    """
    flat = np.concatenate([[False], mask.ravel()])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], ends, [mask.size]])).tolist()
