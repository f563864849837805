from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.data.order import batches

sizes = st.integers(1, 12)


def test_no_step_is_no_batch() -> None:
    assert list(batches(samples=3, batch=2, seed=0, start=4, stop=4)) == []


def test_a_batch_may_be_larger_than_the_data() -> None:
    (keys,) = batches(samples=2, batch=5, seed=0, start=0, stop=1)
    assert sorted(Counter(index for index, _ in keys).values()) == [2, 3]


@settings(deadline=None, max_examples=50)
@given(samples=sizes, batch=sizes, seed=st.integers(0, 99), start=st.integers(0, 20), more=st.integers(0, 20))
def test_going_on_from_a_step_gives_what_the_whole_run_had(
    samples: int, batch: int, seed: int, start: int, more: int
) -> None:
    whole = list(batches(samples, batch, seed, 0, start + more))
    assert list(batches(samples, batch, seed, start, start + more)) == whole[start:]


@settings(deadline=None, max_examples=50)
@given(samples=sizes, batch=sizes, seed=st.integers(0, 99), steps=st.integers(1, 30))
def test_every_sample_is_drawn_equally_often_and_every_draw_once(
    samples: int, batch: int, seed: int, steps: int
) -> None:
    keys = [key for each in batches(samples, batch, seed, 0, steps) for key in each]
    assert [draw for _, draw in keys] == list(range(steps * batch))
    counts = Counter(index for index, _ in keys)
    often = [counts[index] for index in range(samples)]
    assert set(counts) <= set(range(samples))
    assert max(often) - min(often) <= 1
    for epoch in range(len(keys) // samples):
        assert sorted(i for i, _ in keys[epoch * samples : (epoch + 1) * samples]) == list(range(samples))


def test_orders_differ_between_epochs_and_seeds() -> None:
    first, second = ([i for i, _ in keys] for keys in batches(samples=20, batch=20, seed=0, start=0, stop=2))
    (other,) = ([i for i, _ in keys] for keys in batches(samples=20, batch=20, seed=1, start=0, stop=1))
    assert first != second
    assert first != other
