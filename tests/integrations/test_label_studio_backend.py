"""The backend for Label Studio: its HTTP, and its regions as label-studio-sdk and our own reader have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dilated import Predictor, Segmenter, SegmenterConfig
from dilated.data.dataset import open_dataset
from dilated.errors import InputError
from dilated.integrations.label_studio import LabelingConfig, create_app, make_results

NAMES = ["sky", "road", "car"]
TEST_CLIENT = pytest.importorskip("starlette.testclient", reason="the extra `serve` is not installed")


def interface(tag: str, names: list[str] = NAMES) -> str:
    labels = "".join(f'<Label value="{name}" background="#f00"/>' for name in names)
    return f'<View><Image name="image" value="$photo"/><{tag} name="tag" toName="image">{labels}</{tag}></View>'


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    segmenter = Segmenter(NAMES, [(0, 0, 0), (9, 9, 9), (99, 0, 0)], SegmenterConfig(backbone="resnet18", features=8))
    return Predictor(segmenter, device="cpu")


@pytest.fixture
def media(tmp_path: Path) -> Path:
    (tmp_path / "media" / "upload" / "3").mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 256, (48, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "media" / "upload" / "3" / "1a2b3c4d-a b.png")
    (tmp_path / "secret.png").write_bytes((tmp_path / "media" / "upload" / "3" / "1a2b3c4d-a b.png").read_bytes())
    return tmp_path / "media"


def ask(predictor: Predictor, media: Path, link: str, config: str) -> Any:
    """What the backend answers to a request as Label Studio makes it."""
    client = TEST_CLIENT.TestClient(create_app(predictor, media))
    task = {"id": 7, "data": {"photo": link}}
    body = {"tasks": [task], "project": "3.17", "label_config": config, "params": {"context": None}}
    return client.post("/predict", json=body)


UPLOAD = "/data/upload/3/1a2b3c4d-a%20b.png"


@pytest.mark.parametrize("link", [UPLOAD, "/data/local-files/?d=upload/3/1a2b3c4d-a%20b.png"])
@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels"])
def test_what_label_studio_exports_is_read_as_the_labels(
    predictor: Predictor, media: Path, tmp_path: Path, tag: str, link: str
) -> None:
    answer = ask(predictor, media, link, interface(tag))
    assert answer.status_code == 200
    (result,) = answer.json()["results"]
    assert 1 / 3 < result["score"] < 1
    folder = tmp_path / "export"
    folder.mkdir()
    labels = predictor(media / "upload" / "3" / "1a2b3c4d-a b.png").labels
    tasks = []
    for number in range(2):  # two, so that they divide
        Image.new("RGB", (70, 48)).save(folder / f"{number}.png")
        annotation = {"id": number, "result": result["result"], "was_cancelled": False}
        tasks.append({"id": number, "data": {"photo": f"/data/upload/3/{number}.png"}, "annotations": [annotation]})
    (folder / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    dataset = open_dataset(folder)
    ids = np.array([dataset.classes.names.index(name) for name in NAMES])
    for split in dataset.splits:
        for sample in dataset.samples(split):
            assert (sample.read_label() == ids[labels]).all()


def test_label_studios_own_converter_decodes_the_masks(predictor: Predictor, media: Path) -> None:
    reason = "label-studio-sdk is not installed; `pip install label-studio-sdk`"
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason=reason)
    results = ask(predictor, media, UPLOAD, interface("BrushLabels")).json()["results"][0]["result"]
    labels = predictor(media / "upload" / "3" / "1a2b3c4d-a b.png").labels
    for result in results:
        mask = brush.decode_rle(result["value"]["rle"]).reshape(48, 70, 4)[:, :, 3] > 0
        assert (mask == (labels == NAMES.index(result["value"]["brushlabels"][0]))).all()
    assert len(results) > 1


@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels"])
def test_label_studios_own_checks_accept_the_prediction(predictor: Predictor, media: Path, tag: str) -> None:
    reason = "label-studio-sdk is not installed; `pip install label-studio-sdk`"
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason=reason)
    (prediction,) = ask(predictor, media, UPLOAD, interface(tag)).json()["results"]
    assert sdk.LabelInterface(interface(tag)).validate_prediction(prediction, return_errors=True) == []
    assert sdk.LabelInterface(interface(tag, ["bus"])).validate_prediction(prediction, return_errors=True) != []


def test_the_addresses_that_label_studio_asks_first_answer(predictor: Predictor, media: Path) -> None:
    client = TEST_CLIENT.TestClient(create_app(predictor, media))
    assert client.get("/health").json()["status"] == "UP"
    assert client.post("/setup", json={"project": "3.17", "schema": ""}).json() == {"model_version": "dilated"}
    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 200


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("/data/upload/3/../../../secret.png", "found no such file"),
        ("/data/local-files/?d=../secret.png", "found no such file"),
        ("/data/local-files/?d=/etc/hostname", "found no such file"),
        ("http://127.0.0.1/a.png", "is on another host"),
        ("s3://bucket/a.png", "is on another host"),
        ("http://[", "is no link"),
    ],
)
def test_no_file_outside_of_the_folder_is_read(predictor: Predictor, media: Path, link: str, words: str) -> None:
    answer = ask(predictor, media, link, interface("BrushLabels"))
    assert answer.status_code == 422
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View/>', "declares entities"),
        ("<View><Choices name='a' toName='image'/></View>", "no BrushLabels or PolygonLabels"),
    ],
)
def test_an_interface_without_such_labels_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        LabelingConfig.parse(text)


def test_classes_that_the_interface_does_not_offer_are_left_out(predictor: Predictor, media: Path) -> None:
    prediction = predictor(media / "upload" / "3" / "1a2b3c4d-a b.png")
    results = make_results(prediction, LabelingConfig.parse(interface("BrushLabels", ["car", "sky"])))
    assert {result["value"]["brushlabels"][0] for result in results} <= {"car", "sky"}
    with pytest.raises(InputError, match="no label is a class of the network"):
        make_results(prediction, LabelingConfig.parse(interface("BrushLabels", ["bus"])))
