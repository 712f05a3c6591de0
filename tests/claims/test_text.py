"""The checks of the text systems beside SDAR, from end to end with next to no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from interlace.claims import efficient_dlm, fast_dllm_v2, tidar, wedlm, workbench
from interlace.claims.protocol import Arm
from interlace.claims.workbench import Budget
from interlace.training.batch import Batch, Rows
from interlace.worlds import additions
from interlace.worlds.tokenizer import END_ID

TINY: dict[str, Any] = {
    "base": 2, "further": 1, "rows": 2, "length": 96, "problems": 3, "hidden_size": 32, "num_layers": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def few_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(additions._DOCUMENTS, "train", 60)


def test_fast_dllm_v2() -> None:
    said: list[str] = []
    found = fast_dllm_v2.check(said.append, 4, fast_dllm_v2.Budget(**TINY, block_size=8, seeds=2))
    arms = found.arms
    fast = ["threshold 0.9", "threshold 0.9, sub-block cache"]
    names = ["AR continued", "one token a step", *fast, "independent masks", "no padding", "naive packing", "no shift"]
    assert list(arms) == names
    assert len(found.conditions) == 7 and found.seeds == [4, 5]
    assert len(said) == 7 + 6, "without the token shift one seed is trained"
    assert {arm.steps for arm in arms.values()} == {3}
    cached, exact = (arms[name].numbers for name in ("threshold 0.9, sub-block cache", "threshold 0.9"))
    assert cached["token slots per token"] < exact["token slots per token"]
    assert all(("worst seed" in arm.numbers) == (name != "no shift") for name, arm in arms.items())


def test_fast_dllm_v2_trains_the_arm_without_padding_on_shared_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one document, whole; in those of the recipe every document begins a block."""
    seen: dict[str, Batch] = {}
    seeds: set[int] = set()
    said: list[str] = []

    def train(network: Any, objective: Any, rows: Rows, settings: Any, on_log: Any) -> None:
        seen[said[-1].split(",")[0]] = rows.batch(range(4))
        seeds.add(settings.seed // 1000)
        on_log({"seconds": 0.0})

    monkeypatch.setattr(workbench, "train", train)
    found = fast_dllm_v2.check(said.append, 4, fast_dllm_v2.Budget(**TINY, block_size=8, seeds=2))
    assert seeds == {4, 5}
    padded, joined = seen["the recipe"], seen["naive packing"]
    for batch, apart in ((padded, True), (joined, False)):
        assert (batch.document > 0).any() == apart
        starts = (batch.index == 0) & (batch.document >= 0)
        assert (starts.nonzero()[:, 1] % 8 == 0).all()
    real = joined.document >= 0
    assert joined.document.amax() == 0 and (joined.index == torch.arange(TINY["length"]))[real].all()
    # a text ends inside of a block, and the next begins there; the end of all texts may be filled up
    ended = (joined.content[:, :-1] == END_ID) & (joined.document[:, 1:] >= 0)
    filled = (ended & (joined.content[:, 1:] == END_ID)).any(1)
    assert filled.sum() <= 1 and (ended[~filled].nonzero()[:, 1] % 8 != 7).any()
    apart = seen["no padding"]  # texts, each on its own, that end anywhere
    assert (apart.document > 0).any() and (((apart.index == 0) & (apart.document > 0)).nonzero()[:, 1] % 8 != 0).any()
    assert "worst seed" in found.arms["naive packing"].numbers


def test_fast_dllm_v2_judges_by_means() -> None:
    def arm(share: float, **more: float) -> Arm:
        numbers = {"exact match": share, "tokens per forward": 2.5, "token slots per token": 3.0}
        return Arm(numbers=numbers | more, steps=3, seconds=share)

    runs = [arm(0.9), arm(0.6)]
    mean = fast_dllm_v2._mean(runs)
    assert mean.numbers == {
        "exact match": pytest.approx(0.75), "tokens per forward": 2.5, "token slots per token": 3.0,
        "worst seed": 0.6, "best seed": 0.9,
    }  # fmt: skip
    assert mean.seconds == 0.8 and mean.steps == 3
    assert fast_dllm_v2._mean([runs[0]]) == runs[0]
    shares = {
        "AR continued": 0.77, "one token a step": 0.75, "threshold 0.9": 0.745, "threshold 0.9, sub-block cache": 0.74,
        "independent masks": 0.75, "no padding": 0.74, "naive packing": 0.1, "no shift": 0.9,
    }  # fmt: skip
    check = fast_dllm_v2._Check(print, 0, fast_dllm_v2.Budget(**TINY), Path("nowhere"))

    def held(**changes: float) -> dict[str, bool]:
        return check.findings({name: arm(share) for name, share in (shares | changes).items()}).conditions

    slots = "sub-block cache: a quarter of the token slots saved"
    assert {name for name, kept in held().items() if not kept} == {slots}
    for name, share, condition in (
        ("AR continued", 0.78, "recipe >= AR continued - 2 points"),
        ("independent masks", 0.76, "complementary masks >= independent ones"),
        ("no padding", 0.75, "padding to whole blocks > none"),
        ("threshold 0.9", 0.73, "threshold 0.9: at most 1 point lost"),
        ("threshold 0.9, sub-block cache", 0.73, "sub-block cache: at most 1 point lost"),
    ):
        assert {name for name, kept in held(**{name: share}).items() if not kept} == {slots, condition}


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
