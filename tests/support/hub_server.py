"""A stand-in for the Hugging Face Hub on loopback: the few requests that its client makes to fetch and to publish.

    with serve_hub() as hub:
        hub.files["owner/name", "main", "model.safetensors"] = b"..."
        environment = {"HF_ENDPOINT": hub.endpoint}

Repositories hold files by revision. Commits put their files on `main` and on the commit's own name.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    endpoint: str = ""
    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    """Contents, by repository, revision and name."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    """Large files on their way, by their SHA-256."""
    repositories: set[str] = field(default_factory=set)
    token: str | None = None
    """What whoever publishes must send; None takes nothing."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._send_file(with_content=False)

    def do_GET(self) -> None:
        self._send_file(with_content=True)

    def do_PUT(self) -> None:
        self.hub.uploads[self.path.rpartition("/")[2]] = self._read()
        self._send(200, {})

    def do_POST(self) -> None:
        body = self._read()
        if self.hub.token is None or self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._send(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
            self.hub.repositories.add(name)
            self._send(200, {"url": f"{self.hub.endpoint}/{name}", "id": name, "name": name})
        elif self.path.endswith("/preupload/main"):
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for f in json.loads(body)["files"]
            ]
            self._send(200, {"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {
                    "oid": o["oid"],
                    "size": o["size"],
                    "actions": {"upload": {"href": f"{self.hub.endpoint}/upload/{o['oid']}", "header": {}}},
                }
                for o in json.loads(body)["objects"]
            ]
            self._send(200, {"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        elif self.path == "/api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
        else:
            self._send(404, {"error": f"not a request of this stand-in: {self.path}"})

    def _commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.hub.uploads[value["oid"]]
            else:
                continue
            for revision in ("main", COMMIT):
                self.hub.files[repository, revision, value["path"]] = content
        self._send(200, {"commitUrl": f"{self.hub.endpoint}/{repository}/commit/{COMMIT}", "commitOid": COMMIT})

    def _send_file(self, with_content: bool) -> None:
        match = re.fullmatch(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)", self.path)
        if match is None:
            self._send(404, {"error": "Not Found"})
            return
        repository, revision, name = match.groups()
        content = self.hub.files.get((repository, revision, name))
        held = [key for key in self.hub.files if key[0] == repository]
        if content is None:
            code = (
                "RepoNotFound"
                if not held
                else ("EntryNotFound" if any(key[1] == revision for key in held) else "RevisionNotFound")
            )
            self._send(404, {"error": code}, {"X-Error-Code": code}, with_content=with_content)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(
        self, status: int, value: object, headers: dict[str, str] | None = None, with_content: bool = True
    ) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve an empty Hub on a free port of loopback while the block runs."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()
