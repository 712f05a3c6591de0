"""Interlace's models in lm-eval, under the name ``interlace``.

lm-eval finds models by a registry of its own that no installed package can add to from outside; so a program that
imports this module comes first. That is lm-eval's own command line, with all of its options::

    python -m interlace.lm_eval --model interlace --model_args pretrained=twin,threshold=0.9 --tasks gsm8k

and in Python::

    from interlace.lm_eval import register
    register()
    lm_eval.simple_evaluate("interlace", "pretrained=twin", tasks=["gsm8k"])

Source: https://github.com/EleutherAI/lm-evaluation-harness (``lm_eval.api.model``).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

from .errors import InterlaceError, SettingError
from .model import Model, load

__all__ = ["main", "register"]


@functools.cache
def register() -> type[Any]:
    """Add the model ``interlace`` to lm-eval's registry, and return its class. ``SettingError`` without lm-eval."""
    try:
        from lm_eval.api.model import TemplateLM
        from lm_eval.api.registry import register_model
    except ImportError as error:
        raise SettingError(f"lm-eval is not there ({error}); install it: pip install 'interlace[eval]'") from None
    import torch

    from .checkpoints import chat as chats
    from .evaluation.harness import Harness

    @register_model("interlace")
    class InterlaceLM(TemplateLM):
        """A text model of Interlace as lm-eval asks it.

        Args:
            pretrained: a folder, a hub name, ``base`` or ``twin``; or a ``Model``.
            system, dtype: as of ``interlace.load``. device: cuda if there is one.
            batch_size: requests at once; it changes no score beyond rounding. ``auto`` is 8.
            draws, seed: of a likelihood that is a bound, as those of diffusion models are (``Harness``).
            settings: of the decoding: threshold, block_size, steps, temperature, ...
        """

        def __init__(
            self,
            pretrained: str | Model,
            system: str | None = None,
            dtype: str | None = None,
            device: str | None = None,
            batch_size: int | str = 1,
            max_batch_size: int | None = None,
            draws: int = 32,
            seed: int = 0,
            **settings: Any,
        ) -> None:
            super().__init__()
            if isinstance(pretrained, Model):
                model, self._name = pretrained.with_(**settings), str(pretrained.checkpoint.source)
            else:
                device = device or "cuda"
                if device.startswith("cuda") and not torch.cuda.is_available():
                    device = "cpu"  # lm-eval's command line says cuda:0 where nothing was said
                model, self._name = load(pretrained, system, dtype, device, **settings), str(pretrained)
            self.batch_size = 8 if str(batch_size).startswith("auto") else int(batch_size)
            self.harness = Harness(model, self.batch_size, draws, seed, progress=True)
            self._device = next(model.network.parameters()).device

        @property
        def eot_token_id(self) -> int | None:
            return self.harness.eos

        @property
        def prefix_token_id(self) -> int:
            return self.harness.prefix

        @property
        def max_length(self) -> int:
            return self.harness.room

        @property
        def tokenizer_name(self) -> str:
            return self._name.replace("/", "__")

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **more: Any) -> list[int]:
            return self.harness.encode(string, add_special_tokens)

        def _loglikelihood_tokens(
            self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **more: Any
        ) -> list[tuple[float, bool]]:
            found = self.harness.log_likelihoods([(context, continuation) for _, context, continuation in requests])
            for (texts, _, _), answer in zip(requests, found, strict=True):
                self.cache_hook.add_partial("loglikelihood", texts, answer)
            return found

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
            found = self.harness.rolling([request.args[0] for request in requests])
            for request, answer in zip(requests, found, strict=True):
                self.cache_hook.add_partial("loglikelihood_rolling", request.args, answer)
            return found

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            found = self.harness.write([request.args for request in requests])
            for request, answer in zip(requests, found, strict=True):
                self.cache_hook.add_partial("generate_until", request.args, answer)
            return found

        def chat_template(self, chat_template: bool | str = False) -> str | None:
            return chats.chat_template(self.harness.model.checkpoint) if chat_template else None

        @functools.cached_property
        def _conversation(self) -> Any:
            return chats.chat(self.harness.model.checkpoint)

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return self._conversation(chat_history)

        def get_model_info(self) -> dict[str, Any]:
            model = self.harness.model
            return {
                "model_system": model.system.name,
                "model_settings": model.settings.model_dump(mode="json"),
                "model_num_parameters": sum(p.numel() for p in model.network.parameters()),
                "model_likelihood": "exact" if self.harness.exact else f"bound, {self.harness.draws} draws",
            }

    return InterlaceLM


def main() -> None:
    """lm-eval's command line, with Interlace's models."""
    try:
        register()
        from lm_eval.__main__ import cli_evaluate

        cli_evaluate()
    except InterlaceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
