"""What a request and a server's options are read as, without a server."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dilated import InputError, ServeOptions
from dilated.deploy.serving.options import MOST_TOP, OUTPUTS, parse_request
from dilated.deploy.serving.uploads import Upload, safe_name, with_unique_stems

NETWORKS = ["street", "cells"]
NAMES = st.sampled_from(["output", "network", "deadline", "top"]) | st.text(max_size=8)
VALUES = st.sampled_from([*OUTPUTS, *NETWORKS, "labels,json", "1", "-1", "nan", "inf", "1e400", "0", ""]) | st.text(
    max_size=9
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # a busy machine is no fault
@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), st.none() | VALUES)
def test_any_query_is_a_request_within_the_limits_or_an_error_with_a_hint(
    query: list[tuple[str, str]], header: str | None
) -> None:
    headers = {} if header is None else {"x-deadline": header}
    hint = ""
    try:
        request = parse_request(query, headers, NETWORKS, deadline=60)
    except InputError as error:
        hint = error.hint
    if hint:
        return
    assert request.network in NETWORKS
    assert request.outputs
    assert len(set(request.outputs)) == len(request.outputs)
    assert set(request.outputs) <= set(OUTPUTS)
    assert 0 < request.deadline <= 60
    assert 0 <= request.top <= MOST_TOP


@pytest.mark.parametrize("text", ["\u0663", "1_0", "\uff11.5", "1e400", "nan", "-1"])
def test_numbers_are_plain_digits(text: str) -> None:
    with pytest.raises(InputError, match=f"deadline: {text!r} is not a number in 0..60"):
        parse_request([("deadline", text)], {}, NETWORKS, deadline=60)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # a busy machine is no fault
@given(st.lists(st.text(max_size=120) | st.sampled_from(["a.png", "A.jpg", "../a.png", "a-2.png", ".."]), max_size=6))
def test_any_names_become_names_of_different_files_of_one_folder(names: list[str]) -> None:
    uploads = with_unique_stems(Upload(safe_name(name), b"") for name in names)
    assert len({upload.stem.lower() for upload in uploads}) == len(names)
    for upload in uploads:
        assert Path(upload.name).name == upload.name
        assert upload.name.isprintable()
        assert upload.stem.strip(". ")
        assert len(upload.name) <= 90


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"port": 70000}, "port: 70000"),
        ({"clients": 0}, "clients: 0"),
        ({"deadline": math.nan}, "deadline: nan"),
        ({"body_timeout": -1}, "body_timeout: -1"),
        ({"max_bytes": "many"}, "max_bytes: 'many' is not a size"),
        ({"max_bytes": "0"}, "max_bytes: 0 holds no image"),
        ({"max_pixels": 10**9}, "max_pixels: 1000000000"),
    ],
)
def test_options_out_of_range_are_named(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        ServeOptions(**wrong)  # type: ignore[arg-type]
    assert caught.value.hint


def test_a_token_comes_from_a_file_or_the_environment_and_is_never_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DILATED_TOKEN", raising=False)
    assert ServeOptions().token == ""
    monkeypatch.setenv("DILATED_TOKEN", "of-the-environment")
    assert ServeOptions().token == "of-the-environment"
    file = tmp_path / "token"
    file.write_text("one-of-a-file-itself\n")
    assert ServeOptions(token_file=file).token == "one-of-a-file-itself"
    for text in ("", "short", "first-line-of-two-lines\nsecond", "sixteen-letters-\x07bell"):
        file.write_text(text)
        with pytest.raises(InputError, match="token"):
            _ = ServeOptions(token_file=file).token
