"""Networks by address: of the Hugging Face Hub, of any server with the file's hash, or of a folder that mirrors both.

    fetch_network("hf://owner/name@v1")
    fetch_network("https://example.org/street.safetensors#sha256=<64 hex digits>")

The files are kept: those of the Hub in its own cache, others in `networks/` of $DILATED_CACHE. Where $DILATED_MIRROR
names a folder, it alone is read and nothing is fetched: `owner/name/model.safetensors` there (`owner/name@v1/` where
the address names a revision), and `<hash>.safetensors`. A network file is data: reading it runs nothing.
"""

from __future__ import annotations

import http.client
import os
import re
import urllib.request
from pathlib import Path
from typing import Protocol

from dilated.errors import InputError
from dilated.files import atomic_path, cache_folder, hash_file

WEIGHTS_FILE = "model.safetensors"
"""The name of a network file in a repository of the Hub, and in the folder that `save_pretrained` writes."""
MIRROR = "DILATED_MIRROR"
_REMOTE = re.compile(r"(?:hf|https?)://", re.IGNORECASE)
_HUB = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@\s]+))?", re.ASCII)
_HASHED = re.compile(r"(?P<url>https?://[^#\s]+)#sha256=(?P<sha256>[0-9a-fA-F]{64})")
_SECONDS_WITHOUT_A_BYTE = 60
_CHUNK = 1 << 20  # bytes


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def is_remote(name: str) -> bool:
    """Return whether a name is an address, rather than a file, a run or a bundled name.

    Example:
        >>> is_remote("hf://owner/name"), is_remote("runs/street")
        (True, False)
    """
    return _REMOTE.match(name) is not None


def fetch_network(address: str) -> Path:
    """The local file of a network's address; it is fetched where it is not there yet.

    Args:
        address: `hf://owner/name`, `hf://owner/name@revision`, or a URL that ends in `#sha256=` and the file's hash.

    Raises:
        InputError: an address of another form, nothing there, no network, or a file of another hash.
    """
    if hub := _HUB.fullmatch(address):
        return _fetch_from_hub(address, hub["repository"], hub["revision"])
    if hashed := _HASHED.fullmatch(address):
        return _fetch_from_url(hashed["url"], hashed["sha256"].lower())
    if address.lower().startswith("hf:"):
        raise InputError(
            f"{address}: not an address of the Hub", hint="give hf://OWNER/NAME or hf://OWNER/NAME@REVISION"
        )
    raise InputError(
        f"{address}: a URL of a network states the hash of its file",
        hint="give URL#sha256=HASH, or download the file and give its path",
    )


def _mirrored(address: str, name: str) -> Path | None:
    """The file of that name in the mirror; None where there is no mirror."""
    mirror = os.environ.get(MIRROR)
    if not mirror:
        return None
    path = Path(mirror) / name
    if not path.is_file():
        raise InputError(
            f"{address}: {path}: no such file, and nothing is fetched while {MIRROR} names a folder",
            hint=f"copy the network file there, or unset {MIRROR}",
        )
    return path


def _fetch_from_hub(address: str, repository: str, revision: str | None) -> Path:
    folder = repository if revision is None else f"{repository}@{revision}"
    if mirrored := _mirrored(address, f"{folder}/{WEIGHTS_FILE}"):
        return mirrored
    from huggingface_hub import errors, hf_hub_download  # here, as it takes a second to import

    try:
        return Path(hf_hub_download(repository, WEIGHTS_FILE, revision=revision))
    except errors.GatedRepoError as error:
        problem, hint = "its owner grants access", "ask on its page, then log in by `hf auth login`"
        cause: Exception = error
    except errors.RepositoryNotFoundError as error:
        problem, hint = (
            "no such repository, or a private one",
            "check the name; log in by `hf auth login` for a private one",
        )
        cause = error
    except errors.RevisionNotFoundError as error:
        problem, hint, cause = f"no revision {revision!r}", "give a branch, a tag or a commit of the repository", error
    except errors.LocalEntryNotFoundError as error:
        problem, cause = "not in the cache, and the Hub cannot be reached", error
        hint = f"try again with a network, or copy the file and give its path (or a folder by {MIRROR})"
    except errors.EntryNotFoundError as error:
        problem, cause = f"the repository has no {WEIGHTS_FILE}", error
        hint = "give a repository that `dilated.push_to_hub` wrote"
    except Exception as error:  # the Hub's client and its transport raise errors of many libraries
        problem, cause = f"the Hub could not supply it ({type(error).__name__}: {str(error)[:200]})", error
        hint = f"try again, or copy the file and give its path (or a folder by {MIRROR})"
    raise InputError(f"{address}: {problem}", hint=hint) from cause


def _fetch_from_url(url: str, sha256: str) -> Path:
    if mirrored := _mirrored(url, f"{sha256}.safetensors"):
        return _require_hash(mirrored, url, sha256)
    path = cache_folder() / "networks" / f"{sha256}.safetensors"
    if path.is_file():
        return _require_hash(path, url, sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=_SECONDS_WITHOUT_A_BYTE) as response, atomic_path(path) as temporary:
            _save(response, temporary)
            _require_hash(temporary, url, sha256)
    except InputError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(
            f"{url}: could not be fetched ({str(error)[:200] or type(error).__name__})",
            hint="check the address, or download the file and give its path",
        ) from error
    return path


def _save(response: _Readable, path: Path) -> None:
    with path.open("wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)


def _require_hash(path: Path, url: str, sha256: str) -> Path:
    actual = hash_file(path)
    if actual != sha256:
        raise InputError(
            f"{url}: the file's SHA-256 is {actual}, and {sha256} was expected",
            hint="it was changed or cut off: fetch it anew, or ask its publisher for the hash",
        )
    return path
