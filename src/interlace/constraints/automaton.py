"""An automaton over tokens: which tokens may stand where, if the whole is to be a text that matches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import SettingError
from .expression import Bytes

__all__ = ["OPEN", "Automaton", "lifted"]

OPEN = -1
"""A token that is not known."""

SOME = 1024
"""States that are followed through the tree of words at once: what bounds the memory of ``lifted``."""


@dataclass(eq=False)
class Automaton:
    """A deterministic automaton over tokens. Tokens that move every state alike are one *symbol*.

    symbols: int32 [vocabulary], the symbol of every token; 0 moves no state. source, symbol, target: int32
    [transitions], sorted by source; of every symbol there is a token. final: bool [states], where a text may end. Every
    state can be reached, and from every state a final one. name: what messages call it.
    """

    start: ClassVar[int] = 0
    """The first state."""

    symbols: np.ndarray
    source: np.ndarray
    symbol: np.ndarray
    target: np.ndarray
    final: np.ndarray
    name: str = "the constraint"
    _ends: list[np.ndarray] = field(default_factory=list, repr=False)
    _ended: dict[tuple[int, ...], Automaton] = field(default_factory=dict, repr=False)
    _on: dict[torch.device, torch.Tensor] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """What makes it, and how it ends; not what is worked out on the way."""
        kept = {name: getattr(self, name) for name in ("symbols", "source", "symbol", "target", "final", "name")}
        return kept | {"_ends": [], "_ended": dict(self._ended), "_on": {}}

    @property
    def states(self) -> int:
        return len(self.final)

    @property
    def bytes(self) -> int:
        """Of memory, without what is worked out on the way."""
        return sum(part.nbytes for part in (self.symbols, self.source, self.symbol, self.target, self.final))

    @cached_property
    def count(self) -> int:
        """Symbols, 0 included."""
        return 1 + int(self.symbols.max(initial=0))

    @cached_property
    def _moves(self) -> tuple[np.ndarray, np.ndarray]:
        """Source and target of all transitions, whatever the symbol."""
        pairs = np.unique(self.source.astype(np.int64) * self.states + self.target)
        return pairs // self.states, pairs % self.states

    @cached_property
    def _first(self) -> np.ndarray:
        """Where the transitions of a state begin."""
        return np.searchsorted(self.source, np.arange(self.states + 1))

    @cached_property
    def _by_symbol(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        order = np.argsort(self.symbol, kind="stable")
        return self.source[order], self.target[order], np.searchsorted(self.symbol[order], np.arange(self.count + 1))

    def on(self, device: torch.device) -> torch.Tensor:
        """The symbol of every token, on a device."""
        if device not in self._on:
            self._on[device] = torch.from_numpy(self.symbols).long().to(device)
        return self._on[device]

    def _with(self, token: int) -> tuple[np.ndarray, np.ndarray]:
        """Source and target of the transitions that a token makes; of an open one, all."""
        if token == OPEN:
            return self._moves
        source, target, first = self._by_symbol
        symbol = int(self.symbols[token])
        stretch = slice(first[symbol], first[symbol + 1])
        return source[stretch], target[stretch]

    def run(self, state: int, tokens: Sequence[int]) -> int:
        """The state behind known tokens, -1 if they cannot stand there."""
        for token in tokens:
            source, target = self._with(int(token))
            found = target[source == state]
            if not len(found):
                return -1
            state = int(found[0])
        return state

    def ended_by(self, stop: Sequence[int]) -> Automaton:
        """The same with an end: behind a whole text stop tokens may stand, and behind them nothing else.

        Stop tokens stand nowhere else: one that spells text is none of the text's tokens any more. Without any, the
        automaton itself: a text then fills its place exactly.

        Raises ``SettingError`` when no text can be spelt without the stop tokens.

        >>> from interlace.constraints.expression import compiled
        >>> automaton = lifted(compiled("a|bc"), [b"a", b"b", b"c", b""])
        >>> [automaton.ended_by(stop).least() for stop in ((), (3,), (0, 3))]
        [1, 1, 2]
        """
        key = tuple(sorted({token for token in stop if 0 <= token < len(self.symbols)}))
        if not key:
            return self
        if key not in self._ended:
            symbols, over, end = self.symbols.astype(np.int64) - 1, self.count, self.states
            symbols[list(key)] = over
            left = np.isin(self.symbol - 1, symbols)  # what one of the other tokens does
            whole = np.append(np.flatnonzero(self.final), end)
            self._ended[key] = _trimmed(
                symbols,
                np.concatenate((self.source[left], whole)),
                np.concatenate((self.symbol[left] - 1, np.full(len(whole), over))),
                np.concatenate((self.target[left], np.full(len(whole), end))),
                np.append(self.final, True),
                self.name,
                f"no text that fits {self.name} can be spelt without the stop tokens, which only end one; pass others",
            )
        return self._ended[key]

    def ends(self, left: int) -> np.ndarray:
        """bool [states]: from where the row can end well in exactly ``left`` more tokens, stop tokens included."""
        if not self._ends:
            self._ends.append(self.final)
        source, target = self._moves
        while len(self._ends) <= left:
            before = np.zeros(self.states, dtype=bool)
            before[source[self._ends[-1][target]]] = True
            if np.array_equal(before, self._ends[-1]):
                return before  # from here on it stays so
            self._ends.append(before)
        return self._ends[left]

    def least(self, length: int = 0, limit: int = 100_000) -> int:
        """The fewest tokens, ``length`` or more, in which the row can end well; -1 if there are none."""
        for left in range(length, length + limit):
            ends = self.ends(left)
            if ends[self.start]:
                return left
            if left >= len(self._ends) or not ends.any():
                break
        return -1

    def allowed(self, state: int, tokens: np.ndarray, left: int) -> np.ndarray:
        """Which symbols an open token may have, so that the other open ones can be filled and the row ends well.

        tokens: int64 [n] behind ``state``, ``OPEN`` where nothing is known. left: tokens behind these. Returns bool
        [n, symbols]; of a known token, what might stand in its place. With F_i the states that the tokens before i
        allow, and B_i those from which the tokens from i on and ``left`` more can end well, v is allowed at i if some
        state of F_i goes by v to one of B_i+1.

        Exact for one token at a time: two that are allowed alone may not be allowed together (see ``possible``).
        """
        ahead, behind = self._reach(state, tokens, left)
        found = np.zeros((len(tokens), self.count), dtype=bool)
        for i in range(len(tokens)):
            here = np.flatnonzero(ahead[i])
            if len(here) == 1:
                some = slice(self._first[here[0]], self._first[here[0] + 1])
                found[i, self.symbol[some][behind[i + 1][self.target[some]]]] = True
            elif len(here):
                found[i, self.symbol[ahead[i][self.source] & behind[i + 1][self.target]]] = True
        return found

    def possible(self, state: int, tokens: np.ndarray, left: int) -> bool:
        """Whether the open tokens can be filled so that the row ends well."""
        ahead, _ = self._reach(state, tokens, left)
        return bool(ahead[-1].any())

    def _reach(self, state: int, tokens: np.ndarray, left: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        behind = [self.ends(left)]
        for token in tokens[::-1].tolist():
            source, target = self._with(token)
            before = np.zeros(self.states, dtype=bool)
            before[source[behind[-1][target]]] = True
            behind.append(before)
        behind.reverse()
        now = np.zeros(self.states, dtype=bool)
        if state >= 0:
            now[state] = True
        ahead = [now & behind[0]]
        for token, goal in zip(tokens.tolist(), behind[1:], strict=True):
            source, target = self._with(token)
            now = np.zeros(self.states, dtype=bool)
            now[target[ahead[-1][source]]] = True
            ahead.append(now & goal)
        return ahead, behind


def lifted(text: Bytes, words: Sequence[bytes], name: str = "the constraint") -> Automaton:
    """The automaton over tokens whose texts are those of ``text``, spelt with ``words``; an empty word stands nowhere.

    What a word does to the states is what its last byte does to what the bytes before it did. Few different things are
    ever done, so a vocabulary of 150,000 words costs about as much as one of 2,000.

    Raises ``SettingError`` when nothing that matches can be spelt.

    >>> from interlace.constraints.expression import compiled
    >>> automaton = lifted(compiled("ab*"), [b"", b"a", b"b", b"bb", b"abb", b"c"])
    >>> automaton.symbols.tolist(), automaton.least()
    ([0, 2, 1, 1, 2, 0], 1)
    """
    if not text.final.any():
        raise SettingError(f"{name} matches no text at all; correct it")
    _, columns, kind = np.unique(text.table, axis=1, return_index=True, return_inverse=True)
    given = np.array([token for token, word in enumerate(words) if word], dtype=np.int64)
    tree = _Tree.of([words[token] for token in given], kind.reshape(-1), len(columns))
    parts = list(tree.deeds(text.table[:, columns]))
    symbol = np.zeros(len(given), dtype=np.int64)
    for _, deed, _ in parts:
        _, symbol = np.unique(symbol * (int(deed.max(initial=0)) + 2) + deed, return_inverse=True)
    _, example = np.unique(symbol, return_index=True)  # a word for every symbol
    edges = [
        (low + states, np.full(len(states), one), to[states])
        for low, deed, done in parts
        for one, to in ((one, done[deed[word]]) for one, word in enumerate(example) if deed[word] >= 0)
        for states in (np.flatnonzero(to >= 0),)
    ]
    source, over, target = (
        np.concatenate([edge[i] for edge in edges]) if edges else np.zeros(0, np.int64) for i in range(3)
    )
    symbols = np.full(len(words), -1, dtype=np.int64)
    symbols[given] = symbol
    lacking = f"the vocabulary cannot spell any text that fits {name}; change it, or use a model of another tokenizer"
    return _trimmed(symbols, source, over, target, text.final, name, lacking)


def _trimmed(
    symbols: np.ndarray,
    source: np.ndarray,
    symbol: np.ndarray,
    target: np.ndarray,
    final: np.ndarray,
    name: str,
    lacking: str,
) -> Automaton:
    """Without the states that are not reached, or from which no end is, and the symbols that only lead there.

    symbols: -1 for a token that moves no state. lacking: what is said when nothing is left.
    """
    kept = _reached(np.arange(len(final)) == 0, source, target) & _reached(final, target, source)
    if not kept[0]:
        raise SettingError(lacking)
    here = kept[source] & kept[target]
    state = np.cumsum(kept) - 1
    source, symbol, target = state[source[here]], symbol[here], state[target[here]]
    order = np.lexsort((symbol, source))
    renamed = np.zeros(int(symbols.max(initial=-1)) + 2, dtype=np.int32)  # the last one is that of -1
    used = np.unique(symbol)
    renamed[used] = np.arange(1, len(used) + 1)
    source, symbol, target = (part[order].astype(np.int32) for part in (source, renamed[symbol], target))
    return Automaton(renamed[symbols], source, symbol, target, final[kept], name)


def _reached(begin: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """bool [states]: what is reached from the states in ``begin``. Every transition is looked at once."""
    order = np.argsort(source, kind="stable")
    first, to = np.searchsorted(source[order], np.arange(len(begin) + 1)), target[order]
    found, new = begin.copy(), np.flatnonzero(begin)
    while len(new):
        count = first[new + 1] - first[new]
        edges = np.repeat(first[new] - np.cumsum(count) + count, count) + np.arange(count.sum())
        goals = to[edges]
        new = np.unique(goals[~found[goals]])
        found[new] = True
    return found


@dataclass(frozen=True)
class _Tree:
    """Words over kinds of bytes as a tree, level by level; node 0 is the root.

    parent, kind: of every node. leaf: the node of every word; words of equal kinds share theirs. levels: where the
    nodes of every level begin, and where the last ones end.
    """

    parent: np.ndarray
    kind: np.ndarray
    leaf: np.ndarray
    levels: list[int]

    @classmethod
    def of(cls, words: Sequence[bytes], kind: np.ndarray, kinds: int) -> _Tree:
        lengths = np.array([len(word) for word in words], dtype=np.int64)
        letters = kind[np.frombuffer(b"".join(words), dtype=np.uint8)]
        begin = np.cumsum(lengths) - lengths
        leaf, left = np.zeros(len(words), dtype=np.int64), np.arange(len(words))
        parents, below, levels = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)], [0, 1]
        for depth in range(int(lengths.max(initial=0))):
            left = left[lengths[left] > depth]
            ways, which = np.unique(leaf[left] * kinds + letters[begin[left] + depth], return_inverse=True)
            leaf[left] = levels[-1] + which
            parents.append(ways // kinds)
            below.append(ways % kinds)
            levels.append(levels[-1] + len(ways))
        return cls(np.concatenate(parents), np.concatenate(below), leaf, levels)

    def deeds(self, table: np.ndarray) -> Iterator[tuple[int, np.ndarray, list[np.ndarray]]]:
        """What every word does to the states, some states at a time: (first state, deed [words], deeds).

        deeds[k]: the states behind those that begin at the first one; -1: none. deed -1: no state outlives the word.
        """
        kinds = table.shape[1]
        table = np.concatenate((table, np.full((1, kinds), -1, table.dtype)))  # row -1: no state, whatever follows
        for low in range(0, len(table) - 1, SOME):
            states = np.arange(low, min(low + SOME, len(table) - 1), dtype=table.dtype)
            done, number = [states], {states.tobytes(): 0}
            deed = np.full(len(self.parent), -1, dtype=np.int64)
            deed[0] = 0
            for begin, end in zip(self.levels[1:], self.levels[2:], strict=False):
                before = deed[self.parent[begin:end]]
                alive = np.flatnonzero(before >= 0)
                ways, which = np.unique(before[alive] * kinds + self.kind[begin + alive], return_inverse=True)
                found = np.full(len(ways), -1)
                for i, way in enumerate(ways.tolist()):
                    to = table[done[way // kinds], way % kinds]
                    if (to >= 0).any():
                        found[i] = number.setdefault(to.tobytes(), len(done))
                        if found[i] == len(done):
                            done.append(to)
                deed[begin + alive] = found[which]
            yield low, deed[self.leaf], done
