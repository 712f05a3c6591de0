"""Names of pages: what the keys in them depend on."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ..generation import Row, Walk

__all__ = ["Chain"]


class Chain:
    """The names of a row's pages, in order.

    A page's keys follow from all tokens up to the last one that any of its own tokens sees, and from who saw whom; so
    its name is a digest of the name before it, of those tokens, and of the pattern and the layout. Keys of a row whose
    tokens are not at the places of the layout are named for nobody else.
    """

    def __init__(self, walk: Walk, row: Row, size: int, private: bytes = b"") -> None:
        self.walk, self.row, self.size = walk, row, size
        self.names: list[bytes] = []
        kinds = repr((walk.pattern, walk.layout)).encode()
        self.root = blake2b(kinds + private, digest_size=16).digest()

    def whole(self, tokens: int) -> int:
        """How many pages lie within the first ``tokens`` tokens, and end where units do that see each other."""
        pages = tokens // self.size
        while pages and self._sees(pages * self.size) != pages * self.size:
            pages -= 1
        return pages

    def upto(self, pages: int) -> list[bytes]:
        """Names of the first pages; all tokens that they depend on must be clean."""
        fresh = len(self.names)
        if fresh < pages:
            first = fresh * self.size
            known = self.walk.content[self.row.number, first : self._sees(pages * self.size)].to(torch.int32).cpu()
            for page in range(fresh, pages):
                start = page * self.size
                seen = known[start - first : self._sees(start + self.size) - first].numpy().tobytes()
                parent = self.names[-1] if self.names else self.root
                self.names.append(blake2b(parent + seen, digest_size=16).digest())
        return self.names[:pages]

    def _sees(self, tokens: int) -> int:
        """The end of all that the first ``tokens`` tokens see."""
        size = self.walk.layout.size
        return (self.walk.pattern.horizon((tokens - 1) // size, len(self.row.levels)) + 1) * size
