"""The tokenizer's files: kept as they were read, written anew only where the tokenizer has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["FILES", "content", "fields", "files_to_write", "find_mask", "parse", "read_files"]

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)
# Tokenizers that are made of vocab.json and merges.txt, and cut text as Qwen2 does.
_LIKE_QWEN = ("Qwen2Tokenizer", "Qwen2TokenizerFast", "DreamTokenizer")
# How published masked-diffusion models spell their mask token.
MASKS = ("<|MASK|>", "<MASK>", "|<MASK>|", "<|mask|>", "<mask>", "[MASK]")


def read_files(directory: Path) -> dict[str, bytes]:
    """The tokenizer files of a folder, by name, byte for byte."""
    return {name: (directory / name).read_bytes() for name in FILES if (directory / name).is_file()}


def parse(files: Mapping[str, bytes], directory: Path) -> Tokenizer | None:
    """The tokenizer of ``tokenizer.json``; None if there is no such file, nor the parts of which one can be made."""
    if "tokenizer.json" not in files:
        return _made(files, directory)
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(files["tokenizer.json"].decode("utf-8"))
    except Exception as error:  # the library raises nothing narrower
        cause = str(error).splitlines()[0]
        raise CheckpointError(
            f"{directory / 'tokenizer.json'} is damaged ({cause}); download it again, or remove it to go without"
        ) from None


def _made(files: Mapping[str, bytes], directory: Path) -> Tokenizer | None:
    """A tokenizer of Qwen2's kind of vocab.json and merges.txt, as Dream is published; None where it is of another.

    What is added to it gets the ids that the files say, or it is refused.
    """
    config = fields(files, "tokenizer_config.json")
    if config.get("tokenizer_class") not in _LIKE_QWEN or not {"vocab.json", "merges.txt"} <= files.keys():
        return None
    from tokenizers import AddedToken
    from transformers import Qwen2Tokenizer

    said = {text: number for text, number in fields(files, "added_tokens.json").items() if isinstance(number, int)}
    flags: dict[str, dict[str, bool]] = {}
    for number, token in (config.get("added_tokens_decoder") or {}).items():
        text = content(token)
        if text is not None and str(number).isdigit():
            said[text] = int(number)
            kinds = ("lstrip", "normalized", "rstrip", "single_word", "special")
            flags[text] = {kind: bool(token[kind]) for kind in kinds if isinstance(token, dict) and kind in token}
    added = sorted(said, key=lambda text: said[text])
    lines = files["merges.txt"].decode("utf-8", "replace").splitlines()
    merges = [pair for line in lines if not line.startswith("#version") and len(pair := tuple(line.split(" "))) == 2]
    roles = dict.fromkeys(("unk_token", "eos_token", "pad_token"), added[0]) if added else {}
    try:
        made: Tokenizer = Qwen2Tokenizer(vocab=fields(files, "vocab.json"), merges=merges, **roles).backend_tokenizer
        usual = {"special": True, "normalized": False}
        made.add_tokens([AddedToken(text, **usual | flags.get(text, {})) for text in added])
    except Exception as error:  # the library raises nothing narrower
        cause = str(error).splitlines()[0]
        raise CheckpointError(
            f"{directory}: vocab.json and merges.txt do not fit ({cause}); download them again"
        ) from None
    for text in added:
        if made.token_to_id(text) != said[text]:
            raise CheckpointError(
                f"{directory}: {text!r} is said to be token {said[text]}, behind vocab.json it is "
                f"{made.token_to_id(text)}; download the tokenizer's files again"
            )
    return made


def fields(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        value = json.loads(files.get(name, b"{}"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not JSON ({error}); download it again") from None
    return value if isinstance(value, dict) else {}


def content(token: Any) -> str | None:
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def find_mask(files: Mapping[str, bytes], tokenizer: Tokenizer | None) -> int | None:
    """The id of the mask token: the one that ``tokenizer_config.json`` names, else an added token spelled like one."""
    config = fields(files, "tokenizer_config.json")
    added = {}
    for number, token in (config.get("added_tokens_decoder") or {}).items():
        text = content(token)
        if text is not None and str(number).isdigit():
            added[text] = int(number)
    added |= {text: number for text, number in fields(files, "added_tokens.json").items() if isinstance(number, int)}
    if tokenizer is not None:
        added |= {token.content: number for number, token in tokenizer.get_added_tokens_decoder().items()}
    named = content(config.get("mask_token"))
    if named is not None:
        number = tokenizer.token_to_id(named) if tokenizer is not None else None
        number = added.get(named) if number is None else number
        if number is not None:
            return number
    return next((added[spelling] for spelling in MASKS if spelling in added), None)


def files_to_write(
    tokenizer: Tokenizer | None,
    files: Mapping[str, bytes],
    named: Mapping[str, int | None],
    max_length: int,
    masked: bool = False,
) -> dict[str, bytes]:
    """The tokenizer files of a checkpoint: ``files`` unchanged while they still describe ``tokenizer``.

    Args:
        tokenizer: the tokenizer now; None leaves ``files`` as they are.
        files: as ``read_files`` gave them; empty for a tokenizer that was made here.
        named: token ids by role: ``eos_token``, ``pad_token``, ``bos_token``, ``mask_token``.
        max_length: the longest sequence that the network takes.
        masked: the mask token must be named, even where its spelling tells it: ``transformers`` goes by the name alone.
    """
    if tokenizer is None:
        return dict(files)
    out = dict(files)
    config = fields(files, "tokenizer_config.json")
    if not _same(tokenizer, files.get("tokenizer.json")):
        for stale in ("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model"):
            out.pop(stale, None)
        out["tokenizer.json"] = _plain(tokenizer, files.get("tokenizer.json"))
        if config.pop("auto_map", None) is not None:  # a class of a file that is not written here
            config["tokenizer_class"] = "PreTrainedTokenizerFast"
        if "added_tokens_decoder" in config:
            config["added_tokens_decoder"] = {
                str(number): {
                    "content": token.content,
                    "lstrip": token.lstrip,
                    "normalized": token.normalized,
                    "rstrip": token.rstrip,
                    "single_word": token.single_word,
                    "special": token.special,
                }
                for number, token in sorted(tokenizer.get_added_tokens_decoder().items())
            }
    if not config:
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_length,
            "clean_up_tokenization_spaces": False,
        }
    else:  # a published file says on purpose which roles it fills; only a mask token that is needed is added
        mask = named.get("mask_token")
        named = {"mask_token": mask} if masked or mask != find_mask(out, tokenizer) else {}
    for role, number in named.items():
        text = None if number is None else tokenizer.id_to_token(number)
        if text is not None and content(config.get(role)) != text:
            config[role] = text
    if config != fields(files, "tokenizer_config.json"):
        out["tokenizer_config.json"] = _pretty(config)
    if any(out.get(name) != files.get(name) for name in ("tokenizer.json", "tokenizer_config.json")):
        roles = ("bos_token", "eos_token", "pad_token", "unk_token", "mask_token", "additional_special_tokens")
        out["special_tokens_map.json"] = _pretty({role: config[role] for role in roles if config.get(role)})
    return out


def _same(tokenizer: Tokenizer, raw: bytes | None) -> bool:
    if raw is None:
        return False
    from tokenizers import Tokenizer as Read

    now, then = json.loads(tokenizer.to_str()), json.loads(Read.from_str(raw.decode("utf-8")).to_str())
    for transient in ("padding", "truncation"):  # switched on and off by use, not part of the vocabulary
        now.pop(transient, None)
        then.pop(transient, None)
    return bool(now == then)


def _plain(tokenizer: Tokenizer, raw: bytes | None) -> bytes:
    """The tokenizer's file, with padding and truncation as they were in the file that it came from."""
    value, before = json.loads(tokenizer.to_str()), json.loads(raw) if raw else {}
    value |= {transient: before.get(transient) for transient in ("padding", "truncation")}
    return _pretty(value)


def _pretty(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
