"""The page says what the command does."""

import re
import tomllib

from tests.source import ROOT
from vlv_core.console import session_options
from vlv_plugins.official._checkpoint import SUFFIXES, WRAPPERS
from vlv_plugins.official.command import command

PAGE = (ROOT / "docs" / "official.md").read_text(encoding="utf-8")


def test_every_option_and_its_default_is_on_the_page() -> None:
    rows = dict(re.findall(r"^\| (`--.*?) \| (.*?) \|", PAGE, re.MULTILINE))
    # `vlv import` adds to the commands that it runs what all commands have.
    elsewhere = {"out", *(option.name for option in session_options())}
    for option in command.params:
        if option.param_type_name != "option" or option.name in elsewhere:
            continue
        row = next(key for key in rows if f"`{option.opts[0]}`" in key)
        if option.name in {"florence2", "stable_diffusion", "llm", "view_size", "dtype"}:
            assert rows[row] == f"`{option.default}`"
    assert len(PAGE.splitlines()) <= 80


def test_every_kind_of_file_is_on_the_page() -> None:
    for name in (*SUFFIXES, *WRAPPERS[:3]):
        assert f"`{name}`" in PAGE


def test_the_recipes_part_is_toml() -> None:
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found
    assert tomllib.loads(found[1])["encoder"]["weights"] == "models/stage1"
