"""interlace reinforce"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .command import Setting, command
from .runs import adapters, announce, finished, learning, resumable
from .settings import LORA, MODEL, REINFORCE, SET, TRAINING, assignments

if TYPE_CHECKING:
    from ..lora import Lora
    from ..reinforcement import Rollouts

# A policy is moved with care: the paper's numbers.
_USUAL = {
    "steps": 200, "learning_rate": 3e-6, "warmup": 0, "shape": "constant", "clip": 0.2, "evaluate_every": 25,
    "evaluate_rows": 64, "checkpoint_every": 25,
}  # fmt: skip
_SET_HERE = ("batch_rows", "accumulation")


@command(
    replace(MODEL, required=True),
    Setting("world", str, "problems with a verifier: sums, countdown, sudoku", required=True),
    *REINFORCE,
    *(replace(s, default=_USUAL.get(s.name, s.default)) for s in TRAINING if s.name not in _SET_HERE),
    Setting("system", str, "decode as this system", shown="the model's", panel="System", short="-s"),
    Setting("block_size", int, "tokens per block", shown="the model's", panel="System"),
    SET,
    *(s for s in LORA if s.name != "lora_dropout"),  # the policy that learns has to be the one that answers
    panel="Train",
)
def reinforce(
    model: str,
    world: str,
    system: str | None,
    block_size: int | None,
    set: list[str] | None,
    json: bool,
    **settings: Any,
) -> None:
    """Reinforce a masked diffusion model on problems that a program judges (GRPO over its denoising steps).

    Several answers to every problem are generated at temperature 1, judged, and
    compared with each other. With cj-grpo every token is scored in the state
    from which it was revealed; one-step and diffu-grpo score all of an answer
    from masks alone, in one forward. --steps counts updates; the denoising steps
    are a setting of the system (--set steps=8).

    With --lora RANK the weights stay frozen, and low-rank adapters beside them
    are learnt; the distance of --beta is that to the network without them. The
    result is merged; the adapters alone lie in OUT/adapter, in PEFT's format.

    Held-out problems are answered at every evaluation (held_out_reward).
    A run that was stopped or killed goes on when the same command is given again.

    [bold]Examples[/bold]
      interlace reinforce --model half --world countdown --out better --learning-rate 3e-4
      interlace reinforce --model half --world sudoku --method one-step --out other
      interlace reinforce --model half --system llada --block-size 16 --set steps=8 \\
        --world sums --num-generations 8 --num-iterations 4 --out sums
      interlace reinforce --model half --world sums --lora 16 --learning-rate 1e-4 --out beside
    """
    import torch

    from ..model import load
    from ..reinforcement import ReinforceSettings
    from ..reinforcement import reinforce as run
    from ..training.settings import TrainSettings
    from ..worlds.puzzle import puzzle
    from .config import make

    training, chosen, lora = make(TrainSettings, settings), make(ReinforceSettings, settings), adapters(settings)
    problems = puzzle(world)
    with resumable(training.out):
        start = load(model, system=system, dtype=torch.float32, block_size=block_size, **assignments(set))

        def on_start(plan: Rollouts, learnt: Lora | None) -> None:
            rows = training.model_copy(update={"batch_rows": plan.answers * plan.states})
            weights = sum(p.numel() for p in start.network.parameters())
            about = {
                "model": f"{model} ({start.system.title})",
                **({"parameters": weights} if learnt is None else learning(start.network, training, learnt)),
                "method": f"{chosen.method}, {chosen.num_prompts} problems x {chosen.num_generations} answers, "
                f"{plan.steps} denoising steps",
            }
            announce(about, rows, world, plan.length)

        trained = run(start, problems, training, chosen, lora=lora, on_start=on_start)
    finished(trained, training, json, lora)
