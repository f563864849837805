"""What is said where a network and its data have other classes."""

from __future__ import annotations

import pytest

from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.evaluation.evaluate import require_same_classes


def test_an_error_names_some_of_many_classes() -> None:
    data = Classes(("sky",), ((0, 0, 0),), source="classes.toml")
    with pytest.raises(InputError) as caught:
        require_same_classes([f"class {i:03}" for i in range(300)], data)
    assert caught.value.message.startswith(
        "classes.toml: the classes differ from the network's: only the data has ['sky']"
    )
    assert caught.value.message.endswith("'class 009'] and 290 more")
