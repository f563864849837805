from contextlib import closing
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.prediction.overviews import LabelTiffWriter, _downscale_by_mode


def test_a_large_raster_is_a_big_tiff(tmp_path: Path) -> None:
    for side, big in [(20_000, False), (60_000, True)]:
        with closing(LabelTiffWriter(tmp_path / "a.tif", side, side, np.dtype(np.uint8))) as writer:
            assert writer.bigtiff is big


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**20))
def test_an_overview_has_the_most_frequent_of_each_four(height: int, width: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (height, width))
    small = _downscale_by_mode(labels)
    assert small.shape == (-(-height // 2), -(-width // 2))
    for (y, x), found in np.ndenumerate(small):
        four = labels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist()
        assert found == max(four, key=lambda value: (four.count(value), -four.index(value)))
