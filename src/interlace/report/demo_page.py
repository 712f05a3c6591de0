"""The report of a quickstart as one HTML page: every number with its model and how it was measured."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .demo_acts import adaptation, comparison, completions, holes
from .html import beside, card, facts, figure, page, picture, section, table

if TYPE_CHECKING:
    from .demo import Contestant, Demo

__all__ = ["demo_page"]


def demo_page(demo: Demo) -> str:
    """The whole page; nothing in it is loaded from elsewhere."""
    base, adapted, twin = demo.contestants
    first, last = demo.adaptation.probes[0], demo.adaptation.probes[-1]
    lead = (
        f"An autoregressive code model of {_millions(base.parameters)} parameters was trained on as a block-diffusion "
        f"model for {demo.adaptation.seconds:.0f} seconds, on this machine and its own standard library. Its held-out "
        f"bound went from {first['bound']:.2f} to {last['bound']:.2f} nats per token, its tokens per forward from "
        f"{first['tokens_per_forward']:.2f} to {last['tokens_per_forward']:.2f}; the base makes "
        f"{base.at(demo.threshold).tokens_per_forward:.2f}. Minutes teach a model to fill masks; to be sure of several "
        f"tokens at once takes hours: the twin, adapted by the same command, makes "
        f"{twin.at(demo.threshold).tokens_per_forward:.2f}. Every number on this page was measured in this run."
    )
    machine = demo.machine
    over = f"Interlace {demo.version} · quickstart · {demo.date}"
    foot = (
        f"<p>{escape(machine.cpu)}, {machine.cores} cores, {machine.threads} threads"
        f"{', ' + escape(machine.gpu) if machine.gpu else ''} · Python {escape(machine.python)} · PyTorch "
        f"{escape(machine.torch)} · seed {demo.seed} · {demo.seconds.get('all', 0):.0f} s in all. The numbers are in "
        "<code>report.json</code> beside this page, the adapted model in <code>model</code>.</p>"
    )
    body = (
        _models(demo),
        _ideas(adapted),
        adaptation(demo),
        comparison(demo),
        completions(demo),
        holes(demo),
        _how(demo),
    )
    return page("From one token at a time to blocks at a time", escape(lead), body, over, foot, replay=True)


def _models(demo: Demo) -> str:
    cards = []
    for c in demo.contestants:
        point = c.at(demo.threshold)
        low, high = point.completions.parse_interval
        cost, sign = c.likelihood, "≤ " if c.likelihood.kind == "bound" else ""
        rows = [
            ("held-out cost", f"{sign}{cost.nats:.3f} nats per token", f"{cost.kind}, ± {cost.standard_error:.3f}"),
            ("per byte", f"{sign}{cost.bits_per_byte:.3f} bits", ""),
            ("completions that parse", f"{point.parse_rate:.0%}", f"95%: {low:.0%} to {high:.0%}"),
            ("tokens per second", f"{point.tokens_per_second:,.0f}", f"of the first {point.completions.timed} prompts"),
            (
                "holes filled exactly",
                f"{c.fillings.exact_match():.0%}",
                f"sees the {c.fillings.sees}" if c.fillings.sees != "both sides" else "sees both sides",
            ),
        ]
        big = f'<p class="big">{point.tokens_per_forward:.2f} <small>tokens per forward</small></p>'
        cards.append(card(big, facts(rows), title=c.name, about=c.about, style=c.style))
    note = (
        f"The two block-diffusion models at threshold {demo.threshold:g}: in every forward all tokens are fixed whose "
        "probability is above it, and at least one. The twin came into this run as it is: by default the bundled "
        "model, which was adapted beforehand, and for longer."
    )
    return section("Three models", f"<p>{escape(note)}</p>", beside(*cards))


def _ideas(adapted: Contestant) -> str:
    import torch

    from ..attention.patterns import BlockCausal, Causal, Tags, TwoCopy, dense
    from ..schedules import BlockByBlock, TokenByToken
    from .pictures import draw_mask, draw_path

    size = adapted.block_size
    index = torch.arange((3 if size <= 4 else 2) * size)
    zero = torch.zeros_like(index)
    left = Tags(index, index, zero, zero)
    noisy = Tags(index, index // size, zero, zero + 1)
    two = Tags(*(torch.cat(pair) for pair in zip(noisy, noisy._replace(copy=zero), strict=True)))
    drawn = [
        (
            picture(draw_path(TokenByToken(), 8), "path of the base", 360),
            "The path of the base: a unit is one token and takes one step.",
        ),
        (
            picture(draw_path(BlockByBlock(size), 4), "path of block diffusion", 260),
            f"The path of block diffusion at its slowest: a unit is a block of {size} tokens. A sure model skips.",
        ),
        (
            picture(draw_mask(dense(Causal(), left), tags=left), "attention of the base", 330),
            "Who sees whom in the base, in training and in use: a token sees itself and all tokens before it.",
        ),
        (
            picture(draw_mask(dense(TwoCopy(BlockCausal()), two), tags=two), "attention in the adaptation", 400),
            "Who sees whom in the adaptation: every row is given twice. A noisy block sees itself and the clean blocks "
            "before it: exactly what it sees in use.",
        ),
    ]
    lead = (
        "To generate is to walk over a grid of units and noise levels. The base takes one token after the other. The "
        f"adapted model takes one block after the other, in up to {size} steps each, and in fewer where it is sure. "
        "The weights keep their shape; what changes is who sees whom, and what is learnt."
    )
    cards = (card(figure(drawing, caption)) for drawing, caption in drawn)
    return section("Two paths, two masks", f"<p>{escape(lead)}</p>", beside(*cards, two=True))


def _how(demo: Demo) -> str:
    cost = demo.contestants[-1].likelihood
    rows = [
        (
            "held out",
            "files of the standard library, chosen by the hash of their path alone; neither this adaptation nor the "
            "bundled models ever saw them.",
        ),
        (
            "cost",
            f"{cost.texts} pieces of whole lines; the first token of a piece is given. Exact for the base. For block "
            "diffusion an upper bound, the negative evidence lower bound, estimated with "
            f"{cost.draws} draws of masks per piece, their sizes spread evenly. The standard error is over pieces and "
            "draws together.",
        ),
        (
            "parses",
            "the completion, cut back to a line end that keeps at least half of its lines, is Python where it stands. "
            "Intervals are Wilson's, 95%.",
        ),
        (
            "tokens per forward",
            "new tokens over forwards of the network, summed over all prompts. The forward that reads the prompt also "
            "fixes the first tokens; a finished block is committed by the first step of the next one.",
        ),
        (
            "tokens per second",
            "wall clock of the first prompts, one at a time, float32, after a short warm-up; the prompt is included.",
        ),
        ("filled exactly", "the filling is what was cut out, apart from spaces at line ends; its length is given."),
        ("tokens right", "tokens of the fillings that are what stood at their place."),
        ("threshold", f"{demo.threshold:g} where no other stands beside a number; always greedy, seed {demo.seed}."),
        ("time", ", ".join(f"{name} {value:.0f} s" for name, value in demo.seconds.items()) + "."),
    ]
    return section("How it was measured", table(["", ""], [[f"<b>{n}</b>", escape(t)] for n, t in rows], raw=(0, 1)))


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} million" if count >= 1e5 else f"{count:,}"
