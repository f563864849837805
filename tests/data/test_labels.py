import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from classes_files import load_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from dilated.data.labels import (
    Classes,
    LabelArray,
    decode_label,
    draft_classes,
    format_classes,
    read_values,
    save_classes,
)
from dilated.errors import InputError

TWO = Classes(("sky", "road"), ((0, 0, 255), (128, 64, 128)))


def classes_toml(folder: Path, text: str) -> Path:
    path = folder / "classes.toml"
    path.write_text(text, encoding="utf-8")
    return path


def read_label(path: Path, classes: Classes, size: tuple[int, int] | None = None) -> LabelArray:
    return decode_label(read_values(path), classes, size, path)


def saved(folder: Path, image: Image.Image, name: str = "label.png") -> Path:
    image.save(folder / name)
    return folder / name


def gray(values: list[list[int]], kind: type[np.generic] = np.uint8) -> Image.Image:
    return Image.fromarray(np.array(values, dtype=kind))


@st.composite
def any_classes(draw: st.DrawFn) -> Classes:
    names = draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=5, unique=True))
    values = draw(st.lists(st.integers(0, 65535), unique=True, max_size=12))
    groups: list[list[int]] = [[] for _ in range(len(names) + 1)]
    for value in values:
        groups[draw(st.integers(0, len(names)))].append(value)
    color = st.tuples(*[st.integers(0, 255)] * 3)
    colors = draw(st.lists(color, min_size=len(names), max_size=len(names)))
    return Classes(tuple(names), tuple(colors), tuple(map(tuple, groups[:-1])), tuple(groups[-1]))


@pytest.mark.parametrize("count", [0, 65_536])
def test_no_class_and_more_than_65535_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"found {count} classes; expected 1 to 65535"):
        Classes(tuple(map(str, range(count))), ((0, 0, 0),) * count)


def test_255_classes_are_allowed_and_stay_apart_from_ignore() -> None:
    classes = Classes(tuple(map(str, range(255))), ((0, 0, 0),) * 255)
    assert classes.decode(np.array([[0, 254, 255]])).tolist() == [[0, 254, 255]]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"colors": ((0, 0, 0),)}, "differ in number"),
        ({"values": ((1,),)}, "differ in number"),
        ({"names": ("sky", "sky")}, "'sky' twice"),
        ({"colors": ((0, 0, 0), (0, 0, 256))}, r"road: found the color \[0, 0, 256\]"),
        ({"colors": ((0, 0, 0), (0, 0))}, r"road: found the color \[0, 0\]"),
        ({"colors": ((0, 0, 0), (0, 0.5, 0))}, r"road: found the color \[0, 0.5, 0\]"),
        ({"values": ((1,), (1,))}, "value 1 means 'sky' and 'road'"),
        ({"values": ((1,), (2, 2))}, "value 2 means 'road' and 'road'"),
        ({"ignore": (1,)}, "value 1 means 'ignore' and 'road'"),
        ({"values": ((0,), (65536,))}, "road: found the value 65536"),
        ({"values": ((0,), (-1,))}, "road: found the value -1"),
        ({"ignore": (65536,)}, "65536"),
        ({"ignore": (-1,)}, "-1"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(settings: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Classes(**{"names": TWO.names, "colors": TWO.colors, **settings})


def test_values_are_remapped_merged_and_ignored() -> None:
    classes = Classes(TWO.names, TWO.colors, ((7,), (3, 9, 65535)), ignore=(0,))
    assert classes.decode(np.array([[7, 3, 9], [65535, 0, 255]])).tolist() == [[0, 1, 1], [1, 255, 255]]
    assert classes.decode(np.array([[7]])).dtype == np.uint8


def test_a_class_without_values_occurs_nowhere() -> None:
    assert Classes(TWO.names, TWO.colors, ((), (4,))).decode(np.array([[4]])).tolist() == [[1]]


def test_an_unknown_value_is_an_error_with_file_value_and_place(tmp_path: Path) -> None:
    path = saved(tmp_path, gray([[0, 1, 0], [1, 42, 42]]))
    with pytest.raises(InputError, match=r"found the value 42 at x=1, y=1 \(2 such pixels\)") as caught:
        read_label(path, TWO)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", [-1, 65536, 70000, -65281])
def test_a_value_beyond_16_bits_is_unknown_and_never_wraps(value: int) -> None:
    with pytest.raises(InputError, match=f"found the value {value} at x=1, y=0"):
        Classes(TWO.names, TWO.colors, ignore=(65535,)).decode(np.array([[0, value]]))


def test_an_empty_label_is_no_error() -> None:
    assert TWO.decode(np.zeros((0, 3), dtype=np.uint8)).shape == (0, 3)


@pytest.mark.parametrize("kind", ["L", "P", "1", "I;16", "I"])
def test_one_channel_is_read_as_indices(kind: str, tmp_path: Path) -> None:
    values = [[0, 1, 1], [1, 0, 0]]
    if kind == "P":
        image = Image.fromarray(np.array(values, dtype=np.uint8)).convert("P")
        image.putdata([v for row in values for v in row])
        image.putpalette([1, 1, 1, 0, 0, 0] + [9] * 762)  # colors that would read as the indices swapped
    elif kind == "1":
        image = Image.fromarray(np.array(values, dtype=bool))
    else:
        image = gray(values, {"L": np.uint8, "I;16": np.uint16, "I": np.int32}[kind])
    path = saved(tmp_path, image, "label.tif" if kind == "I" else "label.png")
    with Image.open(path) as stored:
        assert stored.mode == kind
    label = read_label(path, TWO, (2, 3))
    assert label.tolist() == values
    assert label.dtype == np.uint8


def test_a_16_bit_label_keeps_values_beyond_a_byte(tmp_path: Path) -> None:
    classes = Classes(TWO.names, TWO.colors, ((256,), (1000, 65535)))
    path = saved(tmp_path, gray([[256, 1000, 65535]], np.uint16))
    assert read_label(path, classes).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(("mode", "color"), [("RGB", (1, 0, 0)), ("RGBA", (1, 0, 0, 255)), ("CMYK", (0,) * 4)])
def test_a_label_in_colors_is_refused(mode: str, color: tuple[int, ...], tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new(mode, (3, 2), color), "label.tif")
    with pytest.raises(InputError, match=f"mode '{mode}'") as caught:
        read_label(path, TWO)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "color"), [("RGB", (1,) * 3), ("RGBA", (1, 1, 1, 255)), ("LA", (1, 255)), ("RGBA", (1, 1, 1, 9))]
)
def test_a_label_of_equal_channels_is_that_value(mode: str, color: tuple[int, ...], tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new(mode, (3, 2), color), "label.png")
    assert read_label(path, TWO).tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize(("mode", "color"), [("RGBA", (1, 1, 1, 0)), ("LA", (1, 0))])
def test_transparent_values_are_what_is_said(mode: str, color: tuple[int, ...], tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new(mode, (3, 2), color), "label.png")
    with pytest.raises(
        InputError, match=r"\(1, 1, 1\) at x=0, y=0 where .* transparent \(6 such pixels\)\. Write `transp"
    ):
        read_label(path, TWO)
    assert read_values(path, "ignore").tolist() == [[255] * 3] * 2
    assert read_values(path, "color").tolist() == [[1] * 3] * 2


def test_a_label_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("L", (3, 2)))
    with pytest.raises(InputError, match=r"found a label of 3x2; expected 2x3") as caught:
        read_label(path, TWO, (3, 2))
    assert str(path) in str(caught.value)


def test_a_damaged_label_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "label.png"
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"label\.png: the file is empty"):
        read_label(path, TWO)


@settings(deadline=None, max_examples=50)
@given(any_classes())
def test_classes_come_back_from_their_file(tmp_path_factory: pytest.TempPathFactory, classes: Classes) -> None:
    path = tmp_path_factory.mktemp("classes") / "classes.toml"
    save_classes(classes, path)
    assert load_classes(path) == classes


@pytest.mark.parametrize("name", ['say "road"', "back\\slash", "line\nbreak", "tab\t", "\x00", "\x7f", "straße 🛣"])
def test_any_name_comes_back_from_the_file(name: str, tmp_path: Path) -> None:
    save_classes(Classes((name,), ((1, 2, 3),)), tmp_path / "classes.toml")
    assert load_classes(tmp_path / "classes.toml").names == (name,)


def test_left_out_values_are_the_place_in_the_list(tmp_path: Path) -> None:
    text = '[[class]]\nname = "a"\ncolor = [1, 2, 3]\n[[class]]\nname = "b"\ncolor = [4, 5, 6]\n'
    assert load_classes(classes_toml(tmp_path, text)) == Classes(("a", "b"), ((1, 2, 3), (4, 5, 6)), ((0,), (1,)))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ignore = [", "is not TOML"),
        ("ignor = [3]", "unknown key 'ignor'. Did you mean 'ignore'"),
        ('[[class]]\nname = "a"\ncolour = [1, 2, 3]', "class 1: unknown key 'colour'. Did you mean 'color'"),
        ('[[class]]\nname = "a"', "class 1: the key 'color' is missing"),
        ("[[class]]\ncolor = [1, 2, 3]", "class 1: the key 'name' is missing"),
        ('[class]\nname = "a"', "a table .*class.* for each class"),
        ("", "found 0 classes"),
        ('[[class]]\nname = "a"\ncolor = "red"', "colou?r"),
        ('[[class]]\nname = "a"\ncolor = 7', "color"),
        ('ignore = 11\n[[class]]\nname = "a"\ncolor = [1, 2, 3]', "ignore"),
        ('[[class]]\nname = "a"\ncolor = [1, 2, 3]\nvalues = 3', "values"),
        ('[[class]]\nname = "a"\ncolor = [1, 2, 3]\nvalues = ["3"]', "value"),
    ],
)
def test_a_bad_file_is_an_error_that_names_file_and_key(text: str, named: str, tmp_path: Path) -> None:
    path = classes_toml(tmp_path, text)
    with pytest.raises(InputError, match=named) as caught:
        load_classes(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"classes\.toml: no such file"):
        load_classes(tmp_path / "classes.toml")


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "classes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"classes\.toml: is not TOML"):
        load_classes(tmp_path / "classes.toml")


@pytest.mark.parametrize("values", [[0, 255], [7], [0, 1, 2, 255]])
def test_drafted_classes_name_every_value_and_come_back_from_their_file(values: list[int], tmp_path: Path) -> None:
    classes = draft_classes(values)
    save_classes(classes, tmp_path / "classes.toml")
    assert load_classes(tmp_path / "classes.toml") == classes
    assert (classes.decode(np.array([values])) < 255).sum() == len(values) - (len(values) > 2)


def test_a_draft_is_a_file_that_loads(tmp_path: Path) -> None:
    classes = load_classes(classes_toml(tmp_path, format_classes(draft_classes([3, 7, 200]))))
    assert classes.values == ((3,), (7,), (200,))


def brute_force(values: NDArray[np.int64], classes: Classes) -> list[list[int]]:
    def one(value: int) -> int:
        return next((i for i, group in enumerate(classes.values) if value in group), 255)

    return [[one(int(v)) for v in row] for row in values]


@settings(deadline=None, max_examples=25)
@given(any_classes(), st.data())
def test_decoding_is_looking_up_one_value_after_another(classes: Classes, data: st.DataObject) -> None:
    known = sorted({255, *classes.ignore, *(v for group in classes.values for v in group)})
    values = np.array(data.draw(st.lists(st.lists(st.sampled_from(known), min_size=3, max_size=3), min_size=1)))
    assert classes.decode(values).tolist() == brute_force(values, classes)


def png_of_bits(values: bytes, depth: int) -> bytes:
    """A PNG of one row of grey, each value in `depth` bits."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    bits = "".join(f"{value:0{depth}b}" for value in values).ljust(-(-len(values) * depth // 8) * 8, "0")
    row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    head = struct.pack(">IIBBBBB", len(values), 1, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", [2, 4])
def test_values_of_few_bits_which_pillow_stretches_are_an_error(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "label.png"
    path.write_bytes(png_of_bits(bytes([0, 2**depth - 1, 0]), depth))  # would be read as 0, 255, 0
    with pytest.raises(InputError, match=f"found a label of {depth} bits per pixel.*Save it as PNG of 8 bits"):
        read_label(path, TWO)


def test_values_of_one_bit_are_0_and_1(tmp_path: Path) -> None:
    path = tmp_path / "label.png"
    path.write_bytes(png_of_bits(bytes([0, 1, 0]), 1))
    assert read_label(path, TWO).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_a_pgm_of_which_pillow_stretches_the_values_is_an_error(most: int, tmp_path: Path) -> None:
    path = tmp_path / "label.pgm"
    path.write_bytes(b"P2\n3 1\n%d\n0 1 0\n" % most)
    with pytest.raises(InputError, match=f"greatest value is {most}, which is stretched"):
        read_label(path, TWO)


@pytest.mark.parametrize("most", [255, 65535])
@pytest.mark.parametrize("form", ["P2", "P5"])
def test_a_pgm_of_whole_bytes_is_read(form: str, most: int, tmp_path: Path) -> None:
    path = tmp_path / "label.pgm"
    values = np.array([0, 1, 0], ">u2" if most > 255 else np.uint8).tobytes() if form == "P5" else b"0 1 0\n"
    path.write_bytes(b"%s\n3 1\n%d\n" % (form.encode(), most) + values)
    assert read_label(path, TWO).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("mode", ["L", "1"])
def test_a_tiff_in_which_0_is_white_is_an_error(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "label.tif"
    Image.new(mode, (3, 1), 1).save(path)
    content = path.read_bytes()
    entry = struct.pack("<HHI", 262, 3, 1)  # how grey is meant, which pillow writes as 0 is black
    path.write_bytes(content.replace(entry + b"\1", entry + b"\0"))
    with pytest.raises(InputError, match="in which 0 is white"):
        read_label(path, TWO)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ignore = [[1]]", r"ignore.0: found \[1\]; expected int"),
        ("ignore = [true]", "ignore.0: found True; expected int"),
        ("ignore = ['1']", "ignore.0: found '1'; expected int"),
        (f"ignore = [{'9' * 5000}]", "is not TOML: .*digits"),
        ("ignore = " + "[" * 3000, "is not TOML: .*recursion"),
    ],
)
def test_an_ignored_value_that_is_no_number_is_an_error(text: str, named: str, tmp_path: Path) -> None:
    path = classes_toml(tmp_path, f"{text}\n[[class]]\nname = 'sky'\ncolor = [0, 0, 255]\nvalues = [7]\n")
    with pytest.raises(InputError, match=f"classes.toml: {named}"):
        load_classes(path)


@pytest.mark.parametrize("name", ["5", "['sky']", "true"])
def test_a_name_that_is_no_text_is_an_error(name: str, tmp_path: Path) -> None:
    path = classes_toml(tmp_path, f"[[class]]\nname = {name}\ncolor = [0, 0, 255]\n")
    with pytest.raises(InputError, match=r"class 1: name: found .*; expected str"):
        load_classes(path)


def test_a_value_that_is_true_or_false_is_an_error(tmp_path: Path) -> None:
    path = classes_toml(tmp_path, "[[class]]\nname = 'sky'\ncolor = [0, 0, 255]\nvalues = [true]\n")
    with pytest.raises(InputError, match=r"class 1: values.0: found True; expected int"):
        load_classes(path)


def test_a_label_of_several_frames_is_refused(tmp_path: Path) -> None:
    pages = [Image.new("L", (4, 3), value) for value in (0, 1)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match=r"a\.tif: found a label of 2 pages or frames; expected one"):
        read_values(tmp_path / "a.tif")
    pages[0].save(tmp_path / "b.tif")
    assert not read_values(tmp_path / "b.tif").any()


def deep_png(path: Path, values: object) -> Path:
    """A PNG of 16-bit colors, (H, W, 3)."""
    rasterio = pytest.importorskip("rasterio")
    array = np.moveaxis(np.asarray(values, np.uint16), 2, 0)
    with rasterio.open(
        path, "w", driver="PNG", height=array.shape[1], width=array.shape[2], count=3, dtype="uint16"
    ) as f:
        f.write(array)
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_values_of_16_bits_in_a_channel_are_read_where_it_is_named(tmp_path: Path) -> None:
    path = deep_png(tmp_path / "label.png", [[(3, 700, 0), (1, 701, 0)]])
    with pytest.raises(InputError, match=r"mode 'RGB' \(colors\).*`channel = 0`"):
        read_values(path)
    assert read_values(path, channel=0).tolist() == [[3, 1]]
    assert read_values(path, channel=1).tolist() == [[700, 701]]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_equal_channels_of_16_bits_are_their_value(tmp_path: Path) -> None:
    assert read_values(deep_png(tmp_path / "label.png", [[(300,) * 3, (2,) * 3]])).tolist() == [[300, 2]]


def test_a_channel_of_8_bits_may_be_named_too(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("RGB", (3, 2), (1, 7, 9)))
    assert read_values(path, channel=2).tolist() == [[9, 9, 9]] * 2


def test_a_channel_that_colors_do_not_have_is_an_error() -> None:
    with pytest.raises(InputError, match="channel: found 3; expected 0, 1 or 2"):
        Classes(("a",), ((0, 0, 0),), channel=3)
