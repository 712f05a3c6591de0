"""A row of which nothing is masked is drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from ..errors import SettingError
from ..grid import Noise
from .protocol import Masking

__all__ = ["Redrawn"]


@dataclass(frozen=True)
class Redrawn:
    """Another way of masking, given that it masks something: p(masks of a row | one at least), at most ``draws`` times.

    A row of which no token falls teaches nothing. Its levels and uniform numbers are drawn again, all of them; tokens
    that shared a level share the new one. Where nothing falls in ``draws`` draws, one token does, at its last level.
    The new numbers are a function of those that were drawn first, so of (seed, step, row) as they are.

    What falls is counted at the level itself: a process that masks a little more (``eps``) is not asked. Of a row of
    n tokens with one uniform level 1 / (n + 1) are empty, so a loss per row grows by (n + 1) / n.

    Args:
        masking: what masks. draws: how often, the first time included.

    Source: the training code of SDAR (arXiv:2510.06303). Raises ``SettingError`` for fewer draws than one.

    >>> from .independent import Independent
    >>> level, uniform, unit = torch.full((1, 4), 0.01), torch.full((1, 4), 0.5), torch.zeros(1, 4, dtype=torch.long)
    >>> level, uniform = Redrawn(Independent())(level, uniform, unit)
    >>> bool((uniform < level).any())
    True
    """

    masking: Masking
    draws: int = 10

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise SettingError(f"draws is {self.draws}; pass 1 or more")

    def __call__(self, level: Tensor, uniform: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        found_level, found = self.masking(level, uniform, unit)
        learns = unit >= 0
        idle = learns.any(1) & ~(learns & (found < found_level)).any(1)
        if not idle.any():
            return found_level, found
        found_level, found = found_level.clone(), found.clone()
        for row in idle.nonzero()[:, 0].tolist():
            found_level[row], found[row] = self._again(level[row], uniform[row], unit[row : row + 1])
        return found_level, found

    def _again(self, level: Tensor, uniform: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Levels and numbers [n] of a row, all drawn anew."""
        learns = unit[0] >= 0
        digest = blake2b(uniform.cpu().numpy().tobytes(), digest_size=8).digest()
        noise = Noise((int.from_bytes(digest, "little") >> 1,), level.device)
        values, shared = level.unique(return_inverse=True)
        new_level, new = self.masking(level[None], uniform[None], unit)
        for draw in range(1, self.draws):
            fresh = noise.uniform([0], [0], [draw], (len(values),))[:, shared]
            new_level, new = self.masking(fresh, noise.uniform([0], [1], [draw], (len(uniform),)), unit)
            if (learns & (new < new_level))[0].any():
                return new_level[0], new[0]
        chosen = learns.nonzero()[:, 0]
        one = chosen[int(noise.uniform([0], [2], [0], ()) * len(chosen))]
        new_level, new = new_level[0].clone(), new[0].clone()
        new_level[one].clamp_(min=torch.finfo(new_level.dtype).tiny)
        new[one] = 0.0
        return new_level, new
