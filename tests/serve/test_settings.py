"""Settings at the edges of what they may be: an answer or a refusal, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Ask = Callable[..., Any]
EXTREMES = (0, 1, 5e-324, 1e308, 256, 0.5, True)


@pytest.mark.slow
def test_no_value_of_any_setting_breaks_a_system(ask: Ask) -> None:
    card = ask("/v1/models/twin").json()["interlace"]
    from interlace.systems import find

    for system in card["systems"]:
        for name in type(find(system).settings).model_fields:
            for value in EXTREMES:
                body = {"prompt": "def", "max_tokens": 5, "system": system, name: value, "seed": 1}
                answer = ask("/v1/completions", body)
                assert answer.status_code in (200, 400), (system, name, value, answer.text)
                assert answer.status_code == 200 or answer.json()["error"]["param"] == name, (system, answer.text)
