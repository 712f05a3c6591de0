"""The options say what the settings say: same names, same words, same defaults; and every example can be called."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from interlace.cli import COMMANDS
from interlace.cli.config import make
from interlace.cli.quickstart import QUICKSTART
from interlace.cli.settings import CLIP_DATA, CLIP_SHAPE, DATA, DECODING, LORA, REINFORCE, SHAPE, TRAINING
from interlace.clips import ClipData, ClipShape
from interlace.errors import SettingError
from interlace.lora import LoraSettings
from interlace.quickstart import QuickstartSettings
from interlace.recipes import ShapeSettings
from interlace.reinforcement import ReinforceSettings
from interlace.systems.system import TextSettings
from interlace.training.settings import TrainSettings
from interlace.training.text import DataSettings

PAIRS: list[tuple[tuple[Any, ...], Any, set[str]]] = [
    (TRAINING, TrainSettings, set()),
    (DATA, DataSettings, set()),
    (SHAPE, ShapeSettings, set()),
    (LORA, LoraSettings, set()),
    (DECODING, TextSettings, {"mask_id"}),  # the checkpoint knows it
    (QUICKSTART, QuickstartSettings, set()),
    (CLIP_DATA, ClipData, {"seed"}),  # the world is the same in every run
    (CLIP_SHAPE, ClipShape, set()),
    (REINFORCE, ReinforceSettings, set()),
]
GIVEN: dict[str, Any] = {"out": "somewhere", "lora": 8}
"""What has no default."""
ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(page.relative_to(ROOT).as_posix() for page in ROOT.glob("docs/**/*.md"))]


@pytest.mark.parametrize(("options", "settings", "left_out"), PAIRS, ids=lambda x: getattr(x, "__name__", None))
def test_every_option_is_a_field_and_every_field_an_option(options: Any, settings: Any, left_out: set[str]) -> None:
    assert {option.name for option in options} == set(settings.model_fields) - left_out


@pytest.mark.parametrize(("options", "settings", "left_out"), PAIRS, ids=lambda x: getattr(x, "__name__", None))
def test_options_have_the_words_and_defaults_of_their_fields(options: Any, settings: Any, left_out: set[str]) -> None:
    for option in options:
        field = settings.model_fields[option.name]
        assert option.help == field.description, option.name
        default = None if field.is_required() else field.default
        if options is DECODING:
            assert option.default is None  # left to the system
            said = "the model's" if option.name == "block_size" else None if default is None else str(default)
            assert option.shown == said, option.name
        elif isinstance(default, tuple):
            assert option.default == list(default), option.name
        else:
            assert option.default == (str(default) if isinstance(default, Path) else default), option.name


@pytest.mark.parametrize(("options", "settings", "left_out"), PAIRS, ids=lambda x: getattr(x, "__name__", None))
def test_the_defaults_of_the_options_make_the_settings(options: Any, settings: Any, left_out: set[str]) -> None:
    values = {option.name: option.default for option in options}
    given = {name: value for name, value in GIVEN.items() if name in values}
    made = make(settings, values | given)
    rest = made.model_dump(exclude={"out"})
    assert rest == settings(**given).model_dump(exclude={"out"})


def test_a_setting_out_of_range_names_its_option() -> None:
    with pytest.raises(SettingError, match=r"^--batch-rows is 0; pass 1 or more$"):
        make(TrainSettings, {"out": "x", "batch_rows": 0})


def test_one_word_has_one_meaning() -> None:
    """An option of one name has one type everywhere, and no option is written with another's word."""
    kinds: dict[str, set[Any]] = {}
    for command in COMMANDS.values():
        for setting in command.settings:
            kinds.setdefault(setting.name, set()).add(str(setting.type))
    assert {name: types for name, types in kinds.items() if len(types) > 1} == {}
    for synonym in ("num_tokens", "max_tokens", "block_length", "gen_length", "denoising_steps", "confidence"):
        assert synonym not in kinds


def examples(text: str) -> list[str]:
    """Calls of interlace in a text: lines of a console block, or of an indented example."""
    text = text.replace("\\\n", " ")
    found = re.findall(
        r"^\s*(?:\$ )?(?:\S*/)?(?:(?:accelerate launch|torchrun) .*?)?((?:-m )?interlace [a-z].*)$", text, re.MULTILINE
    )
    return [re.sub(r"\s+# .*", "", line.removeprefix("-m ")) for line in found]


def check_example(line: str) -> None:
    parts = shlex.split(re.split(r" [<>|] ", line)[0])
    assert parts[1] in COMMANDS, line
    known = {s.flag for s in COMMANDS[parts[1]].settings} | {s.short for s in COMMANDS[parts[1]].settings} | {"--help"}
    known |= {flag for s in COMMANDS[parts[1]].settings for flag in s.flags[0].split("/")}
    for part in parts[2:]:
        if re.match(r"--?[a-z]", part):
            assert part.partition("=")[0] in known, f"{part} in: {line}"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself_with_examples_that_exist(name: str, call: Any) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    for setting in COMMANDS[name].settings:
        if not setting.place:
            assert setting.flag[:18] in result.stdout, setting.flag
    mine = examples(COMMANDS[name].help.partition("[bold]Examples[/bold]")[2])
    if name != "systems":
        assert mine and any(line.split()[1] == name for line in mine)
    for line in mine:
        check_example(line)


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md"))]
)
def test_the_pages_call_commands_that_exist(page: str) -> None:
    for block in re.findall(r"```(?:console|bash|sh)\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        for line in examples(block):
            check_example(line)


def test_the_reference_page_is_up_to_date() -> None:
    from interlace.cli.reference import page

    assert (ROOT / "docs/reference/cli.md").read_text() == page(), "python -m interlace.cli.reference writes it anew"
