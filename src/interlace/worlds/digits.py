"""Handwritten digits of 8 x 8 pixels that come with scikit-learn: the smallest real images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlace.errors import SettingError
from interlace.worlds.corpus import Split, is_heldout

if TYPE_CHECKING:
    import numpy as np

_HELDOUT_EVERY = 6


def digits(split: Split = "train") -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 8, 8, 1] float32 in [-1, 1], white on black, and their labels [n] int64, 0 to 9.

    Of the 1797 images about one in six is held out, by a hash of its place: always the same ones.

    >>> images, labels = digits("heldout")
    >>> images.shape[1:], int(labels.max())
    ((8, 8, 1), 9)
    """
    import numpy as np
    from sklearn.datasets import load_digits

    if split not in ("train", "heldout"):
        raise SettingError(f"split is '{split}'; pass 'train' or 'heldout'")
    found = load_digits()
    heldout = np.array([is_heldout(f"digits/{index}", _HELDOUT_EVERY) for index in range(len(found.target))])
    wanted = heldout == (split == "heldout")
    images = (found.images[wanted] / 8 - 1).astype(np.float32)[..., None]
    return images, found.target[wanted].astype(np.int64)
