"""Networks by URL and hash, mirrors, and `dilated networks verify`."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dilated import InputError
from dilated.cli.main import main
from dilated.files import hash_file
from dilated.weights import remote
from dilated.weights.catalog import BUNDLED_FILES, find_network, read_checksums
from dilated.weights.remote import fetch_network

CELLS = Path(str(BUNDLED_FILES / "cells.safetensors"))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}", folder
        served.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DILATED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(remote.MIRROR, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "networks"


def test_a_url_with_its_hash_is_fetched_once(server: tuple[str, Path], cache: Path) -> None:
    url, folder = server
    (folder / "n.safetensors").write_bytes(CELLS.read_bytes())
    address = f"{url}/n.safetensors#sha256={hash_file(CELLS).upper()}"
    path = find_network(address)
    assert path.read_bytes() == CELLS.read_bytes()
    (folder / "n.safetensors").unlink()
    assert find_network(address) == path
    assert [p.name for p in cache.iterdir()] == [path.name]


def test_another_file_is_refused_and_not_kept(server: tuple[str, Path], cache: Path) -> None:
    url, folder = server
    (folder / "n.safetensors").write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(InputError, match=f"SHA-256 is {found}, and {'0' * 64} was expected"):
        fetch_network(f"{url}/n.safetensors#sha256={'0' * 64}")
    assert list(cache.iterdir()) == []


def test_a_file_damaged_in_the_cache_is_refused(server: tuple[str, Path]) -> None:
    url, folder = server
    (folder / "n.safetensors").write_bytes(CELLS.read_bytes())
    address = f"{url}/n.safetensors#sha256={hash_file(CELLS)}"
    fetch_network(address).write_bytes(b"cut")
    with pytest.raises(InputError, match="was expected"):
        fetch_network(address)


def test_nothing_there_is_one_error(server: tuple[str, Path]) -> None:
    with pytest.raises(InputError, match=r"could not be fetched .*404"):
        fetch_network(f"{server[0]}/none.safetensors#sha256={'0' * 64}")
    with pytest.raises(InputError, match="could not be fetched"):
        fetch_network(f"http://127.0.0.1:9/none.safetensors#sha256={'0' * 64}")


def test_a_url_without_a_hash_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["info", "https://example.org/n.safetensors"])
    assert "give URL#sha256=HASH" in capsys.readouterr().err


def test_a_mirror_alone_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror, sha256 = tmp_path / "mirror", hash_file(CELLS)
    monkeypatch.setenv(remote.MIRROR, str(mirror))
    for name in ("owner/cells/model.safetensors", "owner/cells@v1/model.safetensors", f"{sha256}.safetensors"):
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).write_bytes(CELLS.read_bytes())
    assert find_network("hf://owner/cells") == mirror / "owner/cells/model.safetensors"
    assert find_network("hf://owner/cells@v1") == mirror / "owner/cells@v1/model.safetensors"
    assert find_network(f"https://example.org/x#sha256={sha256}") == mirror / f"{sha256}.safetensors"
    with pytest.raises(InputError, match="nothing is fetched while DILATED_MIRROR"):
        find_network("hf://owner/street")
    (mirror / f"{sha256}.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="was expected"):
        find_network(f"https://example.org/x#sha256={sha256}")


def test_a_mirror_is_not_left_by_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(CELLS.read_bytes())
    monkeypatch.setenv(remote.MIRROR, str(tmp_path / "mirror" / "deep"))
    for address in ("hf://../..", "hf://owner/..", "hf://owner/name@../.."):
        with pytest.raises(InputError):
            fetch_network(address)


def test_the_files_of_the_package_are_the_released_ones() -> None:
    files = sorted(Path(str(BUNDLED_FILES)).glob("*.safetensors"))
    assert {path.name: hash_file(path) for path in files} == read_checksums(), "sha256sum *.safetensors > SHA256SUMS"


def test_verify_reads_networks_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(CELLS.read_bytes()[:-100])
    with pytest.raises(SystemExit):
        main(["networks", "verify", "cells", str(CELLS), str(damaged)])
    printed = capsys.readouterr()
    assert f"cells: loads, as released, SHA-256 {hash_file(CELLS)}" in printed.out
    assert f"{CELLS}: loads, SHA-256" in printed.out.replace("\n", "")
    assert "not a complete safetensors file" in printed.out.replace("\n", " ")
    assert f"not as they should be: {damaged}" in printed.err
    with pytest.raises(SystemExit):
        main(["networks", "check"])
    assert "the only word here is `verify`" in capsys.readouterr().err
