"""A real server in a process of its own: answers, refusals with words, many clients, and an end that loses nothing."""

from __future__ import annotations

import concurrent.futures
import gzip
import http.client
import io
import json
import signal
import socket
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_server import CLASSES, TOKEN, WAIT, Server, photo, start

from dilated import Predictor
from dilated.cli.main import main

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(package)

LIMITS = ("--max-bytes", "1MB", "--max-pixels", "200000", "--body-timeout", "2", "--device", "cpu", "--log")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(tmp_path_factory.mktemp("serve"), *LIMITS)
    yield server
    server.process.terminate()
    server.finish()
    assert "Traceback" not in server.errors.read_text()


def form(*files: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    parts = [
        b'--edge\r\nContent-Disposition: form-data; name="f"; filename="'
        + name.encode()
        + b'"\r\nContent-Type: image/png\r\n\r\n'
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join(parts) + b"--edge--\r\n", {"Content_Type": "multipart/form-data; boundary=edge"}


def png_bomb(side: int) -> bytes:
    """A PNG of a few kilobytes whose header says so many pixels along a side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(10**6), 9))
        + chunk(b"IEND", b"")
    )


def test_labels_are_those_of_predict_to_the_byte(server: Server, tmp_path: Path) -> None:
    names = ["a.png", "b.jpg", "c.png"]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(photo(i, (33 + i, 70 - 9 * i), "JPEG" if name.endswith("jpg") else "PNG"))
    words = ["predict", str(server.network), *(str(tmp_path / name) for name in names), "--device", "cpu"]
    main([*words, "--out", str(tmp_path / "out"), "--save", "palette", "geojson", "coco", "probabilities"])
    bodies = [(tmp_path / name).read_bytes() for name in names]
    for name, body in zip(names, bodies, strict=True):
        for output, suffix in (("labels", ".png"), ("geojson", ".geojson"), ("probabilities", ".npz")):
            answer = server.post(body, f"?output={output}")
            assert answer.status == 200
            expected = (tmp_path / "out" / name).with_suffix(suffix).read_bytes()
            if output == "probabilities":
                expected, answer = (zipfile_contents(content) for content in (expected, answer.body))
                assert expected == answer
            else:
                assert answer.body == expected
    content, headers = form(*zip(names, bodies, strict=True))
    several = server.post(content, "?output=labels,coco", **headers)
    with zipfile.ZipFile(io.BytesIO(several.body)) as archive:
        assert set(archive.namelist()) == {"a.png", "b.png", "c.png", "annotations.json"}
        for name in archive.namelist():
            assert archive.read(name) == (tmp_path / "out" / name).read_bytes()


def zipfile_contents(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_fractions_and_views_tell_what_the_prediction_holds(server: Server) -> None:
    body = photo(3, (20, 31))
    prediction = Predictor(server.network, device="cpu")(body, logits=True)
    fractions = json.loads(server.post(body, "?output=json").body)
    assert (fractions["width"], fractions["height"]) == (31, 20)
    assert {c["name"]: c["fraction"] for c in fractions["classes"] if c["fraction"]} == prediction.class_fractions()
    view = server.post(body, "?output=view&top=2")
    head, _, planes = gzip.decompress(view.body).partition(b"\n")
    assert json.loads(head)["top"] == 2
    bytes_read = np.frombuffer(planes, np.uint8).reshape(5, 20, 31)
    values, ids = prediction.probabilities.topk(2, dim=0)
    assert (bytes_read[0] == prediction.labels).all()
    assert (bytes_read[1:3] == ids.numpy()).all()
    assert np.abs(bytes_read[3:] / 255 - values.numpy()).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("body", "query", "headers", "status", "words"),
    [
        (b"", "", {}, 400, "empty"),
        (b"just text", "", {}, 415, "no image format"),
        (photo()[:200], "", {}, 422, "damaged"),
        (photo(form="JPEG")[:900], "", {}, 422, "damaged"),
        (png_bomb(30_000), "", {}, 413, "200,000 pixels"),
        (png_bomb(450), "", {}, 413, "200,000 pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "", {}, 415, "EPS"),
        (photo(), "", {"Content_Type": "text/html"}, 415, "Content-Type"),
        (photo(), "", {"Content_Encoding": "gzip"}, 415, "Content-Encoding"),
        (photo(), "", {"Content_Type": "multipart/form-data"}, 400, "form"),
        (photo(), "", {"Content_Type": "multipart/form-data; boundary=x"}, 400, "form"),
        (bytes(1_000_001), "", {}, 413, "1,000,000 bytes"),
        (photo(), "?output=lables", {}, 400, "'lables' is unknown"),
        (photo(), "?outptu=labels", {}, 400, "'outptu' is unknown"),
        (photo(), "?network=other", {}, 400, "'other' is not served"),
        (photo(), "?deadline=nan", {}, 400, "'nan' is not a number"),
        (photo(), "?deadline=1e-9", {}, 504, "over before"),
        (photo(), "", {"X_Deadline": "1e-9"}, 504, "over before"),
        (photo(), "", {"Authorization": "Bearer guess"}, 401, "token"),
    ],
)
def test_what_cannot_be_labelled_is_refused_with_words(
    server: Server, body: bytes, query: str, headers: dict[str, str], status: int, words: str
) -> None:
    answer = server.post(body, query, **headers)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert words in answer.error
    assert server.ask("GET", "/healthz").status == 200


def test_heads_and_bodies_that_are_no_http_or_too_slow_are_refused_with_words(server: Server) -> None:
    many = b"".join(b"X-%d: %s\r\n" % (i, b"y" * 20) for i in range(10_000))
    start_line = b"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
    for parts, status in (
        ((start_line + many + b"\r\n",), b"400"),
        ((b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",), b"400"),
        ((b"GET / HTTP/1.1\r\nX: ",), b"408"),
        ((start_line + b"Content-Length: 1000\r\n\r\n", b"some"), b"408"),
    ):
        received = server.send_raw(*parts)
        assert received.startswith(b"HTTP/1.1 " + status)
        assert b'"error"' in received
        assert b'"hint"' in received


def test_a_request_of_two_lengths_hides_no_second_one(server: Server) -> None:
    head = b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n"
    hidden = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
        connection.sendall(head + b"0\r\n\r\n" + hidden)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 400")
    assert b"both Content-Length and Transfer-Encoding" in received
    assert received.count(b"HTTP/1.1 ") == 1


def test_names_with_paths_and_control_characters_reach_no_file_log_or_answer(server: Server) -> None:
    content, headers = form(("../../evil\x1b[2J.png", photo(1)), ("..\\..\\evil\x1b[2J.png", photo(2)))
    with zipfile.ZipFile(io.BytesIO(server.post(content, **headers).body)) as archive:
        assert archive.namelist() == ["evil__2J.png", "evil__2J-2.png"]
    broken, headers = form(("\x1b[31mred.png", b"no image"), ("b.png", photo()))
    answer = server.post(broken, **headers)
    assert answer.status == 415
    assert "_31mred.png" in answer.error
    assert b"\x1b" not in answer.body
    assert server.ask("GET", "/%1b%5b2J%0d%0aX-Evil:%201").status == 404
    assert server.ask("GET", "/healthz").status == 200  # by now the line before has been written
    assert b"\x1b" not in server.errors.read_bytes()
    assert r"GET /\x1b[2J\r\nX-Evil: 1 404" in server.errors.read_text()


def test_many_clients_at_once_each_get_their_own_labels(server: Server) -> None:
    predictor = Predictor(server.network, device="cpu")
    bodies = [photo(i, (24 + 8 * (i % 3), 40)) for i in range(24)]
    expected = [predictor(body).labels for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda body: server.post(body, "?output=ids"), bodies))
    for answer, labels in zip(answers, expected, strict=True):
        assert answer.status == 200
        assert (np.asarray(Image.open(io.BytesIO(answer.body))) == labels).all()


def test_a_port_that_is_taken_is_an_error_with_a_hint(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["serve", str(server.network), "--port", str(server.port), "--device", "cpu"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"error: serve: cannot listen on 127.0.0.1:{server.port}")
    assert lines[1] == "hint: give another --port, or 0 for one that is free"


def test_health_metrics_and_pages_need_no_other_host(server: Server) -> None:
    assert (server.ask("GET", "/healthz").body, server.ask("GET", "/readyz").body) == (b"ok\n", b"ready\n")
    assert 'dilated_requests_total{status="200"}' in server.ask("GET", "/metrics").body.decode()
    assert server.ask("GET", "/metrics", Authorization="").status == 401
    networks = json.loads(server.ask("GET", "/networks").body)
    assert (networks["networks"][0]["classes"], networks["limits"]["max_bytes"]) == (list(CLASSES.names), 1_000_000)
    assert "/predict" in json.loads(server.ask("GET", "/openapi.json").body)["paths"]
    for path in ("/", "/docs"):
        page = server.ask("GET", path, Authorization="")
        assert page.status == 200
        assert "http://" not in page.body.decode()
        assert "https://" not in page.body.decode()
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert server.ask("GET", "/predict").status == 405
    assert Image.open(io.BytesIO(server.ask("GET", "/sample").body)).size == (640, 480)


def test_a_signal_ends_it_after_what_was_accepted_is_answered(tmp_path: Path) -> None:
    server = start(tmp_path, "--queue", "2", "--clients", "12", "--device", "cpu", "--log")
    body, answers = photo(5, (300, 400), "JPEG"), []
    begun = threading.Barrier(9, timeout=WAIT)

    def ask() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)) as connection:
            connection.putrequest("POST", "/predict?output=json")
            connection.putheader("Authorization", f"Bearer {TOKEN}")
            connection.putheader("Content-Length", str(len(body)))
            connection.putheader("Expect", "100-continue")
            connection.endheaders()
            connection.sock.recv(25)  # HTTP/1.1 100 Continue: the request has begun
            begun.wait()
            connection.send(body)
            answer = connection.getresponse()
            answers.append((answer.status, json.loads(answer.read())))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun.wait()
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(WAIT)
    server.finish()
    assert len(answers) == 8
    for status, words in answers:
        assert (status, "classes" in words) == (200, True) or (status, "hint" in words) == (429, True), words
    assert any(status == 200 for status, _ in answers)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
