"""The digits: range, shape, and a split that does not move."""

from __future__ import annotations

import numpy as np
import pytest

from interlace.errors import SettingError
from interlace.worlds.digits import digits


def test_digits():
    (images, labels), (heldout, heldout_labels) = digits(), digits("heldout")
    assert images.shape == (len(labels), 8, 8, 1) and images.dtype == np.float32 and labels.dtype == np.int64
    assert len(images) + len(heldout) == 1797 and 250 < len(heldout) < 350
    assert images.min() == -1 and images.max() == 1
    for part in (labels, heldout_labels):
        assert np.bincount(part, minlength=10).min() > len(part) * 0.07
    assert images[:, 0, 0].mean() < -0.9 and images.mean((0, 3))[3, 3] > 0, "white on black, upright"
    assert (digits("heldout")[0] == heldout).all()
    together = {image.tobytes() for image in images} & {image.tobytes() for image in heldout}
    assert not together
    with pytest.raises(SettingError, match="split"):
        digits("test")
