"""How far two sets of measurements are from each other, as two normal distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SettingError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["frechet"]


def frechet(one: np.ndarray, two: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the means and covariances of two samples [n, d].

    The square of the Fréchet (2-Wasserstein) distance between the normal distributions with these moments; known as
    FID when the measurements are a network's features (arXiv:1706.08500).

    >>> import numpy as np
    >>> line = np.linspace(-1, 1, 9)[:, None]
    >>> round(frechet(line, line + 3), 6)
    9.0
    """
    import numpy as np

    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1] or min(len(one), len(two)) < 2:
        raise SettingError(f"measurements are {one.shape} and {two.shape}; pass two rows or more of equal length")
    first, second = (np.atleast_2d(np.cov(sample, rowvar=False)) for sample in (one, two))
    # C1 C2 has the eigenvalues of a positive matrix; rounding alone makes them negative or complex
    roots = np.sqrt(np.linalg.eigvals(first @ second).real.clip(min=0.0))
    apart = np.square(one.mean(0) - two.mean(0)).sum()
    return max(0.0, float(apart + np.trace(first) + np.trace(second) - 2 * roots.sum()))
