"""What is right and what is not, by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from interlace.tasks import Exact, Number, Tests, final_number
from interlace.tasks.tests import code


@pytest.mark.parametrize(
    ("completion", "right"),
    [("4", True), (" 4\n", True), ("four", True), ("4.", False), ("", False), ("4\n5", False), ("Four", False)],
)
def test_exact_text(completion: str, right: bool) -> None:
    assert Exact(answer=("4", "four"))("2+2=", completion).right is right


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 18", "18"),
        ("9 * 2 = 18\n#### 18\nQuestion: 7", "18"),
        ("#### 18\n\n#### 19", "18"),
        ("####\n18 is what it is, not 5", "18"),
        ("2 and 3 are\n#### none\n5", None),
        ("#### none, but 3 before", "3"),
        ("It costs $1,080.00.", "1080"),
        ("#### -$1,450,000", "-1450000"),
        ("$-3.50 and no more", "-3.50"),
        ("so 10-3=7", "7"),
        ("what is left of 10-3", "3"),
        ("(4)-3", "3"),
        ("x = -3.", "-3"),
        ("− 5, or −5", "-5"),
        ("about .5", "0.5"),
        ("1,2,3", "3"),
        ("12,34", "34"),
        ("1.5e3", "1500"),
        ("50%", "50"),
        ("18 eggs in the b12 box", "12"),
        ("none at all", None),
        ("", None),
    ],
)
def test_the_final_number(text: str, number: str | None) -> None:
    assert final_number(text) == (None if number is None else Decimal(number))


def test_numbers_are_compared_as_numbers() -> None:
    assert Number(answer=18)("", "18.00").right and Number(answer="18.0")("", "#### 18").right
    assert Number(answer=0.1)("", "that is 0.10").right
    assert not Number(answer=18)("", "18.01").right
    verdict = Number(answer=18)("", "I do not know")
    assert not verdict.right and verdict.said == "no number"
    # exactly, where floating point would not tell them apart
    assert not Number(answer="9007199254740993")("", "9007199254740992").right


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        ("\n    return a + b", "passed"),
        ("\n    return a - b", "AssertionError: assert add(1, 2) == 3"),
        ("\n    return a + c", "NameError: name 'c' is not defined"),
        ("\n    return a +", "SyntaxError"),
        ("\n    return a + b\n\nimport sys\nsys.exit(0)", "it left with 0 before its tests were done"),
        ("\n    return a + b\n\nraise SystemExit", "it left with None before its tests were done"),
        ("\n    return a + b\n\nimport os\nos._exit(0)", "it left with 0 before its tests were done"),
        ('\n    return a + b\n\ntext = """', "SyntaxError"),
    ],
)
def test_code_runs_its_tests(completion: str, said: str) -> None:
    verdict = Tests(tests=("assert add(1, 2) == 3", "assert add(0, 0) == 0"))("def add(a, b):", completion)
    assert verdict.said.startswith(said) and verdict.right is (said == "passed")


def test_a_prompt_in_prose_is_no_part_of_the_program() -> None:
    check = Tests(tests="assert f() == 1", prefix="import math\n")
    assert check("Write f!", "def f(): return math.floor(1.5)").right
    assert "SyntaxError" in Tests(tests="pass")("Write f!", "def f(): return 1").said


@pytest.mark.parametrize(
    ("completion", "found"),
    [
        ("    return 1", "    return 1"),
        ("Sure!\n```python\nx = 1\n```\nDone.\n```\ny\n```", "\nx = 1"),
        ("```\nx = 1\n```", "\nx = 1"),
        ("Sure:\n```\nx = 1\n```", "\nx = 1"),
        ("```py\nx = 1\n", "\nx = 1\n"),
        ("    return 1\n```\nIt returns 1.", "    return 1\n"),
        ('s = "```"', 's = "```"'),
    ],
)
def test_code_out_of_a_chat(completion: str, found: str) -> None:
    assert code(completion) == found
