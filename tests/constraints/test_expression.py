"""Expressions as automata over bytes: they accept what ``re.fullmatch`` accepts, in UTF-8."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlace.constraints import compiled
from interlace.errors import SettingError

ITEMS = st.sampled_from(
    ["a", "b", "é", "\U0001f642", ".", "[ab]", "[^a]", "[a-cé-ü]", r"\d", r"\w", r"\s", r"\W", r"[^\w.]", r"\.", ""]
)


def joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    times = st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"])
    return (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})")
        | st.tuples(inner, times).map(lambda pair: f"(?:{pair[0]}){pair[1]}")
        | inner.map(lambda one: f"(?i:{one})")
        | inner.map(lambda one: f"(?s:({one}))")
    )


PATTERNS = st.recursive(ITEMS, joined, max_leaves=6)
TEXTS = st.text(st.sampled_from("abcABC1 .\n\té\U0001f642üÜßkK\u212a\u0660"), max_size=5)


@given(PATTERNS, st.lists(TEXTS, min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_it_accepts_what_fullmatch_accepts(pattern: str, texts: list[str]) -> None:
    automaton = compiled(pattern)
    for text in texts:
        assert automaton.matches(text.encode()) == bool(re.fullmatch(pattern, text)), (pattern, text)


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("^a|b$", ["a", "b", "ab"]),
        (r"\Aab\Z", ["ab", "a"]),
        ("(^a|x)b", ["ab", "xb", "b"]),
        ("a^b", ["ab"]),
        ("(?x) a  b # spaces", ["ab", "a b"]),
        ("(?a)\\d", ["1", "\u0660"]),
        ("(?P<year>[0-9]{2})", ["12", "1"]),
        ("", ["", "a"]),
        ("(a*)*b", ["aab", "b", "a"]),
        ("(?i)straSSe", ["STRASSE", "straße"]),
    ],
)
def test_what_the_random_ones_leave_out(pattern: str, texts: list[str]) -> None:
    for text in texts:
        assert compiled(pattern).matches(text.encode()) == bool(re.fullmatch(pattern, text)), text


def test_one_character_is_every_character_in_its_shortest_spelling() -> None:
    """``.`` with line ends: all of Unicode, nothing that UTF-8 forbids."""
    automaton = compiled("(?s).")
    rng = np.random.default_rng(0)
    edges = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]
    for code in [*edges, *rng.integers(0, 0xD800, 200).tolist(), *rng.integers(0xE000, 0x110000, 200).tolist()]:
        spelt = chr(code).encode()
        assert automaton.matches(spelt)
        assert not automaton.matches(spelt[:-1]) and not automaton.matches(spelt + b"\x80")
    for wrong in (
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf0\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xff",
        b"\x80",
    ):
        assert not automaton.matches(wrong)


def test_what_repeats_nothing_is_not_repeated() -> None:
    for pattern in ("(?:){4294967290}", "((|){99999}){99999}", "(?:a{0}){2,4294967290}"):
        assert compiled(pattern).matches(b"") and len(compiled(pattern).table) == 1


def test_alternatives_that_end_alike_share_their_end() -> None:
    end = "[0-9]{200}x"
    one, many = (len(compiled("|".join(f"{letter}{end}" for letter in letters)).table) for letters in ("a", "abcdefgh"))
    assert many == one


def test_repeats_of_text_cost_states_in_proportion() -> None:
    """Texts of JSON, where a character may be two: a hundred of them are no more than ten times ten."""
    character = r'(?:[^"\\]|\\["\\])'
    ten, hundred = (len(compiled(f'"{character}{{0,{n}}}"').table) for n in (10, 100))
    assert hundred < 11 * ten


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "unterminated subpattern"),
        ("a{3,2}", "min repeat greater than max"),
        ("[b-a]", "bad character range"),
        ("(?=x)y", "looks ahead or behind"),
        ("(?<!x)y", "looks ahead or behind"),
        (r"(x)\1", "refers back to a group"),
        (r"\bx", "border of a word or line"),
        ("(?m)^x", "border of a word or line"),
        ("x++", "possessive"),
        ("(?>x)", "atomic"),
        ("(a|b)*a(a|b){20}", "more than 20000 states"),
        ("((a{0,200}){0,200}){0,200}", "more than 20000 states"),
        ("((a{1,1000}){1,1000}){1,1000}", "more than 20000 states"),
        ("(?:a?b?c?){3000}", "too intricate"),
        ("".join(f"[{chr(0x100 + 3 * i)}-{chr(0x5000 + 3 * i)}]?" for i in range(3000)), "too many characters apart"),
        (r"\w{19000}", "states inside of characters"),
        ("a" * 200_001, "200000 are the most"),
        ("(" * 5000 + "a" + ")" * 5000, "nested|recursion"),
    ],
)
def test_what_no_automaton_can_hold_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(SettingError, match=why) as caught:
        compiled(pattern)
    assert len(str(caught.value)) < 250
