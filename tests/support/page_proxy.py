"""Shows a page of a server in a frame of a real browser, with a script of the test in it, and brings back what it told.

The proxy stands before the server, so that page, script and server are of one origin. It gives a frame of some width,
whose image `/hold` comes only when the script has posted to `/told`: the browser's load event, at which it takes its
screenshot and ends, waits for that.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT = 120
FRAME = """<!doctype html><meta charset="utf-8"><title>frame</title><link rel="icon" href="data:,">
<body style="margin:0"><iframe src="/" style="border:0;width:{width}px;height:{height}px;display:block"></iframe>
<img src="/hold" alt="">"""


class PageProxy(ThreadingHTTPServer):
    """Forwards to a port of this machine; what the page's script has told is in `told`."""

    daemon_threads = True

    def __init__(self, port: int, script: str, width: int, height: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.script = port, script
        self.frame = FRAME.replace("{width}", str(width)).replace("{height}", str(height))
        self.told: dict[str, Any] = {}
        self.has_told = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def show(self, folder: Path, shot: Path, *options: str) -> list[str]:
        """Show the frame, until the script has told; return what the page brought to the browser's console."""
        assert BROWSER is not None
        size = f"--window-size={self.width_of_frame() + 200},2400"
        fixed = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size, f"--screenshot={shot}")
        own = (f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--v=0", *options)
        url = f"http://127.0.0.1:{self.server_port}/frame"
        done = subprocess.run(
            [BROWSER, *fixed, *own, url], capture_output=True, text=True, timeout=2 * WAIT, check=False
        )
        self.shutdown()
        self.server_close()
        return [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    def width_of_frame(self) -> int:
        return int(self.frame.partition("width:")[2].partition("px")[0])


class _Handler(BaseHTTPRequestHandler):
    server: PageProxy

    def do_GET(self) -> None:
        if self.path == "/frame":
            self.answer(200, {"Content-Type": "text/html"}, self.server.frame.encode())
        elif self.path == "/hold":
            self.server.has_told.wait(WAIT)
            self.answer(200, {"Content-Type": "image/svg+xml"}, b'<svg xmlns="http://www.w3.org/2000/svg"/>')
        else:
            self.forward()

    def do_POST(self) -> None:
        if self.path == "/told":
            self.server.told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.has_told.set()
            self.answer(200, {}, b"")
        else:
            self.forward()

    def forward(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=WAIT)
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            if self.path == "/":
                content = content.replace(b"</body>", f"<script>{self.server.script}</script></body>".encode())
            left_out = ("content-length", "date", "connection", "transfer-encoding")
            self.answer(answer.status, {k: v for k, v in answer.getheaders() if k.lower() not in left_out}, content)
        finally:
            connection.close()

    def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
