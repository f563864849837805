"""The page about a run: its numbers, what it holds, and what it makes of odd runs and data."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_run import REASONS, RECIPE, Page, classes_of, data_folder, run_folder, write_log
from markupsafe import escape
from PIL import Image

from dilated.cli.main import main
from dilated.data.dataset import open_dataset
from dilated.data.labels import save_classes
from dilated.errors import InputError
from dilated.evaluation.evaluate import MetricsConfig, evaluate
from dilated.evaluation.result import EvaluationResult
from dilated.prediction.predictor import Predictor
from dilated.report import write_report
from dilated.weights.bundled import load

NAMES = ("sky", "road", "tree")
ODD = ('<b>&"', "straße 道路", "x" * 120, "a'b{c}", "</script><script>alert(1)</script>")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_folder(tmp_path / "run", NAMES)


def measured(run: Path, root: Path) -> EvaluationResult:
    data = open_dataset(root)
    widths = (1, 2, 4, 8, 16, 32)
    predictor = Predictor(load(run), device="cpu")
    return evaluate(predictor, data.samples("val"), data.classes, MetricsConfig(True, trimap=widths, calibration=True))


def test_the_numbers_are_those_of_evaluate(run: Path, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", NAMES)
    steps: list[tuple[int, int]] = []
    file = write_report(run, data, device="cpu", on_progress=lambda *step: steps.append(step))
    assert file == run / "report.html"
    assert steps == [(1, 3), (2, 3), (3, 3)]
    page, result = Page(file), measured(run, tmp_path / "data")
    assert page.figures == json.loads(json.dumps(result.to_dict(per_image=True)))
    means = [result.intervals[key][0] for key in ("mean_iou", "pixel_accuracy", "mean_boundary_iou")]
    head = page.values("figures-first")
    assert head[:9] == [number for one in means for number in (one.value, one.low, one.high)]
    assert head[9:11] == [3, result.confusion.pixels]
    rows = page.values("classes")
    expected: list[float] = []
    for i in range(3):
        iou, boundary = result.intervals["iou"][i], result.intervals["boundary_iou"][i]
        expected += [iou.value, iou.low, iou.high]
        expected += [float(result.metrics[key][i]) for key in ("precision", "recall", "dice")]
        expected += [boundary.value, boundary.low, boundary.high]
        expected += [float(result.confusion.counts[i].sum() / result.confusion.pixels)]
    known = [number for number in expected if number == number]
    assert rows[: len(known)] == known


def test_classes_are_in_the_order_of_the_data(run: Path, tmp_path: Path) -> None:
    data_folder(tmp_path / "data", NAMES)
    save_classes(classes_of(("tree", "sky", "road")), tmp_path / "data" / "classes.toml")
    data = open_dataset(tmp_path / "data")
    page, result = Page(write_report(run, data, device="cpu")), measured(run, tmp_path / "data")
    table = page.section("classes")
    assert re.findall(r"<span>(tree|sky|road)</span>", table) == ["tree", "sky", "road"]
    first = re.search(r'<data value="([^"]*)"', table.split("<tbody>")[1])
    assert first is not None
    assert float(first[1]) == result.confusion.iou["tree"]
    counts = result.confusion.counts
    places = {name: i for i, name in enumerate(NAMES)}
    shown = re.findall(r"(\w+) labelled as (\w+): ([\d,]+) pixels", "\n".join(page.titles("confusions")))
    assert len(shown) == 9
    for true, guess, number in shown:
        assert int(number.replace(",", "")) == counts[places[true], places[guess]]


def test_the_page_needs_nothing_from_elsewhere(run: Path, tmp_path: Path) -> None:
    page = Page(write_report(run, data_folder(tmp_path / "data", NAMES), device="cpu"))
    text = re.sub(r"base64,[\w+/=]+", "", page.source)
    assert not re.search(r"https?:|//\w|url\(|@import|srcset", text)
    for tag, attributes in page.tags:
        assert tag != "link" or attributes["href"] == "data:,"
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith(("#", "data:"))
        assert tag not in {"iframe", "object", "embed", "form"}
    assert [attributes["type"] for tag, attributes in page.tags if tag == "script"] == ["application/json"]


def test_all_sections_are_there_in_order(run: Path, tmp_path: Path) -> None:
    page = Page(write_report(run, data_folder(tmp_path / "data", NAMES), device="cpu"))
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    middle = ["training", "classes", "confusions", "images", "trust", "field"]
    assert sections == ["figures-first", "data", *middle, "made", "again", "terms"]
    links = {attributes["href"].removeprefix("#") for tag, attributes in page.tags if tag == "a"}
    assert links == set(sections[1:])
    charts = [attributes for tag, attributes in page.tags if tag == "svg" and "aria-hidden" not in attributes]
    assert len(charts) == 3 + 3 + 3  # training, classes, confidence and borders
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in charts)
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


@pytest.mark.parametrize("names", [ODD, ("only",), ("background", "<cell>"), ("left", "right")])
def test_any_names_and_numbers_of_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    run = run_folder(tmp_path / "run", names)
    page = Page(write_report(run, data_folder(tmp_path / "data", names), device="cpu"))
    for name in names:
        assert name in page.words
        assert escape(name) in page.section("classes")
    assert "alert(1)" not in re.sub(r"&lt;script&gt;alert\(1\)|\\u003cscript\\u003ealert\(1\)", "", page.source)
    assert "nan" not in re.sub(r"data:image[^\"]*", "", page.source)
    tiles = page.section("figures-first").count('class="tile"')
    assert tiles == 4 + (3 if "background" in names else 6 if len(names) == 2 else 0)
    assert ("the only class" in page.words) == (len(names) == 1)


def test_150_classes_are_listed_by_their_greatest_confusions(tmp_path: Path) -> None:
    names = tuple(f"class {i}" for i in range(150))
    run = run_folder(tmp_path / "run", names)
    page = Page(write_report(run, data_folder(tmp_path / "data", names), device="cpu"))
    assert "matrix" not in page.section("confusions")
    assert page.section("confusions").count("<tr>") == 1 + 25
    assert len(page.source) < 6_000_000


def test_30_classes_still_have_a_matrix(tmp_path: Path) -> None:
    names = tuple(f"class {i}" for i in range(30))
    page = Page(write_report(run_folder(tmp_path / "run", names), data_folder(tmp_path / "data", names), device="cpu"))
    assert sum("labelled as" in title for title in page.titles("confusions")) == 900


def test_names_of_images_and_folders_are_escaped(tmp_path: Path) -> None:
    run = run_folder(tmp_path / '<i>"run', NAMES)
    data_folder(tmp_path / "<u> data", NAMES)
    for kind in ("images", "labels"):
        folder = tmp_path / "<u> data" / kind / "val"
        (folder / "p0.png").rename(folder / "<s>&p.png")
    page = Page(write_report(run, open_dataset(tmp_path / "<u> data"), device="cpu"))
    assert not {'i"run', "u", "s"} & {tag for tag, _ in page.tags}
    assert '<i>"run: report' in page.words
    assert "<s>&p" in page.words
    assert f"'{tmp_path}/<u> data'" in page.words  # quoted for the shell


@pytest.mark.parametrize("log", ["none", "empty", "without validations", "without loss", "cut off"])
def test_logs_of_all_kinds(run: Path, tmp_path: Path, log: str) -> None:
    file = run / "log.jsonl"
    if log == "none":
        file.unlink()
    elif log == "empty":
        file.write_text("")
    elif log == "without validations":
        write_log(run, NAMES, validations=False)
    elif log == "without loss":
        file.write_text(json.dumps({"step": 5, "stage": 0, "val_mean_iou": None, "val_iou": {}}) + "\n")
    else:
        file.write_text(file.read_text()[:-20])
    training = Page(write_report(run, data_folder(tmp_path / "data", NAMES), device="cpu")).section("training")
    charts = {"none": 0, "empty": 0, "without validations": 2, "without loss": 0, "cut off": 3}[log]
    assert training.count('<svg class="chart"') == charts
    assert ("holds no validation" in training) == log.startswith("without")
    assert ("no log" in training) == (log in ("none", "empty"))


def test_a_line_that_is_no_log_entry_is_named(run: Path, tmp_path: Path) -> None:
    (run / "log.jsonl").write_text('{"step": 1, "stage": 0}\n"hello"\n{"step": 2, "stage": 0}\n')
    with pytest.raises(InputError, match=r"log\.jsonl: line 2: '\"hello\"' is not a log entry"):
        write_report(run, data_folder(tmp_path / "data", NAMES), device="cpu")


def test_a_plan_is_shown_with_its_reasons(run: Path, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", NAMES)
    assert "Why this recipe" not in Page(write_report(run, data, device="cpu")).words
    (run / "plan.json").write_text(json.dumps(REASONS))
    page = Page(write_report(run, data, device="cpu"))
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", page.section("made").split("<tbody>")[1])
    assert cells[:3] == ["crop", "288x384", "80% of the &lt;median&gt; image"]
    assert cells[3:6] == ["loss", "cross-entropy + 0.5", "rare classes"]
    assert RECIPE in page.words


def test_images_without_labelled_pixels(run: Path, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", NAMES)
    blank = np.full((40, 56), 255, np.uint8)
    Image.fromarray(blank).save(tmp_path / "data" / "labels" / "val" / "p1.png")
    page = Page(write_report(run, data, device="cpu"))
    assert "1 of the images have no labelled pixel" in page.words
    assert len(re.findall(r"<img", page.section("images"))) == 2 * 4
    for name in ("p0", "p2"):
        Image.fromarray(blank).save(tmp_path / "data" / "labels" / "val" / f"{name}.png")
    page = Page(write_report(run, data, device="cpu"))
    assert "No image has a labelled pixel" in page.words
    assert page.figures["mean_iou"] is None
    assert "nan" not in re.sub(r"data:image[^\"]*", "", page.source)


def test_one_image_has_no_interval(run: Path, tmp_path: Path) -> None:
    page = Page(write_report(run, data_folder(tmp_path / "data", NAMES, images=1), device="cpu"))
    assert "There is no 95% interval" in page.words
    assert "No intervals: 1 image says nothing of chance." in page.words
    assert 'class="bounds"' not in page.source


def test_worst_come_first_and_none_is_shown_twice(run: Path, tmp_path: Path) -> None:
    page = Page(write_report(run, data_folder(tmp_path / "data", NAMES, images=12), device="cpu"))
    shown = re.findall(r'<b class="name">(p\d+)</b>', page.section("images"))
    means = {row["name"]: row["mean_iou"] for row in page.figures["per_image"]}
    order = sorted(means, key=lambda name: means[name])
    assert shown == order[:6] + order[:-4:-1]


def test_large_images_are_shown_small_and_labels_are_not_mixed(run: Path, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", NAMES, images=1, size=(104, 1400))
    page = Page(write_report(run, data, device="cpu"))
    sources = re.findall(r'<img src="data:image/\w+;base64,([^"]+)"', page.section("images"))
    shown = [Image.open(io.BytesIO(base64.b64decode(source))) for source in sources]
    assert {image.size for image in shown} == {(560, 42)}
    allowed = {*data.classes.colors, (250,) * 3, (205,) * 3}
    for place in (1, 2):
        colors = {tuple(color) for color in np.asarray(shown[place]).reshape(-1, 3).tolist()}
        assert colors <= allowed


def test_the_truth_is_drawn_in_the_colors_of_the_classes(run: Path, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", NAMES, images=1)
    page = Page(write_report(run, data, device="cpu"))
    sources = re.findall(r'<img src="data:image/\w+;base64,([^"]+)"', page.section("images"))
    truth = np.asarray(Image.open(io.BytesIO(base64.b64decode(sources[1]))))
    label = np.asarray(Image.open(tmp_path / "data" / "labels" / "val" / "p0.png"))
    labelled = label != 255
    assert (truth[labelled] == np.array(data.classes.colors)[label[labelled]]).all()
    guess = np.asarray(Image.open(io.BytesIO(base64.b64decode(sources[2]))))
    wrong = float((guess != truth).any(2)[labelled].mean())
    assert wrong == pytest.approx(1 - page.figures["pixel_accuracy"], abs=1e-12)


def test_commands_are_what_the_user_can_type(run: Path, tmp_path: Path) -> None:
    page = Page(write_report(run, data_folder(tmp_path / "data", NAMES), device="cpu"))
    assert f"dilated train {tmp_path}/data --recipe {run}/recipe.toml --out {run}-again" in page.words
    assert f"dilated evaluate {run} {tmp_path}/data --trimap 1 2 4 8 16 32 --calibration" in page.words
    assert f"dilated predict {run} IMAGE --out LABELS" in page.words
    assert f"dilated report {run} {tmp_path}/data" in page.words


def test_another_split_is_named_and_is_not_the_one_chosen_by(run: Path, tmp_path: Path) -> None:
    page = Page(write_report(run, data_folder(tmp_path / "data", NAMES), split="train", device="cpu"))
    assert "--split train" in page.words
    assert "flatter" not in page.words
    assert page.figures["images"] == 2


def test_what_is_no_run_or_fits_no_data_is_an_error_with_advice(run: Path, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", NAMES)
    with pytest.raises(InputError, match=r"no such folder.*Give a run's folder"):
        write_report(tmp_path / "nowhere", data)
    with pytest.raises(InputError, match=r"a file, and no run's folder.*dilated evaluate"):
        write_report(run / "best.safetensors", data)
    with pytest.raises(InputError, match=r"its folder does not exist"):
        write_report(run, data, tmp_path / "no" / "page.html")
    with pytest.raises(InputError, match=r"it is a folder.*Give a file such as"):
        write_report(run, data, tmp_path)
    with pytest.raises(InputError, match=r"only the data has \['hill'\], only the network has \['tree'\]"):
        write_report(run, data_folder(tmp_path / "other", ("sky", "road", "hill")))
    with pytest.raises(InputError, match="has no split 'test'"):
        write_report(run, data, split="test")
    (run / "best.safetensors").unlink()
    with pytest.raises(InputError, match=r"has not reached its first validation.*--resume"):
        write_report(run, data)
    assert not list(tmp_path.rglob("*.html"))


def test_the_page_is_replaced_whole_or_not_at_all(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_folder(tmp_path / "data", NAMES)
    file = tmp_path / "page.html"
    file.write_text("old")

    def stop(self: Path, other: Path) -> Path:
        raise OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(OSError, match="full"):
            write_report(run, data, file, device="cpu")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["page.html"]
    assert write_report(run, data, file, device="cpu") == file
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_label_of_another_split_that_cannot_be_read_is_told(run: Path, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", NAMES)
    Image.fromarray(np.full((40, 56), 77, np.uint8)).save(tmp_path / "data" / "labels" / "train" / "p1.png")
    text = Page(write_report(run, data, device="cpu")).section("data")
    assert "train: 1 labels cannot be read" in text
    assert "found the value 77" in text


def test_the_command_writes_the_page_where_it_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_folder(tmp_path / "data", NAMES)
    file = tmp_path / "page.html"
    main(["report", str(run), str(tmp_path / "data"), "--out", str(file), "--split", "train", "--device", "cpu"])
    assert capsys.readouterr().out == f"The page is {file}\n"
    assert Page(file).figures["images"] == 2
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path), str(tmp_path / "data")])
    assert stop.value.code == 1
    assert "it has no best.safetensors" in capsys.readouterr().err.replace("\n", " ")


def test_a_damaged_file_of_reasons_is_named(run: Path, tmp_path: Path) -> None:
    (run / "plan.json").write_text('[{"choice": "crop"}]')
    with pytest.raises(InputError, match=r"plan\.json: not a list of choices"):
        write_report(run, data_folder(tmp_path / "data", NAMES), device="cpu")


def test_a_layout_that_had_to_be_named_is_in_the_commands(run: Path, tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", NAMES)
    page = Page(write_report(run, data, device="cpu", format="folders"))
    assert f"dilated report {run} {tmp_path}/data --format folders" in page.words
    assert "--format" not in Page(write_report(run, data, device="cpu")).words


def test_a_table_wider_than_a_phone_shows_that_it_scrolls(run: Path, tmp_path: Path) -> None:
    page = Page(write_report(run, data_folder(tmp_path / "data", NAMES), device="cpu"))
    boxes = [attributes for tag, attributes in page.tags if tag == "div" and attributes.get("class") == "wide"]
    assert boxes
    assert all(attributes["tabindex"] == "0" for attributes in boxes)  # the keyboard scrolls it too
    rule = page.source.split(".wide {")[1].split("}")[0]
    assert rule.count("no-repeat scroll") == rule.count("no-repeat local") == 2
