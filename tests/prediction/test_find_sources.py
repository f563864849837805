"""What is found to be labelled, and what it will be called."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilated import InputError
from dilated.prediction.sources import Frame, InputImage, Source, _match_pattern, search_sources
from dilated.prediction.writers import make_writers
from dilated.prediction.writers.base import check_outputs


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(*inputs: Path | str, exclude: Path | None = None) -> list[str]:
    return [source.name.as_posix() for source in search_sources(inputs, exclude).sources]


def refused(message: str, *inputs: Path | str) -> None:
    with pytest.raises(InputError, match=message):
        search_sources(inputs)


def test_no_input_an_empty_folder_and_what_is_not_there_are_refused(tmp_path: Path) -> None:
    refused("predict: no input is given")
    refused(f"{tmp_path}: holds no image", tmp_path)
    refused("none.jpg: no such file or folder", tmp_path / "none.jpg")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    refused("holds no image", touch(tmp_path, "notes.txt", ".hidden.png", ".cache/a.png", "clip.mp4"))


def test_folders_are_searched_and_their_inner_folders_kept(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "deep/a.png", "deep/er/x.y.tiff", ".hidden.png", "notes.txt", ".cache/c.png")
    assert names(tmp_path) == ["b", "deep/a", "deep/er/x.y"]


def test_names_with_spaces_dots_and_letters_of_all_kinds_are_kept(tmp_path: Path) -> None:
    touch(tmp_path, "a b.png", "ä日本.jpg", "v1.2.final.jpeg", "-x.png", "[1].png")
    assert sorted(names(tmp_path)) == sorted(["a b", "ä日本", "v1.2.final", "-x", "[1]"])
    assert names(tmp_path / "[1].png") == ["[1]"], "a name that is there is no pattern"


def test_an_image_given_needs_no_suffix_and_may_be_hidden(tmp_path: Path) -> None:
    touch(tmp_path, "scan", ".hidden.png")
    assert names(tmp_path / "scan", tmp_path / ".hidden.png") == ["scan", ".hidden"]


def test_every_file_of_a_folder_is_a_source_or_named_with_what_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "a.jfif", "b.HEIC", "c.avif", "notes.txt", "deep/more.json", "clip.mp4", "._a.jpg", ".cache/x.png")
    os.mkfifo(tmp_path / "pipe.png")
    search = search_sources([tmp_path])
    assert [source.path.name for source in search.sources] == ["a.jfif", "b.HEIC", "c.avif"]
    assert search.describe_left_out() == [
        f"left out 2 files, each hidden by its name: {tmp_path}/._a.jpg, {tmp_path}/.cache",
        f"left out 1 file, a video, to be given by its own name: {tmp_path}/clip.mp4",
        f"left out 2 files, each no image by the suffix of the name: {tmp_path}/notes.txt, {tmp_path}/deep/more.json",
        f"left out 1 file, a pipe: {tmp_path}/pipe.png",
    ]


def test_what_is_given_by_name_is_not_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "clip.mp4")
    assert search_sources([tmp_path, tmp_path / "clip.mp4"]).left_out == []


def test_links_are_followed_but_never_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "elsewhere/b.png")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "self.png").symlink_to("self.png")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to("nowhere.png")
    assert names(tmp_path / "in") == ["a", "gone", "self", "more/b"], "dead links are found, for they are reported"
    assert names(f"{tmp_path}/in/**/[ab].png") == ["a", "more/b"]


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    refused("holds no image", tmp_path)


def test_a_folder_that_may_not_be_read_is_a_problem_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "locked/b.png")
    scan = os.scandir

    def denied(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)  # root may read anything
    good, bad = search_sources([tmp_path]).sources
    assert (good.name, good.problem) == (Path("a"), "")
    assert bad.problem == f"{tmp_path}/locked: the folder cannot be read (Permission denied)"


def test_the_outputs_of_a_former_run_are_no_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "labels/a.png")
    assert names(tmp_path, exclude=tmp_path / "labels") == ["a"]
    assert names(tmp_path / "labels", exclude=tmp_path / "labels") == ["a"], "unless they are given"


def test_patterns_keep_the_folders_below_their_fixed_part(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/deep/b.jpg", "in/deep/c.png", "in/deep/.d.jpg", "in/deep/clip.MP4", "in/x.txt")
    assert names(f"{tmp_path}/in/**/*.jpg") == ["a", "deep/b"]
    assert names(f"{tmp_path}/in/*.jpg") == ["a"]
    assert names(f"{tmp_path}/in/*/?.*") == ["deep/b", "deep/c"]
    assert names(f"{tmp_path}/in/**") == ["a", "deep/b", "deep/c", "deep/clip"]
    assert [source.kind for source in search_sources([f"{tmp_path}/in/**/c*"]).sources] == ["image", "video"]
    refused("none of 1 matching file is an image", f"{tmp_path}/in/*.txt")
    refused("none of 0 matching files", f"{tmp_path}/in/*.bmp")
    refused("none does not exist", f"{tmp_path}/none/*.jpg")


def test_patterns_are_read_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "b/c.jpg")
    monkeypatch.chdir(tmp_path)
    assert names("*.jpg") == ["a"]
    assert names("**/*.jpg") == ["a", "b/c"]


@given(
    parts=st.lists(st.sampled_from("ab"), min_size=1, max_size=4), pattern=st.lists(st.sampled_from(["a", "*", "**"]))
)
def test_patterns_match_as_pathlib_does_it(parts: list[str], pattern: list[str]) -> None:
    def by_definition(parts: list[str], pattern: list[str]) -> bool:
        if not pattern:
            return not parts
        if pattern[0] == "**":
            return any(by_definition(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
        return bool(parts) and pattern[0] in ("*", parts[0]) and by_definition(parts[1:], pattern[1:])

    assert _match_pattern(parts, pattern) == by_definition(parts, pattern)


def test_lists_name_images_relative_to_their_folder(tmp_path: Path) -> None:
    touch(tmp_path, "in/a b.jpg", "in/deep/a.png", "in/deep/clip.mov", "other/c.png")
    text = f"\ufeff# images\n\na b.jpg\r\n  deep/a.png \ndeep/clip.mov\n../other/c.png\n{tmp_path}/other/c.png\n"
    (tmp_path / "in" / "list.TXT").write_text(text, encoding="utf-8")
    found = search_sources([tmp_path / "in" / "list.TXT"]).sources
    assert [source.name.as_posix() for source in found] == ["a b", "deep/a", "deep/clip", "c", "c"]
    assert found[2].kind == "video"
    assert all(source.path.is_file() and not source.problem for source in found)


def test_a_missing_entry_of_a_list_is_told_by_file_and_line(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "folder/b.jpg")
    (tmp_path / "list.txt").write_text("# one\na.jpg\ngone.jpg\nfolder\n")
    good, gone, folder = search_sources([tmp_path / "list.txt"]).sources
    assert good.problem == ""
    assert gone.problem == f"{tmp_path}/list.txt, line 3: {tmp_path}/gone.jpg does not exist"
    assert folder.problem == f"{tmp_path}/list.txt, line 4: {tmp_path}/folder is a folder"


def test_a_list_of_nothing_or_of_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n# nothing\n")
    refused("list.txt: the list holds no path", tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    refused("list.txt: byte 0 is not UTF-8 text", tmp_path / "list.txt")


def test_videos_and_cameras_are_known_by_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "clip.MOV")
    found = search_sources([tmp_path / "clip.MOV", "camera:0", Path("camera:USB cam")]).sources
    assert [(source.kind, source.name.as_posix()) for source in found] == [
        ("video", "clip"),
        ("camera", "camera0"),
        ("camera", "cameraUSBcam"),
    ]


def test_what_is_given_twice_is_labelled_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    assert names(tmp_path, tmp_path / "a.png", f"{tmp_path}/*.png") == ["a", "b"]


def test_keys_tell_images_of_one_stem_apart() -> None:
    stills = [InputImage(Source(Path(f"x/a{suffix}"), Path("a"))) for suffix in (".png", ".jpg")]
    assert [still.key for still in stills] == ["a.png", "a.jpg"]
    frame = Frame(3, Fraction(0), Fraction(25))
    assert InputImage(Source(Path("camera:0"), Path("camera0"), "camera"), frame).key == "camera0/000003"
    assert InputImage(Source(Path("a:b.png"), Path("a:b"))).key == "a:b.png"


def test_one_stem_in_two_folders_does_not_collide_but_in_one_it_does(tmp_path: Path) -> None:
    touch(tmp_path, "in/x/a.png", "in/y/a.png", "in/y/a.jpg", "in/x/b.png")
    writers = make_writers(["palette"], tmp_path / "out")
    check_outputs(search_sources([tmp_path / "in" / "x"]).sources, writers)
    with pytest.raises(InputError, match=r"y/a.png and .*y/a.jpg would both become .*out/y/a.png"):
        check_outputs(search_sources([tmp_path / "in"]).sources, writers)
    with pytest.raises(InputError, match="would both become"):
        check_outputs(search_sources([tmp_path / "in" / "x", tmp_path / "in" / "y" / "a.png"]).sources, writers)
    check_outputs(search_sources([tmp_path / "in"]).sources, make_writers(["csv", "coco"], tmp_path / "out"))
    with pytest.raises(InputError, match=r"would both become the row a.png of .*class_fractions.csv"):
        check_outputs(
            search_sources([tmp_path / "in" / "x", tmp_path / "in" / "y" / "a.png"]).sources,
            make_writers(["csv"], tmp_path / "out"),
        )


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.jpg", "b.overlay.jpg", "c.gif", "link/x")
    with pytest.raises(InputError, match="would be overwritten"):
        check_outputs(search_sources([tmp_path / "a.png"]).sources, make_writers([], tmp_path))
    check_outputs(search_sources([tmp_path / "b.jpg"]).sources, make_writers([], tmp_path, overlay=True))
    with pytest.raises(InputError, match=r"overlay.jpg would be overwritten by the labels of .*b.jpg"):
        check_outputs(
            search_sources([tmp_path / "b.jpg", tmp_path / "b.overlay.jpg"]).sources,
            make_writers([], tmp_path, overlay=True),
        )
    (tmp_path / "here").symlink_to(tmp_path)
    with pytest.raises(InputError, match="would be overwritten"):
        check_outputs(search_sources([tmp_path / "a.png"]).sources, make_writers([], tmp_path / "here"))
    (tmp_path / "link" / "c.png").symlink_to(tmp_path / "c.gif")
    with pytest.raises(InputError, match="would be overwritten"):
        check_outputs(search_sources([tmp_path / "link" / "c.png"]).sources, make_writers([], tmp_path / "link"))


def test_frames_and_images_do_not_mix(tmp_path: Path) -> None:
    touch(tmp_path, "in/clip.mp4", "in/clip.png", "in/clip/000001.png", "in/clip.mov")
    writers = make_writers(["ids"], tmp_path / "out", videos=True)
    check_outputs(search_sources([tmp_path / "in" / "clip.mp4", tmp_path / "in" / "clip.png"]).sources, writers)
    with pytest.raises(InputError, match="would both become"):
        check_outputs(search_sources([tmp_path / "in" / "clip.mp4", tmp_path / "in"]).sources, writers)
    with pytest.raises(InputError, match=r"would both become"):
        check_outputs(search_sources([tmp_path / "in" / "clip.mp4", tmp_path / "in" / "clip.mov"]).sources, writers)
    with pytest.raises(InputError, match=r"labelme: cannot open the video .*\. Give images"):
        check_outputs(
            search_sources([tmp_path / "in" / "clip.mp4"]).sources,
            make_writers(["labelme"], tmp_path / "out", videos=True),
        )
