"""Plain folders: names of the folder of labels, marks at the ends of stems, no splits, and masks of colors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from classes_files import load_classes
from PIL import Image

from dilated.data.auto_split import select_split, split_by_hash
from dilated.data.dataset import open_dataset, write_classes_draft
from dilated.data.labels import Classes, save_classes
from dilated.data.sample import Sample
from dilated.errors import InputError

CLASSES = Classes(("sky", "road"), ((0, 0, 255), (128, 64, 128)))


def tree(root: Path, *files: str, classes: Classes = CLASSES) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), 1).save(path)
    save_classes(classes, root / "classes.toml")
    return root


def test_images_without_splits_are_parted_alike_each_time_and_it_is_said(tmp_path: Path) -> None:
    stems = [f"p{i}" for i in range(12)]
    data = open_dataset(tree(tmp_path, *(f"{kind}/{stem}.png" for stem in stems for kind in ("images", "labels"))))
    parts = {split: [pair.name for pair in data.samples(split)] for split in data.splits}
    assert list(parts) == ["train", "val"]
    assert sorted(parts["train"] + parts["val"]) == sorted(stems)
    assert parts == split_by_hash(sorted(stems), 0.2, 0)
    assert any("train.txt and val.txt" in note and "convert-data" in note for note in data.notes)


def test_an_image_that_comes_later_moves_no_other() -> None:
    stems = [f"p{i}" for i in range(200)]
    before, after = split_by_hash(stems[:150]), split_by_hash(stems)
    assert set(before["val"]) <= set(after["val"])
    assert set(before["train"]) <= set(after["train"])
    assert 20 <= len(after["val"]) <= 60


@pytest.mark.parametrize("share", [0.0001, 0.9999])
@pytest.mark.parametrize("count", [2, 3])
def test_each_side_has_an_image_whatever_the_share(share: float, count: int) -> None:
    parts = split_by_hash([f"p{i}" for i in range(count)], share)
    assert min(map(len, parts.values())) == 1


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_outside_is_an_error(share: float) -> None:
    with pytest.raises(InputError, match="is not between 0 and 1"):
        split_by_hash(["a", "b"], share)


def test_one_image_cannot_be_parted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 1 labeled images without splits"):
        open_dataset(tree(tmp_path, "images/a.png", "labels/a.png")).samples("train")


@pytest.mark.parametrize("name", ["masks", "annotations"])
@pytest.mark.parametrize("form", ["{}/train/a.png", "train/{}/a.png"])
def test_other_names_of_the_folder_of_labels_are_said(name: str, form: str, tmp_path: Path) -> None:
    data = open_dataset(tree(tmp_path, form.format("images"), form.format(name)))
    assert data.samples("train")[0].label == tmp_path / form.format(name)
    assert any(f"{name}, for there is no" in note for note in data.notes)


def test_labels_go_before_masks_and_it_is_said(tmp_path: Path) -> None:
    data = open_dataset(tree(tmp_path, "images/train/a.png", "labels/train/a.png", "masks/train/a.png"))
    assert data.samples("train")[0].label == tmp_path / "labels/train/a.png"
    assert any("masks is left alone" in note for note in data.notes)


def test_masks_beside_annotations_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found masks/ and annotations/; expected one"):
        open_dataset(tree(tmp_path, "images/train/a.png", "masks/train/a.png", "annotations/train/a.png"))


@pytest.mark.parametrize("mark", ["_mask", "_label"])
def test_a_mark_that_all_labels_have_is_no_part_of_their_stems(mark: str, tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "images/train/b.png", f"labels/train/a{mark}.png", f"labels/train/b{mark}.png")
    pairs = open_dataset(tmp_path).samples("train")
    assert [(p.image.name, p.label.name) for p in pairs] == [("a.png", f"a{mark}.png"), ("b.png", f"b{mark}.png")]


def test_a_mark_that_only_some_labels_have_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "images/train/b.png", "labels/train/a_mask.png", "labels/train/b.png")
    with pytest.raises(InputError, match=r"a\.png: has no label"):
        open_dataset(tmp_path).samples("train")


def test_stems_that_are_nearly_alike_are_never_matched(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a_1\.png: has no label"):
        open_dataset(tree(tmp_path, "images/train/a_1.png", "labels/train/a1.png")).samples("train")


def test_images_that_end_in_the_mark_themselves_keep_it(tmp_path: Path) -> None:
    pairs = open_dataset(tree(tmp_path, "images/train/a_mask.png", "labels/train/a_mask.png")).samples("train")
    assert [p.name for p in pairs] == ["a_mask"]


def colored(root: Path, classes: Classes, *colors: tuple[int, int, int], mode: str = "RGB") -> Path:
    tree(root, "images/train/a.png", "labels/train/a.png", classes=classes)
    mask = np.zeros((3, 4, 3), np.uint8)
    mask[:] = colors[0]
    for i, color in enumerate(colors):
        mask[0, i] = color
    image = Image.fromarray(mask)
    (image if mode == "RGB" else image.convert(mode)).save(root / "labels/train/a.png")
    return root


def test_masks_of_the_classes_colors_are_known_by_their_mode(tmp_path: Path) -> None:
    data = open_dataset(colored(tmp_path, CLASSES, (0, 0, 255), (128, 64, 128)))
    assert data.format == "colors"
    assert data.samples("train")[0].read_label()[0].tolist() == [0, 1, 0, 0]


def test_palette_masks_are_values_unless_classes_toml_says_colors(tmp_path: Path) -> None:
    root = colored(tmp_path, CLASSES, (0, 0, 255), (128, 64, 128), mode="P")
    assert open_dataset(root).format == "folders"
    save_classes(Classes(CLASSES.names, CLASSES.colors, read="colors"), root / "classes.toml")
    mask = Image.fromarray(np.array([[1, 0]], np.uint8))
    mask.putpalette([128, 64, 128, 0, 0, 255])
    mask.save(root / "labels/train/a.png")
    data = open_dataset(root)
    assert data.format == "colors"
    assert data.samples("train")[0].read_label().tolist() == [[0, 1]]


def test_ignored_colors(tmp_path: Path) -> None:
    classes = Classes(CLASSES.names, CLASSES.colors, read="colors", ignore_colors=((9, 9, 9), (0, 0, 0)))
    data = open_dataset(colored(tmp_path, classes, (0, 0, 255), (9, 9, 9), (0, 0, 0), (128, 64, 128)))
    assert data.samples("train")[0].read_label()[0].tolist() == [0, 255, 255, 1]


def test_an_unknown_color_is_an_error_with_its_place_and_the_nearest(tmp_path: Path) -> None:
    data = open_dataset(colored(tmp_path, CLASSES, (0, 0, 255), (128, 64, 127)))
    with pytest.raises(InputError, match=r"a\.png: found the color \(128, 64, 127\) at x=1, y=0 .* road"):
        data.samples("train")[0].read_label()


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (Classes(("a", "b"), ((1, 1, 1), (1, 1, 1))), "'a' and 'b' are both"),
        (Classes(("a", "b"), ((1, 1, 1), (2, 2, 2)), ignore_colors=((2, 2, 2),)), "'b' and 'ignore_colors' are both"),
        (Classes(("a", "b"), ((1, 1, 1), (2, 2, 2)), ((1,), (2,))), r"found values = \[1\]"),
    ],
)
def test_tables_that_colors_cannot_follow_are_errors(classes: Classes, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        open_dataset(colored(tmp_path, classes, (1, 1, 1))).samples("train")


def test_values_where_colors_are_promised_are_an_error(tmp_path: Path) -> None:
    classes = Classes(CLASSES.names, CLASSES.colors, read="colors")
    data = open_dataset(tree(tmp_path, "images/train/a.png", "labels/train/a.png", classes=classes))
    with pytest.raises(InputError, match=r"mode 'L' \(values\), not colors"):
        data.samples("train")[0].read_label()


def test_colors_are_an_error_in_formats_of_values(tmp_path: Path) -> None:
    classes = Classes(CLASSES.names, CLASSES.colors, read="colors")
    tree(tmp_path, "train/a.png", "trainannot/a.png", classes=classes)
    with pytest.raises(InputError, match='read = "colors" in data of the format camvid'):
        open_dataset(tmp_path)


def test_the_list_of_classes_keeps_how_labels_are_read(tmp_path: Path) -> None:
    classes = Classes(CLASSES.names, CLASSES.colors, read="colors", ignore_colors=((9, 9, 9),))
    save_classes(classes, tmp_path / "classes.toml")
    assert load_classes(tmp_path / "classes.toml") == classes


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('read = "colours"', 'read: found \'colours\'; expected "values" or "colors"'),
        ("ignore_colors = [0, 0, 0]", "ignore_colors.0: found"),
        ("ignore_colors = [[0, 0, 256]]", "ignore_colors: found the color"),
    ],
)
def test_wrong_keys_about_colors_are_errors(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "classes.toml").write_text(f'{line}\n[[class]]\nname = "a"\ncolor = [1, 1, 1]\n')
    with pytest.raises(InputError, match=said):
        load_classes(tmp_path / "classes.toml")


def test_a_folder_that_is_two_formats_is_read_as_the_first_and_it_is_said(tmp_path: Path) -> None:
    tree(tmp_path, "train/a.png", "trainannot/a.png")
    (tmp_path / "data.yaml").write_text("train: train\nnames: [a]\n")
    data = open_dataset(tmp_path)
    assert data.format == "camvid"
    assert data.notes[0].startswith("Read as camvid, though it looks like yolo too")
    assert open_dataset(tmp_path, "camvid").notes == ()


@pytest.mark.parametrize("line", ["x" * 5000, "y" * 300 + " z"])
def test_a_line_that_no_file_can_have_as_its_name_is_an_error(line: str, tmp_path: Path) -> None:
    tree(tmp_path, "images/a.png", "labels/a.png")
    (tmp_path / "train.txt").write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"train\.txt, line 1"):
        open_dataset(tmp_path).samples("train")


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    tree(tmp_path, "images/a.png", "labels/a.png")
    (tmp_path / "train.txt").write_text("\ufeffa\n", encoding="utf-8")
    assert [pair.name for pair in open_dataset(tmp_path).samples("train")] == ["a"]


def test_two_pairs_of_one_stem_cannot_be_parted_and_none_is_lost(tmp_path: Path) -> None:
    pairs = [Sample(tmp_path / name, tmp_path / "a.json") for name in ("a.png", "b.png", "a.jpg")]
    with pytest.raises(InputError, match=r"a\.jpg: has the stem of .*a\.png"):
        select_split(tmp_path, pairs, "train")


def saved_masks(root: Path, *masks: object) -> Path:
    """Images without splits, and their masks: arrays, or images of pillow."""
    for i, mask in enumerate(masks):
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "masks").mkdir(exist_ok=True)
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(np.asarray(mask, np.uint8))
        Image.new("RGB", image.size).save(root / "images" / f"{i}.png")
        image.save(root / "masks" / f"{i}.png")
    return root


def read_all(root: Path) -> dict[str, list[list[int]]]:
    data = open_dataset(root)
    return {sample.name: sample.read_label().tolist() for split in data.splits for sample in data.samples(split)}


VALUES = np.array([[0, 1, 2]], np.uint8)
BLACK_AND_TWO = Classes(("bg", "x", "y"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))


def test_masks_whose_channels_are_equal_are_values_and_it_is_said(tmp_path: Path) -> None:
    gray = np.stack([VALUES] * 3, -1)
    opaque = np.full_like(VALUES, 255)
    saved_masks(tmp_path, gray, np.dstack([gray, opaque]), Image.merge("LA", [*map(Image.fromarray, (VALUES, opaque))]))
    save_classes(BLACK_AND_TWO, tmp_path / "classes.toml")
    data = open_dataset(tmp_path)
    assert data.format == "folders"
    assert any("several channels that are equal" in note for note in data.notes)
    assert set(map(str, read_all(tmp_path).values())) == {"[[0, 1, 2]]"}


def test_masks_of_black_and_white_are_colors_where_those_are_the_classes(tmp_path: Path) -> None:
    mask = np.zeros((1, 2, 3), np.uint8)
    mask[0, 1] = 255
    saved_masks(tmp_path, mask, mask)
    save_classes(Classes(("bg", "x"), ((0, 0, 0), (255, 255, 255))), tmp_path / "classes.toml")
    assert open_dataset(tmp_path).format == "colors"
    assert set(map(str, read_all(tmp_path).values())) == {"[[0, 1]]"}


def test_an_empty_mask_first_does_not_make_colors_values(tmp_path: Path) -> None:
    mask = np.zeros((1, 2, 3), np.uint8)
    mask[0, 1] = (255, 0, 0)
    saved_masks(tmp_path, np.zeros_like(mask), mask)
    save_classes(BLACK_AND_TWO, tmp_path / "classes.toml")
    assert read_all(tmp_path) == {"0": [[0, 0]], "1": [[0, 1]]}


def transparent_mask(root: Path, hidden: tuple[int, int, int], setting: str) -> Path:
    """A mask of a red pixel and a transparent one."""
    mask = np.array([[(255, 0, 0, 255), (*hidden, 0)]], np.uint8)
    saved_masks(root, mask, mask)
    save_classes(Classes(BLACK_AND_TWO.names, BLACK_AND_TWO.colors, transparent=setting), root / "classes.toml")
    return root


@pytest.mark.parametrize("hidden", [(0, 255, 0), (9, 9, 0)])
def test_transparent_pixels_of_a_color_are_a_question(hidden: tuple[int, int, int], tmp_path: Path) -> None:
    root = transparent_mask(tmp_path, hidden, "refuse")
    with pytest.raises(
        InputError, match=r"png: found the color \(.*\) at x=1, y=0 where the mask is fully transparent"
    ):
        read_all(root)
    transparent_mask(tmp_path, hidden, "ignore")
    assert read_all(root) == {"0": [[1, 255]], "1": [[1, 255]]}


def test_transparent_pixels_have_their_color_where_classes_toml_says_so(tmp_path: Path) -> None:
    assert read_all(transparent_mask(tmp_path, (0, 255, 0), "color")) == {"0": [[1, 2]], "1": [[1, 2]]}


def test_transparent_black_is_black_and_it_is_said(tmp_path: Path) -> None:
    root = transparent_mask(tmp_path, (0, 0, 0), "refuse")
    assert read_all(root) == {"0": [[1, 0]], "1": [[1, 0]]}
    assert any("`transparent = " in note for note in open_dataset(root).notes)


def test_transparent_pixels_that_are_ignored_anyway_are_no_question(tmp_path: Path) -> None:
    root = transparent_mask(tmp_path, (9, 9, 0), "refuse")
    classes = Classes(BLACK_AND_TWO.names, BLACK_AND_TWO.colors, read="colors", ignore_colors=((9, 9, 0),))
    save_classes(classes, root / "classes.toml")
    assert read_all(root) == {"0": [[1, 255]], "1": [[1, 255]]}


def test_a_setting_of_transparency_that_is_none_is_an_error(tmp_path: Path) -> None:
    root = saved_masks(tmp_path, VALUES, VALUES)
    (root / "classes.toml").write_text('transparent = "yes"\n[[class]]\nname = "a"\ncolor = [0, 0, 0]\n')
    with pytest.raises(InputError, match="transparent: found 'yes'"):
        open_dataset(root)


def color_masks(root: Path, *colors: tuple[int, int, int]) -> Path:
    mask = np.array([colors], np.uint8)
    return saved_masks(root, mask, mask)


def test_masks_of_unknown_colors_are_refused_with_their_colors_and_a_draft(tmp_path: Path) -> None:
    root = color_masks(tmp_path, (0, 0, 0), (255, 0, 1), (0, 0, 0), (0, 0, 142))
    with pytest.raises(InputError) as caught:
        open_dataset(root)
    assert "[0, 0, 0]  50.00%" in str(caught.value)
    draft = str(caught.value).partition("ignore_colors`:\n\n")[2]
    (root / "classes.toml").write_text(draft)
    assert read_all(root)["0"] == [[0, 2, 0, 1]]
    (root / "classes.toml").unlink()
    assert write_classes_draft(root).colors == ((0, 0, 0), (0, 0, 142), (255, 0, 1))


def test_a_draft_has_the_names_of_a_palette_that_has_all_colors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"All are colors of Cityscapes, .*check that they are meant") as caught:
        open_dataset(color_masks(tmp_path, (128, 64, 128), (70, 130, 180)))
    assert 'name = "road"' in str(caught.value)
    assert 'name = "sky"' in str(caught.value)


def test_masks_of_too_many_colors_say_what_they_look_like(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3))
    with pytest.raises(InputError, match=r"0\.png alone holds \d+ colors, as a photograph or a smoothed"):
        open_dataset(saved_masks(tmp_path, noise, noise))


def with_table(root: Path, name: str, content: str, mask: object) -> Path:
    (root / name).write_bytes(content.encode())
    return saved_masks(root, mask, mask)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("class_dict.csv", "name,r,g,b\nbg,0,0,0\nx,255,0,0\ny,0,255,0\n"),
        ("labelmap.csv", "\ufefflabel;color\r\nbg;(0, 0, 0)\r\nx;(255, 0, 0)\r\ny;#00ff00\r\n"),
        ("labels_class_dict.csv", "id,label,red,green,blue\n0,bg,0,0,0\n1,x,255,0,0\n2,y,0,255,0\n"),
        ("label_colors.txt", "0 0 0 bg\n255 0 0\tx\n0 255 0\ty\n"),
    ],
)
def test_a_table_of_colors_beside_the_masks_names_the_classes(name: str, content: str, tmp_path: Path) -> None:
    data = open_dataset(with_table(tmp_path, name, content, [[(255, 0, 0), (0, 255, 0), (0, 0, 0)]]))
    assert (data.format, data.classes.names) == ("colors", ("bg", "x", "y"))
    assert read_all(tmp_path)["0"] == [[1, 2, 0]]
    assert f"The classes are those of {tmp_path / name}." in data.notes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("_classes.csv", "Pixel Value, Class\n0, bg\n3, x\n7, y\n"),
        ("classes.csv", "0,bg\n3,x\n7,y\n"),
        ("labels.txt", "0: bg\n3: x\n7: y\n"),
        ("data.yaml", "path: x\nnames:\n  0: bg\n  3: x\n  7: y\nmasks_dir: masks\n"),
    ],
)
def test_a_table_of_values_beside_the_masks_names_the_classes(name: str, content: str, tmp_path: Path) -> None:
    data = open_dataset(with_table(tmp_path, name, content, [[3, 7, 0, 255]]))
    assert (data.format, data.classes.names) == ("folders", ("bg", "x", "y"))
    assert read_all(tmp_path)["0"] == [[1, 2, 0, 255]]


@pytest.mark.parametrize("content", ["_background_\nx\ny\n", "__ignore__\n_background_\nx\ny\n"])
@pytest.mark.parametrize("name", ["class_names.txt", "labels.txt"])
def test_lists_of_names_of_labelme_name_the_values_from_0_on(name: str, content: str, tmp_path: Path) -> None:
    data = open_dataset(with_table(tmp_path, name, content, [[0, 1, 2, 255]]))
    assert data.classes.names == ("background", "x", "y")
    assert read_all(tmp_path)["0"] == [[0, 1, 2, 255]]


def test_a_palette_mask_is_read_by_its_colors_where_the_table_has_no_values(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[1, 0]], np.uint8))
    mask.putpalette([0, 255, 0, 255, 0, 0])
    with_table(tmp_path, "class_dict.csv", "name,r,g,b\nx,255,0,0\ny,0,255,0\n", mask)
    assert read_all(tmp_path)["0"] == [[0, 1]]


def test_labels_of_values_beside_a_table_of_colors_are_a_question(tmp_path: Path) -> None:
    with_table(tmp_path, "class_dict.csv", "name,r,g,b\nx,255,0,0\ny,0,255,0\n", VALUES)
    with pytest.raises(
        InputError, match=r"class_dict\.csv: says the colors of the classes, but the labels hold values"
    ):
        open_dataset(tmp_path)


def test_a_csv_file_of_the_class_of_each_image_is_no_table_of_classes(tmp_path: Path) -> None:
    with_table(tmp_path, "labels.csv", "id,label\n0,cat\n1,cat\n", VALUES)
    with pytest.raises(InputError, match=r"classes\.toml: no such file"):
        open_dataset(tmp_path)


def test_tables_that_differ_are_an_error(tmp_path: Path) -> None:
    for split, name in (("train", "x"), ("valid", "y")):
        tree(tmp_path, f"{split}/a.jpg", f"{split}/a_mask.png")
        (tmp_path / split / "_classes.csv").write_text(f"Pixel Value, Class\n0, bg\n1, {name}\n")
    (tmp_path / "classes.toml").unlink()
    with pytest.raises(InputError, match=r"valid/_classes\.csv: names other classes than .*train/_classes\.csv"):
        open_dataset(tmp_path)


def test_an_empty_table_of_one_split_is_not_made_up_for_by_that_of_the_other(tmp_path: Path) -> None:
    for split, text in (("train", ""), ("valid", "Pixel Value, Class\n0, bg\n1, x\n")):
        tree(tmp_path, f"{split}/a.jpg", f"{split}/a_mask.png")
        (tmp_path / split / "_classes.csv").write_text(text)
    (tmp_path / "classes.toml").unlink()
    with pytest.raises(InputError, match=r"train/_classes\.csv: is no table of classes"):
        open_dataset(tmp_path)


def test_a_table_that_is_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    with_table(tmp_path, "labelmap.csv", "id,name\n0,x\n", VALUES)
    (tmp_path / "labelmap.csv").unlink()
    (tmp_path / "labelmap.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"labelmap\.csv: No such file"):
        open_dataset(tmp_path)


def test_masks_of_ultralytics_lie_where_data_yaml_says(tmp_path: Path) -> None:
    tree(tmp_path, "images/train/a.png", "semantic/train/a.png")
    (tmp_path / "classes.toml").unlink()
    (tmp_path / "data.yaml").write_text("path: x\ntrain: images/train\nmasks_dir: semantic\nnames: [bg, crack]\n")
    data = open_dataset(tmp_path)
    assert (data.format, data.classes.names) == ("folders", ("bg", "crack"))
    assert data.samples("train")[0].label == tmp_path / "semantic/train/a.png"


def test_the_channel_of_masks_that_holds_the_values_is_named_in_classes_toml(tmp_path: Path) -> None:
    mask = np.array([[(0, 5, 6), (1, 7, 8), (2, 0, 0)]], np.uint8)
    for place in ("RGB", "GT/LABELS", "GT/COLOR"):  # as SYNTHIA has them
        (tmp_path / place).mkdir(parents=True)
        for stem in "ab":
            Image.fromarray(mask).save(tmp_path / place / f"{stem}.png")
    save_classes(Classes(("bg", "x", "y"), BLACK_AND_TWO.colors, channel=0), tmp_path / "classes.toml")
    data = open_dataset(tmp_path)
    assert (data.format, data.classes.channel) == ("folders", 0)
    assert read_all(tmp_path) == {"a": [[0, 1, 2]], "b": [[0, 1, 2]]}
    assert data.samples("train")[0].label.parent == tmp_path / "GT" / "LABELS"
