"""From logits to candidates: temperature, top-k, top-p, and the confidence of what was drawn.

On a processor what is chosen, and how sure it is, is compiled (sampling.cpp): in one call what PyTorch's operators say.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .compiled import compiled
from .errors import SettingError

__all__ = ["Candidates", "Sampler", "best", "top"]

COLDEST = 1e-30
"""What a lower temperature is taken for: logits divided by it are still numbers, and different ones lie far apart."""
STRETCH = 128
"""Tokens whose weights are summed before they are cumulated."""


class Candidates:
    """What a prediction offers for every open token; tensors [m].

    token: the candidate. confidence: its probability in softmax(logits), where the sampler says what these logits are.
    entropy: of that distribution, in nats. margin: by how much the largest of its probabilities exceeds the second,
    whichever token was drawn. The last three are computed when they are asked for: plain decoding needs none of them.
    """

    def __init__(self, token: Tensor, logits: Tensor) -> None:
        self.token, self.logits = token, logits

    @cached_property
    def _sureness(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The largest logit, log sum exp(logits - largest), and the entropy where it comes with them, [m]."""
        logits = self.logits.contiguous()  # the same bits, however the rows lie
        native = _native(logits)
        if native is None:
            most = logits.amax(-1)
            return most, (logits - most[:, None]).exp_().sum(-1).log_(), None
        most, rest, entropy = (logits.new_empty(len(logits)) for _ in range(3))
        places = (tensor.data_ptr() for tensor in (most, rest, entropy))
        native.interlace_sureness(logits.data_ptr(), *logits.shape, *places, torch.get_num_threads())
        return most, rest, entropy

    def _logs(self, logits: Tensor) -> Tensor:
        """Log-probabilities of some logits of every token, [m, ...]."""
        most, rest, _ = self._sureness
        return logits - most[:, None] - rest[:, None]

    @cached_property
    def confidence(self) -> Tensor:
        return self._logs(self.logits.gather(-1, self.token[:, None]))[:, 0].exp()

    def likeliest(self, count: int) -> tuple[Tensor, Tensor]:
        """The ``count`` likeliest tokens and their log-probabilities, both [m, count]."""
        found = self.logits.topk(min(count, self.logits.shape[-1]), -1)
        return found.indices, self._logs(found.values)

    @cached_property
    def best(self) -> Candidates:
        """The same prediction, of which the likeliest token is taken."""
        found = Candidates(best(self.logits), self.logits)
        if "_sureness" in self.__dict__:
            found._sureness = self._sureness
        return found

    @cached_property
    def entropy(self) -> Tensor:
        most, rest, entropy = self._sureness
        if entropy is None:
            below = self.logits - most[:, None]
            weights = below.exp()
            entropy = rest - weights.mul_(below.clamp_min_(-1e4)).sum(-1) / rest.exp()
        return entropy

    @cached_property
    def margin(self) -> Tensor:
        first, second = self._logs(self.logits.topk(2, -1).values).exp().unbind(-1)
        return first - second


@dataclass(frozen=True)
class Sampler:
    """softmax(logits / temperature), cut to the ``top_k`` likeliest tokens and to the smallest set that holds
    ``top_p`` of the mass; temperature 0 is greedy.

    The confidence is the probability *before* the cuts (after them, ``top_k=1`` would make every candidate certain);
    in greedy decoding it is softmax(logits). A draw is made by one uniform number a token, so that a row draws the
    same token alone and in a batch.

    ``raw``: confidence, entropy and the cuts are those of softmax(logits), and the temperature acts on what is left.
    ``cut``: confidence, entropy and margin are those *after* the cuts, in greedy decoding too; ``top_p`` is then a
    share of the whole mass, and not of that of the ``top_k``.

    Raises ``SettingError`` for a negative temperature, top_k < 0, top_p outside (0, 1], or both ``raw`` and ``cut``.

    >>> candidates = Sampler()(torch.tensor([[0.0, 2.0]]), None)
    >>> candidates.token.tolist(), round(candidates.confidence.item(), 3)
    ([1], 0.881)
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    raw: bool = False
    cut: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise SettingError(f"temperature is {self.temperature}; pass 0 (greedy) or a positive number")
        if self.top_k < 0:
            raise SettingError(f"top_k is {self.top_k}; pass 0 (off) or a positive count")
        if not 0 < self.top_p <= 1:
            raise SettingError(f"top_p is {self.top_p}; pass a share in (0, 1], 1 is off")
        if self.raw and self.cut:
            raise SettingError("confidence before the temperature (raw) and after the cuts (cut); pass one of them")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0 or self.top_k == 1

    def __call__(self, logits: Tensor, uniform: Tensor | None) -> Candidates:
        """logits [m, vocab], uniform [m] in [0, 1) (unused and may be None when greedy)."""
        logits = logits.float()
        if self.temperature not in (0, 1) and not self.raw:  # 1 changes nothing
            logits = logits / max(self.temperature, COLDEST)
        if self.cut and (self.top_k or self.top_p < 1):
            logits = logits.where(self._cut(logits.softmax(-1)) > 0, float("-inf"))
        if self.greedy:
            return Candidates(best(logits), logits)
        assert uniform is not None
        weights = logits.softmax(-1) if self.cut else self._cut(logits.softmax(-1))
        if self.raw and self.temperature != 1:  # p ** (1 / T), scaled so that the likeliest stays 1
            weights = (weights / weights.amax(-1, keepdim=True)) ** (1 / self.temperature)
        return Candidates(drawn(weights, uniform), logits)

    def _cut(self, probabilities: Tensor) -> Tensor:
        whole = probabilities.sum(-1, keepdim=True)
        if 0 < self.top_k < probabilities.shape[-1]:
            least = probabilities.topk(self.top_k, -1).values[:, -1:]
            probabilities = probabilities.where(probabilities >= least, 0.0)
        if self.top_p < 1:
            ranked, order = probabilities.sort(-1, descending=True)
            before = ranked.cumsum(-1) - ranked
            kept = before < self.top_p * (whole if self.cut else ranked.sum(-1, keepdim=True))
            kept[..., 0] = True  # also where that product is too small for a float
            ranked = ranked.where(kept, 0.0)
            probabilities = torch.zeros_like(ranked).scatter(-1, order, ranked)
        return probabilities


@cache
def library() -> ctypes.CDLL | None:
    """The compiled source, or None where nothing can be compiled."""
    found = compiled(Path(__file__).with_suffix(".cpp"))
    if found is not None:
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        found.interlace_best.argtypes = [pointer, size, size, pointer]
        found.interlace_draw.argtypes = [pointer, pointer, size, size, pointer]
        found.interlace_top.argtypes = [pointer, pointer, pointer, size, size, pointer]
        found.interlace_sureness.argtypes = [pointer, size, size, pointer, pointer, pointer, ctypes.c_int]
        for function in (found.interlace_best, found.interlace_draw, found.interlace_top, found.interlace_sureness):
            function.restype = None
    return found


def _native(numbers: Tensor) -> ctypes.CDLL | None:
    """The compiled source where it can read these numbers: float32 rows on a processor."""
    if numbers.dtype is not torch.float32 or not numbers.is_cpu or numbers.dim() != 2 or not numbers.is_contiguous():
        return None
    return library() if numbers.numel() else None


def best(logits: Tensor) -> Tensor:
    """argmax of every row, int64 [m]; the first of equal ones."""
    native = _native(logits)
    if native is None:
        return logits.argmax(-1)
    found = torch.empty(len(logits), dtype=torch.long)
    native.interlace_best(logits.data_ptr(), *logits.shape, found.data_ptr())
    return found


def top(open: Tensor, score: Tensor, count: Tensor) -> Tensor:
    """The ``count[i]`` open tokens of highest score in row i (all open ones if there are fewer); ties to the left.

    >>> import torch
    >>> top(torch.tensor([[True, False, True]]), torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([1])).tolist()
    [[False, False, True]]
    """
    native = _native(score)
    if native is None or not open.is_contiguous() or not count.is_contiguous():
        order = score.masked_fill(~open, float("-inf")).argsort(dim=-1, descending=True, stable=True)
        rank = order.argsort(-1)
        return (rank < count[:, None]) & open
    found = torch.empty_like(open)
    native.interlace_top(open.data_ptr(), score.data_ptr(), count.data_ptr(), *score.shape, found.data_ptr())
    return found


def drawn(weights: Tensor, uniform: Tensor) -> Tensor:
    """The token at which the cumulated weight passes uniform * total; never one of weight 0.

    Cumulated over stretches of the vocabulary first, and inside one stretch then: a sum is cheaper than a cumulation.
    """
    native = _native(weights)
    if native is None or uniform.dtype is not torch.float32 or not uniform.is_contiguous():
        return _inverse(weights, uniform)
    found = torch.empty(len(weights), dtype=torch.long)
    native.interlace_draw(weights.data_ptr(), uniform.data_ptr(), *weights.shape, found.data_ptr())
    return found


def _inverse(weights: Tensor, uniform: Tensor) -> Tensor:
    m, vocabulary = weights.shape
    stretches = F.pad(weights, (0, -vocabulary % STRETCH)).view(m, -(-vocabulary // STRETCH), STRETCH)
    sums = stretches.sum(-1, dtype=torch.float64).cumsum(-1)
    which, before = _passed(sums, uniform.double() * sums[:, -1])
    inside = stretches.gather(1, which[:, None, None].expand(-1, 1, STRETCH))[:, 0].double().cumsum(-1)
    place, _ = _passed(inside, uniform.double() * sums[:, -1] - before)
    return (which * STRETCH + place).clamp_max(vocabulary - 1)


def _passed(cumulated: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Where rising numbers [m, n] first pass a goal [m], before the last of them is reached; and the number before.

    Of a row that is no distribution (NaN: nobody will ask for its draw) it is any place.
    """
    last = torch.nextafter(cumulated[:, -1], torch.zeros_like(goal))
    found = torch.searchsorted(cumulated, goal.minimum(last).clamp_min(0)[:, None], right=True)
    found = found.clamp_max(cumulated.shape[1] - 1)
    before = F.pad(cumulated, (1, 0)).gather(1, found)
    return found[:, 0], before[:, 0]
