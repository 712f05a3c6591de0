"""POST /v1/completions and POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ..errors import InterlaceError
from .asking import Ask, Prompt, asked
from .bodies import ChatBody, CompletionBody
from .desk import Desk
from .documents import described
from .served import Served
from .sse import unless_gone
from .wire import Refused, refusal
from .wording import ChatWording, CompletionWording

if TYPE_CHECKING:
    from ..constraints import Constraint

__all__ = ["prompt_of", "routes"]


def routes(desk: Desk) -> APIRouter:
    """Both endpoints."""
    router = APIRouter()

    @router.post("/v1/completions", **described("Continue texts, or fill gaps", CompletionBody))
    async def completions(request: Request) -> Response:
        body = await desk.body(request, CompletionBody)
        served = desk.served(body.model)
        if body.best_of not in (None, body.n or 1):
            raise Refused("best_of is not supported here; leave it out", "best_of", "unsupported_parameter")
        if body.echo and body.logprobs is not None:
            raise Refused("echo with logprobs is not supported here: prompts are not scored; leave one out", "echo")
        held = await unless_gone(request, desk.held(served, body))
        asks, known = await asyncio.to_thread(_completions, served, body, held)
        say = CompletionWording(served, request.scope["interlace.id"], known, body.logprobs, bool(body.echo))
        return await desk.answer(request, served, body, asks, say)

    @router.post("/v1/chat/completions", **described("Answer a conversation", ChatBody))
    async def chat(request: Request) -> Response:
        body = await desk.body(request, ChatBody)
        served = desk.served(body.model)
        if body.max_tokens is not None and body.max_completion_tokens is not None:
            raise Refused("max_tokens and max_completion_tokens exclude each other; pass the latter", "max_tokens")
        if body.top_logprobs is not None and not body.logprobs:
            raise Refused("top_logprobs needs logprobs = true", "top_logprobs")
        held = await unless_gone(request, desk.held(served, body))
        asks, known = await asyncio.to_thread(_chat, served, body, held)
        say = ChatWording(served, request.scope["interlace.id"], known, _top(body))
        return await desk.answer(request, served, body, asks, say)

    return router


def _top(body: ChatBody) -> int | None:
    return (body.top_logprobs or 0) if body.logprobs else None


def _completions(served: Served, body: CompletionBody, held: Constraint | None) -> tuple[list[Ask], int]:
    """The rows, and the tokens of all prompts."""
    prompts = [prompt_of(served, one) for one in _prompts(body.prompt)]
    suffix = prompt_of(served, body.suffix, "suffix", False) if body.suffix else None
    length = 16 if body.max_tokens is None else body.max_tokens
    asks = asked(served, body, prompts, length, "prompt", body.logprobs, suffix, held)
    behind = 0 if suffix is None else len(suffix.ids)
    return asks, sum(len(one.ids) + behind for one in prompts)


def _chat(served: Served, body: ChatBody, held: Constraint | None) -> tuple[list[Ask], int]:
    try:
        prompt = Prompt(*served.conversation(body.messages))
    except InterlaceError as error:
        raise refusal(error, "messages") from None
    length = body.max_completion_tokens or body.max_tokens
    asks = asked(served, body, [prompt], length, "messages", _top(body), held=held)
    return asks, len(prompt.ids)


def _prompts(given: Any) -> list[Any]:
    """One prompt or several."""
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    if not given:
        raise Refused("prompt is an empty list; pass a text, token ids, or several of them", "prompt")
    return list(given)


def prompt_of(served: Served, given: Any, field: str = "prompt", begins: bool = True) -> Prompt:
    """A prompt, as text or as token ids. begins: nothing stands before it, so a text gets the model's first token."""
    model = served.model
    if isinstance(given, str):
        try:
            return Prompt(model.encode_prompt(given) if begins else model.encode(given), given)
        except InterlaceError as error:
            raise refusal(error, field) from None
    size = model.checkpoint.config.vocab_size
    wrong = next((one for one in given if not 0 <= one < size), None)
    if wrong is not None:
        raise Refused(f"{field} holds the token id {wrong}; {served.name} has ids from 0 to {size - 1}", field)
    return Prompt(given, model.tokenizer.decode(given, skip_special_tokens=False))
