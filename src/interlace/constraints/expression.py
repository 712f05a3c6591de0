"""A regular expression as a deterministic automaton over bytes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import numpy as np

from ..errors import SettingError
from .characters import CODES, Ranges, category, classes, complement, either_case, spelt, union
from .kept import Kept

__all__ = ["Bytes", "compiled"]

STATES = 20_000
"""More states than this are refused, before memory and patience run out."""
WORK = 3_000_000
"""As are patterns that are in so many states at once: nested repeats may take minutes below the limit of states."""

CHARACTERS = 200_000
"""And longer ones."""
CLASSES = 4_000_000
"""And those with so many sets of characters times their ends."""
LAST = 0

CATEGORIES = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}
UNKNOWN = {
    "ASSERT": "looks ahead or behind",
    "ASSERT_NOT": "looks ahead or behind",
    "GROUPREF": "refers back to a group",
    "GROUPREF_EXISTS": "refers back to a group",
    "POSSESSIVE_REPEAT": "has a possessive repeat",
    "ATOMIC_GROUP": "has an atomic group",
}


@dataclass(frozen=True, eq=False)
class Bytes:
    """A deterministic automaton over bytes, which begins in state 0.

    table: int32 [states, 256], the next state or -1. final: bool [states], where a text may end. anchored: whether the
    pattern asks for the ends of the text.
    """

    table: np.ndarray
    final: np.ndarray
    anchored: bool = False

    def matches(self, text: bytes) -> bool:
        """Whether the whole text is accepted."""
        state = 0
        for byte in text:
            state = int(self.table[state, byte])
            if state < 0:
                return False
        return bool(self.final[state])


def compiled(pattern: str) -> Bytes:
    """The automaton of the texts that ``re.fullmatch`` accepts, written in UTF-8.

    Thompson's construction over characters, made deterministic over classes of characters that the pattern does not
    tell apart, and spelt out in bytes. It is built from its end, and what is followed by the same is built once: many
    alternatives that end alike cost little more than one.

    Raises ``SettingError`` for a pattern that ``re`` does not read, one that is no regular expression in the strict
    sense (lookaround, references to groups, word boundaries, possessive repeats), one of more than 200,000 characters
    or 20,000 states, and one of repeats of repeats that would take very long.

    >>> texts = compiled("(é|x){2}")
    >>> texts.matches("éx".encode()), texts.matches("é".encode())
    (True, False)
    """
    return _kept.get(pattern, lambda: _built(pattern))


_kept: Kept[Bytes] = Kept(lambda found: found.table.nbytes)


def _built(pattern: str) -> Bytes:
    if len(pattern) > CHARACTERS:
        raise SettingError(f"the pattern has {len(pattern)} characters; {CHARACTERS} are the most, shorten it")
    try:
        tree = _parser.parse(pattern)
        builder = _Builder(pattern)
        first = builder.sequence(tree, int(tree.state.flags), LAST)
    except (re.error, OverflowError, RecursionError) as error:
        why = str(error) or "too deeply nested"
        raise SettingError(f"the pattern {_short(pattern)} is no regular expression ({why}); correct it") from None
    return builder.deterministic(first)


class _Builder:
    """The automaton with choices: every state has empty moves, or one move over a set of characters.

    It is built from its end, the state ``LAST``: what an item leads to is known before the item is.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.empty: list[list[int]] = [[]]
        self.over: list[tuple[int, int] | None] = [None]  # number of the set, next state
        self.sets: dict[Ranges, int] = {}
        self.work = 0
        self.anchors: dict[str, dict[int, list[int]]] = {"start": defaultdict(list), "end": defaultdict(list)}
        self.made: dict[tuple[Any, ...], int] = {}
        self.numbers: dict[tuple[Any, ...], int] = {}
        self.number_of: dict[int, int] = {}

    def refuse(self, why: str) -> SettingError:
        return SettingError(f"the pattern {_short(self.pattern)} {why}")

    def spend(self, work: int) -> None:
        self.work += work
        if self.work > WORK:
            raise self.refuse("repeats what is repeated, and is too intricate; write its repeats less widely")

    def new(self) -> int:
        if len(self.empty) > 5 * STATES:
            raise self.refuse(f"needs more than {STATES} states; bound its repeats less widely")
        self.empty.append([])
        self.over.append(None)
        return len(self.empty) - 1

    def number(self, part: Any) -> int:
        """Parts of the pattern that are written alike have one number, which is negative: no character is."""
        found = self.number_of.get(id(part))
        if found is None:
            inner = part.data if isinstance(part, _parser.SubPattern) else part
            key = tuple(
                self.number(one) if isinstance(one, _parser.SubPattern | list | tuple) else one for one in inner
            )
            found = self.number_of[id(part)] = self.numbers.setdefault(key, -1 - len(self.numbers))
        return found

    def sequence(self, items: Any, flags: int, end: int) -> int:
        """The state from which the items lead to the state ``end``."""
        for item in reversed(items.data):
            key = self.number(item), flags, end
            if key not in self.made:
                self.made[key] = self.item(str(item[0]), item[1], flags, end)
            end = self.made[key]
            self.spend(1)
        return end

    def item(self, kind: str, value: Any, flags: int, end: int) -> int:
        if kind in UNKNOWN:
            raise self.refuse(f"{UNKNOWN[kind]}, which no finite automaton can; write it without")
        if kind == "SUBPATTERN":
            _, more, less, items = value
            return self.sequence(items, (flags | more) & ~less, end)
        if kind == "BRANCH":
            return self.either([self.sequence(items, flags, end) for items in value[1]])
        if kind in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, items = value
            return self.repeat(least, most, items, flags, end)
        if kind == "AT":
            return self.anchor(str(value), flags, end)
        return self.move(self.characters(kind, value, flags), end)

    def move(self, ranges: Ranges, end: int) -> int:
        number = self.sets.setdefault(ranges, len(self.sets))
        key = "over", number, end
        if key not in self.made:
            self.made[key] = self.new()
            self.over[self.made[key]] = number, end
        return self.made[key]

    def either(self, states: Sequence[int]) -> int:
        """A state that leads to any of these."""
        ways = list(dict.fromkeys(states))
        if len(ways) == 1:
            return ways[0]
        key = "either", *ways
        if key not in self.made:
            self.made[key] = self.new()
            self.empty[self.made[key]] = ways
            self.spend(len(ways))
        return self.made[key]

    def repeat(self, least: int, most: Any, items: Any, flags: int, end: int) -> int:
        at = end
        if most is _parser.MAXREPEAT:
            at = self.new()
            self.empty[at] = [self.sequence(items, flags, at), end]
            most = least
        for count in range(int(most), 0, -1):
            before, at = at, self.sequence(items, flags, at)
            if count > least:
                at = self.either([at, end])
            if at == before:  # it repeats nothing
                break
        return at

    def anchor(self, where: str, flags: int, end: int) -> int:
        """The ends of the text; ``$`` is its very end."""
        side = {"AT_BEGINNING": "start", "AT_BEGINNING_STRING": "start", "AT_END": "end", "AT_END_STRING": "end"}
        if where not in side or (flags & re.MULTILINE and not where.endswith("STRING")):
            raise self.refuse(r"asks for the border of a word or line; write out what stands there")
        at = self.new()
        self.anchors[side[where]][at].append(end)
        return at

    def characters(self, kind: str, value: Any, flags: int) -> Ranges:
        """The characters that an item of one character matches."""
        if kind == "ANY":
            return ((0, CODES),) if flags & re.DOTALL else complement(((10, 11),))
        items = value if kind == "IN" else [("LITERAL", value)]
        negated = kind == "NOT_LITERAL" or (kind == "IN" and str(items[0][0]) == "NEGATE")
        ranges: list[tuple[int, int]] = []
        for name, what in items:
            if str(name) == "CATEGORY":
                one = str(what).removeprefix("CATEGORY_")
                found = category(CATEGORIES[one.removeprefix("NOT_")], flags & re.ASCII)
                ranges += complement(found) if one.startswith("NOT_") else found
            elif str(name) != "NEGATE":
                first, last = what if str(name) == "RANGE" else (what, what)
                ranges.append((first, last + 1))
        found = union(ranges)
        if flags & re.IGNORECASE:
            found = either_case(found, flags & re.ASCII)
        return complement(found) if negated else found

    def closure(self, states: Sequence[int], anchor: str | None = None) -> frozenset[int]:
        """All states that are reached without a character."""
        found, left = set(states), list(states)
        while left:
            state = left.pop()
            further = self.empty[state] + (self.anchors[anchor].get(state, []) if anchor else [])
            new = [one for one in further if one not in found]
            found.update(new)
            left += new
        self.spend(len(found))
        return frozenset(found)

    def deterministic(self, first: int) -> Bytes:
        bounds = 2 * sum(map(len, self.sets))
        if len(self.sets) * bounds > CLASSES:
            raise self.refuse(f"tells too many characters apart ({len(self.sets)} sets of them); make it simpler")
        starts, kind, member = classes(list(self.sets))
        of_set = [np.flatnonzero(row).tolist() for row in member]
        number: dict[frozenset[int], int] = {}
        order: list[frozenset[int]] = []
        behind: dict[frozenset[int], int] = {}

        def state(closed: frozenset[int]) -> int:
            # what has no move of its own tells no two states apart, but for the end
            kept = frozenset(s for s in closed if self.over[s] is not None or s == LAST or s in self.anchors["end"])
            if kept not in number:
                if len(order) >= STATES:
                    raise self.refuse(f"needs more than {STATES} states; bound its repeats less widely")
                number[kept] = len(order)
                order.append(kept)
            return number[kept]

        state(self.closure([first], "start"))
        delta: list[np.ndarray] = []
        for states in order:  # which grows meanwhile
            goals: dict[int, list[int]] = defaultdict(list)
            for one in states:
                move = self.over[one]
                if move is not None:
                    self.spend(len(of_set[move[0]]))
                    for each in of_set[move[0]]:
                        goals[each].append(move[1])
            row = np.full(member.shape[1], -1, np.int32)
            for each, targets in goals.items():
                key = frozenset(targets)
                if key not in behind:
                    behind[key] = state(self.closure(targets))
                row[each] = behind[key]
            delta.append(row)
        final = np.array([LAST in self.closure(list(states), "end") for states in order])
        try:
            table = spelt(np.stack(delta), starts, kind, 5 * STATES)
        except OverflowError:
            raise self.refuse(f"needs more than {5 * STATES} states inside of characters; bound its repeats") from None
        final = np.concatenate((final, np.zeros(len(table) - len(final), dtype=bool)))
        return Bytes(table, final, any(self.anchors.values()))


def _short(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 60 else pattern[:57] + "...")
