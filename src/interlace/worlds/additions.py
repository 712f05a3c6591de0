"""A language of sums: additions with every carry written out, checked digit by digit.

A line of the three-digit world, always 40 characters and a line end::

    357+684=|7+4+0=11|5+8+1=14|3+6+1=10|1041

Each step adds two digits, from the last to the first, and the carry of the step before. The prompt is what stands up
to the first ``=``, the completion is the rest. A few lines are of other kinds (``copy``, ``count``, ``flip``), so
that the language has more than one form.

>>> world = Additions()
>>> [prompt] = world.prompts(1)
>>> world.verify(prompt, world.complete(prompt))
True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from interlace.errors import SettingError
from interlace.worlds.corpus import Document, Split, is_heldout

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ALPHABET = "0123456789+=|\n copyuntfli"
"""Every character of the language."""

_DOCUMENTS = {"train": 50_000, "heldout": 1_000}
_OTHERS = ("copy", "count", "flip")


@dataclass(frozen=True)
class Additions:
    """Lines about numbers of ``digits`` digits, of which the part ``templates`` is not an addition.

    A line is a function of (seed, split, index). A pair of operands, in either order, is held out or trained on,
    never both; so is the operand of the other kinds.
    """

    digits: int = 3
    templates: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.digits <= 30:
            raise SettingError(f"digits is {self.digits}; pass 2 to 30")
        if not 0 <= self.templates <= 1:
            raise SettingError(f"templates is {self.templates}; pass a part between 0 and 1")

    def line(self, index: int, split: Split = "train") -> str:
        """Line ``index`` of a split, with its line end."""
        prompt = self._prompt(self.seed, split, index, self.templates)
        return prompt + self.complete(prompt)

    def documents(self, split: Split = "train", count: int | None = None) -> Iterator[Document]:
        """The first ``count`` lines, a document each; by default 50 000 for training and 1 000 held out."""
        for index in range(_DOCUMENTS[split] if count is None else count):
            yield Document(f"additions/{split}/{index}", self.line(index, split))

    def prompts(self, count: int, seed: int = 0) -> list[str]:
        """``count`` different held-out additions, up to their ``=``."""
        found: dict[str, None] = {}
        for index in range(20 * count + 100):
            if len(found) == count:
                break
            found.setdefault(self._prompt(seed, "heldout", index, 0.0))
        if len(found) < count:
            raise SettingError(f"{self.digits} digits give no {count} different prompts; ask for fewer")
        return list(found)

    def complete(self, prompt: str) -> str:
        """The one right completion, with its line end."""
        if match := re.fullmatch(rf"([0-9]{{{self.digits}}})\+([0-9]{{{self.digits}}})=", prompt):
            first, second = match.groups()
            carry, work, total = 0, "", int(first) + int(second)
            for a, b in zip(reversed(first), reversed(second), strict=True):
                step = int(a) + int(b) + carry
                work += f"|{a}+{b}+{carry}={step:02}"
                carry = step // 10
            return f"{work}|{total:0{self.digits + 1}}\n"
        if match := re.fullmatch(rf"({'|'.join(_OTHERS)}) ([0-9]{{{self.digits}}})=", prompt):
            kind, number = match.groups()
            if kind == "count":
                return "".join(f"|{int(number) + i:0{self.digits + 1}}" for i in range(1, 5)) + "\n"
            return f"|{number if kind == 'copy' else number[::-1]}\n"
        raise SettingError(f"{prompt!r} is no prompt of {self.digits} digits; write one like {self.prompts(1)[0]}")

    def verify(self, prompt: str, completion: str) -> bool:
        """Whether the completion is right in every character, the carries too; its line end may be missing."""
        return completion.removesuffix("\n") == self.complete(prompt).removesuffix("\n")

    def tokenizer(self) -> Tokenizer:
        """One token per character of :data:`ALPHABET`."""
        from interlace.worlds.tokenizer import character_tokenizer

        return character_tokenizer(ALPHABET)

    def _prompt(self, seed: int, split: Split, index: int, templates: float) -> str:
        if split not in _DOCUMENTS:
            raise SettingError(f"split is '{split}'; pass 'train' or 'heldout'")
        top, attempt = 10**self.digits, 0
        while True:
            key = f"{seed}/{split}/{index}/{attempt}".encode()
            attempt += 1
            random = int.from_bytes(blake2b(key).digest(), "big")  # 512 bits, enough for all that is drawn
            random, kind = divmod(random, 1_000_000)
            random, first = divmod(random, top)
            random, second = divmod(random, top)
            if kind < 1_000_000 * templates:
                name = _OTHERS[random % len(_OTHERS)]
                prompt = key_of_operands = f"{name} {first:0{self.digits}}="
            else:
                prompt = f"{first:0{self.digits}}+{second:0{self.digits}}="
                key_of_operands = f"{min(first, second)}+{max(first, second)}"
            if is_heldout(key_of_operands) == (split == "heldout"):
                return prompt
