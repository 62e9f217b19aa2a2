"""Weights by source: what training left alone is not copied, and comes back exactly."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.core.tiny_folder import OPTIONS
from vlv_core.compose import Choice, choose, compose
from vlv_core.errors import ConfigError, ModelError
from vlv_core.model import VLV
from vlv_core.model_folder import load_model, save_model
from vlv_core.origins import digest_of, load_pretrained
from vlv_core.plugins import load_plugins
from vlv_core.recipe import load_recipe
from vlv_core.registry import Plugins
from vlv_core.specs import Source, View
from vlv_core.training.freeze import select
from vlv_core.training.start import start_model

ROOT = Path(__file__).parents[2]
SOURCE = Source("package:vlv_test_weights", files=("*.safetensors",))


class Weights:
    """Makes a connector able to read pretrained weights, as a plugin's own would."""

    def load_pretrained(self, folder: Path) -> set[str]:
        tensors = load_file(folder / "w.safetensors")
        self.load_state_dict(tensors, strict=False)  # type: ignore[attr-defined]
        return set(tensors)


@pytest.fixture
def plugins() -> Plugins:
    return load_plugins(third_party=False)


@pytest.fixture
def choices(plugins: Plugins) -> dict[str, Choice]:
    return {role: choose(role, *named, plugins=plugins) for role, named in OPTIONS.items()}


@pytest.fixture
def model(choices: dict[str, Choice], monkeypatch: pytest.MonkeyPatch) -> VLV:
    from vlv_core.connector import Mlp

    monkeypatch.setattr(Mlp, "load_pretrained", Weights.load_pretrained, raising=False)
    torch.manual_seed(5)
    return compose(choices, view=View(size=64)).eval()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: VLV) -> Path:
    """An installed package that holds other weights for all of the connector."""
    folder = tmp_path / "site" / "vlv_test_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    state = {name: torch.randn_like(t) for name, t in model.connector.state_dict().items()}
    save_file(state, folder / "w.safetensors")
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def entry(folder: Path, part: str) -> dict[str, object]:
    return tomllib.loads((folder / "model.toml").read_text())["parts"][part]


def equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(t, theirs[name]) for name, t in one.state_dict().items())


def test_untouched_weights_stay_in_their_package(
    model: VLV, choices: dict[str, Choice], plugins: Plugins, package: Path, tmp_path: Path
) -> None:
    origin = load_pretrained(model.connector, "connector", SOURCE, root=tmp_path)
    assert origin.portable and origin.filled == set(model.connector.state_dict())
    out = tmp_path / "m"
    save_model(model, out, choices=choices, name="m", origins={"connector": origin})
    assert "file" not in entry(out, "connector")
    assert entry(out, "connector")["source"]["location"] == SOURCE.location  # type: ignore[index]
    assert not (out / "connector.safetensors").exists()
    assert equal(load_model(out, plugins=plugins)[0], model)


def test_what_training_changed_goes_beside_the_source(
    model: VLV, choices: dict[str, Choice], plugins: Plugins, package: Path, tmp_path: Path
) -> None:
    origin = load_pretrained(model.connector, "connector", SOURCE, root=tmp_path)
    name, parameter = next(iter(model.connector.named_parameters()))
    parameter.data += 1
    out, origins, trained = tmp_path / "m", {"connector": origin}, {f"connector.{name}"}
    save_model(model, out, choices=choices, name="m", origins=origins, trained=trained)
    assert set(load_file(out / "connector.safetensors")) == {name}
    assert equal(load_model(out, plugins=plugins)[0], model)


def test_other_files_in_the_source_are_refused(
    model: VLV, choices: dict[str, Choice], plugins: Plugins, package: Path, tmp_path: Path
) -> None:
    origin = load_pretrained(model.connector, "connector", SOURCE, root=tmp_path)
    out = tmp_path / "m"
    save_model(model, out, choices=choices, name="m", origins={"connector": origin})
    state = load_file(package / "w.safetensors")
    save_file({name: tensor + 1 for name, tensor in state.items()}, package / "w.safetensors")
    wanted = "connector: the files of 'package:vlv_test_weights' are not those that this model"
    with pytest.raises(ModelError, match=wanted):
        load_model(out, plugins=plugins)


def test_files_that_the_source_has_no_more_are_told(
    model: VLV, choices: dict[str, Choice], plugins: Plugins, package: Path, tmp_path: Path
) -> None:
    """A cache that a caption filled lacks what only drawing reads."""
    origin = load_pretrained(model.connector, "connector", SOURCE, root=tmp_path)
    out = tmp_path / "m"
    save_model(model, out, choices=choices, name="m", origins={"connector": origin})
    (package / "w.safetensors").unlink()
    wanted = r"was made from; of \*\.safetensors '.*/vlv_test_weights' has none"
    with pytest.raises(ModelError, match=wanted):
        load_model(out, plugins=plugins)


@pytest.mark.usefixtures("package")
def test_tensors_that_another_version_of_a_part_does_not_read_are_named(
    model: VLV,
    choices: dict[str, Choice],
    plugins: Plugins,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a file beside the source too: they would hold whatever was in memory."""
    origin = load_pretrained(model.connector, "connector", SOURCE, root=tmp_path)
    save_model(model, tmp_path / "m", choices=choices, name="m", origins={"connector": origin})
    first, *rest = sorted(origin.filled)
    monkeypatch.setattr(type(model.connector), "load_pretrained", lambda *_: set(rest))
    with pytest.raises(ModelError, match=f"neither the source nor the file has \\['{first}'\\]"):
        load_model(tmp_path / "m", plugins=plugins)


def test_other_files_beside_the_weights_do_not_matter(package: Path) -> None:
    before = digest_of(package, ("*.safetensors", "*.json"))
    (package / "generation_config.json").write_text("{}")
    assert digest_of(package, ("*.safetensors", "*.json")) == before
    assert digest_of(package, ("*.json",)) != before


def test_a_local_folder_is_copied_for_another_machine_lacks_it(
    model: VLV, choices: dict[str, Choice], package: Path, tmp_path: Path
) -> None:
    local = replace(SOURCE, location=str(package))
    origin = load_pretrained(model.connector, "connector", local, root=tmp_path)
    assert not origin.portable
    save_model(model, tmp_path / "m", choices=choices, name="m", origins={"connector": origin})
    assert "source" not in entry(tmp_path / "m", "connector")


def test_tensors_that_nobody_has_are_named(
    model: VLV, choices: dict[str, Choice], plugins: Plugins, package: Path, tmp_path: Path
) -> None:
    origin = load_pretrained(model.connector, "connector", SOURCE, root=tmp_path)
    names = sorted(origin.filled)
    out, trained = tmp_path / "m", {f"connector.{name}" for name in names[:2]}
    origins = {"connector": origin}
    save_model(model, out, choices=choices, name="m", origins=origins, trained=trained)
    state = load_file(package / "w.safetensors")
    kept = {name: tensor for name, tensor in state.items() if name not in names[:1]}
    save_file(kept, package / "w.safetensors")
    text = (out / "model.toml").read_text()
    changed = text.replace(origin.sha256, digest_of(package, SOURCE.files))
    (out / "model.toml").write_text(changed)
    (out / "connector.safetensors").unlink()
    save_file({names[1]: state[names[1]]}, out / "connector.safetensors")
    import hashlib

    digest = hashlib.sha256((out / "connector.safetensors").read_bytes()).hexdigest()
    old = str(entry(out, "connector")["sha256"])
    (out / "model.toml").write_text(changed.replace(old, digest))
    with pytest.raises(ModelError, match="neither the source nor the file has"):
        load_model(out, plugins=plugins)


def test_a_bundled_model_is_a_source(plugins: Plugins, tmp_path: Path) -> None:
    recipe = load_recipe(ROOT / "recipes" / "smoke.toml")
    assert recipe.decoder.weights == "mini"
    start = start_model(recipe, plugins=plugins, root=tmp_path)
    out = tmp_path / "m"
    trained = {name for name, _ in select(start.model, ["encoder", "bottleneck"])}
    save_model(
        start.model,
        out,
        choices=start.choices,
        name="m",
        origins=start.origins,
        trained=trained,
    )
    assert entry(out, "diffusion")["source"]["location"] == "model:mini"  # type: ignore[index]
    assert not (out / "diffusion.safetensors").exists()
    assert equal(load_model(out, plugins=plugins)[0], start.model)
    text = (out / "model.toml").read_text()
    digest = str(entry(out, "condition")["source"]["sha256"])  # type: ignore[index]
    (out / "model.toml").write_text(text.replace(digest, "0" * 64))
    with pytest.raises(ModelError, match="condition: 'model:mini' holds other weights than when"):
        load_model(out, plugins=plugins)


def test_an_entry_without_weights_is_refused(
    model: VLV, choices: dict[str, Choice], plugins: Plugins, tmp_path: Path
) -> None:
    save_model(model, tmp_path, choices=choices, name="m")
    text = (tmp_path / "model.toml").read_text()
    (tmp_path / "model.toml").write_text(text.replace('file = "head.safetensors"\n', ""))
    with pytest.raises(ConfigError, match="neither file nor source says where the weights are"):
        load_model(tmp_path, plugins=plugins)
