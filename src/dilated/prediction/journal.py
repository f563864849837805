"""What the outputs in a folder were made from and by, so that `--skip-existing` leaves out only what is up to date.

    journal = Journal(Path("out"), predictor)
    remaining = [source for source in sources if not journal.is_current(source)]
    journal.begin(remaining)
    journal.record(source)                               # its outputs are written; by any thread
    journal.close()

`out/.predictions.json` has an entry for each image. During a run, `out/.predictions.jsonl` beside it names the images
that are begun, and has a line for each that is done: after a kill, what was begun and is not done is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from dilated.data.manifest import stamp_file
from dilated.errors import InputError
from dilated.files import atomic_write, hash_file, read_json, sync_folder
from dilated.prediction.predictor import Predictor
from dilated.prediction.sources import InputImage, Source, SourceKind

JOURNAL_FILE = ".predictions.json"
"""The journal's name in the folder of outputs."""


class Journal:
    """The journal of a folder of outputs: those of images, rasters and whole videos, and not of a camera.

    Args:
        out: the folder; whoever writes to it holds its lock.
        predictor: what the outputs are made by: its network and settings.
        frames: how many frames of each video are labelled; None for all.
        slide_level: of whole-slide images.
        suffix: of its name, for those who label a part of the images each into one folder.
    """

    def __init__(
        self, out: Path, predictor: Predictor, frames: int | None = None, slide_level: int = 0, suffix: str = ""
    ) -> None:
        self.path = out / JOURNAL_FILE.replace(".json", f"{suffix}.json")
        self.log = self.path.with_name(f"{self.path.name}l")
        settings = [predictor.segmenter.digest(), predictor.settings, frames, slide_level]
        made_by = json.dumps(settings, sort_keys=True)
        self.made_by = hashlib.sha256(made_by.encode()).hexdigest()
        self.entries: dict[str, dict[str, Any]] = {}
        self.begun: set[str] = set()
        self.sizes: dict[str, tuple[int, ...]] = {}
        self.file: BinaryIO | None = None
        self.lock = Lock()
        with suppress(InputError, AttributeError):  # a damaged journal is none
            self.entries = {key: entry for key, entry in read_json(self.path).items() if isinstance(entry, dict)}
        self._read_log()

    def is_current(self, source: Source) -> bool:
        """Return whether existing outputs of an image are of its content, this network and these settings.

        What nothing is known about, as of outputs that were put there by hand, is taken as current.
        """
        key = _key(source)
        entry = self.entries.get(key)
        if entry is None:
            return key not in self.begun
        if entry.get("made_by") != self.made_by:
            return False
        try:
            stamp = stamp_file(source.path)
            return bool(stamp and stamp == entry.get("stamp")) or hash_file(source.path) == entry.get("content")
        except InputError:
            return False  # to be read again, which says what is wrong

    def begin(self, sources: Sequence[Source]) -> None:
        """Note, on the disk, which images' outputs are about to be replaced.

        Raises:
            OSError: it cannot be written.
        """
        files = [source for source in sources if source.kind != SourceKind.CAMERA and not source.problem]
        if not files:
            return
        keys = [_key(source) for source in files]
        self.sizes |= {key: _size_and_time(source.path) for key, source in zip(keys, files, strict=True)}
        for key in keys:
            self.entries.pop(key, None)
        self.begun.update(keys)
        if self.file is None:
            self.file = self.log.open("ab")
            self.file.write(b"\n")  # after a line that was cut off
        self._append({"begun": keys})
        os.fsync(self.file.fileno())
        sync_folder(self.log.absolute().parent)

    def record(self, source: Source) -> None:
        """Note that the outputs of an image or of a whole video are written.

        Raises:
            OSError: it cannot be written.
        """
        key = _key(source)
        if key not in self.sizes or _size_and_time(source.path) != self.sizes[key]:
            return  # the image was changed while the run went on: its labels may be of either content
        try:
            entry = {"content": hash_file(source.path), "stamp": stamp_file(source.path), "made_by": self.made_by}
        except InputError:
            return
        with self.lock:
            self._append({"image": key, **entry})
            self.entries[key] = entry

    def close(self) -> None:
        """Write the journal, and remove the log of this run.

        Raises:
            OSError: it cannot be written.
        """
        if self.file is not None:
            self.file.close()
        if self.log.exists():
            entries: dict[str, dict[str, Any]] = {
                key: {} for key in self.begun
            } | self.entries  # what is begun and not done is of nothing known
            if any(entries.values()) or any(self.path.parent.glob("[!.]*")):  # else there are no outputs
                atomic_write(self.path, json.dumps(dict(sorted(entries.items())), indent=0) + "\n")
            self.log.unlink()

    def _append(self, line: dict[str, Any]) -> None:
        assert self.file is not None
        self.file.write(json.dumps(line).encode() + b"\n")
        self.file.flush()

    def _read_log(self) -> None:
        try:
            lines = self.log.read_bytes().split(b"\n")
        except OSError:
            return
        for line in lines:
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # cut off, as by a loss of power
                entry = json.loads(line)
                if "begun" in entry:
                    self.begun.update(entry["begun"])
                    for key in entry["begun"]:
                        self.entries.pop(key, None)
                else:
                    self.entries[str(entry.pop("image"))] = entry


def _key(source: Source) -> str:
    return InputImage(source).key


def _size_and_time(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino  # programs set mtime, and not ctime
