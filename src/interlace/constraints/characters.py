"""Sets of characters, what tells them apart, and how they are spelt in bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

__all__ = ["CODES", "Ranges", "category", "classes", "complement", "either_case", "spelt", "union"]

Ranges = tuple[tuple[int, int], ...]
"""Code points as (first, behind the last), in order, no two of them touching."""

CODES = 0x110000
SURROGATES = (0xD800, 0xE000)
# characters of two, three and four bytes: the first, behind the last, and the bits that mark their first byte
LENGTHS = ((0x80, 0x800, 0xC0), (0x800, 0x10000, 0xE0), (0x10000, CODES, 0xF0))


def union(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """The ranges in order, those that touch made one.

    >>> union([(5, 7), (1, 3), (3, 4)])
    ((1, 4), (5, 7))
    """
    found: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((first, end))
    return tuple(found)


def complement(ranges: Ranges) -> Ranges:
    """All other code points."""
    bounds = [0, *(bound for pair in ranges for bound in pair), CODES]
    return tuple((a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if a < b)


@lru_cache(maxsize=64)
def category(text: str, flags: int = 0) -> Ranges:
    r"""The characters of ``\d``, ``\s`` or ``\w``, as ``re`` has them.

    >>> category(r"\d", re.ASCII)
    ((48, 58),)
    """
    low, high = SURROGATES
    runs = re.compile(f"{text}+", flags)
    sides = ((0, low), (high, CODES))
    return union(
        [(m.start() + a, m.end() + a) for a, b in sides for m in runs.finditer("".join(map(chr, range(a, b))))]
    )


@lru_cache(maxsize=256)
def either_case(ranges: Ranges, flags: int = 0) -> Ranges:
    """The characters that are, but for their case, among these, as ``re.IGNORECASE`` has it.

    >>> [hex(first) for first, _ in either_case(((0x6B, 0x6C),))]          # k, and the Kelvin sign
    ['0x4b', '0x6b', '0x212a']
    """
    if not ranges:
        return ranges
    text = "".join(f"\\U{first:08x}-\\U{end - 1:08x}" for first, end in ranges)
    found = re.findall(f"[{text}]", _letters(), flags | re.IGNORECASE)
    return union([*ranges, *((ord(one), ord(one) + 1) for one in found)])


@lru_cache(maxsize=1)
def _letters() -> str:
    """All characters that have a case."""
    return "".join(one for one in map(chr, range(CODES)) if one.lower() != one or one.upper() != one)


def classes(sets: Sequence[Ranges]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes of code points that no set tells apart: (starts [n], class of each stretch [n], member [sets, classes]).

    The stretch i begins at starts[i] and ends where the next one begins; class -1 is in no set.
    """
    low, high = SURROGATES
    bounds = {0, low, high, CODES} | {bound for ranges in sets for pair in ranges for bound in pair}
    starts = np.array(sorted(bounds)[:-1])
    inside = np.zeros((len(sets), len(starts)), dtype=bool)
    for row, ranges in zip(inside, sets, strict=True):
        for first, end in ranges:
            row[np.searchsorted(starts, first) : np.searchsorted(starts, end)] = True
    inside[:, (starts >= low) & (starts < high)] = False  # no character, and no UTF-8
    member, kind = np.unique(inside, axis=1, return_inverse=True)
    kind = kind.reshape(-1)
    nobody = ~member.any(0)
    number = np.where(nobody, -1, np.cumsum(~nobody) - 1)
    return starts, number[kind], member[:, ~nobody]


def spelt(delta: np.ndarray, starts: np.ndarray, kind: np.ndarray, most: int) -> np.ndarray:
    """A table over classes of characters [states, classes] as one over the bytes of UTF-8, [states and more, 256].

    The states behind the given ones stand inside a character; those that go on alike are one. -1: no way.
    ``OverflowError`` when these are more than ``most``.
    """
    tree = _Tree(starts, kind)
    states = len(delta)
    delta = np.concatenate((delta, np.full((states, 1), -1, delta.dtype)), 1)  # class -1 leads nowhere
    inner: dict[bytes, int] = {}
    rows: list[np.ndarray] = []
    table = np.full((states, 256), -1, np.int32)
    levels = [np.array(nodes, dtype=np.int64).reshape(-1, 64) for nodes in tree.nodes]
    table[:, :0x80] = delta[:, tree.ascii]
    wide = np.unique(levels[0][levels[0] >= 0])  # the classes of longer characters
    for state in np.flatnonzero((delta[:, wide] >= 0).any(1)).tolist():
        to = delta[state]
        below = to
        if len(rows) > most:
            raise OverflowError
        for level, (nodes, (_, _, mark)) in enumerate(zip(levels, LENGTHS, strict=True)):
            found = np.full(len(nodes) + 1, -1, np.int32)
            for node, row in enumerate(below[nodes]):
                key = row.tobytes()
                if key not in inner and (row >= 0).any():
                    inner[key] = states + len(rows)
                    rows.append(row)
                found[node] = inner.get(key, -1)
            lead = tree.leads[level]
            table[state, mark : mark + len(lead)] = found[lead]
            below = found
    more = np.full((len(rows), 256), -1, np.int32)
    if rows:
        more[:, 0x80:0xC0] = rows
    return np.concatenate((table, more))


class _Tree:
    """UTF-8 as a tree over classes: equal subtrees are one node.

    nodes[0]: nodes before the last byte, a class for each of its 64 values; nodes[k]: one byte earlier, a node of
    nodes[k - 1] each. leads[k]: the node behind every first byte of a character of k + 2 bytes. -1: no character.
    """

    def __init__(self, starts: np.ndarray, kind: np.ndarray) -> None:
        self.starts, self.kind = starts, kind
        self.ascii = kind[np.searchsorted(starts, np.arange(0x80), "right") - 1]
        self.nodes: list[list[tuple[int, ...]]] = [[], [], []]
        self.known: list[dict[tuple[int, ...], int]] = [{}, {}, {}]
        self.leads: list[np.ndarray] = []
        for level, (first, end, _) in enumerate(LENGTHS):
            self.first, self.end = first, end
            block = 64 ** (level + 1)
            self.leads.append(np.array([self._node(level, lead * block) for lead in range(-(-end // block))]))

    def _node(self, level: int, begin: int) -> int:
        """The node of the ``64 ** (level + 1)`` code points from ``begin`` on; of a single one, its class."""
        if level < 0:
            inside = self.first <= begin < self.end
            return int(self.kind[np.searchsorted(self.starts, begin, "right") - 1]) if inside else -1
        block = 64 ** (level + 1)
        bounds = (self.first, self.end)
        at, to = np.searchsorted(self.starts, (begin, begin + block - 1), "right") - 1
        alike = at == to and not any(begin < bound < begin + block for bound in bounds)
        step = block // 64
        every = [begin] if alike else range(begin, begin + block, step)
        children = tuple(self._node(level - 1, start) for start in every) * (64 // len(every))
        if all(child < 0 for child in children):
            return -1
        found = self.known[level].setdefault(children, len(self.nodes[level]))
        if found == len(self.nodes[level]):
            self.nodes[level].append(children)
        return found
