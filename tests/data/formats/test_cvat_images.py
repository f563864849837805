"""CVAT's annotations.xml as it exports it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tool_files import image, labels, text

from dilated.data.check.check import check
from dilated.data.convert import WRITABLE_FORMATS, convert
from dilated.data.dataset import open_dataset
from dilated.data.formats import FORMATS
from dilated.errors import InputError

SHAPES = """
    <mask label="cell" source="auto" occluded="0" rle="1, 2, 1, 2" left="0" top="0" width="3" height="2" z_order="0">
    </mask>
    <polygon label="edge" source="manual" occluded="0" points="3.00,0.00;6.00,0.00;6.00,1.00;3.00,1.00" z_order="2">
      <attribute name="blurred">false</attribute>
    </polygon>
    <box label="cell" source="manual" occluded="0" xtl="3.00" ytl="0.00" xbr="5.00" ybr="4.00" z_order="1">
    </box>
    <tag label="edge" source="manual">
    </tag>
"""
XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>7</id>
      <name>cells</name>
      <labels>
        <label>
          <name>edge</name>
          <color>#33ddff</color>
          <type>any</type>
          <attributes>
          </attributes>
        </label>
        <label>
          <name>cell</name>
          <color>#fa3253</color>
          <type>any</type>
        </label>
        <label>
          <name>joint</name>
          <parent>skeleton of nothing</parent>
        </label>
      </labels>
    </task>
    <dumped>2024-10-01 10:00:00.000000+00:00</dumped>
  </meta>
  <image id="0" name="a.jpg" width="6" height="4">SHAPES</image>
  <image id="1" name="sub/b.jpg" width="6" height="4">
  </image>
</annotations>
"""


def cvat(root: Path, shapes: str = SHAPES, xml: str = XML, images: str = "images") -> Path:
    for name in ("a", "sub/b"):
        image(root / images / f"{name}.jpg")
    text(root / "annotations.xml", xml.replace("SHAPES", shapes))
    return root


def read_all(root: Path) -> None:
    data = open_dataset(root)
    for split in data.splits:
        labels(data, split)


def shape_labels(root: Path, shapes: str, xml: str = XML) -> list[list[int]]:
    """The label of a.jpg."""
    data = open_dataset(cvat(root, shapes, xml))
    samples = {sample.name: sample for split in data.splits for sample in data.samples(split)}
    return samples["a"].read_label((4, 6)).tolist()


def test_cvats_shapes_are_drawn_by_their_z_order_in_the_labels_order_and_colors(tmp_path: Path) -> None:
    data = open_dataset(cvat(tmp_path))
    assert data.format == "cvat_images"
    assert data.classes.names == ("background", "edge", "cell")
    assert data.classes.colors == ((0, 0, 0), (51, 221, 255), (250, 50, 83))
    assert {sample.name for split in data.splits for sample in data.samples(split)} == {"a", "sub__b"}
    assert shape_labels(tmp_path, SHAPES) == [
        [0, 2, 2, 1, 1, 1],
        [0, 2, 2, 2, 2, 0],
        [0, 0, 0, 2, 2, 0],
        [0, 0, 0, 2, 2, 0],
    ]
    assert "annotations.xml: 1 box drawn as filled boxes." in data.notes


def test_of_equal_z_order_the_later_shape_is_on_top(tmp_path: Path) -> None:
    box = '<box label="{}" xtl="0" ytl="0" xbr="{}" ybr="1" z_order="0"/>'
    assert shape_labels(tmp_path, box.format("edge", 2) + box.format("cell", 6))[0] == [2] * 6
    assert shape_labels(tmp_path, box.format("cell", 6) + box.format("edge", 2))[0] == [1, 1, 2, 2, 2, 2]


def test_a_turned_box_and_an_ellipse_are_drawn_clockwise(tmp_path: Path) -> None:
    wide = '<box label="cell" xtl="1" ytl="1" xbr="5" ybr="3" rotation="90.00"/>'
    assert shape_labels(tmp_path, wide) == [[0, 0, 2, 2, 0, 0]] * 4
    slanted = '<box label="cell" xtl="0" ytl="1.5" xbr="6" ybr="2.5" rotation="45.00"/>'  # clockwise: down to the right
    mask = np.array(shape_labels(tmp_path, slanted))
    assert mask[0, 1] == mask[3, 4] == 2
    assert mask[0, 4] == mask[3, 1] == 0
    ellipse = '<ellipse label="edge" cx="3.00" cy="2.00" rx="3.00" ry="1.00" z_order="0"/>'
    assert shape_labels(tmp_path, ellipse) == [[0] * 6, [1] * 6, [1] * 6, [0] * 6]
    upright = ellipse.replace("z_order", 'rotation="90" z_order')
    assert shape_labels(tmp_path, upright)[0] == [0, 0, 1, 1, 0, 0]


def test_a_label_called_background_is_class_0(tmp_path: Path) -> None:
    box = '<box label="{}" xtl="0" ytl="0" xbr="{}" ybr="4"/>'
    xml = XML.replace("<name>edge</name>", "<name>background</name>")
    assert shape_labels(tmp_path, box.format("cell", 6) + box.format("background", 2), xml)[0] == [0, 0, 1, 1, 1, 1]
    assert open_dataset(tmp_path).classes.names == ("background", "cell")


def test_a_mask_beyond_the_border_is_cut_off(tmp_path: Path) -> None:
    mask = '<mask label="cell" rle="0, 4" left="5" top="3" width="2" height="2" z_order="0"/>'
    assert shape_labels(tmp_path, mask) == [[0] * 6] * 3 + [[0] * 5 + [2]]


@pytest.mark.parametrize("kind", ["polyline", "points", "cuboid", "skeleton"])
def test_shapes_without_area_are_an_error_or_left_out_and_counted(kind: str, tmp_path: Path) -> None:
    root = cvat(tmp_path, f'<{kind} label="cell" points="0.00,0.00;6.00,0.00;6.00,4.00"></{kind}>' * 2)
    with pytest.raises(InputError, match=rf"a\.jpg: shape 0 \({kind}\): a {kind} has no area.*objects_without_mask"):
        open_dataset(root)
    text(root / "classes.toml", 'objects_without_mask = "skip"\n')
    data = open_dataset(root)
    assert any("2 objects without a mask left out" in note and kind[:5] in note for note in data.notes)
    assert not np.any(labels(data, data.splits[0]))


@pytest.mark.parametrize("folder", ["images", "images/Train", "Train", "", "photos/2024"])
def test_images_lie_at_cvats_places_or_anywhere_below(folder: str, tmp_path: Path) -> None:
    xml = XML.replace('name="a.jpg"', 'name="a.jpg" subset="Train" task_id="7"')
    xml = xml.replace('name="sub/b.jpg"', 'name="sub/b.jpg" subset="Validation" task_id="8"')
    data = open_dataset(cvat(tmp_path, xml=xml, images=folder))
    assert data.splits == ("train", "val")
    assert [data.samples(split)[0].image for split in data.splits] == [
        tmp_path / folder / "a.jpg",
        tmp_path / folder / "sub/b.jpg",
    ]


def test_frames_of_a_video_have_names_without_a_suffix(tmp_path: Path) -> None:
    xml = XML.replace("a.jpg", "frame_000000").replace("sub/b.jpg", "frame_000001")
    for i in range(2):
        image(tmp_path / "images" / f"frame_00000{i}.PNG")
    assert shape_labels(tmp_path, "", xml.replace('name="frame_000000"', 'name="a"'))[0] == [0] * 6


def test_missing_images_are_listed_by_check(tmp_path: Path) -> None:
    root = cvat(tmp_path)
    (root / "images/a.jpg").unlink()
    assert any("found no image 'a.jpg'" in finding.text for finding in check(root).errors)


def test_one_file_is_not_two_images(tmp_path: Path) -> None:
    root = cvat(tmp_path, xml=XML.replace("a.jpg", "x/b.jpg"))
    with pytest.raises(InputError, match=r"is the one file that fits both 'x/b\.jpg' and 'sub/b\.jpg'"):
        read_all(root)


def test_another_subset_is_left_out_and_said(tmp_path: Path) -> None:
    xml = XML.replace('name="a.jpg"', 'name="a.jpg" subset="Train"').replace('name="sub', 'subset="odd" name="sub')
    data = open_dataset(cvat(tmp_path, xml=xml))
    assert data.splits == ("train",)
    assert any("1 image of the subset 'odd' left out" in note for note in data.notes)


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]>'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<annotations>", f"{BOMB}<annotations>", "CVAT for images 1.1: declares a document type"),
        ("</annotations>", "", "CVAT for images 1.1: not a whole XML file"),
        ('label="cell" source="auto', 'label="cat" source="auto', "has the label 'cat'. Give one of edge, cell"),
        ('rle="1, 2, 1, 2"', 'rle="1, 2, 1, 1"', r"shape 0 \(mask\) of a.jpg: its runs have 5 pixels"),
        ('rle="1, 2, 1, 2"', 'rle="1, x"', "its rle holds"),
        ('width="3"', 'width="-3"', "its box is"),
        ('width="3"', 'width="99999999999999999999"', "holds"),
        ("6.00,1.00;3.00,1.00", "", "cannot draw a polygon"),
        ("6.00,1.00", "nan,1.00", "cannot draw a polygon"),
        ('xtl="3.00"', 'xtl="1e400"', "xtl is '1e400'"),
        ('z_order="1"', 'z_order=""', "z_order is ''"),
        ('width="6"', 'width="7"', "found a label of 7x4; expected 6x4"),
        ('width="6"', 'width="0"', "its size is 0x4"),
        ("<box ", "<circle ", r"\(circle\): is of an unknown kind"),
        ("<name>cell</name>", "<name>edge</name>", "a label is called 'edge'"),
        ("sub/b.jpg", "a.jpg", "has 2 images of the name 'a.jpg'"),
        ("<image", "<track", "CVAT for video 1.1.* Export the task as CVAT for images 1.1"),
    ],
)
def test_a_file_that_cannot_be_read_exactly_is_an_error(old: str, new: str, said: str, tmp_path: Path) -> None:
    xml = XML.replace("SHAPES", SHAPES)
    assert old in xml
    xml = xml.replace(old, new).replace("</image", "</track") if new == "<track" else xml.replace(old, new)
    if new == "<circle ":
        xml = xml.replace("</box>", "</circle>")
    root = cvat(tmp_path, xml=xml)
    with pytest.raises(InputError, match=said):
        read_all(root)


def test_the_export_is_read_and_not_written_but_converts_to_others(tmp_path: Path) -> None:
    root = cvat(tmp_path / "in")
    assert "cvat_images" in set(FORMATS) - set(WRITABLE_FORMATS)
    with pytest.raises(InputError, match=r"format: 'cvat_images' is read and not written\. Give one of"):
        convert(root, tmp_path / "out", "cvat_images")
    with pytest.raises(InputError, match="cvat_images is read and not written"):
        FORMATS["cvat_images"].save(tmp_path, "train", [], open_dataset(root).classes)
    convert(root, tmp_path / "out", "coco_json")
    assert open_dataset(tmp_path / "out").classes.names == ("background", "edge", "cell")
