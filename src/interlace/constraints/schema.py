"""A JSON schema as a regular expression."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import SettingError
from .expression import CHARACTERS, compiled

__all__ = ["expression"]

COMMA, COLON = ", ?", ": ?"
CHARACTER = r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])'
_DAY = "(?:0[1-9]|[12][0-9]|3[01])"
_MONTH_DAY = f"(?:(?:0[13578]|1[02])-{_DAY}|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
FORMATS = {
    "date": f"[12][0-9]{{3}}-{_MONTH_DAY}",
    "time": _TIME,
    "date-time": f"[12][0-9]{{3}}-{_MONTH_DAY}T{_TIME}",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
}
# what says nothing of the value
SILENT = {
    "$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "title", "description", "default", "examples",
    "deprecated", "readOnly", "writeOnly", "discriminator",
}  # fmt: skip
# what says something, by the type of value that it is about; of values of other types it says nothing
KEYWORDS: dict[str, set[str]] = {
    "null": set(),
    "boolean": set(),
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}
WORDS = {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", *SILENT}.union(*KEYWORDS.values())
Schema = Mapping[str, Any]
ROOT = "the schema"
NODES = 50_000
"""Parts that are looked at, again and again where several places refer to one: more are refused."""


def expression(schema: str | Mapping[str, Any]) -> str:
    r"""A regular expression of which every text is JSON that fits the schema.

    Written is one line, with at most one space behind a comma or colon; properties in the order of the schema, none
    that it does not name; characters as they are or by the short escapes; dates between the years 1000 and 2999.

    Known are type, enum, const, anyOf, oneOf (of values that cannot be mistaken), $ref inside the schema; properties,
    required, additionalProperties; items, prefixItems, minItems, maxItems; minLength, maxLength, pattern (of characters
    that JSON writes as they are), format (date, time, date-time, uuid, ipv4); minimum and maximum of integers, and
    minimum 0 of numbers.

    Raises ``SettingError`` for what is no schema, for every other keyword that says something of the value, for a
    schema that refers to itself, and for one that lets any value be: there is no regular expression of these. And for
    one whose expression is longer than 200,000 characters, as references to references soon are.

    >>> expression({"type": "array", "items": {"enum": [1, "a"]}, "maxItems": 2})
    '\\[(?:(?:1|"a")(?:, ?(?:1|"a")){0,1})?\\]'
    """
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise SettingError(f"the schema is not JSON ({error}); correct it") from None
    try:
        return _Reader(schema).value(schema, ROOT, ())
    except RecursionError:
        raise SettingError("the schema is too deeply nested; make it flatter") from None


class _Reader:
    def __init__(self, root: Any) -> None:
        self.root = root
        self.nodes = self.characters = 0
        self.known: dict[str, str] = {}  # what a reference stands for
        self.of_type: dict[str, Callable[[Schema, str, tuple[str, ...]], str]] = {
            "null": lambda schema, place, within: "null",
            "boolean": lambda schema, place, within: "(?:true|false)",
            "integer": self.integer,
            "number": self.number,
            "string": self.string,
            "array": self.array,
            "object": self.object,
        }

    def value(self, schema: Any, place: str, within: tuple[str, ...]) -> str:
        """within: the references that are being followed."""
        schema = self.checked(schema, place)
        if "$ref" in schema:
            at, target = self.followed(schema, place, within)
            if at not in self.known:
                self.known[at] = self.value(target, at, (*within, at))
            return self.within_bounds(self.known[at], place)
        return self.within_bounds(self.plainly(schema, place, within), place)

    def plainly(self, schema: Schema, place: str, within: tuple[str, ...]) -> str:
        for name in ("anyOf", "oneOf", "allOf"):
            if name in schema:
                return self.choice(name, schema, place, within)
        if "enum" in schema or "const" in schema:
            return _either(_written(value) for value in self.values(schema, place))
        return _either(self.of_type[name](schema, place, within) for name in self.types(schema, place))

    def within_bounds(self, found: str, place: str) -> str:
        """An expression, unless it or all together are too long: references to references soon are."""
        self.characters += len(found)
        if len(found) > CHARACTERS or self.characters > 5 * CHARACTERS:
            raise SettingError(
                f"{place} is an expression of more than {CHARACTERS} characters, with all that it refers to; make the "
                "schema smaller"
            )
        return found

    def look(self, parts: int, place: str) -> None:
        self.nodes += parts
        if self.nodes > NODES:
            raise SettingError(f"{place} has more than {NODES} parts before it to look at; make the schema smaller")

    def checked(self, schema: Any, place: str) -> Schema:
        self.look(1, place)
        if not isinstance(schema, Mapping):
            what = "allows anything" if schema is True else "allows nothing" if schema is False else "is no schema"
            raise SettingError(f"{place} {what}; give it a type")
        for name in schema:
            if name not in WORDS:
                raise SettingError(f"{place} has {name}, which is not known here; leave it out")
        whole = [name for name in ("$ref", "anyOf", "oneOf", "allOf") if name in schema]
        beside = [name for name in schema if name not in SILENT and name not in whole[:1]]
        if whole and beside:
            raise SettingError(f"{place} has {whole[0]} and {beside[0]}; write one of them")
        return schema

    def followed(self, schema: Schema, place: str, within: tuple[str, ...]) -> tuple[str, Any]:
        """The place that a reference names, and what stands there."""
        given, target = str(schema["$ref"]), self.root
        at = ROOT + given[1:]
        try:
            if not given.startswith("#"):
                raise KeyError(given)
            for part in given[1:].split("/")[1:]:
                part = part.replace("~1", "/").replace("~0", "~")
                target = target[int(part)] if isinstance(target, list) else target[part]
        except (KeyError, IndexError, TypeError, ValueError):
            raise SettingError(f"{place} refers to {given}, which is not in it; correct it") from None
        if at in (*within, ROOT):
            raise SettingError(f"{at} contains itself, which no regular expression can; bound its depth")
        return at, target

    def types(self, schema: Schema, place: str) -> list[str]:
        given = schema.get("type", "object" if "properties" in schema else None)
        names = [given] if isinstance(given, str) else given
        if not isinstance(names, list) or not names or len(names) > 2 * len(KEYWORDS):
            raise SettingError(f"{place} says no type, and any JSON is no regular expression; give it one")
        for name in names:
            if not isinstance(name, str) or name not in KEYWORDS:
                raise SettingError(f"{place} has the type {name!r}; known: {', '.join(KEYWORDS)}")
        return names

    def values(self, schema: Schema, place: str) -> list[Any]:
        """The values of an enum or a const, if they have the type."""
        found = schema.get("enum", [schema.get("const")])
        if not isinstance(found, list):
            raise SettingError(f"{place}/enum is no list; correct it")
        self.look(len(found), place)
        if "const" in schema:
            found = [value for value in found if _same(value, schema["const"])]
        beside = [name for name in schema if name in set().union(*KEYWORDS.values())]
        if beside:
            raise SettingError(f"{place} has values and {beside[0]}; leave {beside[0]} out")
        if "type" in schema:
            names = set(self.types(schema, place))
            names |= {"integer"} if "number" in names else set()
            found = [value for value in found if _type(value) in names]
        if not found:
            raise SettingError(f"{place} allows no value at all; correct it")
        return found

    def choice(self, name: str, schema: Schema, place: str, within: tuple[str, ...]) -> str:
        ways = schema[name]
        if not isinstance(ways, list) or not ways:
            raise SettingError(f"{place}/{name} is no list of schemas; correct it")
        if name == "allOf" and len(ways) > 1:
            raise SettingError(f"{place} has allOf of several schemas; write them as one")
        if name == "oneOf":
            for i, one in enumerate(ways):
                for j in range(i):
                    if not self.apart(one, ways[j], place, within):
                        raise SettingError(
                            f"{place}/oneOf is not plainly one: a value may fit both {j} and {i}; use anyOf if it may"
                        )
        return _either(self.value(way, f"{place}/{name}/{i}", within) for i, way in enumerate(ways))

    def apart(self, one: Any, other: Any, place: str, within: tuple[str, ...]) -> bool:
        """Whether it is plain that no value fits both: another type, other values, or another value of a property."""
        a, b = (self.resolved(way, place, within) for way in (one, other))
        if any(name in way for way in (a, b) for name in ("anyOf", "oneOf", "allOf")):
            return False
        listed = [self.values(way, place) if "enum" in way or "const" in way else None for way in (a, b)]
        if listed[0] is not None and listed[1] is not None:
            self.look(len(listed[0]) * len(listed[1]) // 10, place)
            return not any(_same(x, y) for x in listed[0] for y in listed[1])
        kinds = [
            {_type(value) for value in values} if values is not None else set(self.types(way, place))
            for way, values in zip((a, b), listed, strict=True)
        ]
        kinds = [kind | {"integer"} if "number" in kind else kind for kind in kinds]
        if not kinds[0] & kinds[1]:
            return True
        if kinds[0] | kinds[1] != {"object"} or any(values is not None for values in listed):
            return False
        return any(
            self.apart(a["properties"][name], b["properties"][name], place, within)
            for name in self.needed(a) & self.needed(b)
        )

    def needed(self, schema: Schema) -> set[str]:
        """The properties that every value has, as far as the schema is sound."""
        properties, required = schema.get("properties"), schema.get("required")
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            return set()
        self.look(len(required), ROOT)
        return {name for name in required if isinstance(name, str) and name in properties}

    def resolved(self, schema: Any, place: str, within: tuple[str, ...]) -> Schema:
        schema = self.checked(schema, place)
        while "$ref" in schema:
            at, target = self.followed(schema, place, within)
            schema, place, within = self.checked(target, at), at, (*within, at)
        return schema

    def integer(self, schema: Schema, place: str, within: tuple[str, ...]) -> str:
        low, high = (self.bound(schema, place, side) for side in ("minimum", "maximum"))
        return _integers(low, high, place)

    def bound(self, schema: Schema, place: str, side: str) -> int | None:
        """The least or greatest integer that is allowed."""
        sign = 1 if side == "minimum" else -1
        found = []
        for name, more in ((side, 0), (f"exclusiveM{side[1:]}", 1)):
            limit = schema.get(name)
            if limit is None:
                continue
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit):
                raise SettingError(f"{place}/{name} is {limit!r}; pass a number")
            nearest = math.ceil(sign * limit)
            found.append(sign * (nearest + (more if nearest == sign * limit else 0)))
        return None if not found else max(found) if sign > 0 else min(found)

    def number(self, schema: Schema, place: str, within: tuple[str, ...]) -> str:
        bounds = {name: schema[name] for name in KEYWORDS["number"] if name in schema}
        if bounds and bounds != {"minimum": 0}:
            name = min(bounds.keys() - {"minimum"}, default="minimum")
            raise SettingError(f"{place} has {name} {bounds[name]!r} of a number; bound an integer, or write minimum 0")
        return ("" if bounds else "-?") + r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"

    def string(self, schema: Schema, place: str, within: tuple[str, ...]) -> str:
        given = [name for name in ("pattern", "format") if name in schema]
        if given and len(given) + sum(name in schema for name in ("minLength", "maxLength")) > 1:
            raise SettingError(f"{place} has {given[0]} beside other limits of a text; write one of them")
        if "format" in schema:
            if schema["format"] not in FORMATS:
                raise SettingError(f"{place} has the format {schema['format']!r}; known: {', '.join(FORMATS)}")
            return f'"{FORMATS[schema["format"]]}"'
        if "pattern" in schema:
            return f'"(?:{self.plain(schema["pattern"], place)})"'
        return f'"{CHARACTER}{_times(*self.counts(schema, place, "minLength", "maxLength"))}"'

    def plain(self, pattern: Any, place: str) -> str:
        """A pattern whose texts JSON writes as they are."""
        if not isinstance(pattern, str):
            raise SettingError(f"{place}/pattern is {pattern!r}; pass a text")
        pattern = re.sub(r"^\^", "", re.sub(r"(?<!\\)((?:\\\\)*)\$$", r"\1", pattern))
        found = compiled(pattern)
        if found.anchored:
            raise SettingError(
                f"{place}/pattern asks for the ends of the text inside it; write ^ and $ only at its own"
            )
        if (found.table[:, [*range(0x20), ord('"'), ord("\\")]] >= 0).any():
            raise SettingError(
                f"{place}/pattern may match a quote, a backslash or a control character, which JSON writes "
                "otherwise; leave them out of it"
            )
        return pattern

    def counts(self, schema: Schema, place: str, least: str, most: str) -> tuple[int, int | None]:
        low, high = schema.get(least, 0), schema.get(most)
        for name, number in ((least, low), (most, high)):
            if number is not None and (_type(number) != "integer" or number < 0):
                raise SettingError(f"{place}/{name} is {number!r}; pass 0 or more")
        if high is not None and high < low:
            raise SettingError(f"{place} has {least} {low} and {most} {high}, which no value fits")
        return int(low), None if high is None else int(high)

    def array(self, schema: Schema, place: str, within: tuple[str, ...]) -> str:
        low, high = self.counts(schema, place, "minItems", "maxItems")
        if "prefixItems" in schema:
            first = schema["prefixItems"]
            if not isinstance(first, list) or not low <= len(first) <= (len(first) if high is None else high):
                raise SettingError(f"{place}/prefixItems does not fit its minItems or maxItems; correct it")
            items = [self.value(one, f"{place}/prefixItems/{i}", within) for i, one in enumerate(first)]
            return rf"\[{COMMA.join(items)}\]"
        if high == 0 or (schema.get("items") is False and not low):
            return r"\[\]"
        if "items" not in schema:
            raise SettingError(f"{place} is an array of anything; give it items")
        item = self.value(schema["items"], f"{place}/items", within)
        some = f"{item}(?:{COMMA}{item}){_times(max(0, low - 1), None if high is None else high - 1)}"
        return rf"\[{some}\]" if low else rf"\[(?:{some})?\]"

    def object(self, schema: Schema, place: str, within: tuple[str, ...]) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        others = schema.get("additionalProperties", True)
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            raise SettingError(f"{place} has properties that are no object, or required that is no list; correct it")
        for name in required:
            if not isinstance(name, str) or name not in properties:
                raise SettingError(f"{place} requires {name!r}, which is not among its properties; add it")
        if not properties and others is True:
            raise SettingError(f"{place} is an object of anything; give it properties, or additionalProperties a type")
        if not properties and others is False:
            return r"\{\}"
        if not properties:
            pair = f'"{CHARACTER}*"{COLON}{self.value(others, f"{place}/additionalProperties", within)}'
            return rf"\{{(?:{pair}(?:{COMMA}{pair})*)?\}}"
        needed = frozenset(required)
        pairs = [
            (_written(name) + COLON + self.value(one, f"{place}/properties/{name}", within), name in needed)
            for name, one in properties.items()
        ]
        self.within_bounds("".join(pair for pair, _ in pairs), place)
        some = _first(pairs)
        return rf"\{{{some}\}}" if needed else rf"\{{(?:{some})?\}}"


def _first(pairs: Sequence[tuple[str, bool]]) -> str:
    """One pair at least, where nothing stands before; halved, so that n pairs are written n log n times.

    With F for this and R for the rest of a list behind other pairs, of halves A and B: F = F(A) R(B) | F(B), without
    the latter if A needs a pair.
    """
    if len(pairs) == 1:
        return pairs[0][0]
    half = len(pairs) // 2
    before, behind = pairs[:half], pairs[half:]
    rest = "".join(f"{COMMA}{pair}" if needed else f"(?:{COMMA}{pair})?" for pair, needed in behind)
    ways = [_first(before) + rest]
    if not any(needed for _, needed in before):
        ways.append(_first(behind))
    return _either(ways)


def _either(ways: Any) -> str:
    found = list(dict.fromkeys(ways))
    return found[0] if len(found) == 1 else f"(?:{'|'.join(found)})"


def _times(low: int, high: int | None) -> str:
    return "*" if (low, high) == (0, None) else f"{{{low},{'' if high is None else high}}}"


def _written(value: Any) -> str:
    """A value as JSON writes it, with a space or without behind commas and colons."""
    if isinstance(value, Mapping):
        return r"\{" + COMMA.join(_written(str(k)) + COLON + _written(v) for k, v in value.items()) + r"\}"
    if isinstance(value, list):
        return r"\[" + COMMA.join(map(_written, value)) + r"\]"
    return re.escape(json.dumps(value, ensure_ascii=False))


def _type(value: Any) -> str:
    names = {bool: "boolean", str: "string", list: "array", dict: "object", type(None): "null"}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "integer" if math.isfinite(value) and value == int(value) else "number"
    return names.get(type(value), "object")


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON, where true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _integers(low: int | None, high: int | None, place: str) -> str:
    """The integers from ``low`` to ``high``, both included."""
    if low is not None and high is not None and low > high:
        raise SettingError(f"{place} has minimum {low} and maximum {high}, which no integer fits")
    ways = []
    if low is None or low < 0:
        ways.append("-" + _naturals(1 if high is None or high >= 0 else -high, None if low is None else -low))
    if high is None or high >= 0:
        ways.append(_naturals(0 if low is None else max(low, 0), high))
    return _either(ways)


def _naturals(low: int, high: int | None) -> str:
    """The numbers from ``low`` to ``high``, none of them negative."""
    if high is None:
        if low == 0:
            return "(?:0|[1-9][0-9]*)"
        digits = len(str(low))
        return _either([*_digits(str(low), "9" * digits), f"[1-9][0-9]{{{digits},}}"])
    ways: Sequence[str] = []
    for digits in range(len(str(low)), len(str(high)) + 1):
        least = max(low, 10 ** (digits - 1) if digits > 1 else 0)
        ways = [*ways, *_digits(str(least), str(min(high, 10**digits - 1)))]
    return _either(ways)


def _digits(low: str, high: str) -> list[str]:
    """Patterns of the numbers from ``low`` to ``high``, which have the same number of digits."""
    if not low:
        return [""]
    rest = len(low) - 1
    if set(low[1:]) <= {"0"} and set(high[1:]) <= {"9"}:
        first = low[0] if low[0] == high[0] else f"[{low[0]}-{high[0]}]"
        return [first + (f"[0-9]{{{rest}}}" if rest else "")]
    if low[0] == high[0]:
        return [low[0] + _either(_digits(low[1:], high[1:]))]
    middle = chr(ord(low[0]) + 1), chr(ord(high[0]) - 1)
    ways = [low[0] + _either(_digits(low[1:], "9" * rest))]
    if middle[0] <= middle[1]:
        ways += _digits(middle[0] + "0" * rest, middle[1] + "9" * rest)
    return [*ways, high[0] + _either(_digits("0" * rest, high[1:]))]
