import dataclasses
import tomllib
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.errors import InputError
from dilated.tables import build, to_toml


@dataclass(frozen=True)
class Stage:
    steps: int
    rate: float = 0.1


@dataclass(frozen=True)
class Plan:
    name: str = "plan"
    seed: int = 0
    flip: bool = True
    mode: Literal["a", "b"] = "a"
    crop: tuple[int, int] = (2, 3)
    dilations: tuple[int, ...] = (1, 2)
    note: str | None = None
    first: Stage = field(default_factory=lambda: Stage(1))
    stage: tuple[Stage, ...] = ()


text = st.text(st.characters(codec="utf-8"), max_size=10)
floats = st.floats(allow_nan=False)
stages = st.builds(Stage, st.integers(), floats)
plans = st.builds(
    Plan,
    name=text,
    seed=st.integers(),
    flip=st.booleans(),
    mode=st.sampled_from(["a", "b"]),
    crop=st.tuples(st.integers(), st.integers()),
    dilations=st.lists(st.integers(), max_size=3).map(tuple),
    note=st.none() | text,
    first=stages,
    stage=st.lists(stages, max_size=3).map(tuple),
)


def test_an_empty_table_is_the_defaults() -> None:
    assert build(Plan, {}, "here") == Plan()


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ([], r"here: found \[\]; expected a table"),
        ({"sed": 1}, r"here: unknown key 'sed'; did you mean 'seed'\?"),
        ({"zzzzzz": 1}, "here: unknown key 'zzzzzz'; Known: name, seed"),
        ({"seed": "1"}, "here: seed: found '1'; expected int"),
        ({"seed": True}, "here: seed: found True; expected int"),
        ({"seed": 1.0}, "here: seed: found 1.0; expected int"),
        ({"flip": 1}, "here: flip: found 1; expected bool"),
        ({"name": 3}, "here: name: found 3; expected str"),
        ({"note": 3}, "here: note: found 3; expected str"),
        ({"mode": "c"}, "here: mode: found 'c'; expected one of 'a', 'b'"),
        ({"mode": ["a"]}, r"here: mode: found \['a'\]"),
        ({"crop": 3}, "here: crop: found 3; expected a list"),
        ({"crop": "ab"}, "here: crop: found 'ab'; expected a list"),
        ({"crop": [1]}, "here: crop: found 1 values; expected 2"),
        ({"crop": [1, "2"]}, "here: crop: found '2'; expected int"),
        ({"dilations": [1, 2.5]}, "here: dilations.1: found 2.5; expected int"),
        ({"first": {}}, "here: first: the key 'steps' is missing"),
        ({"first": 3}, "here: first: found 3; expected a table with steps, rate"),
        ({"first": {"steps": 1, "rate": True}}, "here: first: rate: found True; expected float"),
        ({"stage": [{"steps": 1}, {"step": 1}]}, "here: stage.1: unknown key 'step'; did you mean 'steps'"),
    ],
)
def test_a_bad_table_is_an_error_that_says_where(table: object, named: str) -> None:
    with pytest.raises(InputError, match=named):
        build(Plan, table, "here")


def test_whole_numbers_will_do_for_floats() -> None:
    rate = build(Stage, {"steps": 1, "rate": 2}, "here").rate
    assert (rate, type(rate)) == (2.0, float)


@settings(deadline=None, max_examples=50)
@given(plans)
def test_a_dataclass_comes_back_from_its_toml(plan: Plan) -> None:
    assert build(Plan, tomllib.loads(to_toml(dataclasses.asdict(plan))), "here") == plan


@pytest.mark.parametrize("value", ['"', "\\", "a\nb", "a\rb", "\t", "\x00", "\x7f", "ß🛣", ""])
def test_any_text_comes_back_from_toml(value: str) -> None:
    assert tomllib.loads(to_toml({"text": value})) == {"text": value}


def test_tables_inside_lists_of_tables_come_back() -> None:
    table = {"a": 1, "b": {"c": {"d": [1.5, 2.5]}, "e": "x"}, "f": [{"g": {"h": True}}, {"g": {"h": False}, "i": []}]}
    assert tomllib.loads(to_toml(table)) == table
