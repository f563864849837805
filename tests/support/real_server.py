"""A server of `dilated serve` in a process of its own, as its tests and those of its page ask it."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image

from dilated import Classes, Segmenter, SegmenterConfig

CLASSES = Classes(("field", "disc", "bar"), ((40, 90, 40), (220, 60, 60), (60, 60, 220)))
WAIT = 120
TOKEN = "a-token-of-no-importance"
ENVIRONMENT = {"DILATED_TOKEN": TOKEN, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        words = json.loads(self.body)
        assert set(words) == {"error", "hint"}
        return str(words["error"])


class Server(NamedTuple):
    process: subprocess.Popen[str]
    port: int
    network: Path
    errors: Path

    def finish(self) -> None:
        """Wait for the end, which says that nothing was lost."""
        said, _ = self.process.communicate(timeout=WAIT)
        assert self.process.returncode == 0, self.errors.read_text()
        assert said == "stopped: all accepted requests are answered\n"

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
        try:
            named = {"Authorization": f"Bearer {TOKEN}", **{k.replace("_", "-"): v for k, v in headers.items()}}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(self, body: bytes, query: str = "", **headers: str) -> Answer:
        return self.ask("POST", f"/predict{query}", body, **headers)

    def send_raw(self, *parts: bytes) -> bytes:
        """Send bytes as they are, and return all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
            except OSError:
                pass  # the answer has come before the end of what is sent
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
                if b"\r\n\r\n" in received and b"}" in received:
                    break
            return received


def start(folder: Path, *options: str, networks: int = 1) -> Server:
    """Serve networks with random weights, on a port that is free; the token is `TOKEN`."""
    files = [folder / f"small-{i}.safetensors" for i in range(networks)]
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        Segmenter(CLASSES.names, CLASSES.colors, SegmenterConfig(backbone="test_efficientnet", features=8)).save(file)
    errors = folder / "errors.txt"
    words = [sys.executable, "-m", "dilated", "serve", *map(str, files), "--port", "0", *options]
    with errors.open("w") as file:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=file, text=True, env={**os.environ, **ENVIRONMENT}
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "serving" in line, errors.read_text()
    return Server(process, urlsplit(line.split()[-1]).port or 0, files[0], errors)


def photo(seed: int = 0, size: tuple[int, int] = (40, 56), form: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()
