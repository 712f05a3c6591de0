"""The checks of the text systems beside SDAR, from end to end with next to no training."""

from __future__ import annotations

import pytest

from interlace.claims import efficient_dlm, fast_dllm_v2, tidar, wedlm
from interlace.claims.workbench import Budget
from interlace.worlds import additions

TINY = {"base": 2, "further": 1, "rows": 2, "length": 96, "problems": 3, "hidden_size": 32, "num_layers": 1}


@pytest.fixture(autouse=True)
def few_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(additions._DOCUMENTS, "train", 60)


def test_fast_dllm_v2() -> None:
    said: list[str] = []
    found = fast_dllm_v2.check(said.append, 4, Budget(**TINY, block_size=8))
    arms = found.arms
    fast = ["threshold 0.9", "threshold 0.9, sub-block cache"]
    assert list(arms) == ["AR continued", "one token a step", *fast, "independent masks", "no shift"]
    assert len(found.conditions) == 6 and len(said) == 5 and found.seeds == [4]
    assert {arm.steps for arm in arms.values()} == {3}
    cached, exact = (arms[name].numbers for name in ("threshold 0.9, sub-block cache", "threshold 0.9"))
    assert cached["token slots per token"] < exact["token slots per token"]


def test_tidar() -> None:
    found = tidar.check(lambda _: None, 4, Budget(**TINY, block_size=4))
    arms = found.arms
    assert list(arms)[:4] == ["AR continued", "TiDAR, trust 1", "TiDAR, trust 0", "random masks, trust 1"]
    assert len(found.conditions) == 5 and found.conditions["trust 0 within 2 points of trust 1"]
    assert arms["TiDAR, trust 1"].numbers["token slots per token"] >= 17 / 4
    assert arms["TiDAR, trust 1"].numbers["next-token loss"] > 0


def test_wedlm() -> None:
    found = wedlm.check(lambda _: None, 4, Budget(**TINY, block_size=8))
    arms = found.arms
    assert {f"{kind}, entropy {bound}" for kind in ("streaming", "blocks") for bound in wedlm.BOUNDS} <= set(arms)
    assert arms["streaming, entropy 0.4"].numbers["tokens per forward, counting"] > 0
    assert len(found.conditions) == 5


def test_efficient_dlm() -> None:
    found = efficient_dlm.check(lambda _: None, 4, Budget(**TINY, block_size=8))
    names = [
        "full attention",
        "noisy context",
        "clean context, shift",
        "clean context",
        "end of blocks",
        "begin of blocks",
    ]
    assert list(found.arms) == ["AR", *(f"{name}, {t}" for name in names for t in efficient_dlm.THRESHOLDS)]
    assert all(0 < found.arms[f"{name}, 1.0"].numbers["relative weight change"] < 1 for name in names)
    assert len(found.conditions) == 5
