from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from dilated.data.labels import read_stored_values
from dilated.errors import InputError


def test_older_releases_of_pillow_that_do_not_name_a_files_blocks_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.full((2, 3), 1, np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "stretched.pgm").write_bytes(b"P5 2 1 3\n\x01\x02")
    opened = Image.open

    def open_without_names(*arguments: Any, **options: Any) -> Image.Image:
        image = opened(*arguments, **options)
        if isinstance(image, ImageFile.ImageFile):
            image.tile = [tuple(block) for block in image.tile]  # type: ignore[misc]  # as before pillow 11.1
        return image

    monkeypatch.setattr(Image, "open", open_without_names)
    assert read_stored_values(tmp_path / "good.png").tolist() == [[1, 1, 1], [1, 1, 1]]
    with pytest.raises(InputError, match="stretched"):
        read_stored_values(tmp_path / "stretched.pgm")
