"""A model ready for use: a checkpoint together with the system that it was trained for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .checkpoints import Checkpoint, families
from .checkpoints import load as load_checkpoint
from .constraints import Automaton, Constraint, Vocabulary, vocabulary
from .errors import CheckpointError, SettingError
from .generation import OPEN, Event, Result, collect, generate
from .hardware import fast_bfloat16
from .nn.skipping import without
from .quantization import quantize as quantized
from .systems import Parts, System, find, systems
from .systems.system import CHECKPOINT, Settings, TextSettings
from .training.suffix_first import suffix_first_order
from .worlds.tokenizer import encode, encode_prompt

__all__ = ["BUNDLED", "Gap", "Model", "facts", "load", "locate", "naming", "of_format", "system_of"]

BUNDLED = Path(__file__).parent / "models"


class Gap(NamedTuple):
    """A row with open tokens from ``start`` on. places: the positions of its tokens, if they are not in order."""

    row: list[int]
    start: int
    places: Tensor | None = None


@dataclass
class Model:
    """A checkpoint, its system, and the system's settings.

    >>> model = load("twin")                                                # doctest: +SKIP
    >>> model.text(model.complete("def area(", length=24).content)          # doctest: +SKIP
    """

    checkpoint: Checkpoint
    system: System
    settings: Settings

    @property
    def network(self) -> Any:
        return self.checkpoint.network

    @property
    def tokenizer(self) -> Any:
        return self.checkpoint.tokenizer

    def with_(self, **changes: Any) -> Model:
        """The same weights under other settings (steps, threshold, temperature, ...); ``None`` changes nothing.

        Raises ``SettingError`` for unknown or impossible settings, for what the checkpoint says (its mask), and for a
        block size that the model was not trained for, or that its system does not decode by.
        """
        settings = self.settings.but(**changes)
        said = next((n for n in sorted(CHECKPOINT - {"block_size"}) if changes.get(n) is not None), None)
        if said is not None and getattr(settings, said) != getattr(self.settings, said):
            raise SettingError(f"{said} is what the checkpoint says, {getattr(self.settings, said)}; leave it out")
        if changes.get("block_size") is not None:
            self._check(settings.block_size)
        return replace(self, settings=settings)

    def under(self, system: str) -> Model:
        """The same weights decoded as another system, with its defaults and what the checkpoint says of them.

        Raises ``SettingError`` for a system that is not known, is none of text, or needs a mask token that is not
        there.
        """
        if system == self.system.name:
            return self
        chosen, who = find(system), self.checkpoint.source or "the model"
        if isinstance(self.settings, TextSettings) and not isinstance(chosen.settings, TextSettings):
            raise SettingError(f"{who} generates text, {chosen.name} does not; pass a system of text")
        return _decoded(self.checkpoint, chosen, chosen.settings, who)

    def _check(self, block_size: int) -> None:
        """Whether the model can be decoded by such blocks."""
        trained, sizes, before = self.checkpoint.block_size, self.system.block_sizes, self.settings
        assert isinstance(before, TextSettings)
        if sizes == "none" and block_size != before.block_size:
            raise SettingError(
                f"block_size is {block_size}, but {self.system.name} decodes without blocks; leave it out "
                f"(interlace show {self.system.name} lists what it has)"
            )
        if sizes == "trained" and trained is not None and block_size != trained:
            raise SettingError(
                f"block_size is {block_size}, but the model was adapted for {trained}; leave it, or adapt the model "
                f"with --block-size {block_size}"
            )

    def without(self, layers: Sequence[int]) -> Model:
        """The same model with these blocks (1 .. L) left out of its network (``interlace.nn.skipping``).

        ``SettingError`` for a block that is not there.
        """
        return replace(self, checkpoint=replace(self.checkpoint, network=without(self.network, layers)))

    @property
    def parts(self) -> Parts:
        return self.system.parts(self.settings)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; special tokens in it count as plain text."""
        return encode(self._with_tokenizer(), text)

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a text from its beginning: some tokenizers put a token there, as in transformers."""
        return encode_prompt(self._with_tokenizer(), text)

    def _with_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise SettingError("the checkpoint has no tokenizer.json; pass token ids, or add the tokenizer's files")
        return self.tokenizer

    def text(self, tokens: Tensor | Sequence[int]) -> str:
        """The text of token ids; tokens still open are shown as ``·``."""
        ids = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
        pieces: list[str] = []
        run: list[int] = []
        for token in ids:
            if token == OPEN:
                pieces += [self.tokenizer.decode(run), "·"]
                run = []
            else:
                run.append(token)
        return "".join([*pieces, self.tokenizer.decode(run)])

    def stream(
        self, prompts: Sequence[str | Sequence[int] | Tensor], length: int | Sequence[int], **options: Any
    ) -> Iterator[Event]:
        """``interlace.generation.generate`` with this model's parts; prompts may be texts (``encode_prompt``).

        ``options``: stop, seed, label, guide, drafts, fuse, details, memory, constraints. ``stop`` defaults to the
        checkpoint's. ``constraints``: for every row what its text must match (``constraints.regex``, ``json_schema``),
        or None.
        """
        ids = [self.encode_prompt(p) if isinstance(p, str) else p for p in prompts]
        options.setdefault("stop", self.checkpoint.stop_token_ids)
        if "constraints" in options:
            options["constraints"] = self.automata(options["constraints"])
        return generate(self.network, ids, length, **(self.parts.sampling | options))

    def complete_all(
        self, prompts: Sequence[str | Sequence[int] | Tensor], length: int | Sequence[int], **options: Any
    ) -> list[Result]:
        """Generate behind every prompt and return the finished rows."""
        ids = [self.encode_prompt(p) if isinstance(p, str) else p for p in prompts]
        options.setdefault("stop", self.checkpoint.stop_token_ids)
        return collect(self.stream(ids, length, **options), ids, length, options["stop"])

    def complete(
        self,
        prompt: str | Sequence[int] | Tensor,
        length: int,
        constraint: Constraint | None = None,
        **options: Any,
    ) -> Result:
        """Generate ``length`` tokens behind one prompt; what the constraint says, they match up to the stop token."""
        return self.complete_all([prompt], length, constraints=[constraint], **options)[0]

    def automata(self, constraints: Sequence[Constraint | None]) -> list[Automaton | None]:
        """Constraints over the tokens of this model."""
        if not any(constraints):
            return [None] * len(constraints)
        return [None if one is None else one.over(self.words) for one in constraints]

    @property
    def words(self) -> Vocabulary:
        """What the tokens spell, but for the mask."""
        if self.tokenizer is None:
            raise SettingError("a constraint needs a tokenizer.json, which is not there; add the tokenizer's files")
        mask = self.checkpoint.mask_token_id
        return vocabulary(self.tokenizer, self.checkpoint.config.vocab_size, () if mask is None else (mask,))

    @property
    def reads_suffix_first(self) -> bool:
        """Whether the model was trained on documents read suffix first, and so knows both sides of a gap."""
        return bool(self.checkpoint.extra.get("config", {}).get("suffix_first"))

    def gap(self, before: Sequence[int], after: Sequence[int], length: int) -> Gap:
        """A row in which ``length`` tokens between two texts are open, in the order in which the model reads it.

        A model trained suffix first reads suffix, prefix, gap, each token at its true position; up to block_size - 1
        tokens at the far end of the longer of the two texts are left out, so that blocks come out whole. Other models
        keep the order of the text, and see of the suffix what lies in the gap's last block.
        """
        open = [OPEN] * length
        spare = (len(before) + length + len(after)) % self.parts.layout.size
        if not self.reads_suffix_first or spare > len(before) + len(after):
            return Gap([*before, *open, *after], len(before))
        from_after = min(spare, len(after)) if len(after) > len(before) else max(0, spare - len(before))
        near, context = after[: len(after) - from_after], before[spare - from_after :]
        places = suffix_first_order(len(context), length, len(near))
        return Gap([*near, *context, *open], len(near) + len(context), places)

    def infill(
        self,
        prefix: str | Sequence[int],
        suffix: str | Sequence[int],
        length: int,
        constraint: Constraint | None = None,
        **options: Any,
    ) -> Result:
        """Fill a gap of ``length`` tokens; ``Result.content`` is the gap, ``Result.row`` prefix, gap and suffix.

        With ``details`` the log-probabilities and the order of reveal are those of the gap. Under a constraint the
        whole gap is a text that matches.

        Raises ``SettingError`` when the system cannot infill (next token).
        """
        before = self.encode_prompt(prefix) if isinstance(prefix, str) else list(prefix)
        after = self.encode(suffix) if isinstance(suffix, str) else list(suffix)
        options |= {"stop": (), "constraints": [constraint]}
        gap = self.gap(before, after, length)
        places = None if gap.places is None else [gap.places]
        filled = collect(self.stream([gap.row], 0, places=places, **options), [gap.row], 0, starts=[gap.start])[0]
        content = filled.content[:length]
        log_prob, order = (None if detail is None else detail[:length] for detail in (filled.log_prob, filled.order))
        whole = torch.tensor([*before, *content.tolist(), *after])
        return replace(filled, content=content, row=whole, log_prob=log_prob, order=order)


def locate(name: str | Path) -> str | Path:
    """The folder of a bundled model, unless a file of that name is here; every other name as it is.

    >>> locate("twin").name, locate("Qwen/Qwen3-0.6B")
    ('twin', 'Qwen/Qwen3-0.6B')
    """
    bundled = BUNDLED / name
    return bundled if str(name) in ("base", "twin") and bundled.is_dir() and not Path(name).exists() else name


def load(
    path: str | Path,
    system: str | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    quantize: str | None = None,
    **settings: Any,
) -> Model:
    """Load a model: a folder, a hub name, or one of the bundled models ``"base"`` and ``"twin"``.

    ``dtype`` defaults to that of the file, but to float32 for bfloat16 on a processor that has no instructions for it
    and would be several times slower. ``system`` defaults to the one that config.json names (with its settings; our own
    format does, and models of systems without one), or whose published format the checkpoint has (``ar`` for Llama and
    Qwen). ``quantize``: "int8" stores linear layers in 8 bits (``interlace.quantization``). ``settings`` change the
    system's defaults.

    Raises ``CheckpointError`` and ``SettingError``.
    """
    checkpoint = load_checkpoint(locate(path), dtype, device)
    if dtype is None and next(checkpoint.network.parameters()).dtype == torch.bfloat16 and not fast_bfloat16(device):
        checkpoint.network.float()
    checkpoint.network.eval()
    if quantize is not None and torch.device(device).type != "meta":
        quantized(checkpoint.network, quantize)
    chosen, defaults = system_of(checkpoint)
    if system and system != chosen.name:
        chosen = find(system)
        defaults = chosen.settings
    return _decoded(checkpoint, chosen, defaults, path).with_(**settings)


def _decoded(checkpoint: Checkpoint, chosen: System, defaults: Settings, path: str | Path) -> Model:
    """A checkpoint under a system, whose settings take what the checkpoint says of them."""
    if isinstance(defaults, TextSettings) and checkpoint.config.features:
        raise SettingError(
            f"{path} does not generate text, as {chosen.name} does; pass a model of text, or leave the system out"
        )
    if isinstance(defaults, TextSettings) and chosen.denoises:
        if chosen.masks and checkpoint.mask_token_id is None:
            raise SettingError(
                f"{path} has no mask token, so {chosen.name} cannot decode it; adapt it first: interlace adapt "
                f"--system {chosen.name} --model {path}"
            )
        defaults = defaults.read(**facts(checkpoint))
    return Model(checkpoint, chosen, defaults)


def facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint says of the settings that are named in ``CHECKPOINT``; None where it says nothing."""
    return {
        "mask_id": checkpoint.mask_token_id,
        "block_size": checkpoint.block_size,
        "eos_ids": checkpoint.stop_token_ids,
        "vocab_size": checkpoint.config.vocab_size,
    }


def system_of(checkpoint: Checkpoint) -> tuple[System, Settings]:
    """The system that config.json names beside the fields of the format, and its settings; else that of the format."""
    config = checkpoint.extra.get("config", {})
    if "system" not in config:
        system = of_format(checkpoint.family)
        return system, system.settings
    settings = config.get("settings", {})
    try:
        if not isinstance(settings, dict):
            raise SettingError("settings is no table")
        system = find(str(config["system"]))
        return system, system.settings.but(**settings)
    except SettingError as error:
        raise CheckpointError(f"{checkpoint.source}/config.json: {error}; correct the file") from None


def naming(extra: dict[str, Any], system: System, settings: Settings, family: str) -> dict[str, Any]:
    """``Checkpoint.extra`` that names the system and its unusual settings, where the format says neither.

    What an earlier adaptation named there is gone.
    """
    config = {name: value for name, value in extra.get("config", {}).items() if name not in ("system", "settings")}
    usual = system.settings.model_dump(mode="json")
    given = settings.model_dump(mode="json", exclude=CHECKPOINT)
    ours = {name: value for name, value in given.items() if value != usual[name]}
    if of_format(family) is not system or ours:
        config |= {"system": system.name, "settings": ours}
    return {**extra, "config": config}


def of_format(family: str) -> System:
    """The system whose weights are published in a format; plain autoregression for all other text formats."""
    for system in systems().values():
        if system.format is not None and family == system.format and system.name != "ar":
            return system
    if family not in families():
        raise SettingError(f"unknown format {family!r}; known: {', '.join(families())}")
    return find("ar")
