"""A command: its options as a table, values from the command line, a file or the defaults, and its errors in one line.

A command file says which options it takes, and gets their values as arguments::

    @command(MODEL, OUT, *TRAINING, panel="Train")
    def adapt(model: str, out: str, **settings: Any) -> None:
        \"\"\"What `--help` prints.\"\"\"

Nothing here imports torch; a command imports what it needs when it runs.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import InterlaceError, SettingError, nearest

__all__ = ["COMMANDS", "Command", "Setting", "app", "command", "leader", "reported"]

_UsageError: Any = typer.BadParameter.__base__


class _Commands(TyperGroup):
    """Reads the command line; what it cannot read is an error like any other, in one line."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        if not args:
            return super().make_context(info_name, args, *rest, **extra)  # the help
        with reported(), _usage():
            return super().make_context(info_name, args, *rest, **extra)

    def invoke(self, ctx: Any) -> Any:
        with reported(), _usage():
            return super().invoke(ctx)


app = typer.Typer(
    name="interlace",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True)
class Setting:
    """One option. ``name`` is its one word: ``block_size`` in Python and in files, ``--block-size`` as an option.

    default: its value where it is given nowhere; None leaves the choice to whoever gets it. shown: that choice in
    words, for ``--help``. required: it must be given. place: an argument without a name. short: ``-m``. file: whether
    a ``--config`` file may set it.
    """

    name: str
    type: Any
    help: str
    default: Any = None
    shown: str | None = None
    panel: str | None = None
    metavar: str | None = None
    short: str | None = None
    required: bool = False
    place: bool = False
    file: bool = True

    @property
    def flag(self) -> str:
        """How it is written on the command line."""
        return self.name.upper() if self.place else "--" + self.name.replace("_", "-")

    @property
    def flags(self) -> list[str]:
        """Every way to write it; what is on can also be switched off."""
        long = f"{self.flag}/--no-{self.flag[2:]}" if self.type is bool and self.file and not self.place else self.flag
        return [long, *([self.short] if self.short else [])]

    @property
    def otherwise(self) -> str:
        """What holds where it is not given, in words."""
        if self.shown is not None or self.default is None:
            return self.shown or ""
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        return ",".join(map(str, self.default)) if isinstance(self.default, list) else str(self.default)

    def value(self, given: Any) -> Any:
        """What was given on the command line; several numbers stand there with commas between them."""
        if self.type != list[float] or not isinstance(given, str):
            return given
        try:
            return [float(part) for part in given.split(",")]
        except ValueError:
            raise SettingError(f"{self.flag} {given!r} are no numbers; write 0.9,0.8") from None

    def parameter(self) -> inspect.Parameter:
        """The parameter that typer reads. It has no default of its own: so what was given can be told apart."""
        note = "required" if self.required else f"default: {self.otherwise}" if self.otherwise else ""
        text = self.help.replace("[", "\\[") + (f" [dim]\\[{note}][/dim]" if note else "")
        about: dict[str, Any] = {"help": text, "rich_help_panel": self.panel, "show_default": False}
        kind = str if self.type == list[float] else self.type
        if self.metavar or self.type is bool or kind is not self.type:
            about["metavar"] = self.metavar or ("X,X,..." if kind is str else " ")
        info = typer.Argument(None, **about) if self.place else typer.Option(None, *self.flags, **about)
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=info, annotation=kind | None)


@dataclass(frozen=True)
class Command:
    """A command as it was registered. ``settings``: all of its options, those of every command included."""

    name: str
    panel: str
    help: str
    settings: tuple[Setting, ...]
    function: Callable[..., None] = field(repr=False)


COMMANDS: dict[str, Command] = {}
"""Every command by name, in the order of ``--help``."""

CONFIG = Setting(
    "config",
    str,
    "read settings from this TOML or JSON file; options win over it",
    panel="Everywhere",
    metavar="FILE",
    file=False,
)
PRINT_CONFIG = Setting(
    "print_config", bool, "print all settings as TOML and do nothing else", panel="Everywhere", file=False
)
JSON = Setting("json", bool, "print the result as JSON", panel="Everywhere", file=False)
DEBUG = Setting("debug", bool, "show where an error comes from", panel="Everywhere", file=False)


def command(
    *settings: Setting, panel: str, json: bool = True, name: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command that takes these options; its docstring is the help.

    All take ``--config``, ``--print-config`` and ``--debug``. json: it takes ``--json`` too, and gets it as ``json``.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        title = name or function.__name__
        mine = (*settings, CONFIG, PRINT_CONFIG, *([JSON] if json else ()), DEBUG)

        def run(**given: Any) -> None:
            with reported(bool(given.pop("debug"))):
                values = {s.name: s.value(given[s.name]) for s in settings if given[s.name] not in (None, [])}
                if given["config"] is not None:
                    from .config import read

                    values = read(given["config"], settings) | values
                values = {s.name: values.get(s.name, s.default) for s in settings}
                if given["print_config"]:
                    from .config import toml

                    print(toml(settings, values), end="")
                    return
                for s in settings:
                    if s.required and values[s.name] is None:
                        raise SettingError(f"{s.flag} is missing ({s.help}); see interlace {title} --help")
                function(**values, **({"json": bool(given["json"])} if json else {}))

        run.__signature__ = inspect.Signature([s.parameter() for s in mine])  # type: ignore[attr-defined]
        run.__annotations__ = {}
        help = inspect.getdoc(function) or ""
        COMMANDS[title] = Command(title, panel, help, mine, function)
        app.command(title, help=help, rich_help_panel=panel)(run)
        return function

    return register


def _print_version(asked: bool) -> None:
    if asked:
        print(f"interlace {__version__}")
        raise typer.Exit


@app.callback()
def interlace(
    version: bool = typer.Option(
        False, "--version", help="Show the version and exit.", metavar=" ", is_eager=True, callback=_print_version
    ),
) -> None:
    """Models that generate by interlacing autoregression and diffusion: train, adapt, generate, measure.

    A model is a folder in a published format (Qwen, Llama, SDAR), a Hugging Face
    name, or one of the bundled models: base (autoregressive), twin (diffusion).
    interlace COMMAND --help explains a command, with examples.
    """


def leader() -> bool:
    """Whether this process speaks: the first one, where several were started together."""
    return int(os.environ.get("RANK") or 0) == 0


@contextmanager
def _usage() -> Iterator[None]:
    """Words that are no option and no command as a ``SettingError``: the cause, and the nearest word or the help."""
    try:
        yield
    except _UsageError as error:
        cause, *hint = re.split(r"[.]? [(]?(?=Did you mean|Possible options)", error.format_message(), maxsplit=1)
        where, word = (error.ctx.command_path if error.ctx else "interlace"), str(getattr(error, "option_name", ""))
        mine = error.ctx.command.params if error.ctx else []
        known = [flag for option in mine for flag in (*option.opts, *option.secondary_opts) if flag[:2] == "--"]
        near = nearest(word, known) if word not in ("", *known) else "".join(hint).rstrip(")")
        remedy = near[0].lower() + near[1:] if near.lower().startswith("did you mean") else f"see {where} --help"
        raise SettingError(f"{cause[0].lower()}{cause[1:].rstrip('.')}; {remedy}") from None


@contextmanager
def reported(debug: bool = False) -> Iterator[None]:
    """Errors of the user in one line with status 2, an interrupt as 130, a reader that went away in silence."""
    try:
        yield
        sys.stdout.flush()
    except InterlaceError as error:
        if debug:
            traceback.print_exc()
        who = "" if leader() else f" (process {os.environ.get('RANK')})"
        print(f"error{who}: {' '.join(str(error).split())}", file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt as stopped:
        print(f"stopped; {stopped}" if str(stopped) else "stopped", file=sys.stderr)
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # nobody reads on: what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(141) from None
