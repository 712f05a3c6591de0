"""The training loop: one function for every objective, on one process or many.

A step is a pure function of the weights, the seed and the step's number: its rows are numbered
``step * batch_rows ...`` and its noise is indexed by row number. That is what makes a run resumable, and the same on
one process as on several.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, SettingError
from ..nn import Transformer
from .batch import Batch, Rows
from .metrics import Metrics
from .objectives import Objective
from .optimizers import learning_rate, make_optimizers
from .parallel import held_back, on_first, start, together, whole, wrap
from .progress import Progress
from .settings import TrainSettings
from .state import Learning, cannot_write, latest, resume, save_state, write_text
from .stopping import Asked

__all__ = ["Probe", "evaluate", "train"]

Probe = Callable[[Transformer], dict[str, float]]
"""A measurement made at every evaluation, by name (for example the tokens per forward of a decode)."""


class Learner(nn.Module):
    """The network and its objective as one module, so that wrappers (DDP, FSDP2) see a single forward.

    Only this forward is compiled, for the one shape that training has; the network itself stays as it is.
    """

    def __init__(self, network: Transformer, objective: Objective, compile: bool = False) -> None:
        super().__init__()
        self.network = network
        # in a closure, the compiled network is no second submodule
        self.loss = partial(objective, torch.compile(network, dynamic=False) if compile else network)  # type: ignore[arg-type]

        self.logged: tuple[str, ...] = getattr(objective, "logged", ())

    def forward(self, batch: Batch, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        loss = self.loss(batch, seed, step)
        parts = [loss.parts[name].detach().float() for name in self.logged]
        return loss.total, loss.count, torch.stack(parts) if parts else loss.total.detach().new_zeros(0)


@torch.no_grad()
def evaluate(
    network: Transformer, objective: Objective, rows: Rows, count: int, seed: int = 0, at_once: int = 8, draws: int = 1
) -> dict[str, float]:
    """Mean loss per label token over ``count`` rows (nats, or squared error), and its standard error.

    The noise is fixed by ``seed``, so two models are compared on the same draws. For a masked process the loss is the
    Monte-Carlo estimate of the bound on the negative log-likelihood; ``draws`` repeats every row under fresh noise.
    The error is that over batches of ``at_once`` rows; of a single batch nothing is known, and it is 0.
    """
    was = network.training
    network.eval()
    totals, counts = [], []
    device = next(network.parameters()).device
    for draw in range(draws):
        for first in range(0, count, at_once):
            batch = rows.batch(range(first, min(first + at_once, count))).to(device)
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
    about: Mapping[str, Any] | None = None,
    measure: Objective | None = None,
) -> Transformer:
    """Train the network in place and return it (with averaged weights, if ``settings.ema``).

    Only parameters that require a gradient are learnt, averaged and kept in checkpoints. ``about``: what else the run
    is of (its system, say), as JSON; the run that goes on has to be of the same. ``measure``: the loss of the held-out
    rows, if it is not the objective.

    Resumes by itself when ``settings.out`` holds checkpoints of the same run. Leaves ``training/`` there: checkpoints,
    ``metrics.jsonl`` (one object a line: step, loss, learning rate, gradient norm, tokens per second; the parts of the
    loss that the objective lists as ``logged``; ``held_out_*`` at evaluations) and ``settings.json``. Only the first
    process writes. Under FSDP2 the network is cut over the processes while it trains, and whole again (on the CPU) at
    the end.

    SIGINT and SIGTERM, to any process, end the run behind a step: all processes agree on which, a checkpoint is written
    and ``KeyboardInterrupt`` raised. A second one ends it at once.

    Raises ``SettingError`` when the rows cannot be divided over processes and accumulation steps, when the directory
    belongs to a run with other settings or rows, or when the loss or its gradient is not finite; ``CheckpointError``
    when a checkpoint cannot be written or read.
    """
    accelerator = accelerator or start()
    main = accelerator.is_main_process
    folder = settings.out / "training"
    parts = accelerator.num_processes * settings.accumulation
    if settings.batch_rows % parts:
        raise SettingError(
            f"batch_rows {settings.batch_rows} cannot be divided into {accelerator.num_processes} processes x "
            f"{settings.accumulation} accumulation steps; change one of them"
        )
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            raise SettingError(f"{name} is {parameter.dtype}, too coarse for small updates; load the model in float32")
    if main:
        _claim(folder, settings, about or {})
    metrics = Metrics(folder, settings.tensorboard) if main else None

    learner = Learner(network, objective, settings.compile)
    learner.train()
    model, release = wrap(learner, accelerator)
    parameters: dict[str, Tensor] = {n: p for n, p in learner.named_parameters() if p.requires_grad}
    half = settings.autocast(accelerator.device) == "bf16"
    exact = None if half else torch.float32
    optimizers = make_optimizers(parameters.items(), settings.optimizer, settings.weight_decay, exact)
    average = {n: p.detach().clone().float() for n, p in parameters.items()} if settings.ema else {}
    learning = Learning(parameters, average, optimizers)

    identity = getattr(rows, "identity", None) or _digest(rows.batch([0]))
    found = resume(folder / "checkpoints", learning, accelerator)
    if found.get("rows", identity) != identity:
        raise SettingError(
            f"{settings.out} holds a run on other rows (another corpus, tokenizer or length); pass the same to resume "
            "it, or another --out"
        )
    step, spent = int(found.get("step", 0)), float(found.get("seconds", 0.0))
    if metrics is not None:
        metrics.open(step)
    began = time.monotonic() - spent
    autocast = partial(torch.autocast, accelerator.device.type, torch.bfloat16, half)

    def clock() -> float:
        """Seconds spent so far; where they decide, every process reads those of the first."""
        now = time.monotonic() - began
        return now if settings.seconds is None else float(on_first(now, accelerator))

    def over(now: float) -> bool:
        return step >= settings.steps or (settings.seconds is not None and now >= settings.seconds)

    def assess() -> dict[str, float]:
        facts: dict[str, float] = {}
        with _holding(average, parameters), together(model):
            if held_out is not None:
                with autocast():
                    measured = evaluate(network, measure or objective, held_out, settings.evaluate_rows, settings.seed)
                facts = {f"held_out_{k}": v for k, v in measured.items()}
            network.eval()
            for probe in probes or []:
                facts |= probe(network)
        network.train()
        return facts

    def checkpoint() -> None:
        tensors = learning.tensors()
        if metrics is not None:
            metrics.settle()
            seconds = time.monotonic() - began
            about = {"seconds": seconds, "settings": settings.model_dump(mode="json"), "rows": identity}
            save_state(folder / "checkpoints", step, tensors, about, settings.keep)
        accelerator.wait_for_everyone()

    several = accelerator.num_processes > 1
    with (
        metrics or nullcontext(),
        Progress(settings.steps, step, settings.seconds, enabled=main, steady=learner.logged) as progress,
        Asked(echo=2.0 if several else 0.0, loud=main) as asked,
    ):
        last, pace = over(clock()), math.inf
        while not last:
            before = clock()
            rate = _rate(settings, step, before + pace)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["scale"]
            done = _step(accelerator, model, rows, settings, step, autocast, asked, len(learner.logged))
            if not (math.isfinite(done.loss) and math.isfinite(done.norm)):
                saved = latest(folder / "checkpoints")
                raise SettingError(
                    f"the loss is {done.loss:g} and its gradient {done.norm:g} at step {step + 1}; lower learning_rate "
                    f"({settings.learning_rate:g}) or clip ({settings.clip:g}) and start again with another --out"
                    + (f" ({saved} is as it was)" if saved else "")
                )
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            for name, value in average.items():
                value.lerp_(parameters[name].detach().float(), 1 - settings.ema)
            step += 1
            now = clock()
            pace, last = min(pace, now - before), over(now)
            facts: dict[str, Any] = {
                "step": step,
                "loss": done.loss,
                "learning_rate": rate,
                "gradient_norm": done.norm,
                "tokens_per_second": done.tokens / max(now - before, 1e-9),
                "seconds": now,
            }
            facts |= dict(zip(learner.logged, done.parts, strict=True))
            if last or step % settings.evaluate_every == 0:
                facts |= assess()
            # the line comes before the checkpoint: who resumes from that finds all lines up to it, and cuts the others
            if metrics is not None:
                metrics.write(facts)
                progress.update(facts, last)
                if on_log is not None:
                    on_log(facts)
            if last or done.asked or step % settings.checkpoint_every == 0:
                checkpoint()
            if done.asked and not last:
                raise KeyboardInterrupt(f"the run ended after step {step}; the same call goes on from there")
    release(average or parameters)
    return network


class Done(NamedTuple):
    """Of a step, over all processes: mean loss, gradient norm before clipping, tokens, whether one was asked to end,
    the means of what the objective has logged."""

    loss: float
    norm: float
    tokens: int
    asked: bool
    parts: list[float]


def _step(
    accelerator: Any,
    model: nn.Module,
    rows: Rows,
    settings: TrainSettings,
    step: int,
    autocast: Callable[[], Any],
    asked: Asked,
    logged: int,
) -> Done:
    """Leave the clipped gradient of sum(losses) / sum(counts), over every process and part, in the parameters."""
    sums = torch.zeros(3 + logged, device=accelerator.device)
    tokens = 0
    for part, numbers in enumerate(_numbers(settings, step, accelerator.num_processes, accelerator.process_index)):
        batch = rows.batch(numbers).to(accelerator.device)
        with held_back(model, part + 1 < settings.accumulation), _drops(model, settings.seed, numbers.start):
            with autocast():
                total, count, found = model(batch, settings.seed, step)
            total.backward()
        sums[:2] += torch.stack((total.detach().float(), count.float()))
        sums[3:] += found
        tokens += batch.document.numel()
    sums[2] = bool(asked)
    loss, count, ending, *parts = accelerator.reduce(sums, "sum").tolist()
    count = max(count, 1.0)
    learnt = [p for p in model.parameters() if p.grad is not None]
    for parameter in learnt:
        # wrappers average gradients over processes; undo that, and divide by the tokens of all of them
        parameter.grad.mul_(accelerator.num_processes / count)  # type: ignore[union-attr]
    norm = whole(nn.utils.clip_grad_norm_(learnt, settings.clip))
    means = [part / count for part in parts]
    return Done(loss / count, float(norm), tokens * accelerator.num_processes, ending > 0, means)


@contextmanager
def _drops(model: nn.Module, seed: int, row: int) -> Iterator[None]:
    """Inside, dropout (of adapters: there is no other) draws by the number of the first row, and not by what was drawn
    before."""
    if not any(isinstance(module, nn.Dropout) for module in model.modules()):
        yield
        return
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(((seed << 40) + row) % (1 << 63))
        yield


def _numbers(settings: TrainSettings, step: int, processes: int, process: int) -> Iterator[range]:
    """The rows of one step in one process, one range per accumulation step."""
    size = settings.batch_rows // (processes * settings.accumulation)
    for part in range(settings.accumulation):
        first = step * settings.batch_rows + (part * processes + process) * size
        yield range(first, first + size)


def _rate(settings: TrainSettings, step: int, seconds: float) -> float:
    """The learning rate of a step; a time-limited run walks the same schedule by its clock, read at the step's end."""
    place = step
    if settings.seconds is not None and math.isfinite(seconds):
        place = max(step, min(settings.steps - 1, round(seconds / settings.seconds * settings.steps)))
    s = settings
    return learning_rate(place, s.steps, s.learning_rate, s.warmup, s.decay, s.shape)


@contextmanager
def _holding(values: dict[str, Tensor], parameters: dict[str, Tensor]) -> Iterator[None]:
    """Inside, the parameters hold these values (if there are any), and afterwards again what they held."""
    before = {name: parameters[name].detach().clone() for name in values}
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
        try:
            yield
        finally:
            for name, value in before.items():
                parameters[name].copy_(value)


def _claim(folder: Path, settings: TrainSettings, about: Mapping[str, Any]) -> None:
    """Make the run's directory, or check that it belongs to a run with the same settings, of the same things."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    file = folder / "settings.json"
    mine = settings.model_dump(mode="json") | dict(about)
    free = {"out", "seconds", "tensorboard", "keep", "checkpoint_every", "compile", "accumulation"}
    if file.exists() and latest(folder / "checkpoints") is not None:
        try:
            there = dict(json.loads(file.read_text()))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file} is damaged ({error}); remove it to resume with these settings") from error
        # a run of an earlier version did not say everything
        unset = dict(about) | {name: field.default for name, field in TrainSettings.model_fields.items()}
        differing = [k for k in mine if k not in free and mine[k] != there.get(k, unset[k])]
        if differing:
            what = ", ".join(f"{k} {there.get(k, unset[k])} -> {mine[k]}" for k in sorted(differing))
            raise SettingError(
                f"{settings.out} holds a run with other settings ({what}); pass the same settings to resume it, or "
                "another --out"
            )
    write_text(file, json.dumps(mine, indent=1))


def _digest(batch: Batch) -> str:
    """What identifies rows of tokens. Features are drawn, and may differ in the last bit from machine to machine."""
    parts = (batch.document, batch.index, batch.content if not batch.content.is_floating_point() else None)
    return blake2b(b"".join(t.cpu().numpy().tobytes() for t in parts if t is not None), digest_size=8).hexdigest()
