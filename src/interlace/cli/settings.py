"""The options that are fields of settings elsewhere, written out so that ``--help`` needs no torch.

A test compares every row with the field that it stands for: name, type, default and words.
"""

from __future__ import annotations

from ..errors import SettingError
from .command import Setting

__all__ = [
    "CLIPS",
    "CLIP_DATA",
    "CLIP_SHAPE",
    "DATA",
    "DECODING",
    "LORA",
    "MODEL",
    "REINFORCE",
    "SET",
    "SHAPE",
    "TRAINING",
    "assignments",
]

MODEL = Setting("model", str, "a folder, a Hugging Face name, or a bundled model: base, twin", short="-m")


def _rows(panel: str, *rows: tuple) -> tuple[Setting, ...]:
    """Rows of (name, type, help, default); a default in words stands for a choice made elsewhere."""
    return tuple(Setting(name, type, help, default, panel=panel) for name, type, help, default in rows)


OUT = Setting(
    "out", str, "directory of the run: checkpoints, metrics and the finished model", panel="Run", required=True
)
TRAINING = (
    OUT,
    *_rows(
        "Run",
        ("steps", int, "optimizer steps", 1000),
        ("seconds", float, "end the run after this time, with the rate decayed by it", None),
        ("batch_rows", int, "rows per optimizer step, over all processes", 32),
        ("accumulation", int, "forwards per optimizer step in each process", 1),
        ("precision", str, "autocast precision; auto: bf16 where the device is fast at it", "auto"),
        ("compile", bool, "torch.compile the network", False),
        ("seed", int, "seed of the row order and of all noise", 0),
        ("evaluate_every", int, "steps between held-out evaluations", 250),
        ("evaluate_rows", int, "held-out rows per evaluation", 32),
        ("checkpoint_every", int, "steps between checkpoints", 250),
        ("keep", int, "checkpoints kept", 2),
        ("tensorboard", bool, "also write TensorBoard events", False),
    ),
    *_rows(
        "Optimizer",
        ("learning_rate", float, "peak learning rate", 1e-3),
        ("warmup", int, "steps of linear warm-up", 50),
        ("shape", str, "learning rate after the warm-up", "wsd"),
        ("decay", float, "share of the run in which wsd falls to 0", 0.2),
        ("weight_decay", float, "decoupled weight decay of matrices", 0.1),
        ("clip", float, "largest norm of the gradient", 1.0),
        ("optimizer", str, "adamw, or muon for the matrices of the blocks", "adamw"),
        ("ema", float, "decay of the averaged weights that are saved; 0: none", 0.0),
    ),
)

LORA = (
    *_rows(
        "Adapters",
        ("lora", int, "learn low-rank adapters of this rank, and leave the weights frozen", None),
        ("lora_alpha", float, "adapters count alpha / rank times (default: twice the rank)", None),
        ("lora_dropout", float, "share of an adapter's input that is dropped in training", 0.0),
    ),
    Setting(
        "lora_targets",
        list[str],
        "matrices that get an adapter, by their published names",
        [],
        shown="all of the blocks",
        panel="Adapters",
        metavar="X,X,...",
    ),
    *_rows("Adapters", ("merge", bool, "write the model with its adapters merged; or else the adapters alone", True)),
)

DATA = _rows(
    "Data",
    (
        "data",
        str,
        "corpus: stdlib, installed, tests, additions, sums, countdown, sudoku, a file or folder, hf:NAME; several "
        "joined by commas, each with *N to repeat it",
        "stdlib",
    ),
    ("length", int, "tokens per row", 512),
    ("limit_bytes", int, "bound on the bytes taken of the installed packages", None),
    ("field", str, "field of a JSON-lines file or data set that holds the text", "text"),
    (
        "suffix_first",
        float,
        "share of documents read suffix first, which teaches block diffusion to infill",
        0.0,
    ),
    ("cache", str, "folder that keeps tokenised corpora", None),
)

REINFORCE = tuple(
    Setting(name, type, help, default, shown=shown, panel="Reinforcement")
    for name, type, help, default, shown in (
        (
            "method",
            str,
            "states that score an answer: cj-grpo (those it went through), one-step, diffu-grpo",
            "cj-grpo",
            None,
        ),
        (
            "max_completion_length",
            int,
            "tokens of an answer, its padding included (default: block_size)",
            None,
            "the model's block_size",
        ),
        ("num_prompts", int, "problems per update", 4, None),
        ("num_generations", int, "answers to each problem, compared with each other", 6, None),
        ("num_iterations", int, "updates on the same answers", 1, None),
        ("epsilon", float, "the ratio of probabilities counts from 1 - epsilon to 1 + epsilon", 0.5, None),
        ("beta", float, "weight of the distance to the weights at the start; 0: none", 0.04, None),
        ("scale_rewards", bool, "divide the advantage by the standard deviation of its group", True, None),
        (
            "score_filler",
            bool,
            "also score what is behind the first end token (default: cj-grpo does, the others do not)",
            None,
            "cj-grpo does",
        ),
    )
)

SHAPE = _rows(
    "Network",
    ("vocab_size", int, "size of the byte-level BPE vocabulary", 2048),
    ("hidden_size", int, "channels between the blocks", 384),
    ("intermediate_size", int, "channels inside a block's MLP", 896),
    ("num_layers", int, "blocks", 4),
    ("num_heads", int, "heads of the queries", 6),
    ("num_kv_heads", int, "heads of the keys and values", 2),
    ("head_dim", int, "channels of a head", 64),
    ("max_positions", int, "longest sequence, in tokens", 2048),
)

_WORLD = tuple(
    Setting(name, kind, help, default, panel="Data", metavar="X,X,...")
    for name, kind, help, default in (
        ("shapes", list[str], "shapes that occur", ["circle", "square", "triangle", "cross"]),
        (
            "motions",
            list[str],
            "directions that occur",
            ["east", "southeast", "south", "southwest", "west", "northwest", "north", "northeast"],
        ),
        (
            "colours",
            list[str],
            "colours that occur",
            ["red", "orange", "yellow", "green", "cyan", "blue", "violet", "magenta"],
        ),
        ("speeds", list[float], "lowest and highest speed, pixels per frame", [0.8, 1.2]),
    )
)
CLIP_DATA = (
    *_rows(
        "Data",
        ("data", str, "moving shapes 16x16x3, or digits 8x8x1", "shapes"),
        ("samples", int, "clips of moving shapes that are drawn for training", 4096),
    ),
    *_WORLD,
)

CLIP_SHAPE = _rows(
    "Network",
    ("hidden_size", int, "channels between the blocks", 128),
    ("num_layers", int, "blocks", 4),
    ("num_heads", int, "heads of the attention", 4),
)

# Left to the system and to the data where they are not given.
CLIPS = tuple(
    Setting(name, type, help, None, shown=shown, panel="System")
    for name, type, help, shown in (
        ("frames", int, "frames of a clip", "16; an image is 1"),
        ("frames_per_unit", int, "frames denoised together", "4; an image is 1"),
        ("side", int, "tokens along the side of a square of an image; 0: whole frames", "digits 2, shapes 0"),
        ("patch", int, "pixels along the side of a token", "digits 2, shapes 4"),
        ("noise", str, "path: flow (straight) or gaussian (DDPM)", "flow"),
        ("predicts", str, "what the network gives (flow)", "clean"),
        ("drop_label", float, "chance of the null label in training", "0.1"),
    )
)

SET = Setting(
    "set",
    list[str],
    "another setting of the system, as `interlace show SYSTEM` lists them; may be repeated",
    panel="System",
    metavar="NAME=VALUE",
)

# Left to the model's system where they are not given: what is shown is what text systems have.
DECODING = tuple(
    Setting(name, type, help, None, shown=shown, panel="Decoding")
    for name, type, help, shown in (
        ("block_size", int, "tokens per block", "the model's"),
        ("steps", int, "denoising steps per block (default: block_size)", None),
        ("reveal", str, "rule that says which candidates are fixed in a step", "dynamic"),
        ("threshold", float, "confidence above which a candidate is fixed", "0.9"),
        ("gamma", float, "nats of joint uncertainty fixed in a step (entropy-bounded, dependence-bounded)", "0.35"),
        ("order_temperature", float, "draw the most confident by softmax(confidence / this); 0 takes them", "0.0"),
        ("temperature", float, "0 is greedy", "0.0"),
        ("top_k", int, "keep the likeliest tokens only; 0 is off", "0"),
        ("top_p", float, "keep the smallest set of this probability; 1 is off", "1.0"),
    )
)


def assignments(given: list[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` texts as a table; the system's settings say later what a value may be.

    >>> assignments(["half-life=0.25"])
    {'half_life': '0.25'}
    """
    found = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name or name in found:
            raise SettingError(f"--set {one!r} is no setting, or is given twice; write --set NAME=VALUE")
        found[name] = value.strip()
    return found
