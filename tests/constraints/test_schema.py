"""JSON schemas as expressions: every text is JSON that fits, and what cannot be held so is refused."""

from __future__ import annotations

import datetime
import enum
import itertools
import json
import re
import uuid
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from interlace.constraints import Bytes, compiled, constraint, json_schema
from interlace.constraints.schema import expression
from interlace.errors import SettingError


def doubled(depth: int, pairs: bool = False, name: str = "d") -> dict[str, Any]:
    """A schema of some 2 kB whose values are of 2 ** depth integers."""
    found: dict[str, Any] = {f"{name}{depth}": {"type": "integer"}}
    for i in range(depth):
        inner = {"$ref": f"#/$defs/{name}{i + 1}"}
        array = {"type": "array", "minItems": 2, "maxItems": 2, "items": inner}
        found[f"{name}{i}"] = {"properties": {"a": inner, "b": inner}, "required": ["a", "b"]} if pairs else array
    return {"$ref": f"#/$defs/{name}0", "$defs": found}


def twins(depth: int) -> dict[str, Any]:
    """Two objects that are alike at every depth: whether a value fits both is asked of every pair of properties."""
    return {"$defs": doubled(depth, True, "a")["$defs"] | doubled(depth, True, "b")["$defs"]}


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "null"}
    for _ in range(depth):
        found = {"type": "array", "items": found}
    return found


class Colour(enum.Enum):
    red = "red"
    quoted = 'a "quoted" \\ word'
    accented = "é[1-9]"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog", "hound"]
    name: str = Field(min_length=1, max_length=6)


class Everything(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=8)
    age: int = Field(ge=0, lt=130)
    weight: float | None = None
    share: float = Field(0.5, ge=0)
    colour: Colour = Colour.red
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = Field(min_length=1, max_length=2)
    place: tuple[int, str | None]
    counts: dict[str, bool] = {}
    day: datetime.date
    at: datetime.datetime | None = None
    number: uuid.UUID
    code: str = Field(pattern="^[A-Z]{2}[0-9]+$")
    best: Dog | None
    never: None = None


def texts(automaton: Bytes, count: int, seed: int = 0) -> list[str]:
    """Texts at random: any byte that is allowed, and as soon as it grows long, the way to the end."""
    far = np.where(automaton.final, 0, 10**6)
    while True:  # how many bytes every state is from an end
        behind = np.where(automaton.table >= 0, far[automaton.table], 10**6).min(1) + 1
        nearer = np.minimum(far, behind)
        if (nearer == far).all():
            break
        far = nearer
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        state, text, limit = 0, b"", rng.integers(0, 400)
        while not (automaton.final[state] and (len(text) >= limit or not (automaton.table[state] >= 0).any())):
            ways = np.flatnonzero(automaton.table[state] >= 0)
            if len(text) >= limit:
                ways = ways[far[automaton.table[state, ways]] < far[state]]
            byte = int(rng.choice(ways))
            state, text = int(automaton.table[state, byte]), text + bytes([byte])
        found.append(text.decode())
    return found


def test_every_text_fits_a_model_of_everything() -> None:
    schema = Everything.model_json_schema()
    found = texts(compiled(json_schema(schema).pattern), 150)
    assert json_schema(json.dumps(schema)) == json_schema(schema)
    for text in found:
        Everything.model_validate_json(text, strict=True)
    kept = [json.loads(text) for text in found]
    for name in ("weight", "share", "colour", "counts", "at", "never"):  # what may be left out is there now and then
        assert 0 < sum(name in one for one in kept) < len(kept)
    assert {pet["kind"] for one in kept for pet in one["pets"]} == {"cat", "dog", "hound"}
    assert {len(one["pets"]) for one in kept} == {1, 2}


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (list[int], ["[]", "[1]", "[1, -2,30]"], ["[01]", "[1,]", "[ 1]", "1"]),
        (bool | None, ["true", "null"], ["True", '"true"']),
        (float, ["0", "-1.5", "2e-3", "1E+9"], [".5", "+1", "01", "1."]),
        (dict[str, int], ["{}", '{"a": 1}', '{"a": 1, "b":2}'], ['{"a": 1.5}', "{a: 1}"]),
        (Literal["a", 1, None], ['"a"', "1", "null"], ['"b"', "true"]),
        (tuple[int, bool], ["[1, true]"], ["[1]", "[1, true, 2]", "[true, 1]"]),
        (str, ['""', '"é\\n\\""', '"a/b"'], ['"', '"a', '"\n"', '"a\\q"']),
    ],
)
def test_what_is_written_and_what_not(kind: Any, good: list[str], bad: list[str]) -> None:
    automaton = compiled(expression(TypeAdapter(kind).json_schema()))
    for text in good:
        TypeAdapter(kind).validate_json(text)
        assert automaton.matches(text.encode()), text
    assert not [text for text in bad if automaton.matches(text.encode())]


BOUND = st.none() | st.integers(-1200, 1200)


@given(BOUND, BOUND, st.booleans(), st.lists(st.integers(-1500, 1500), max_size=30))
@settings(max_examples=60, deadline=None)
def test_integers_between_bounds(low: int | None, high: int | None, outside: bool, numbers: list[int]) -> None:
    names = ("exclusiveMinimum", "exclusiveMaximum") if outside else ("minimum", "maximum")
    bounds = {name: bound for name, bound in zip(names, (low, high), strict=True) if bound is not None}
    first, last = (low if low is None else low + outside), (high if high is None else high - outside)
    if first is not None and last is not None and first > last:
        with pytest.raises(SettingError, match="which no integer fits"):
            expression({"type": "integer", **bounds})
        return
    pattern = re.compile(expression({"type": "integer", **bounds}))
    near = [bound + step for bound in (low, high) if bound is not None for step in (-1, 0, 1)]
    for number in [*numbers, *near, -1000, -100, -99, -10, -9, -1, 0, 1, 9, 10, 99, 100, 1000]:
        good = (first is None or number >= first) and (last is None or number <= last)
        assert bool(pattern.fullmatch(str(number))) == good
    assert not pattern.fullmatch("007") and not pattern.fullmatch("")


@pytest.mark.parametrize(
    ("bounds", "first", "last"),
    [
        ({"minimum": -2.5}, -2, None),
        ({"exclusiveMaximum": 3.5}, None, 3),
        ({"exclusiveMinimum": 1.0, "maximum": 10**20}, 2, 10**20),
        ({"minimum": 0, "exclusiveMinimum": 0.5, "maximum": 9}, 1, 9),
    ],
)
def test_bounds_that_are_no_integers(bounds: dict[str, float], first: int | None, last: int | None) -> None:
    pattern = re.compile(expression({"type": "integer", **bounds}))
    for number in [*range(-12, 13), 10**20, 10**20 + 1]:
        good = (first is None or number >= first) and (last is None or number <= last)
        assert bool(pattern.fullmatch(str(number))) == good


def test_optional_properties_and_their_commas() -> None:
    schema = {"properties": {name: {"type": "null"} for name in "abc"}, "required": ["b"]}
    pattern = re.compile(expression(schema))
    for names in ("", "a", "b", "c", "ab", "bc", "ac", "abc", "ba"):
        text = json.dumps(dict.fromkeys(names))
        assert bool(pattern.fullmatch(text)) == (names in ("b", "ab", "bc", "abc")), text
    assert re.fullmatch(expression({"properties": {"a": {"type": "null"}}}), "{}")
    assert re.fullmatch(expression({"type": "object", "additionalProperties": False}), "{}")


@given(st.lists(st.booleans(), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_any_properties_may_be_optional(needed: list[bool]) -> None:
    """Of all subsets those with every required property, in the order of the schema, and no others."""
    names = "abcdef"[: len(needed)]
    required = {name for name, one in zip(names, needed, strict=True) if one}
    schema = {"properties": {name: {"type": "null"} for name in names}, "required": sorted(required)}
    automaton = compiled(expression(schema))
    for size in range(len(names) + 1):
        for kept in itertools.combinations(names, size):
            for text in {json.dumps(dict.fromkeys(kept)), json.dumps(dict.fromkeys(kept[::-1]))}:
                good = required <= set(kept) and list(json.loads(text)) == sorted(kept)
                assert automaton.matches(text.encode()) == good, text


def test_optional_properties_cost_states_in_proportion() -> None:
    states, length = [], []
    for count in (30, 300):
        schema = {"properties": {f"p{i:03d}": {"type": "string"} for i in range(count)}}
        pattern = expression(schema)
        length.append(len(pattern))
        states.append(len(compiled(pattern).table))
    assert states[1] < 11 * states[0] and length[1] < 20 * length[0]


def test_a_refusal_is_kept_as_a_result_is(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    monkeypatch.setattr(constraint, "expression", lambda schema: (read.append(schema), expression(schema))[1])
    for schema in ({"type": "kept"}, {"type": "boolean", "title": "kept"}):
        said = []
        for _ in range(3):
            try:
                said.append(json_schema(schema).pattern)
            except SettingError as error:
                said.append(str(error))
        assert len(set(said)) == 1
    assert len(read) == 2


def test_a_pattern_may_say_that_it_is_whole() -> None:
    plain = expression({"type": "string", "pattern": "a|b[.]"})
    for pattern in ("^a|b[.]$", "^a|b[.]", "a|b[.]$"):
        assert expression({"type": "string", "pattern": pattern}) == plain
    assert re.fullmatch(plain, '"b."') and not re.fullmatch(plain, '"a')
    assert re.fullmatch(expression({"type": "string", "pattern": r"a\$"}), '"a$"')


def test_values_have_the_type_that_stands_beside_them() -> None:
    assert expression({"enum": [1, "1", 1.5, True, None], "type": ["integer", "boolean"]}) == "(?:1|true)"
    assert expression({"enum": [1, 1.5], "type": "number"}) == r"(?:1|1\.5)"
    assert expression({"const": 1, "enum": [True, 1]}) == "1"


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("{", "the schema is not JSON"),
        ("[1]", "the schema is no schema"),
        (True, "allows anything"),
        ({"type": "object", "properties": {"a": False}}, "the schema/properties/a allows nothing"),
        ({}, "says no type"),
        ({"type": "strin"}, "has the type 'strin'; known: null, boolean"),
        ({"type": []}, "says no type"),
        ({"type": [["null"]]}, "has the type"),
        ({"type": "integer", "multipleOf": 3}, "has multipleOf, which is not known here; leave it out"),
        ({"type": "array", "items": {"type": "null"}, "uniqueItems": True}, "has uniqueItems"),
        ({"type": "object", "patternProperties": {}}, "has patternProperties"),
        ({"not": {"type": "null"}}, "has not"),
        ({"type": "number", "maximum": 3}, "has maximum 3 of a number"),
        ({"type": "number", "minimum": 1}, "has minimum 1 of a number"),
        ({"type": "integer", "minimum": "x"}, "the schema/minimum is 'x'"),
        ({"type": "integer", "exclusiveMinimum": True}, "the schema/exclusiveMinimum is True"),
        ({"type": "integer", "minimum": float("nan")}, "pass a number"),
        ({"type": "string", "minLength": "a"}, "the schema/minLength is 'a'"),
        ({"type": "string", "minLength": 2, "maxLength": 1}, "minLength 2 and maxLength 1"),
        ({"type": "string", "format": "email"}, "has the format 'email'; known: date"),
        ({"type": "string", "format": "date", "minLength": 2}, "format beside other limits"),
        ({"type": "string", "pattern": "a."}, "may match a quote"),
        ({"type": "string", "pattern": "("}, "no regular expression"),
        ({"type": "string", "pattern": "^a$|^b$"}, "asks for the ends of the text inside it"),
        ({"type": "string", "pattern": 3}, "the schema/pattern is 3"),
        ({"type": "array"}, "an array of anything; give it items"),
        ({"type": "array", "prefixItems": [{"type": "null"}], "minItems": 2}, "prefixItems does not fit"),
        ({"type": "object"}, "an object of anything"),
        ({"type": "object", "required": ["a"]}, "requires 'a', which is not among its properties"),
        ({"type": "object", "properties": []}, "properties that are no object"),
        ({"type": "object", "properties": {"a": {"type": "x"}}}, "the schema/properties/a has the type 'x'"),
        ({"enum": []}, "allows no value"),
        ({"enum": "ab"}, "enum is no list"),
        ({"const": 1, "type": "string"}, "allows no value"),
        ({"enum": ["abc"], "minLength": 2}, "has values and minLength"),
        ({"anyOf": []}, "anyOf is no list"),
        ({"anyOf": [{"type": "null"}], "type": "null"}, "has anyOf and type"),
        ({"allOf": [{"type": "integer"}, {"type": "number"}]}, "allOf of several"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "may fit both 0 and 1"),
        ({"oneOf": [{"const": 1}, {"enum": [2, 1]}]}, "may fit both 0 and 1"),
        ({"oneOf": [{"type": "string"}, {"const": "a"}]}, "may fit both 0 and 1"),
        ({"$ref": "#/$defs/x"}, "refers to #/\\$defs/x, which is not in it"),
        ({"$ref": "https://example.com/schema"}, "which is not in it"),
        ({"$ref": "#"}, "contains itself"),
        (doubled(25), "more than 200000 characters"),
        (doubled(25, pairs=True), "more than 200000 characters"),
        ({"enum": [f"{i:0100d}" for i in range(5000)]}, "more than 200000 characters"),
        ({"properties": {f"{i:0500d}": {"type": "null"} for i in range(400)}}, "more than 200000 characters"),
        ({"oneOf": [doubled(25, pairs=True, name=name) for name in "ab"]}, "which is not in it"),
        ({**twins(25), "oneOf": [{"$ref": "#/$defs/a0"}, {"$ref": "#/$defs/b0"}]}, "parts"),
        ({"oneOf": [{"const": i} for i in range(2000)]}, "more than 50000 parts"),
        (nested(5000), "too deeply nested"),
        ({"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}, "contains itself"),
    ],
)
def test_what_cannot_be_held_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(SettingError, match=why) as caught:
        json_schema(schema)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "ways",
    [
        [{"type": "integer"}, {"type": "string"}, {"type": ["null", "boolean"]}],
        [{"const": 1}, {"enum": [True, "1"]}],
        [{"type": "object", "properties": {"k": {"const": i}}, "required": ["k"]} for i in range(3)],
    ],
)
def test_one_of_values_that_cannot_be_mistaken(ways: list[Any]) -> None:
    assert expression({"oneOf": ways}) == expression({"anyOf": ways})


def test_references_into_the_schema() -> None:
    schema = {"$defs": {"a/b": {"type": "null"}, "list": [{"type": "boolean"}]}}
    assert expression({**schema, "$ref": "#/$defs/a~1b"}) == "null"
    assert expression({**schema, "$ref": "#/$defs/list/0", "description": "one"}) == "(?:true|false)"
    twice = {"properties": {name: {"$ref": "#/$defs/a~1b"} for name in "xy"}, "required": ["x", "y"]}
    assert re.fullmatch(expression({**schema, **twice}), '{"x": null, "y": null}')
