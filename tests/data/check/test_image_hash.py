"""Fingerprints, and the search among them, against comparing all with all."""

from __future__ import annotations

import io

import healthy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from dilated.data.check import image_hash
from dilated.data.check.image_hash import (
    ImageHash,
    _hamming_distance,
    _iter_candidate_pairs,
    find_identical,
    find_near_duplicates,
    hash_image,
)


def printed(word: int, digest: int, thumb: bytes = bytes(range(256)) * 4) -> ImageHash:
    return ImageHash(str(digest).encode(), word, thumb)


def test_nothing_is_alike_to_nothing() -> None:
    assert find_identical([]) == []
    assert find_near_duplicates([]).matches == []
    assert find_near_duplicates([printed(0, 0)]).matches == []


def test_images_of_one_color_are_never_alike() -> None:
    flat = [hash_image(np.full((9, 9, 3), gray, np.uint8)) for gray in (0, 0, 7)]
    assert find_identical(flat) == []
    assert find_near_duplicates(flat).matches == []


def test_images_with_hardly_any_contrast_are_compared_by_their_pixels_only() -> None:
    random = np.random.default_rng(0)
    dim = [np.full((64, 64, 3), 30, np.uint8) for _ in range(3)]
    dim[0][:2, :2] = dim[1][:2, :2] = 31
    dim[2][random.integers(60), 5] = 31
    prints = [hash_image(image) for image in dim]
    assert find_identical(prints) == [[0, 1]]
    assert find_near_duplicates(prints).matches == []


def test_size_belongs_to_the_pixels() -> None:
    pixels = np.arange(24, dtype=np.uint8)
    assert hash_image(pixels.reshape(2, 4, 3)).digest != hash_image(pixels.reshape(4, 2, 3)).digest


def changed(image: Image.Image, how: str) -> Image.Image:
    if how == "compressed":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=60)
        return Image.open(file)
    if how == "brighter":
        return ImageEnhance.Brightness(image).enhance(1.1)
    size = (image.width * 2, image.height * 2) if how == "enlarged" else (image.width // 2, image.height // 2)
    return image.resize(size, Image.Resampling.LANCZOS)


@pytest.mark.parametrize("how", ["compressed", "brighter", "enlarged", "reduced"])
def test_a_changed_copy_is_found_among_others(how: str) -> None:
    images = [healthy.street(seed)[0] for seed in range(12)]
    copy = np.asarray(changed(Image.fromarray(images[5]), how).convert("RGB"))
    pairs = find_near_duplicates([hash_image(image) for image in [*images, copy]]).matches
    assert [(first, second) for first, second, _, _ in pairs] == [(5, 12)]


def test_the_same_pixels_are_identical_and_not_also_near() -> None:
    prints = [hash_image(healthy.street(seed)[0]) for seed in (1, 2, 1)]
    assert find_identical(prints) == [[0, 2]]
    assert find_near_duplicates(prints).matches == []


def test_equal_hashes_of_other_thumbs_are_not_alike() -> None:
    random = np.random.default_rng(0)
    thumbs = [random.integers(0, 256, 1024, dtype=np.uint8).tobytes() for _ in range(2)]
    assert find_near_duplicates([printed(9, 0, thumbs[0]), printed(9, 1, thumbs[1])]).matches == []
    assert [
        pair[:3] for pair in find_near_duplicates([printed(9, 0, thumbs[0]), printed(8, 1, thumbs[0])]).matches
    ] == [(0, 1, 1)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=9))
def test_any_7_bits_may_differ_and_no_more(word: int, flips: set[int]) -> None:
    other = word
    for flip in flips:
        other ^= 1 << flip
    pairs = find_near_duplicates([printed(word, 0), printed(other, 1)]).matches
    assert [pair[:3] for pair in pairs] == ([(0, 1, len(flips))] if len(flips) <= 7 else [])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_the_search_finds_what_comparing_all_finds(seed: int, number: int) -> None:
    random = np.random.default_rng(seed)
    bits = random.random((number, 64)) < 0.12  # sparse, so that many are close
    words = np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)
    found = {
        (min(a, b), max(a, b))
        for first, second, _ in _iter_candidate_pairs(words)
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
        if _hamming_distance(words[[a]], words[[b]])[0] <= image_hash._MAX_HAMMING_DISTANCE
    }
    apart = (bits[:, None] != bits[None]).sum(2)
    assert found == {
        (a, b) for a in range(number) for b in range(a + 1, number) if apart[a, b] <= image_hash._MAX_HAMMING_DISTANCE
    }


def test_a_crowd_is_compared_in_part_and_says_so() -> None:
    prints = [printed(7, place) for place in range(image_hash._MAX_BUCKET_SIZE + 1)]
    found = find_near_duplicates(prints)
    assert not found.complete
    assert {(place, place + 1) for place in range(image_hash._MAX_BUCKET_SIZE)} <= {pair[:2] for pair in found.matches}


def test_a_search_that_finds_too_much_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_hash, "_MAX_CLOSE_PAIRS", 3)
    found = find_near_duplicates([printed(place, place) for place in range(8)])
    assert not found.complete
    assert found.matches
