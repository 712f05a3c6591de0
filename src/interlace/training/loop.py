"""The training loop: one function for every objective, on one process or many.

A step is a pure function of the weights, the seed and the step's number: its rows are numbered
``step * batch_rows ...`` and its noise is indexed by row number. That is what makes a run resumable, and the same on
one process as on several.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingError
from ..nn import Transformer
from .batch import Batch, Rows
from .objectives import Objective
from .optimizers import learning_rate, make_optimizers
from .progress import Progress
from .settings import TrainSettings
from .state import full_state, latest, load_state, restore_state, save_state

__all__ = ["Probe", "evaluate", "train"]

Probe = Callable[[Transformer], dict[str, float]]
"""A measurement made at every evaluation, by name (for example the tokens per forward of a decode)."""


class Learner(nn.Module):
    """The network and its objective as one module, so that wrappers (DDP, FSDP2) see a single forward."""

    def __init__(self, network: Transformer, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, batch: Batch, seed: int, step: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        return tuple(self.objective(self.network, batch, seed, step))  # type: ignore[return-value]


@torch.no_grad()
def evaluate(
    network: Transformer, objective: Objective, rows: Rows, count: int, seed: int = 0, at_once: int = 8, draws: int = 1
) -> dict[str, float]:
    """Mean loss per label token over ``count`` rows (nats, or squared error), and its standard error over rows.

    The noise is fixed by ``seed``, so two models are compared on the same draws. For a masked process the loss is the
    Monte-Carlo estimate of the bound on the negative log-likelihood; ``draws`` repeats every row under fresh noise.
    """
    was = network.training
    network.eval()
    totals, counts = [], []
    for draw in range(draws):
        for first in range(0, count, at_once):
            batch = rows.batch(range(first, min(first + at_once, count))).to(next(network.parameters()).device)
            loss = objective(network, batch, seed, -1 - draw)
            totals.append(float(loss.total))
            counts.append(float(loss.count))
    network.train(was)
    if not sum(counts):
        raise SettingError("the held-out rows hold no token to predict; pass a longer corpus")
    mean = sum(totals) / sum(counts)
    size = len(totals)
    spread = sum((t - mean * c) ** 2 for t, c in zip(totals, counts, strict=True))
    error = math.sqrt(spread * size / max(1, size - 1)) / sum(counts)
    return {"loss": mean, "standard_error": error}


def train(
    network: Transformer,
    objective: Objective,
    rows: Rows,
    settings: TrainSettings,
    held_out: Rows | None = None,
    probes: list[Probe] | None = None,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    accelerator: Any = None,
) -> Transformer:
    """Train the network in place and return it (with averaged weights, if ``settings.ema``).

    Resumes by itself when ``settings.out`` holds checkpoints of the same run. Leaves ``training/`` there: checkpoints,
    ``metrics.jsonl`` (one object a line: step, loss, learning rate, gradient norm, tokens per second; ``held_out_*`` at
    evaluations) and ``settings.json``.

    Raises ``SettingError`` when the rows cannot be divided over processes and accumulation steps, or when the
    directory belongs to a run with other settings; ``CheckpointError`` when a checkpoint cannot be written or read.
    """
    from accelerate import Accelerator

    accelerator = accelerator or Accelerator(
        mixed_precision="bf16" if settings.precision == "bf16" else "no",
        cpu=not torch.cuda.is_available(),
    )
    parts = accelerator.num_processes * settings.accumulation
    if settings.batch_rows % parts:
        raise SettingError(
            f"batch_rows {settings.batch_rows} cannot be divided into {accelerator.num_processes} processes x "
            f"{settings.accumulation} accumulation steps; change one of them"
        )
    main = accelerator.is_main_process
    folder = settings.out / "training"
    if main:
        _claim(folder, settings)
    accelerator.wait_for_everyone()

    if settings.compile:
        network.compile(dynamic=False)
    learner = Learner(network, objective)
    learner.train()
    model = accelerator.prepare(learner)
    optimizers = make_optimizers(
        ((n.removeprefix("module."), p) for n, p in model.named_parameters()), settings.optimizer, settings.weight_decay
    )
    average = {n: p.detach().clone().float() for n, p in model.named_parameters()} if settings.ema else {}

    step, spent = 0, 0.0
    found = latest(folder / "checkpoints")
    if found is not None:
        tensors, facts = load_state(found)
        restore_state(model, optimizers, tensors["model"], tensors["optimizer"])
        if average:
            average = _matching(model, tensors["average"], average)
        step, spent = facts["step"], facts["seconds"]
    log = _Log(folder, step, settings.tensorboard) if main else None
    mine = settings.batch_rows // parts
    began = time.monotonic() - spent
    stopped = False

    def checkpoint() -> None:
        weights, state = full_state(model, optimizers)
        tensors = {"model": weights, "optimizer": state}
        if average:
            tensors["average"] = {n: _whole(p) for n, p in average.items()}
        if main:
            facts = {"seconds": time.monotonic() - began, "settings": json.loads(settings.model_dump_json())}
            save_state(folder / "checkpoints", step, tensors, facts, settings.keep)
        accelerator.wait_for_everyone()

    def assess() -> dict[str, float]:
        facts: dict[str, float] = {}
        saved = _swap(model, average) if average else None
        if held_out is not None:
            with accelerator.autocast():
                measured = evaluate(network, objective, held_out, settings.evaluate_rows, settings.seed)
            facts = {f"held_out_{k}": v for k, v in measured.items()}
        for probe in probes or []:
            network.eval()
            facts |= probe(network)
            network.train()
        if saved is not None:
            _swap(model, saved)
        return facts

    with Progress(settings.steps, step, enabled=main) as progress:
        while step < settings.steps and not stopped:
            started = time.monotonic()
            # time-limited runs walk the same schedule by the share of time that is spent
            share = min(1.0, (started - began) / settings.seconds) if settings.seconds else 0.0
            place = max(step, round(share * settings.steps))
            rate = learning_rate(
                place, settings.steps, settings.learning_rate, settings.warmup, settings.decay, settings.shape
            )
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["scale"]
            first = step * settings.batch_rows
            batches = []
            for part in range(settings.accumulation):
                start = first + (part * accelerator.num_processes + accelerator.process_index) * mine
                batches.append(rows.batch(range(start, start + mine)).to(accelerator.device))
            total, count, tokens, norm = _step(accelerator, model, optimizers, batches, settings, step)
            for name, parameter in model.named_parameters() if average else ():
                average[name].lerp_(parameter.detach().float(), 1 - settings.ema)
            step += 1
            seconds = time.monotonic() - started
            loss = total / max(count, 1.0)
            if not math.isfinite(loss):
                raise SettingError(
                    f"the loss is {loss} at step {step}; lower learning_rate ({settings.learning_rate}) and start again "
                    "with the same --out to resume from the last checkpoint"
                )
            facts: dict[str, Any] = {
                "step": step,
                "loss": loss,
                "learning_rate": rate,
                "gradient_norm": norm,
                "tokens_per_second": tokens / seconds,
                "seconds": time.monotonic() - began,
            }
            stopped = bool(settings.seconds) and _agree(accelerator, facts["seconds"] >= (settings.seconds or 0))
            last = step == settings.steps or stopped
            if last or step % settings.evaluate_every == 0:
                facts |= assess()
            if last or step % settings.checkpoint_every == 0:
                checkpoint()
            if log is not None:
                log.write(facts)
                progress.update(facts)
                if on_log is not None:
                    on_log(facts)
    if log is not None:
        log.close()
    if average:
        _swap(model, average)
    return network


def _step(
    accelerator: Any,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    batches: list[Batch],
    settings: TrainSettings,
    step: int,
) -> tuple[float, float, int, float]:
    """One optimizer step; the gradient is that of sum(losses) / sum(counts) over every process and part."""
    sums = torch.zeros(2, device=accelerator.device)
    tokens = 0
    for i, batch in enumerate(batches):
        context = accelerator.no_sync(model) if i + 1 < len(batches) else _nothing()
        with context:
            total, count, _ = model(batch, settings.seed, step)
            accelerator.backward(total)
        sums += torch.stack((total.detach().float(), count.float()))
        tokens += batch.document.numel()
    sums = accelerator.reduce(sums, "sum")
    # wrappers average gradients over processes; undo that, and divide by the tokens of all of them
    factor = accelerator.num_processes / sums[1].clamp_min(1)
    parameters = [p for p in model.parameters() if p.grad is not None]
    for parameter in parameters:
        parameter.grad *= factor  # type: ignore[operator]
    norm = nn.utils.clip_grad_norm_(parameters, settings.clip)
    norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(sums[0]), float(sums[1]), tokens * accelerator.num_processes, float(norm)


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _agree(accelerator: Any, stop: bool) -> bool:
    """Whether any process wants to stop; all must stop at the same step."""
    if accelerator.num_processes == 1:
        return stop
    return bool(accelerator.reduce(torch.tensor(float(stop), device=accelerator.device), "sum") > 0)


def _whole(value: Tensor) -> Tensor:
    return (value.full_tensor() if hasattr(value, "full_tensor") else value).cpu()


def _matching(model: nn.Module, saved: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Saved whole tensors, sharded as the ones that they replace."""
    out = {}
    for name, value in like.items():
        whole = saved[name].to(value.device)
        if hasattr(value, "device_mesh"):
            from torch.distributed.tensor import distribute_tensor

            whole = distribute_tensor(whole, value.device_mesh, value.placements)  # type: ignore[attr-defined]
        out[name] = whole
    return out


@torch.no_grad()
def _swap(model: nn.Module, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put the values into the parameters; return what was there."""
    before = {}
    for name, parameter in model.named_parameters():
        before[name] = parameter.detach().clone()
        parameter.copy_(values[name])
    return before


def _claim(folder: Path, settings: TrainSettings) -> None:
    """Make the run's directory, or check that it belongs to a run with the same settings."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "settings.json"
    mine = json.loads(settings.model_dump_json())
    free = {"out", "seconds", "tensorboard", "keep", "checkpoint_every", "compile", "accumulation"}
    if file.exists() and latest(folder / "checkpoints") is not None:
        there = json.loads(file.read_text())
        differing = sorted(k for k in mine if k not in free and mine[k] != there.get(k))
        if differing:
            what = ", ".join(f"{k} {there.get(k)} -> {mine[k]}" for k in differing)
            raise SettingError(
                f"{settings.out} holds a run with other settings ({what}); pass the same settings to resume it, or "
                "another --out"
            )
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(mine, indent=1))
    partial.replace(file)


class _Log:
    """metrics.jsonl, cut back to the step that is resumed from; and TensorBoard on request."""

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        self.path = folder / "metrics.jsonl"
        kept = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line)
                except (ValueError, KeyError):
                    break  # the line that a kill cut short
        self.path.write_text("".join(line + "\n" for line in kept))
        self.file = open(self.path, "a", buffering=1)  # noqa: SIM115 - lives as long as the run
        self.board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, facts: dict[str, Any]) -> None:
        self.file.write(json.dumps(facts) + "\n")
        if self.board is not None:
            for name, value in facts.items():
                if name != "step":
                    self.board.add_scalar(name, value, facts["step"])

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()
