"""Healthy exports of annotation tools, which the program reads and does not write: each in the shape that its tool has.

EXPORTS["cvat_images"](Path("data"), {"train0": (image, ids)})   # ids (H, W) of background, disc and bar

A bar is a box and a disc a mask over it, so that both kinds of shapes and their order are in every file.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Samples = Mapping[str, tuple[np.ndarray, np.ndarray]]
LABELS = ("disc", "bar")


def save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def bar_rows(ids: np.ndarray) -> tuple[int, int]:
    """The first row of the bar, and that after its last."""
    rows = np.flatnonzero((ids == 2).any(axis=1))
    return int(rows[0]), int(rows[-1]) + 1


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, the last two exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def run_lengths(flat: np.ndarray) -> list[int]:
    """How many are off, then on, then off, ..."""
    ends = [*(np.flatnonzero(np.diff(flat.astype(int))) + 1).tolist(), len(flat)]
    runs = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return [0, *runs] if flat[0] else runs


def write_cvat(root: Path, samples: Samples) -> None:
    labels = "".join(
        f"<label>\n<name>{name}</name>\n<color>#{i:02}3253</color>\n<attributes>\n</attributes>\n</label>\n"
        for i, name in enumerate(LABELS)
    )
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>", "<meta>", "<task>"]
    lines += [f"<labels>\n{labels}</labels>", "</task>", "</meta>"]
    for i, (stem, (image, ids)) in enumerate(samples.items()):
        save(image, root / "images" / f"{stem}.png")
        subset = "Train" if stem.startswith("train") else "Validation"
        lines.append(
            f'<image id="{i}" name="{stem}.png" subset="{subset}" width="{ids.shape[1]}" height="{ids.shape[0]}">'
        )
        left, top, right, bottom = mask_box(ids == 1)
        runs = ", ".join(map(str, run_lengths((ids == 1)[top:bottom, left:right].ravel())))
        lines += [
            f'<mask label="disc" source="auto" occluded="0" rle="{runs}" left="{left}" top="{top}" '
            f'width="{right - left}" height="{bottom - top}" z_order="1">',
            "</mask>",
        ]
        first, last = bar_rows(ids)
        lines += [
            f'<box label="bar" source="manual" occluded="0" xtl="0.00" ytl="{first}.00" xbr="{ids.shape[1]}.00" '
            f'ybr="{last}.00" z_order="0">',
            "</box>",
            '<polygon label="bar" source="manual" occluded="0" points="1.00,1.00;9.50,1.25;4.00,8.00" z_order="0">',
            "</polygon>",
            "</image>",
        ]
    (root / "annotations.xml").write_text("\n".join([*lines, "</annotations>", ""]))


def _pack(mask: np.ndarray) -> list[int]:
    """Label Studio's packed runs of RGBA bytes, with lengths of 16 bits."""
    values = np.repeat(mask.ravel().astype(int) * 255, 4)
    bits = f"{len(values):032b}" + f"{7:05b}" + f"{15:04b}" * 4
    start = 0
    for end in [*(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]:
        bits += f"111{end - start - 1:016b}{values[start]:08b}"
        start = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def write_label_studio(root: Path, samples: Samples) -> None:
    tasks = []
    for i, (stem, (image, ids)) in enumerate(samples.items()):
        save(image, root / "images" / f"0a1b2c3{i}-{stem}.png")
        height, width = ids.shape
        first, last = bar_rows(ids)
        values: list[tuple[str, dict[str, Any]]] = [
            ("polygonlabels", {"points": [[2, 3], [17, 3.5], [9, 20]], "closed": True, "polygonlabels": ["bar"]}),
            (
                "rectanglelabels",
                {
                    "x": 0,
                    "y": first / height * 100,
                    "width": 100,
                    "height": (last - first) / height * 100,
                    "rotation": 0,
                    "rectanglelabels": ["bar"],
                },
            ),
            ("brushlabels", {"format": "rle", "rle": _pack(ids == 1), "brushlabels": ["disc"]}),
        ]
        result = [
            {
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": value,
                "id": f"r{number}",
                "from_name": "label",
                "to_name": "image",
                "type": kind,
                "origin": "manual",
            }
            for number, (kind, value) in enumerate(values)
        ]
        annotation = {"id": i, "completed_by": 1, "result": result, "was_cancelled": False, "ground_truth": False}
        annotation |= {"created_at": "2024-05-01T10:00:00Z", "updated_at": "2024-05-01T10:00:00Z", "lead_time": 1.5}
        cancelled = {**annotation, "id": 100 + i, "was_cancelled": True, "result": result[:1]}
        name = f"0a1b2c3{i}-{stem}.png"
        tasks.append(
            {
                "id": i,
                "annotations": [annotation, cancelled],
                "file_upload": name,
                "drafts": [],
                "predictions": [],
                "data": {"image": f"/data/upload/1/{name}"},
                "meta": {},
                "project": 1,
            }
        )
    (root / "project-1-at-2024-05-01.json").write_text(json.dumps(tasks, indent=1))


def write_supervisely(root: Path, samples: Samples) -> None:
    classes = [{"title": name, "shape": "any", "color": f"#{i:02}00FF", "id": i} for i, name in enumerate(LABELS)]
    (root / "meta.json").write_text(json.dumps({"classes": classes, "tags": [], "projectType": "images"}, indent=1))
    for stem, (image, ids) in samples.items():
        dataset = root / stem.rstrip("0123456789")
        save(image, dataset / "img" / f"{stem}.png")
        (dataset / "ann").mkdir(exist_ok=True)
        left, top, right, bottom = mask_box(ids == 1)
        buffer = io.BytesIO()
        Image.fromarray(((ids == 1)[top:bottom, left:right] * 255).astype(np.uint8)).save(buffer, "PNG")
        data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
        first, last = bar_rows(ids)
        hole = [[8, first], [20, first], [20, first + 2], [8, first + 2]]
        outline = [[0, first], [ids.shape[1], first], [ids.shape[1], last], [0, last]]
        objects = [
            {"geometryType": "polygon", "classTitle": "bar", "points": {"exterior": outline, "interior": [hole]}},
            {
                "geometryType": "rectangle",
                "classTitle": "bar",
                "points": {"exterior": [[1, 1], [6, 4]], "interior": []},
            },
            {"geometryType": "bitmap", "classTitle": "disc", "bitmap": {"data": data, "origin": [left, top]}},
        ]
        size = {"height": ids.shape[0], "width": ids.shape[1]}
        text = json.dumps({"description": "", "tags": [], "size": size, "objects": objects}, indent=1)
        (dataset / "ann" / f"{stem}.png.json").write_text(text)


def write_datumaro(root: Path, samples: Samples) -> None:
    labels = [{"name": name, "parent": "", "attributes": []} for name in ("background", *LABELS)]
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        items = []
        for stem, (image, ids) in samples.items():
            if not stem.startswith(split):
                continue
            save(image, root / "images" / split / f"{stem}.png")
            first, last = bar_rows(ids)
            common: dict[str, Any] = {"id": 0, "attributes": {"occluded": False}, "group": 0}
            counts = compress(run_lengths((ids == 1).ravel(order="F")))
            annotations = [
                {
                    **common,
                    "type": "mask",
                    "label_id": 1,
                    "rle": {"counts": counts, "size": list(ids.shape)},
                    "z_order": 1,
                },
                {
                    **common,
                    "type": "bbox",
                    "label_id": 2,
                    "bbox": [0.0, first, ids.shape[1], last - first],
                    "z_order": 0,
                },
                {**common, "type": "polygon", "label_id": 2, "points": [1.0, 1.0, 9.5, 1.25, 4.0, 8.0], "z_order": 0},
                {**common, "type": "label", "label_id": 1},
            ]
            photo = {"path": f"{stem}.png", "size": list(ids.shape)}
            items.append({"id": stem, "annotations": annotations, "attr": {}, "image": photo})
        data = {"info": {}, "categories": {"label": {"labels": labels, "attributes": []}}, "items": items}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(data, indent=1))


def compress(runs: list[int]) -> str:
    """COCO's compressed text."""
    text = ""
    for i, run in enumerate(runs):
        rest = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            code, rest = rest & 31, rest >> 5
            more = rest != (-1 if code & 16 else 0)
            text += chr(48 + (code | 32 * more))
    return text


def write_brush(root: Path, samples: Samples) -> None:
    for i, (image, ids) in enumerate(samples.values()):
        save(image, root / "images" / f"{i}.png")
        for label, value in (("disc", 1), ("bar", 2)):
            save(
                ((ids == value) * 255).astype(np.uint8),
                root / "masks" / f"task-{i}-annotation-{i}-by-1-tag-{label}-0.png",
            )


EXPORTS: dict[str, Callable[[Path, Samples], None]] = {
    "cvat_images": write_cvat,
    "label_studio": write_label_studio,
    "supervisely": write_supervisely,
    "datumaro": write_datumaro,
    "label_studio_brush": write_brush,
}
