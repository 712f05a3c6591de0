"""A next-token model as teacher: masked tokens learnt from its probabilities in place of one token each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention.kernels import make_mask
from ..attention.patterns import Causal, Pattern, Tags, dense
from ..errors import SettingError
from .batch import Batch

if TYPE_CHECKING:
    from ..nn import Transformer

__all__ = ["Teacher", "in_order"]


def in_order(network: Transformer, batch: Batch, pattern: Pattern) -> Tensor:
    """What the network makes of every token of the clean rows, [rows, n, hidden_size]."""
    index, document = batch.index, batch.document
    mask = make_mask(pattern, Tags(index, index, document, torch.zeros_like(document)))
    return network(batch.content, index if batch.place is None else batch.place, mask)


@dataclass(frozen=True, eq=False)
class Teacher:
    """p(x_i | what is seen) = E[p(x_i | x_<i) | what is seen], if all that is seen stands before i.

    So what a next-token model says behind x_<i of the text, tokens included that the student does not see, has the
    right mean as a target, and tells more than the one token that follows. It is the target of the masked tokens that
    see nothing but masks from their own place on. One that sees a later token has another distribution, and is learnt
    as it stands in the text; so is the first token of a document, and what is not read in the order of the text.

    Args:
        network: reads the student's tokens, or the first ids of them. It is not learnt, and follows the batch's device.
        temperature: T of p_T ~ p^(1/T), which stands for p above: of a teacher that draws at T, which below 1 is surer.

    Source: soft targets (arXiv:1503.02531), where the teacher's condition and the student's agree. Texts that the
    student itself wrote make it on-policy (arXiv:2306.13649). Raises ``SettingError`` for a temperature not above 0.

    >>> from interlace.attention.patterns import BlockCausal
    >>> i = torch.arange(5)[None]
    >>> tags = Tags(i, i // 3, torch.zeros_like(i), torch.ones_like(i))
    >>> masked = torch.tensor([[True, False, True, True, True]])
    >>> ahead_of_nothing(BlockCausal(), tags, masked, i).int().tolist()      # the first sees the second
    [[0, 0, 1, 1, 1]]
    """

    network: Transformer
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise SettingError(f"the teacher's temperature is {self.temperature}; pass a number above 0")

    def teaches(self, batch: Batch, pattern: Pattern, tags: Tags, masked: Tensor, at: Tensor) -> Tensor:
        """Which tokens of the noisy copies have its probabilities as target, boolean [rows, copies, n].

        masked, at: which of them are masks, and the place in the row of each one's text. tags [rows, m]: of the noisy
        copies, and of the clean one behind them if there is one.
        """
        rows, copies, n = masked.shape
        clean = tags.index.shape[1] // n - copies
        masked = F.pad(masked, (0, 0, 0, clean)).flatten(1)
        every = torch.cat([at, torch.arange(n, device=at.device).expand(rows, clean, n)], 1).flatten(1)
        follows = F.pad(batch.document[:, 1:] == batch.document[:, :-1], (1, 0))
        if batch.place is not None:
            follows &= batch.place == batch.index
        found = ahead_of_nothing(pattern, tags, masked, every).view(rows, -1, n)[:, :copies]
        return found & follows.unsqueeze(1).expand(at.shape).gather(2, at)

    @torch.no_grad()
    def __call__(self, batch: Batch, row: Tensor, at: Tensor, vocabulary: int) -> Tensor:
        """The probabilities of the tokens at places ``at`` of rows ``row``, [len(at), vocabulary]."""
        self.network.to(batch.content.device)
        hidden = in_order(self.network, batch, Causal())[row, at - 1]
        said = (self.network.head(hidden).float() / self.temperature).softmax(-1)
        return F.pad(said, (0, vocabulary - said.shape[-1]))


def ahead_of_nothing(pattern: Pattern, tags: Tags, masked: Tensor, at: Tensor) -> Tensor:
    """Masked tokens that see masks only from their own place on, [rows, m]; row by row, for the memory."""
    found = []
    for r in range(len(at)):
        sees = dense(pattern, Tags(*(t[r] for t in tags)))
        found.append(masked[r] & ~(sees & ~masked[r] & (at[r] >= at[r][:, None])).any(-1))
    return torch.stack(found)
