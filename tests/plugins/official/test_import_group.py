"""`vlv import`: importers by their registration alone."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.plugins.official.reference import Ours
from vlv_core.cli.import_ import command
from vlv_core.console import Session
from vlv_core.errors import MissingExtra, PluginError
from vlv_core.specs import ImporterSpec
from vlv_plugins import official

PLUGIN = """\
import click
from vlv_core import ImporterSpec, hookimpl

@hookimpl
def vlv_importers():
    return [ImporterSpec(name="other", summary="another release", command="{name}:command")]

@click.command()
@click.argument("checkpoint")
@click.pass_obj
def command(session, checkpoint):
    click.echo(f"read {{checkpoint}} with {{type(session).__name__}}")
"""


def ask(*arguments: str, session: Session | None = None) -> Result:
    return CliRunner().invoke(command, list(arguments), obj=session or Ours())


def test_help_lists_importers_without_their_code() -> None:
    for result in (ask("--help"), ask()):
        assert result.exit_code == 0
        assert "official" in result.output
        assert "a checkpoint of the official VLV release" in result.output.replace("\n", " ")


def test_an_importers_own_help() -> None:
    result = ask("official", "--help")
    assert result.exit_code == 0
    for option in ("--florence2", "--stable-diffusion", "--llm", "--no-diffusion", "--plugin"):
        assert option in result.output
    assert "Nothing in it is" in result.output


def test_a_local_plugins_importer_appears_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "other_release.py"
    file.write_text(PLUGIN.format(name=file.stem))
    result = ask("--plugin", str(file), "other", "weights.bin", session=Session())
    assert result.exit_code == 0, result.output
    assert result.output == "read weights.bin with Session\n"
    assert "another release" in ask("--plugin", str(file), session=Session()).output


def test_an_unknown_importer() -> None:
    error = ask("oficial").exception
    assert isinstance(error, PluginError)
    with pytest.raises(PluginError, match="no importer named 'oficial'; did you mean 'official'"):
        raise error


def test_an_importer_whose_library_is_absent() -> None:
    spec = ImporterSpec(name="x", summary="x", command="a:b", requires=("no_such_library",))

    class Lacking(Session):
        def plugins(self) -> "object":  # type: ignore[override]
            from vlv_core.registry import Owner, Plugins, Registered

            return Plugins((Registered("importer", spec, Owner("o", "1", "p")),))

    error = ask("x", session=Lacking()).exception
    assert isinstance(error, MissingExtra)
    with pytest.raises(MissingExtra, match="importer 'x': no_such_library is not installed"):
        raise error


def test_the_plugin_and_its_command_are_light() -> None:
    code = (
        "import sys, vlv_plugins.official, vlv_plugins.official.command, vlv_core.cli.import_\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_spec_names_a_command() -> None:
    (spec,) = official.vlv_importers()
    from vlv_core.specs import resolve

    assert isinstance(resolve(spec.command), click.Command)
    assert spec.extra == "models" and "torch" in spec.requires
