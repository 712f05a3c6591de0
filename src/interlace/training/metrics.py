"""The numbers of a run: ``metrics.jsonl``, one object a line and every step once; TensorBoard on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import SettingError
from .state import cannot_write, sync, write_text

__all__ = ["Metrics"]


class Metrics:
    """Lines in ``folder/metrics.jsonl``; ``open`` cuts them back to the step that is resumed from.

    Raises ``SettingError`` at once if TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, tensorboard: bool = False) -> None:
        self.folder, self.path = folder, folder / "metrics.jsonl"
        self.writer = _summary_writer() if tensorboard else None
        self.board: Any = None

    def open(self, step: int) -> None:
        write_text(self.path, "".join(f"{line}\n" for line in self._until(step)))
        if self.writer is not None:
            self.board = self.writer(str(self.folder / "tensorboard"), purge_step=step + 1)

    def _until(self, step: int) -> list[str]:
        kept: list[str] = []
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return kept
        for line in lines:
            try:
                if json.loads(line)["step"] > step:
                    break
            except (ValueError, KeyError, TypeError):
                break  # the line that a kill cut short
            kept.append(line)
        return kept

    def write(self, facts: dict[str, Any]) -> None:
        """One line, in one write."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(facts) + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from error
        if self.board is not None:
            for name, value in facts.items():
                if name != "step":
                    self.board.add_scalar(name, value, facts["step"])

    def settle(self) -> None:
        """What was written is on the disk."""
        try:
            sync(self.path)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SettingError("TensorBoard is not installed; pip install 'interlace[tensorboard]'") from None
    return SummaryWriter
