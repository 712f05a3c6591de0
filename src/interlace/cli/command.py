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
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer

from ..errors import InterlaceError, SettingError

__all__ = ["Setting", "app", "command", "leader"]

app = typer.Typer(
    name="interlace",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="Models that generate by interlacing autoregression and diffusion: train, adapt, generate, measure.",
)


@dataclass(frozen=True)
class Setting:
    """One option. ``name`` is its one word: ``block_size`` in Python and in files, ``--block-size`` on the command line.

    default: its value where it is given nowhere; None leaves the choice to what it is given to. shown: that choice in
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

    def parameter(self) -> inspect.Parameter:
        """The parameter that typer reads. It has no default of its own, to tell what was given."""
        word = self.shown if self.shown is not None else _word(self.default)
        about: dict[str, Any] = {"help": self.help, "rich_help_panel": self.panel, "show_default": word or False}
        if self.metavar:
            about["metavar"] = self.metavar
        if self.required:
            about["help"] += " [red]\\[required][/red]"
        if self.place:
            info = typer.Argument(None, **about)
        else:
            names = [self.flag] if self.type is not bool else [f"{self.flag}/--no-{self.flag[2:]}"]
            info = typer.Option(None, *names, *([self.short] if self.short else []), **about)
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=info, annotation=self.type | None)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


CONFIG = Setting(
    "config", str, "read settings from this TOML or JSON file; options win over it", metavar="FILE", panel="Everywhere"
)
PRINT_CONFIG = Setting("print_config", bool, "print the settings as TOML, and do nothing else", panel="Everywhere")
JSON = Setting("json", bool, "print the result as JSON", panel="Everywhere")
DEBUG = Setting("debug", bool, "show where an error comes from", panel="Everywhere")


def command(
    *settings: Setting, panel: str, config: bool = False, json: bool = True, name: str | None = None, epilog: str = ""
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command that takes these options; its docstring is the help.

    config: takes ``--config`` and ``--print-config``. json: takes ``--json``, given to the function as ``json``.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        title = name or function.__name__
        everywhere = [*([CONFIG, PRINT_CONFIG] if config else []), *([JSON] if json else []), DEBUG]

        def run(**given: Any) -> None:
            with reported(bool(given.pop("debug"))):
                file, printing = given.pop("config", None), given.pop("print_config", None)
                if json:
                    given["json"] = bool(given["json"])
                values = {s.name: given.pop(s.name) for s in settings}
                # typer gives an empty list where an option that may be repeated is not given
                values = {k: None if v == [] else v for k, v in values.items()}
                if file is not None:
                    from .config import read

                    values = read(file, settings) | {k: v for k, v in values.items() if v is not None}
                values = {s.name: values.get(s.name) if values.get(s.name) is not None else s.default for s in settings}
                if printing:
                    from .config import toml

                    print(toml(settings, values), end="")
                    return
                for s in settings:
                    if s.required and values[s.name] is None:
                        raise SettingError(f"{s.flag} is missing ({s.help}); see interlace {title} --help")
                function(**values, **given)

        # one flag, not a pair: what is said once for all commands
        parameters = [s.parameter() for s in settings]
        for s in everywhere:
            if s.type is bool:
                info = typer.Option(False, s.flag, help=s.help, rich_help_panel=s.panel, show_default=False)
                parameters.append(
                    inspect.Parameter(s.name, inspect.Parameter.KEYWORD_ONLY, default=info, annotation=bool)
                )
            else:
                parameters.append(s.parameter())
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {}
        help = inspect.getdoc(function)
        app.command(title, help=help, rich_help_panel=panel, epilog=epilog or None, no_args_is_help=False)(run)
        return function

    return register


def leader() -> bool:
    """Whether this process speaks: the first one, where several were started together."""
    return int(os.environ.get("RANK", "0") or 0) == 0


@contextmanager
def reported(debug: bool = False) -> Iterator[None]:
    """Errors of the user in one line and status 2, an interrupt as 130, a reader that went away in silence."""
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
