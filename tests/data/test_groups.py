"""Which images belong together, by their names."""

from __future__ import annotations

import pytest

from dilated.data.groups import Groups, find_groups
from dilated.errors import InputError

SERIES = "file names: stem and running number"
NOTHING = "each image on its own: nothing in the file names tells groups"


def test_frames_of_camvid_are_grouped_by_film_with_their_numbers() -> None:
    groups = find_groups(["0001TP_006690", "0016E5_08151", "0016E5_08153", "0006R0_f00930", "Seq05VD_f00000"])
    assert groups.labels == ("0001TP", "0016E5", "0016E5", "0006R0", "Seq05VD")
    assert groups.positions == (6690, 8151, 8153, 930, 0)
    assert groups.source == SERIES


def test_frames_of_one_film_alone_are_one_group() -> None:
    groups = find_groups(["0016E5_07959", "0016E5_07961", "0016E5_07963"])
    assert groups.sizes == {"0016E5": 3}
    assert groups.positions == (7959, 7961, 7963)
    assert find_groups(["frame_1", "frame_2"]).sizes == {"frame": 2}


@pytest.mark.parametrize(
    "names",
    [
        ["000000000110", "000000000149", "000000000450"],  # COCO
        ["IMG_2034", "IMG_2035", "DSC_0001", "DSC_0002"],  # cameras
        ["ISIC_0024306", "ISIC_0024307"],  # one collection's name
        ["ADE_train_00000001", "ADE_train_00000002", "ADE_val_00000001"],
        ["2007_000033", "2007_000042", "2008_000002"],  # VOC: years
        ["000000_10", "000001_10", "000002_10"],  # KITTI
        ["21408476af050633", "1b44d22643830cd4", "5cc036b65f7f2d54"],  # hashes
        ["dawn", "day", "dusk"],
        ["a"],
        [],
    ],
)
def test_names_that_tell_nothing_make_no_groups(names: list[str]) -> None:
    assert find_groups(names) == Groups(tuple(names), (None,) * len(names), NOTHING)


def test_cities_of_cityscapes_are_groups_in_folders_and_in_flat_names() -> None:
    flat = [f"{city}_{i:06d}_000019_leftImg8bit.png" for city in ("aachen", "ulm") for i in range(3)]
    folders = [f"leftImg8bit/train/{name.split('_')[0]}/{name}" for name in flat]
    assert find_groups(flat).labels == find_groups(folders).labels == ("aachen",) * 3 + ("ulm",) * 3
    assert find_groups(folders).source == "folders"


def test_single_images_of_some_films_do_not_join_all_films() -> None:
    assert find_groups(["film7_1", "film7_2", "film8_1", "film9_1"]).sizes == {"film7": 2, "film8": 1, "film9": 1}
    assert find_groups(["patient_01_1", "patient_01_2", "patient_02_1", "patient_03_1"]).sizes["patient_01"] == 2


def test_slices_of_patients_are_grouped_by_patient() -> None:
    names = [f"patient_{p:03d}_slice_{s:02d}" for p in range(2) for s in range(3)]
    groups = find_groups(names)
    assert groups.sizes == {"patient_000": 3, "patient_001": 3}
    assert groups.positions == (0, 1, 2, 0, 1, 2)


@pytest.mark.parametrize("pattern", ["{}_{}_{}", "{}_x{}_y{}", "{}-r{}-c{}"])
def test_tiles_are_grouped_by_what_they_were_cut_from(pattern: str) -> None:
    names = [
        pattern.format(site, 512 * i, 512 * j) for site in ("scene1", "scene2") for i in range(2) for j in range(2)
    ]
    groups = find_groups(names)
    assert groups.sizes == {"scene1": 4, "scene2": 4}
    assert groups.source == "file names: tiles with their positions"


def test_folders_come_before_names_and_those_of_every_data_set_say_nothing() -> None:
    names = ["train/siteA/images/f1_01.png", "train/siteA/images/f2_01.png", "val/siteB/images/f1_02.png"]
    assert find_groups(names).labels == ("siteA", "siteA", "siteB")
    assert find_groups(["train/images/a.png", "val/images/b.png"]).source == NOTHING


def test_frames_in_folders_of_films_have_their_numbers() -> None:
    groups = find_groups(["film1/000001.png", "film1/000002.png", "film2/000001.png"])
    assert groups.labels == ("film1", "film1", "film2")
    assert groups.positions == (1, 2, 1)


def test_exported_copies_of_an_image_are_one_group() -> None:
    names = [f"dawn_jpg.rf.{i:032x}.jpg" for i in range(2)] + [f"day_jpg.rf.{7:032x}.jpg"]
    groups = find_groups(names)
    assert groups.labels == ("dawn", "dawn", "day")
    assert groups.source == "file names: copies that a labelling service exported"


def test_some_names_without_number_stay_on_their_own() -> None:
    assert find_groups(["film7_1", "film7_2", "dawn", "IMG_1"]).labels == ("film7", "film7", "dawn", "IMG_1")


def test_a_rule_takes_the_named_group_the_first_or_the_match() -> None:
    names = ["a1_x_004", "b2_x_010"]
    assert find_groups(names, r"^(.)(.)").labels == ("a", "b")
    assert find_groups(names, r"^(.)(?P<group>.).*?(?P<position>\d+)$").labels == ("1", "2")
    assert find_groups(names, r"^..").labels == ("a1", "b2")


def test_a_rule_gives_positions() -> None:
    assert find_groups(["a_7", "a_12"], r"^(?P<group>.)_(?P<position>\d+)").positions == (7, 12)


def test_a_rule_that_does_not_fit_is_an_error_with_the_name() -> None:
    with pytest.raises(InputError, match="finds no group in the name 'dawn'"):
        find_groups(["a_1", "dawn"], r"^(.*)_\d+")
    with pytest.raises(InputError, match="no regular expression"):
        find_groups(["a_1"], "(")
    with pytest.raises(InputError, match="position 'x' of 'a_x' is no number"):
        find_groups(["a_x"], r"^(?P<group>.)_(?P<position>.)")


def test_each_image_on_its_own_can_be_asked_for() -> None:
    groups = find_groups(["0016E5_1", "0016E5_2"], "image")
    assert groups.labels == ("0016E5_1", "0016E5_2")
    assert not groups.has_groups


def test_groups_need_a_position_for_each_label() -> None:
    with pytest.raises(ValueError, match="2 labels and 1 positions"):
        Groups(("a", "b"), (None,), "given")


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["2021-03-01", "2021-03-02", "2021-04-07"], {}),  # days of one month are no series
        (["a1_2020-03-01", "a1_2021-04-07", "b1_2020-03-01", "b1_2021-04-07"], {"a1": 2, "b1": 2}),
        (["2021-03-01_001", "2021-03-01_002", "2021-03-02_001"], {"2021_03_01": 2, "2021_03_02": 1}),
    ],
)
def test_a_date_is_one_number_and_not_days_of_a_month(names: list[str], groups: dict[str, int]) -> None:
    found = find_groups(names)
    assert (found.sizes if found.has_groups else {}) == groups


def test_a_letter_that_can_count_names_a_camera_beside_other_letters() -> None:
    names = [f"{camera}_{number}" for camera in "abcdxyz" for number in (8, 9, 10)]
    assert find_groups(names).sizes == dict.fromkeys("abcdxyz", 3)
    assert not find_groups([*(f"x_{number}" for number in (8, 9, 10)), "cover"]).has_groups


@pytest.mark.parametrize("format_cell", ["{}_{}", "{:02d}_{:02d}"])
def test_rows_of_tiles_are_no_groups_of_their_own(format_cell: str) -> None:
    cells = [format_cell.format(row, column) for row in range(3) for column in range(11)]
    found = find_groups([f"ortho{source}_{cell}" for source in (1, 2) for cell in cells])
    assert found.sizes == {"ortho1": 33, "ortho2": 33}


@pytest.mark.parametrize("frame", ["{:02d}_{:04d}", "{}_{}"])
def test_films_and_their_frames_are_no_rows_and_columns_of_tiles(frame: str) -> None:
    numbers = [frame.format(film, number) for film in range(3) for number in range(13)]
    found = find_groups([f"{place}_{number}" for place in ("town", "field") for number in numbers])
    assert sorted(found.sizes.values()) == [13] * 6
