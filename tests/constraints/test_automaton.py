"""Automata over tokens: the allowed tokens are exactly those with which the rest can be filled."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from interlace.constraints import OPEN, Automaton, compiled, lifted
from interlace.constraints import automaton as module
from interlace.errors import SettingError

WORDS = [b"", b"a", b"b", b"ab", b"ba", b"aab", b"\xc3", b"\xa9", "é".encode(), b"b"]
STOP, ALSO = 10, 11
PATTERNS = ["(ab|ba)*", "a{2,3}b?", "(a|é)+b", "é*", "a*b*", "(aab)?(ba)*é", "[^a]*a", "(a|b){4}", "ab|é|"]


def made(pattern: str, stop: tuple[int, ...]) -> Automaton:
    return lifted(compiled(pattern), [*WORDS, b"", b""]).ended_by(stop)


def fits(pattern: str, tokens: tuple[int, ...], stop: tuple[int, ...]) -> bool:
    """Whether a whole row is good: a text that matches, then stop tokens alone."""
    end = next((i for i, token in enumerate(tokens) if token in stop), len(tokens))
    words = [*WORDS, b"", b""]
    if any(token not in stop for token in tokens[end:]) or any(not words[token] for token in tokens[:end]):
        return False
    try:
        text = b"".join(words[token] for token in tokens[:end]).decode()
    except UnicodeDecodeError:
        return False
    return bool(re.fullmatch(pattern, text))


@given(
    st.sampled_from(PATTERNS),
    st.sampled_from([(), (STOP,), (STOP, ALSO), (WORDS.index(b"a"),), (STOP, WORDS.index(b"ab"), 2, 9)]),
    st.integers(0, 4),
    st.data(),
)
@settings(max_examples=120, deadline=None)
def test_the_mask_is_what_enumeration_finds(
    pattern: str, stop: tuple[int, ...], length: int, data: st.DataObject
) -> None:
    """Every row of the length, of which some tokens are known; what is behind the window is open.

    Some stop tokens spell text.
    """
    good = np.array([row for row in product(range(12), repeat=length) if fits(pattern, row, stop)], dtype=int)
    try:
        automaton = made(pattern, stop)
    except SettingError:
        assert not len(good)
        return
    assert bool(len(good)) == bool(automaton.ends(length)[automaton.start])
    assume(len(good) and length)
    row = good[data.draw(st.integers(0, len(good) - 1))]
    known = np.array(data.draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    window = data.draw(st.integers(1, length))
    known[window:] = False
    begin = data.draw(st.integers(0, window))  # the state before the window, from known tokens
    known[:begin] = True
    tokens = np.where(known, row, OPEN)
    left = [one for one in good if (one[known] == row[known]).all()]

    state = automaton.run(automaton.start, tokens[:begin].tolist())
    allowed = automaton.allowed(state, tokens[begin:window], length - window)[:, automaton.symbols]
    for i in range(begin, window):
        if not known[i]:
            assert set(np.flatnonzero(allowed[i - begin])) == {int(one[i]) for one in left}
    assert automaton.possible(state, tokens[begin:window], length - window)
    for token in range(12):  # one more token, right or wrong
        place = data.draw(st.integers(begin, window - 1)) if begin < window else 0
        if begin < window and not known[place]:
            trial = tokens[begin:window].copy()
            trial[place - begin] = token
            assert automaton.possible(state, trial, length - window) == any(one[place] == token for one in left)


def test_tokens_that_do_the_same_are_one_symbol() -> None:
    automaton = lifted(compiled("[ab]*c"), [b"a", b"bb", b"c", b"ac", b"d", b"ca", b"abab"])
    symbols = automaton.symbols.tolist()
    assert symbols[0] == symbols[1] == symbols[6] and symbols[2] == symbols[3] and symbols[4] == symbols[5] == 0
    assert automaton.count == 3 and automaton.states == 2


def test_many_states_are_followed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The automaton is the same however many states are followed at once."""
    text, words = compiled("(ab?){3,9}(é|b)*"), WORDS
    whole = lifted(text, words)
    monkeypatch.setattr(module, "SOME", 3)
    parts = lifted(text, words)
    rng = np.random.default_rng(0)
    for _ in range(200):
        row = rng.integers(1, len(WORDS), rng.integers(0, 8)).tolist()
        ends = [one.final[state] if (state := one.run(one.start, row)) >= 0 else None for one in (whole, parts)]
        assert ends[0] == ends[1]
    assert (whole.states, whole.count, len(whole.source)) == (parts.states, parts.count, len(parts.source))


def test_the_fewest_tokens() -> None:
    words = [b"a", b"aaa", b"b"]
    assert lifted(compiled("a{7}b?"), words).least() == 3
    odd = lifted(compiled("(aa)*"), [b"aa", b"aaaa"])
    assert [odd.least(n) for n in range(4)] == [0, 1, 2, 3]
    pairs = lifted(compiled("(aa)*"), [b"a"])
    assert [pairs.least(n) for n in range(4)] == [0, 2, 2, 4]
    assert lifted(compiled("a{2}"), [b"a"]).least(3) == -1


def test_behind_a_stop_token_there_are_only_stop_tokens() -> None:
    automaton = made("a", (STOP, ALSO))
    a = WORDS.index(b"a")
    assert automaton.run(automaton.start, [STOP]) == -1
    assert automaton.run(automaton.start, [a, STOP, a]) == -1
    assert automaton.final[automaton.run(automaton.start, [a, STOP, ALSO, STOP])]
    assert made("a", (STOP,)).run(0, [ALSO]) == -1  # spells nothing, and ends nothing


def test_a_stop_token_that_spells_text_is_none_of_the_text() -> None:
    """What it alone spelt is gone, with the states that only it led to; what others spell too stays."""
    words = [b"a", b"b", b"\n", b"ab", b"\n"]
    rows = lifted(compiled("(a\n)*b"), words)
    assert rows.ended_by((2,)).run(0, [0, 2]) == -1 and rows.ended_by((2,)).run(0, [0, 4]) >= 0
    alone = rows.ended_by((2, 4))
    assert [alone.least(n) for n in (0, 3)] == [1, 3]  # b, and stop tokens behind it
    assert alone.states == 3, "the first, that behind b, and the end"
    assert not alone.allowed(0, np.array([OPEN]), 0)[0, alone.symbols[0]], "a leads to no end"
    with pytest.raises(SettingError, match="no text that fits my pattern can be spelt without the stop tokens"):
        lifted(compiled("a\n"), words, "my pattern").ended_by((2, 4))


def test_a_text_that_cannot_be_spelt_is_refused() -> None:
    with pytest.raises(SettingError, match="the vocabulary cannot spell any text that fits my pattern"):
        lifted(compiled("ac"), WORDS, "my pattern")
    with pytest.raises(SettingError, match="my pattern matches no text at all"):
        lifted(compiled(r"[^\s\S]"), WORDS, "my pattern")
    assert lifted(compiled("ac|"), WORDS).least() == 0
    with pytest.raises(SettingError, match="cannot spell"):
        lifted(compiled("a"), [b"", b""])
