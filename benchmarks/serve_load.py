"""A server under load: many clients at once, some of them hostile, and SIGTERM in the end.

    python benchmarks/serve_load.py street --seconds 60 --clients 100

Each client sends one image after the other over a connection that stays open; of a hundred requests, five are hostile
(truncated and foreign files, a PNG that says 60000x60000, wrong types and queries, 10,000 headers, a body that breaks
off). It fails unless every request that the server accepted has reached its client, every refusal has a status and
words, the process lives, and its memory stays within the limit. Throughput is that of all labels while the clients run,
beside the bare network's on the same pixels in a process of its own; clients and server share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import random
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import psutil

SAMPLE = Path(__file__).parents[1] / "src/dilated/samples/street_camvid.jpg"
BARE = """
import sys, time
from dilated import Predictor
from dilated.prediction.image_input import to_pixels
predictor, pixels = Predictor(sys.argv[1]), to_pixels(sys.argv[2])
predictor.batch([pixels])
start, count = time.perf_counter(), 0
while time.perf_counter() - start < float(sys.argv[3]):
    predictor.batch([pixels]); count += 1
print(count / (time.perf_counter() - start))
"""


def png_bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**7), 9))


def hostile_requests(image: bytes) -> list[tuple[str, bytes, dict[str, str]]]:
    """Query, body and headers of each kind."""
    many = {f"X-{i}": "y" * 20 for i in range(10_000)}
    return [
        ("", image[: len(image) // 3], {}),
        ("", b"%PDF-1.7 no image", {}),
        ("", b"", {}),
        ("", png_bomb(), {}),
        ("", image, {"Content-Type": "text/html"}),
        ("", image, {"Content-Type": "multipart/form-data; boundary=none"}),
        ("?output=everything", image, {}),
        ("?deadline=-1", image, {}),
        ("?network=../../etc/passwd", image, {}),
        ("", image, many),
        ("", image, {"Content-Length": str(10**12)}),
        ("", image[:1000], {"X-Break-Off": "1"}),
    ]


class Load:
    """What all clients do, and what came of it."""

    def __init__(self, port: int, image: bytes, output: str, share: float, seed: int) -> None:
        self.port, self.image, self.output, self.share = port, image, output, share
        self.random = random.Random(seed)
        self.hostile = hostile_requests(image)
        self.statuses: collections.Counter[int] = collections.Counter()
        self.hostile_statuses: collections.Counter[int] = collections.Counter()
        self.seconds: list[float] = []
        self.labels: set[bytes] = set()
        self.wordless: list[str] = []
        self.lost: list[str] = []
        self.is_over = self.is_stopping = False

    async def run_client(self) -> None:
        connection = None
        while not self.is_over:
            if connection is None:
                try:
                    connection = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError as error:
                    if not self.is_stopping:
                        self.lost.append(f"connect: {error}")
                    return
            is_hostile = self.random.random() < self.share
            query, body, headers = self.random.choice(self.hostile) if is_hostile else (self.output, self.image, {})
            started = time.perf_counter()
            try:
                answer = await asyncio.wait_for(self.ask(connection, query, body, headers), 120)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                if not is_hostile and not self.is_stopping:
                    self.lost.append(f"{type(error).__name__}: {error}")
                answer = None
            if answer is None:
                connection[1].close()
                connection = None
                continue
            status, answered, content = answer
            (self.hostile_statuses if is_hostile else self.statuses)[status] += 1
            if status == 200:
                self.seconds.append(time.perf_counter() - started)
                if not is_hostile:
                    self.labels.add(content)
            else:
                self.require_words(status, content)
            if answered.get("connection") == "close" or is_hostile:
                connection[1].close()
                connection = None
            if status in (429, 503):
                await asyncio.sleep(min(float(answered.get("retry-after", 1)), 1))

    async def ask(
        self,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        query: str,
        body: bytes,
        headers: dict[str, str],
    ) -> tuple[int, dict[str, str], bytes] | None:
        """Send one request and read its answer; None for one that is broken off."""
        reader, writer = connection
        head = {"Host": "localhost", "Content-Type": "image/jpeg", "Content-Length": str(len(body)), **headers}
        if "X-Break-Off" in headers:
            head["Content-Length"] = str(len(self.image))
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"POST /predict{query} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        await writer.drain()
        if "X-Break-Off" in headers:
            return None
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        answered = {}
        while line := (await reader.readuntil(b"\r\n")).strip().decode():
            name, _, value = line.partition(": ")
            answered[name.lower()] = value
        return status, answered, await reader.readexactly(int(answered["content-length"]))

    def require_words(self, status: int, content: bytes) -> None:
        try:
            words = json.loads(content)
            assert words["error"], "empty"
            assert set(words) == {"error", "hint"}
        except (ValueError, KeyError, AssertionError) as error:
            self.wordless.append(f"{status}: {content[:80]!r} ({error})")


async def watch(process: psutil.Process, load: Load, memory: list[int]) -> None:
    while not load.is_over:
        memory.append(process.memory_info().rss)
        await asyncio.sleep(0.25)


async def run(options: argparse.Namespace, port: int, server: subprocess.Popen[str], memory: list[int]) -> Load:
    load = Load(port, options.image.read_bytes(), f"?output={options.output}", options.hostile, seed=0)
    clients = [asyncio.create_task(load.run_client()) for _ in range(options.clients)]
    watcher = asyncio.create_task(watch(psutil.Process(server.pid), load, memory))
    started = time.perf_counter()
    await asyncio.sleep(options.seconds)
    load.rate = load.statuses[200] / (time.perf_counter() - started)  # type: ignore[attr-defined]
    load.is_stopping = True
    server.send_signal(signal.SIGTERM)
    await asyncio.gather(*clients)
    load.is_over = True
    await watcher
    return load


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("network", nargs="?", default="street")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--hostile", type=float, default=0.05, help="share of hostile requests")
    parser.add_argument("--image", type=Path, default=SAMPLE)
    parser.add_argument("--output", default="labels")
    parser.add_argument("--memory", default="3GiB", help="limit of the server, which is checked")
    options = parser.parse_args()
    bare_seconds = str(min(20.0, options.seconds / 2))
    bare = subprocess.run(
        [sys.executable, "-c", BARE, options.network, options.image, bare_seconds], check=True, stdout=subprocess.PIPE
    )
    bare_rate = float(bare.stdout)
    memory: list[int] = []
    with tempfile.TemporaryFile("w+") as log:
        words = [sys.executable, "-m", "dilated", "serve", options.network, "--port", "0", "--log"]
        server = subprocess.Popen(
            [*words, "--memory", options.memory, "--clients", str(2 * options.clients)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert server.stdout is not None
        port = int(server.stdout.readline().rsplit(":", 1)[1])
        started = time.perf_counter()
        try:
            load = asyncio.run(run(options, port, server, memory))
            status = server.wait(timeout=300)
        finally:
            server.kill()
        drained = time.perf_counter() - started - options.seconds
        log.seek(0)
        lines = log.read().splitlines()
    answered = sum(line.startswith("POST /predict 200") for line in lines)
    received = load.statuses[200] + load.hostile_statuses[200]
    rate = load.rate  # type: ignore[attr-defined]
    seconds = sorted(load.seconds)
    p50, p99 = (statistics.quantiles(seconds, n=100)[i] for i in (49, 98))
    print(f"answers: {dict(sorted(load.statuses.items()))}")
    print(f"answers to hostile requests: {dict(sorted(load.hostile_statuses.items()))}")
    print(f"labels sent by the server {answered}, received by clients {received}, of {len(load.labels)} contents")
    print(f"latency p50 {p50:.2f} s, p99 {p99:.2f} s; drained in {drained:.1f} s, exit status {status}")
    least, most = memory[0] / 2**20, max(memory) / 2**20
    print(f"memory: at the start {least:.0f} MiB, at most {most:.0f} MiB, limit {options.memory}")
    print(f"{rate:.2f} images/s; the bare network {bare_rate:.2f}: {rate / bare_rate:.2f}")
    faults = {
        "lost": load.lost + (["labels that no client received"] if answered != received else []),
        "without words": load.wordless,
        "tracebacks": [line for line in lines if "Traceback" in line],
        "exit status": [str(status)] if status else [],
        "labels that differ": [str(len(load.labels))] if len(load.labels) > 1 else [],
        "memory": [] if max(memory) <= parse_memory(options.memory) else [str(max(memory))],
    }
    for name, items in faults.items():
        for item in items[:5]:
            print(f"{name}: {item}")
    raise SystemExit(any(faults.values()))


def parse_memory(text: str) -> int:
    from dilated.prediction.memory import MemoryLimit

    return MemoryLimit.parse(text).total or 0


if __name__ == "__main__":
    main()
