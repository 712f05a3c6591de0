"""Questions about code with exact answers: does it parse, and is the hole filled as it was.

Text is cut *before* a line end here (a prompt, a prefix): what follows starts with the line end and its indentation,
which the tokenizers of this package keep in one token. So ``encode(prefix) + encode(middle) + encode(suffix)`` is the
encoding of the whole.
"""

from __future__ import annotations

import ast
import bisect
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from interlace.errors import DataError, SettingError
from interlace.worlds.corpus import Document
from interlace.worlds.tokenizer import encode

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_TRY = re.compile(r"\s*try\s*:\s*(#.*)?")
_HEADER = re.compile(r".*:\s*(#.*)?")


@dataclass(frozen=True)
class Prompt:
    """The start of a piece of code, and how its file goes on (the file's whole rest, which starts with a line end)."""

    name: str
    text: str
    reference: str


@dataclass(frozen=True)
class InfillCase:
    """A hole in a file: a single statement (``line``), or the body of a short function (``body``)."""

    name: str
    prefix: str
    middle: str
    suffix: str
    kind: Literal["line", "body"]


def parses(text: str) -> bool:
    """Whether ``text`` is Python that the running interpreter parses. Never raises, never warns.

    >>> parses("x = 1"), parses("x = ")
    (True, False)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


def parses_so_far(text: str) -> bool:
    """Whether ``text`` parses once what is still open at its end is closed in the mildest way.

    A header or a decorator without a body gets ``pass`` for one, and a ``try`` without a handler, around the last
    line, gets ``finally: pass``. Nothing else is repaired: an open bracket or string does not parse.

    >>> parses_so_far("for x in y:"), parses_so_far("try:\\n    f()"), parses_so_far("f(")
    (True, True, False)
    """
    return parses(text) or any(parses(closed) for closed in _closings(text))


def completion_parses(prompt: str, completion: str) -> bool:
    """Whether a completion, which may stop anywhere, is Python where it continues the prompt.

    The rule: ``prompt`` must satisfy :func:`parses_so_far` by itself. ``completion`` is cut at its end and then at
    its line ends, from the last one backwards; the first cut after which prompt and completion satisfy
    :func:`parses_so_far` is accepted, as long as at least half of the completion's non-blank lines are kept, and at
    least one. A blank completion is not accepted.

    >>> completion_parses("def f(x):", "\\n    y = x + 1\\n    return (y")
    True
    >>> completion_parses("def f(x):", "\\n    y = = 1\\n    return y")
    False
    """
    total = _filled(completion)
    if not total or not parses_so_far(prompt):
        return False
    cut = len(completion)
    while cut > 0 and 2 * _filled(completion[:cut]) >= total:
        if parses_so_far(prompt + completion[:cut]):
            return True
        cut = completion.rfind("\n", 0, cut)
    return False


def code_prompts(
    documents: Iterable[Document], count: int, tokenizer: Any, prompt_tokens: int, seed: int = 0
) -> list[Prompt]:
    """``count`` prompts out of ``documents``, the same for the same seed, spread evenly over the documents.

    A prompt starts where its file or a top-level statement does, ends before a line end (after the header of a
    function, or after a statement in one), satisfies :func:`parses_so_far`, has between ``prompt_tokens / 4`` and
    ``prompt_tokens`` tokens, and at least three lines of its file follow. Raises :class:`DataError` where the
    documents have fewer.
    """
    _check(count=count, prompt_tokens=prompt_tokens)

    def of_document(document: Document) -> Iterator[Prompt]:
        source = _Source(document)
        starts = [0, *(source.begin(first) for first in source.top_level())]
        for line in _shuffled(source.cuts(), seed, document.name):
            end = source.end(line)
            reference = document.text[end:]
            if _filled(reference) < 3:
                continue
            for start in starts:
                # A token is a byte at least, and 16 characters are more than any vocabulary makes of one on average.
                if start >= end or end - start > 16 * prompt_tokens:
                    continue
                text = document.text[start:end]
                length = len(encode(tokenizer, text))
                if length <= prompt_tokens:
                    if 4 * length >= prompt_tokens and parses_so_far(text):
                        yield Prompt(f"{document.name}:{line}", text, reference)
                    break

    return _take((of_document(document) for document in _shuffled(documents, seed, "documents")), count, "prompts")


def infill_cases(
    documents: Iterable[Document],
    count: int,
    tokenizer: Any,
    seed: int = 0,
    min_tokens: int = 4,
    max_tokens: int = 64,
    context_tokens: int = 256,
) -> list[InfillCase]:
    """``count`` holes in ``documents``, statements and function bodies in turn, the same for the same seed.

    The middle has ``min_tokens`` to ``max_tokens`` tokens and starts with the line end before it. A body leaves its
    docstring in the prefix. Prefix and suffix are whole lines, at most ``context_tokens / 2`` tokens each. Raises
    :class:`DataError` where the documents have fewer.
    """
    _check(count=count, min_tokens=min_tokens, max_tokens=max_tokens - min_tokens + 1, context_tokens=context_tokens)

    def of_document(document: Document, kind: Literal["line", "body"]) -> Iterator[InfillCase]:
        source = _Source(document)
        for first, last in _shuffled(source.holes(kind), seed, f"{kind} {document.name}"):
            begin, end = source.begin(first), source.end(last)
            begin = len(document.text[:begin].rstrip("\n"))  # blank lines before it are part of the hole
            middle = document.text[begin:end]
            if begin == 0 or not min_tokens <= len(encode(tokenizer, middle)) <= max_tokens:
                continue
            before = _last_lines(document.text[:begin], tokenizer, context_tokens // 2)
            after = _first_lines(document.text[end:], tokenizer, context_tokens // 2)
            if before and after:
                yield InfillCase(f"{document.name}:{first}", before, middle, after, kind)

    order = _shuffled(documents, seed, "documents")
    bodies = _take((of_document(document, "body") for document in order), count // 2, "function bodies")
    lines = _take((of_document(document, "line") for document in order), count - count // 2, "statements")
    return [case for pair in itertools.zip_longest(lines, bodies) for case in pair if case is not None]


def exact_match(prediction: str, middle: str) -> bool:
    """Whether both are the same lines, apart from spaces at line ends and blank lines around.

    >>> exact_match("\\n    return x  \\n", "\\n    return x")
    True
    """
    return _normalised(prediction) == _normalised(middle)


def _normalised(text: str) -> list[str]:
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n").split("\n")


def _filled(text: str) -> int:
    """How many lines are not blank."""
    return sum(not line.isspace() for line in text.splitlines() if line)


def _closings(text: str) -> Iterator[str]:
    """``text`` with an end that closes what may be open: the last line's body first, then the blocks around it."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return
    last = lines[-1]
    closed = text.rstrip()
    if last.lstrip().startswith("@"):
        closed += f"\n{_indent(last)}def _(): pass"
    elif _HEADER.fullmatch(last):
        closed += f"\n{_indent(last)}    pass"
        if _TRY.fullmatch(last):
            closed += f"\n{_indent(last)}finally: pass"
    if closed != text:
        yield closed
    # The headers around the last line are the lines before it with ever smaller indentation.
    width = len(_indent(last).expandtabs())
    for line in reversed(lines[:-1]):
        here = len(_indent(line).expandtabs())
        if here < width:
            width = here
            if _TRY.fullmatch(line):
                closed += f"\n{_indent(line)}finally: pass"
                yield closed


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


class _Source:
    """A parsed document; lines count from 1, as in ``ast``."""

    def __init__(self, document: Document) -> None:
        self.text = document.text
        breaks = list(re.finditer(r"\r\n|\r|\n", document.text))  # the line ends that ast counts
        self._begins = [0, *(match.end() for match in breaks)]
        self._ends = [*(match.start() for match in breaks), len(document.text)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._tree = ast.parse(document.text)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                self._tree = ast.Module([], [])

    def begin(self, line: int) -> int:
        """Where a line begins in the text."""
        return self._begins[line - 1]

    def end(self, line: int) -> int:
        """Where a line ends, before its line end."""
        return self._ends[line - 1]

    def top_level(self) -> list[int]:
        """First lines of the statements at top level, decorators included."""
        return [_first_line(node) for node in self._tree.body]

    def cuts(self) -> list[int]:
        """Last lines of functions' headers and of the statements in functions."""
        found = set()
        for function in self._functions():
            found.add(function.body[0].lineno - 1)
            found.update(last for _, last in self._statements(function))
        return sorted(found)

    def holes(self, kind: Literal["line", "body"]) -> list[tuple[int, int]]:
        """First and last lines of what can be cut out."""
        found: set[tuple[int, int]] = set()
        for function in self._functions():
            if kind == "line":
                found.update(self._statements(function))
                continue
            body = function.body[1:] if ast.get_docstring(function) is not None else function.body
            if body and _first_line(body[0]) > function.lineno:
                first, last = _first_line(body[0]), body[-1].end_lineno or 0
                if self._alone(first, last, body[0], body[-1]):
                    found.add((first, last))
        return sorted(found)

    def _functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self._tree):
            if isinstance(node, _FUNCTIONS) and node.body[0].lineno > node.lineno:
                yield node

    def _statements(self, function: ast.AST) -> Iterator[tuple[int, int]]:
        """Simple statements on lines of their own; docstrings are text rather than code."""
        for node in ast.walk(function):
            if not isinstance(node, ast.stmt) or hasattr(node, "body") or hasattr(node, "cases"):
                continue
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            if self._alone(node.lineno, node.end_lineno or 0, node, node):
                yield node.lineno, node.end_lineno or 0

    def _alone(self, first: int, last: int, start: ast.stmt, stop: ast.stmt) -> bool:
        """Whether nothing but spaces and a comment stands beside the statements on their lines."""
        before = self.text[self.begin(first) : self.end(first)].encode()[: start.col_offset]
        after = self.text[self.begin(last) : self.end(last)].encode()[stop.end_col_offset :]
        decorated = first < start.lineno
        return (decorated or not before.strip()) and (not after.strip() or after.lstrip().startswith(b"#"))


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _last_lines(text: str, tokenizer: Any, limit: int) -> str:
    """As many whole lines at the end of ``text`` as have at most ``limit`` tokens together."""
    begins = [0] if len(text) <= 16 * limit else []
    text = text[-16 * limit :]
    begins += [match.end() for match in re.finditer("\n", text)]
    place = bisect.bisect_left(begins, True, key=lambda begin: len(encode(tokenizer, text[begin:])) <= limit)
    return text[begins[place] :] if place < len(begins) else ""


def _first_lines(text: str, tokenizer: Any, limit: int) -> str:
    """As many whole lines at the beginning of ``text`` as have at most ``limit`` tokens together."""
    ends = [len(text)] if len(text) <= 16 * limit else []
    text = text[: 16 * limit]
    ends = [match.start() for match in re.finditer("\n", text)] + ends
    place = bisect.bisect_left(ends, True, key=lambda end: len(encode(tokenizer, text[:end])) > limit)
    return text[: ends[place - 1]] if place else ""


def _shuffled(items: Iterable[Any], seed: int, salt: str) -> list[Any]:
    """In an order that depends on the items, the seed and the salt alone."""

    def key(item: Any) -> bytes:
        name = item.name if isinstance(item, Document) else item
        return blake2b(repr((seed, salt, name)).encode("utf-8", "backslashreplace"), digest_size=16).digest()

    return sorted(items, key=key)


def _take(sources: Iterable[Iterator[Any]], count: int, what: str) -> list[Any]:
    """``count`` items, one from every source in turn."""
    found: list[Any] = []
    alive: Sequence[Iterator[Any]] = list(sources)
    while alive and len(found) < count:
        left = []
        for source in alive:
            if len(found) == count:
                break
            item = next(source, None)
            if item is not None:
                found.append(item)
                left.append(source)
        alive = left
    if len(found) < count:
        raise DataError(f"the documents give {len(found)} {what} of that length, not {count}; ask for fewer")
    return found


def _check(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise SettingError(f"{name} is out of range; pass at least 1, and max_tokens not below min_tokens")
