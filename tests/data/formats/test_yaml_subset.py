"""The part of YAML that is read, against PyYAML where it is there; all else is an error with its line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.data.formats.yaml_subset import parse_yaml
from dilated.errors import InputError

words = st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: [cell, 'it''s', \"a, b\"]", ["cell", "it's", "a, b"]),
        ("names:\n- cell\n- 'a: b'  # said\n", ["cell", "a: b"]),
        ("names:\n  - cell\n  - edge of cell\n", ["cell", "edge of cell"]),
        ('names:\n  0: cell\n\n  # more\n  1: "edge"\n', {"0": "cell", "1": "edge"}),
        ("names: {0: cell, 1: edge}", {"0": "cell", "1": "edge"}),
        ("names: [cell,\n  edge,\n  rim]\n", ["cell", "edge", "rim"]),
        ("names: [1, 2]", ["1", "2"]),
        ("names: cell # one", "cell"),
        ("names: 'a # b'", "a # b"),
        ("names:", ""),
        ("names: []", []),
        ("\ufeff---\nnames: a\r\n", "a"),
        ("names: |\n  import this\n  x: [\n", "import this\nx: ["),
    ],
)
def test_what_is_read(text: str, expected: object) -> None:
    assert parse_yaml(text)["names"] == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("names: *other", 1),
        ("names: &name a", 1),
        ("names: !tag a", 1),
        ("\nnames:\n  a:\n    b: c\n", 3),
        ("names: [a, [b]]", 1),
        ("names: [a", 1),
        ("names: {a: {b: c}}", 1),
        ("names:\n  - a\n  b: c\n", 3),
        ("names:\n  0: a\n   1: b\n", 3),
        ("names: a\n  b\n", 2),
        ("just words", 1),
        ("  names: a", 1),
        ("names: 'a", 1),
        ("names: [yes, cell]", 1),
        ("names: [null]", 1),
        ("a: b\na: c\n", 2),
        ("names:\n  0: a\n  0: b\n", 3),
    ],
)
def test_anything_else_is_an_error_with_its_line(text: str, line: int) -> None:
    with pytest.raises(InputError, match=f"my.yaml, line {line}: "):
        parse_yaml(text, "my.yaml")


@given(names=words, flow=st.sampled_from([True, False, None]))
@settings(max_examples=60, deadline=None)
def test_what_pyyaml_writes_is_read_as_it_is_or_refused(names: list[str], flow: bool | None) -> None:
    yaml = pytest.importorskip("yaml")
    text = yaml.safe_dump({"names": names, "nc": len(names)}, default_flow_style=flow)
    try:
        found = parse_yaml(text)
    except InputError:
        return
    assert found["names"] == names


@pytest.mark.parametrize("text", ["names:\n  0: ce\0ll\n", "pa\0th: here\n", 'path: "he\0re"\n'])
def test_a_nul_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="not of the part of YAML"):
        parse_yaml(text)
