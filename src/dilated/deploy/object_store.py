"""Images in object stores, by their addresses: s3://BUCKET/FOLDER, gs://..., az://..., and all that fsspec knows.

images = list_images("s3://photos/june")
fetch(images[0].url, Path("photo.jpg"))
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dilated.data.images import IMAGE_SUFFIXES
from dilated.errors import InputError
from dilated.models.runtimes import missing_extra


@dataclass(frozen=True)
class RemoteImage:
    """An image in an object store."""

    url: str
    name: Path
    """What its outputs are named after: its path below the folder, without suffix."""


def parse_url(text: Path | str) -> str | None:
    """Return an address, also of a `Path` that was made from it; None for a file's path.

    Example:
        >>> parse_url(Path("s3://photos/june")), parse_url("photos/june"), parse_url("camera:0"), parse_url("C:/a")
        ('s3://photos/june', None, None, None)
    """
    match = re.fullmatch(r"([a-z][a-z0-9+]+):/+(.+)", str(text).replace("\\", "/"))
    return None if match is None else f"{match[1]}://{match[2]}"


def list_images(url: str) -> list[RemoteImage]:
    """List the images below a folder of an object store, or the one that an address names, in the order of their names.

    Raises:
        InputError: a store that cannot be reached, or no image in it.
    """
    system, root = _open(url)
    try:
        files = sorted(map(str, system.find(root)))
    except Exception as error:  # each store has errors of its own
        raise _failed(url, error) from error
    base = PurePosixPath(root)
    images = []
    for file in files:
        path = PurePosixPath(file)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            below = path.relative_to(base) if path != base else PurePosixPath(path.name)
            images.append(RemoteImage(str(system.unstrip_protocol(file)), Path(below.with_suffix(""))))
    if not images:
        raise InputError(f"{url}: holds no image among {len(files)} objects", hint="give the folder of the images")
    return images


def fetch(url: str, path: Path) -> None:
    """Copy an object to a file.

    Raises:
        InputError: it cannot be read.
    """
    system, name = _open(url)
    try:
        system.get_file(name, str(path))
    except Exception as error:
        raise _failed(url, error) from error


def _open(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    try:
        import fsspec
    except ImportError as error:
        raise missing_extra(url, "fsspec", "ray") from error
    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # "Install s3fs to access S3", "Protocol not known: x"
        raise InputError(f"{url}: {error}", hint="install the package of this store, such as s3fs or gcsfs") from error
    except Exception as error:  # some stores look for credentials here
        raise _failed(url, error) from error
    return system, str(root)


def _failed(url: str, error: Exception) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return InputError(f"{url}: cannot be read ({reason})", hint="check the address and this machine's credentials")
