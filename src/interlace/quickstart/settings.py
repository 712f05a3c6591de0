"""The settings of a quickstart."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["QuickstartSettings"]


class QuickstartSettings(BaseModel):
    """How long, with which models, and how much is measured. The defaults take under five minutes on two cores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = Field("base", description="autoregressive model to start from: a folder, or the bundled base")
    twin: str = Field("twin", description="its twin after a long adaptation: a folder, or the bundled twin")
    out: Path = Field(Path("quickstart"), description="folder for the adapted model, report.html and report.json")
    seconds: float = Field(110.0, gt=0, description="time for the adaptation")
    seed: int = Field(0, description="seed of the training, of the held-out sample and of all masks")
    prompts: int = Field(16, ge=2, description="held-out prompts that every model completes")
    length: int = Field(48, ge=4, description="tokens of a completion")
    holes: int = Field(16, ge=2, description="held-out holes that every model fills")
    thresholds: tuple[float, ...] = Field((1.0, 0.9, 0.8, 0.6), description="thresholds of the sweep")
    threshold: float = Field(0.9, ge=0, description="threshold of all that is not part of the sweep")
    shown: int = Field(3, ge=1, description="prompts whose completions are shown while they are written")
    block_size: int | None = Field(None, ge=1, description="tokens per block; by default that of the twin")
    batch_rows: int = Field(8, ge=1, description="rows per optimizer step of the adaptation")
    row_length: int = Field(256, ge=16, description="tokens per row of the adaptation")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of the adaptation")

    @property
    def sweep(self) -> tuple[float, ...]:
        """The thresholds from the surest to the fastest, ``threshold`` among them."""
        return tuple(sorted({*self.thresholds, self.threshold}, reverse=True))
