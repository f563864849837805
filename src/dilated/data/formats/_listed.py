"""List files whose lines name an image, or an image and its label, as different tools and systems write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dilated.data.auto_split import find_stem
from dilated.data.formats._match import index_by_stem
from dilated.data.formats._pairs import FolderPair, list_labels
from dilated.data.formats._stems import find_stem_rule
from dilated.data.images import is_file, list_image_files
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import read_lines


def match_listed(root: Path, listing: Path, pairs: list[FolderPair]) -> list[Sample]:
    """The samples that a list file names, in its order.

    A line is a stem, a file name, or an image and a label as paths, with a space, tab, comma or semicolon between them.
    Paths may be those of Windows, or of another machine that has the data elsewhere.

    Args:
        pairs: the folders that stems and file names are looked for in.

    Raises:
        InputError: a line that names nothing, or two things.
    """
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for pair in pairs:
        existing = list_labels(pair)
        beside = set(existing) if pair.images == pair.labels else set()
        image_paths = [path for path in list_image_files(pair.images) if path not in beside]
        rule = find_stem_rule(image_paths, existing)
        group = "".join(f"{part}__" for part in pair.group)
        images |= {group + stem: path for stem, path in index_by_stem(image_paths).items()}
        labels |= {group + rule.image_stem(stem): path for stem, path in index_by_stem(existing).items()}
    samples = []
    for number, line in read_lines(listing):
        candidates = list(_split_line(root, line))
        stem = find_stem(line, images)
        if len(candidates) > 1:
            raise InputError(
                f"{listing}, line {number}: found {line!r}, which can be read as several pairs of files",
                hint="put a tab between the image and the label",
            )
        if candidates:
            image, label = candidates[0]
            samples.append(Sample(image, label))
        elif stem in images and stem in labels and not _names_two_files(line, stem):
            name = stem if stem != images[stem].stem else ""
            samples.append(Sample(images[stem], labels[stem], stem=name))
        else:
            raise _make_line_error(root, f"{listing}, line {number}: found {line!r}", line, stem in images, pairs)
    return samples


def _make_line_error(root: Path, where: str, line: str, has_image: bool, pairs: list[FolderPair]) -> InputError:
    fields = re.split(r"[\s,;]+", line)
    if len(fields) == 2 and len(Path(fields[0].replace("\\", "/")).parts) > 1:
        missing = next((field for field in fields if locate_listed(root, field) is None), fields[0])
        path = root / missing.replace("\\", "/")
        return InputError(f"{where}: {path} does not exist")
    folders = [pair.labels if has_image else pair.images for pair in pairs]
    return InputError(
        f"{where}, which is not in {folders[0] if folders else root}",
        hint="give a stem or a file name that exists, or an image and a label as paths",
    )


def _names_two_files(line: str, stem: str) -> bool:
    """Whether a line that ends in a file of this stem names another file too."""
    before = line[: line.rfind(stem)]
    return re.search(r"\.\w{2,4}[\s,;]", before) is not None


def _split_line(root: Path, line: str) -> Iterator[tuple[Path, Path]]:
    """The ways to read a line as an image and a label that both exist."""
    for match in re.finditer(r"\s*[\s,;]\s*", line):
        image, label = locate_listed(root, line[: match.start()]), locate_listed(root, line[match.end() :])
        if image and label:
            yield image, label


def locate_listed(root: Path, text: str) -> Path | None:
    """The file of a path in a list: from the data folder, or the longest end of it that exists there."""
    path = text.strip().strip("\"'").replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        return None
    for start in range(max(len(parts) - 1, 1)):
        candidate = root.joinpath(*parts[start:])
        if is_file(candidate):
            return candidate
    return None
