"""Files beside the images of a data set that hold rasters too, and are not read.

describe_left_out(samples)       # ["2 files beside the images are not read, such as images/train/extra.npz: ..."]
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dilated.data.sample import Sample
from dilated.files import plural

_RASTER_SUFFIXES = (
    *(".npy", ".npz", ".mat", ".h5", ".hdf5", ".nc", ".nii", ".mha", ".nrrd", ".exr", ".hdr", ".img", ".svg", ".pdf"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raw", ".psd", ".czi", ".lif", ".nd2", ".jxl"),
)


def describe_left_out(samples: Iterable[Sample], root: Path) -> list[str]:
    """A note of arrays and images of other forms in the folders of the images; nothing where there are none.

    Args:
        samples: of all splits.
        root: the folder of the data set.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("a.png", "b.npz", "notes.txt"):
        ...     (root / name).touch()
        >>> describe_left_out([Sample(root / "a.png", root / "a_mask.png")], root)
        ['1 file beside the images is not read: b.npz. Save arrays as NPY, each alone, and others as TIFF or PNG.']
    """
    paths = {path for sample in samples for path in (sample.image, sample.label)}
    folders = sorted({path.parent for path in paths if path.parent.is_dir()})
    entries = (os.path.join(folder, name) for folder in folders for name in sorted(os.listdir(folder)))
    rasters = (Path(entry) for entry in entries if entry.lower().endswith(_RASTER_SUFFIXES))
    unread = [path for path in rasters if path not in paths and not path.name.startswith(".")]
    if not unread:
        return []
    verb = "is not read:" if len(unread) == 1 else "are not read, such as"
    first = unread[0].relative_to(root) if unread[0].is_relative_to(root) else unread[0]
    return [
        f"{plural(len(unread), 'file')} beside the images {verb} {first}. Save arrays as NPY, each alone, and others "
        "as TIFF or PNG."
    ]
