"""Questions and answers as training rows: the question is given, the answer is learnt, and its padding too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..errors import SettingError
from ..worlds.tokenizer import encode, encode_prompt
from .batch import Batch

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["AnswerRows"]


@dataclass(frozen=True)
class AnswerRows:
    """Row i is the prompt of ``problem(i)`` and its answer, padded with ``end_id`` to ``length`` tokens.

    The padding is learnt as the answer is (instruction tuning of LLaDA, arXiv:2502.09992). Shorter prompts leave the
    rows' ends without a document. Raises ``SettingError`` for an answer that is longer.
    """

    problem: Callable[[int], tuple[str, str]]
    tokenizer: Tokenizer
    length: int
    end_id: int

    def batch(self, numbers: Sequence[int]) -> Batch:
        prompts, rows = [], []
        for number in numbers:
            asked, solved = self.problem(number)
            prompt, answer = encode_prompt(self.tokenizer, asked), encode(self.tokenizer, solved)
            if len(answer) > self.length:
                raise SettingError(f"an answer of {len(answer)} tokens exceeds the length {self.length}; raise it")
            prompts.append(len(prompt))
            rows.append([*prompt, *answer, *[self.end_id] * (self.length - len(answer))])
        n = max(map(len, rows))
        content = torch.tensor([[*row, *[self.end_id] * (n - len(row))] for row in rows])
        index = torch.arange(n).repeat(len(rows), 1)
        known = torch.tensor(prompts)[:, None]
        document = torch.zeros_like(index).masked_fill(index >= known + self.length, -1)
        return Batch(content, document, index, list(numbers), given=index < known)
