"""interlace convert"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from .command import Setting, command
from .console import print_json, say, table
from .settings import SET, assignments

if TYPE_CHECKING:
    from ..conversions import Renamed


@command(
    Setting("path", str, "a folder, a Hugging Face name, or a bundled model: base, twin", place=True, required=True),
    Setting(
        "to",
        str,
        # those of checkpoints.families(), as a test sees to: to ask it would import torch for every --help
        "format to write: dream, fast_dllm_v2, interlace, llada, llama, qwen2, qwen3, qwen3_moe, sdar, wedlm",
        required=True,
    ),
    Setting("out", str, "folder to write; not needed for a dry run"),
    Setting("block_size", int, "tokens per block that config.json shall name", shown="as it is"),
    Setting("mask_token_id", int, "id of the mask token", shown="the checkpoint's, or the first free row"),
    Setting("dtype", str, "of the weights: float32, bfloat16 or float16", shown="as stored"),
    Setting("system", str, "system that config.json shall name: one that reads the weights alike", shown="as it is"),
    SET,
    Setting("dry_run", bool, "write nothing, and print which tensor becomes which", False),
    panel="Use",
)
def convert(
    path: str,
    to: str,
    out: str | None,
    block_size: int | None,
    mask_token_id: int | None,
    dtype: str | None,
    system: str | None,
    set: list[str] | None,
    dry_run: bool,
    json: bool,
) -> None:
    """Write a checkpoint in another published format. The weights stay what they are; only names and config change.

    An autoregressive model in the format of a diffusion model still has to be
    adapted; interlace adapt writes the right format by itself.

    With --set (and --system) config.json says how the model decodes where nothing
    else is said: the threshold, say, that was measured to lose nothing.

    [bold]Examples[/bold]
      interlace convert twin --to interlace --out ours
      interlace convert Qwen/Qwen3-0.6B --to sdar --dry-run
      interlace convert DIR --to qwen3 --out plain --dtype bfloat16
      interlace convert DIR --to sdar --out faster --set threshold=0.8

    With --json the object has from, to, out and mapping: of every parameter ours,
    shape, source and target.
    """
    from dataclasses import asdict

    from ..checkpoints import families, load, summary
    from ..conversions import convert as run
    from ..conversions import mapping, plan
    from ..model import locate, system_of

    if not dry_run and out is None:
        raise SettingError("nothing says where to write; pass --out DIR, or --dry-run")
    folder = locate(path)
    before = summary(folder)
    rows = mapping(before, to)
    if out is None or dry_run:
        made = plan(load(folder, device="meta"), to, block_size, mask_token_id, system, assignments(set))
    else:
        made = run(folder, out, to, block_size, mask_token_id, dtype, system, assignments(set))
    if json:
        written = None if dry_run else out
        print_json({"from": before.family, "to": to, "out": written, "mapping": [asdict(row) for row in rows]})
    elif dry_run:
        table([before.family, to, "shape"], _lines(rows), f"{path}: {before.family} to {to}, {len(rows)} parameters")
    else:
        say(f"{out} holds {path} in the format {to}")
    if dry_run:
        return
    for remark in families()[to].remarks(made):
        say(remark)
    if families()[to].masked and not system_of(load(folder, device="meta"))[0].denoises:
        say(f"its weights are autoregressive still: interlace adapt --model {path} makes a diffusion model of them")


def _lines(rows: list[Renamed]) -> list[list[Any]]:
    """Layers that are named alike are one line, with * for their numbers."""
    seen: dict[tuple[str, str, str], int] = {}
    for row in rows:
        one, other = (" + ".join(re.sub(r"\b\d+\b", "*", name) for name in names) for names in (row.source, row.target))
        key = (one, other, " x ".join(map(str, row.shape)))
        seen[key] = seen.get(key, 0) + 1
    return [
        [one, other, shape + (f", {count} times" if count > 1 else "")] for (one, other, shape), count in seen.items()
    ]
