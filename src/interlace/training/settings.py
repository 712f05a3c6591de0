"""The settings of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from ..hardware import fast_bfloat16

__all__ = ["TrainSettings"]


class TrainSettings(BaseModel):
    """Everything that decides a run besides the network, the objective and the rows.

    ``batch_rows`` is the number of rows of one optimizer step, over all processes and accumulation steps together, so
    that the run is the same however it is divided.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path = Field(description="directory of the run: checkpoints, metrics and the finished model")
    steps: int = Field(1000, ge=1, description="optimizer steps")
    batch_rows: int = Field(32, ge=1, description="rows per optimizer step, over all processes")
    accumulation: int = Field(1, ge=1, description="forwards per optimizer step in each process")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    warmup: int = Field(50, ge=0, description="steps of linear warm-up")
    shape: Literal["constant", "wsd", "cosine"] = Field("wsd", description="learning rate after the warm-up")
    decay: float = Field(0.2, ge=0, le=1, description="share of the run in which wsd falls to 0")
    weight_decay: float = Field(0.1, ge=0, description="decoupled weight decay of matrices")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="adamw, or muon for the matrices of the blocks")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights that are saved; 0: none")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="autocast precision; auto: bf16 where the device is fast at it"
    )
    compile: bool = Field(False, description="torch.compile the network")
    seed: int = Field(0, description="seed of the row order and of all noise")
    evaluate_every: int = Field(250, ge=1, description="steps between held-out evaluations")
    evaluate_rows: int = Field(32, ge=1, description="held-out rows per evaluation")
    checkpoint_every: int = Field(250, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, description="checkpoints kept")
    seconds: float | None = Field(None, gt=0, description="end the run after this time, with the rate decayed by it")
    tensorboard: bool = Field(False, description="also write TensorBoard events")

    def autocast(self, device: str | torch.device) -> str:
        """``precision`` as it is on a device: bf16 or fp32."""
        return self.precision if self.precision != "auto" else "bf16" if fast_bfloat16(device) else "fp32"
