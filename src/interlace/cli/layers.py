"""interlace layers"""

from __future__ import annotations

from typing import Any

from ..errors import SettingError
from .command import Setting, command
from .console import print_json, say, table
from .models import OPENING, open_text_model
from .settings import DATA, MODEL


@command(
    Setting("model", str, MODEL.help, place=True, required=True),
    Setting("regime", str, "clean: reads text as it is; denoise: the open tokens of rollouts; allmask: masks", "clean"),
    Setting("texts", int, "held-out pieces of text", 16),
    Setting("length", int, "tokens of each", 128),
    Setting("budget", int, "blocks to leave out", 2),
    Setting("threshold", float, "a block is redundant where its similarity is above this", 0.95),
    Setting("protect", list[int], "blocks that stay"),
    Setting("adjacent", bool, "let neighbours be left out together", False),
    Setting("seed", int, "of the choice of texts", 0),
    Setting("out", str, "page with pictures: *.html"),
    *(s for s in DATA if s.name in ("data", "field")),
    *OPENING,
    panel="Look",
)
def layers(
    model: str,
    regime: str,
    texts: int,
    length: int,
    budget: int,
    threshold: float,
    protect: list[int] | None,
    adjacent: bool,
    seed: int,
    out: str | None,
    data: str,
    field: str,
    system: str | None,
    dtype: str | None,
    device: str | None,
    json: bool,
    **decoding: Any,
) -> None:
    """Measure how far every block turns the residual stream, and choose blocks that can be left out.

    similarity: cosine of the stream before and behind a block; near 1 the block
    hardly turns it. distance: how far its attention looks, in tokens. Choose by
    --regime denoise, compare models by clean.

    [bold]Examples[/bold]
      interlace layers twin --regime denoise --budget 1
      interlace layers base --out layers.html
      interlace generate --model twin --skip-layers 2 'def area('
    """
    if out is not None and not out.endswith(".html"):
        raise SettingError(f"--out {out} is no page; name it *.html")
    from dataclasses import asdict

    from ..evaluation.layers import analyse
    from ..nn.skipping import choose
    from ..training.text import DataSettings, mixture
    from .config import make
    from .measuring import questions

    opened = open_text_model(model, system, dtype, device, decoding)
    documents = list(mixture(make(DataSettings, {"data": data, "field": field}), "heldout"))
    asked = questions(documents, opened.tokenizer, texts, 0, 0, 8, seed)
    found = analyse(opened, asked.texts, regime, length, progress=True)  # type: ignore[arg-type]
    chosen = choose(found.similarity, budget, threshold, protect or (), adjacent)
    if json:
        print_json({"model": model, "chosen": chosen, **asdict(found)})
    else:
        columns = found.similarity, found.deviation, found.step, found.neighbours, found.recency, found.distance
        rows = zip(*columns, strict=True)
        head = ["layer", "similarity", "±", "step", "neighbours", "recency", "distance", ""]
        marked = [[n, *row, "left out" if n in chosen else ""] for n, row in enumerate(rows, 1)]
        alike = f"every key alike: distance {found.uniform:.4g}"
        table(head, marked, f"{model}, {regime}, {found.tokens:,} tokens; {alike}")
        fewer = f", fewer than {budget}" if len(chosen) < budget else ""
        said = f"--skip-layers {','.join(map(str, chosen))}" if chosen else "no block"
        say(f"above {threshold:g}{'' if adjacent else ', no neighbours'}: {said}{fewer}")
    if out is not None:
        from ..report.files import write_whole
        from ..report.layers import layers_page

        say(f"{write_whole(out, layers_page(model, found, chosen, threshold))} shows it")
