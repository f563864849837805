import dataclasses
import tomllib
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.config import build_dataclass, to_toml
from dilated.errors import InputError


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


@dataclass(frozen=True)
class Disc:
    radius: float = 1.0
    kind: Literal["disc"] = "disc"


@dataclass(frozen=True)
class Bar:
    height: int
    width: int = 2
    kind: Literal["bar"] = "bar"


Shape = Disc | Bar


@dataclass(frozen=True)
class Scene:
    shape: Shape = field(default_factory=Disc)
    shapes: tuple[Shape, ...] = ()


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
shapes = st.builds(Disc, floats) | st.builds(Bar, st.integers(), st.integers())
scenes = st.builds(Scene, shapes, st.lists(shapes, max_size=3).map(tuple))


def test_an_empty_table_is_the_defaults() -> None:
    assert build_dataclass(Plan, {}, "here") == Plan()


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ([], r"here: found \[\]; expected a table"),
        ({"sed": 1}, r"here: unknown key 'sed'. Did you mean 'seed'\?"),
        ({"zzzzzz": 1}, "here: unknown key 'zzzzzz'. Known: name, seed"),
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
        ({"stage": [{"steps": 1}, {"step": 1}]}, "here: stage.1: unknown key 'step'. Did you mean 'steps'"),
    ],
)
def test_a_bad_table_is_an_error_that_says_where(table: object, named: str) -> None:
    with pytest.raises(InputError, match=named):
        build_dataclass(Plan, table, "here")


def test_whole_numbers_will_do_for_floats() -> None:
    rate = build_dataclass(Stage, {"steps": 1, "rate": 2}, "here").rate
    assert (rate, type(rate)) == (2.0, float)


@settings(deadline=None, max_examples=50)
@given(plans)
def test_a_dataclass_comes_back_from_its_toml(plan: Plan) -> None:
    assert build_dataclass(Plan, tomllib.loads(to_toml(dataclasses.asdict(plan))), "here") == plan


@pytest.mark.parametrize("value", ['"', "\\", "a\nb", "a\rb", "\t", "\x00", "\x7f", "ß🛣", ""])
def test_any_text_comes_back_from_toml(value: str) -> None:
    assert tomllib.loads(to_toml({"text": value})) == {"text": value}


def test_tables_inside_lists_of_tables_come_back() -> None:
    table = {"a": 1, "b": {"c": {"d": [1.5, 2.5]}, "e": "x"}, "f": [{"g": {"h": True}}, {"g": {"h": False}, "i": []}]}
    assert tomllib.loads(to_toml(table)) == table


def test_a_union_is_the_class_whose_kind_the_table_has() -> None:
    assert build_dataclass(Shape, {"kind": "disc", "radius": 3}, "here") == Disc(3.0)
    assert build_dataclass(Shape, {"kind": "bar", "height": 3}, "here") == Bar(3)


def test_a_union_without_a_kind_is_the_first_class() -> None:
    assert build_dataclass(Shape, {"radius": 2.5}, "here") == Disc(2.5)
    assert build_dataclass(Shape, {}, "here") == Disc()
    assert build_dataclass(Bar | Disc, {"height": 1}, "here") == Bar(1)


def test_unions_are_found_in_fields_and_lists() -> None:
    table = {"shape": {"kind": "bar", "height": 1}, "shapes": [{}, {"kind": "bar", "height": 2}, {"kind": "disc"}]}
    assert build_dataclass(Scene, table, "here") == Scene(Bar(1), (Disc(), Bar(2), Disc()))
    assert build_dataclass(Scene, {}, "here") == Scene()


@settings(deadline=None, max_examples=30)
@given(scenes)
def test_a_union_comes_back_from_its_toml(scene: Scene) -> None:
    assert build_dataclass(Scene, tomllib.loads(to_toml(dataclasses.asdict(scene))), "here") == scene


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"shape": {"kind": "star"}}, "here: shape: kind: found 'star'; expected one of 'disc', 'bar'"),
        ({"shape": {"kind": 3}}, "here: shape: kind: found 3; expected one of 'disc', 'bar'"),
        ({"shape": {"kind": ""}}, "here: shape: kind: found ''"),
        ({"shape": "bar"}, "here: shape: found 'bar'; expected a table with radius, kind"),
        ({"shape": []}, r"here: shape: found \[\]; expected a table with"),
        ({"shape": {"height": 1}}, "here: shape: unknown key 'height'. Known: radius, kind"),  # a disc, by default
        ({"shape": {"kind": "bar", "radius": 1.0}}, "here: shape: unknown key 'radius'"),
        ({"shape": {"kind": "bar"}}, "here: shape: the key 'height' is missing"),
        ({"shape": {"kind": "bar", "height": 1.5}}, "here: shape: height: found 1.5; expected int"),
        ({"shapes": [{}, {"kind": "star"}]}, "here: shapes.1: kind: found 'star'"),
        ({"shapes": {"kind": "bar"}}, r"here: shapes: found \{'kind': 'bar'\}; expected a list"),
    ],
)
def test_a_bad_table_of_a_union_is_an_error_that_says_where(table: object, named: str) -> None:
    with pytest.raises(InputError, match=named):
        build_dataclass(Scene, table, "here")


@pytest.mark.parametrize("kind", [["bar"], {"bar": 1}])
def test_a_kind_that_is_no_text_is_an_error_too(kind: object) -> None:
    with pytest.raises(InputError, match="here: kind: found"):
        build_dataclass(Shape, {"kind": kind}, "here")
