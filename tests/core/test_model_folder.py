"""Model folders: what is saved is what is loaded, and nothing damaged is opened."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.core.tiny_folder import OPTIONS
from vlv_core.compose import Choice, choose, compose
from vlv_core.errors import ConfigError, ModelError, PluginError
from vlv_core.loading import find_model, load
from vlv_core.model import VLV
from vlv_core.model_folder import load_model, save_model
from vlv_core.plugins import load_plugins
from vlv_core.registry import Plugins
from vlv_core.specs import View


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins(third_party=False)


def choices_of(plugins: Plugins, **changes: tuple[str, dict[str, Any]]) -> dict[str, Choice]:
    chosen = {**OPTIONS, **changes}
    return {role: choose(role, *named, plugins=plugins) for role, named in chosen.items()}


@pytest.fixture
def model(plugins: Plugins) -> VLV:
    torch.manual_seed(3)
    return compose(choices_of(plugins), view=View(size=64)).eval()


@pytest.fixture
def folder(model: VLV, plugins: Plugins, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "m", choices=choices_of(plugins), name="tiny", domain="noise")
    return tmp_path / "m"


def edit(folder: Path, before: str, after: str) -> None:
    path = folder / "model.toml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_what_is_loaded_is_what_was_saved(model: VLV, folder: Path, plugins: Plugins) -> None:
    loaded, choices = load_model(folder, plugins=plugins)
    assert not loaded.training
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    assert choices == choices_of(plugins)


def test_half_precision_weights_come_back_as_float32(
    model: VLV, plugins: Plugins, tmp_path: Path
) -> None:
    choices = choices_of(plugins)
    save_model(model, tmp_path / "h", choices=choices, name="half", dtype=torch.float16)
    stored = load_file(tmp_path / "h" / "encoder.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    loaded, _ = load_model(tmp_path / "h", plugins=plugins)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_captioning_never_opens_the_diffusion(folder: Path, plugins: Plugins) -> None:
    (folder / "diffusion.safetensors").unlink()
    loaded, _ = load_model(folder, plugins=plugins, diffusion=False)
    assert loaded.diffusion is None
    with pytest.raises(ModelError, match=r"diffusion\.safetensors is missing"):
        load_model(folder, plugins=plugins)


def test_the_manifest_names_plugins_configs_and_hashes(folder: Path) -> None:
    manifest = tomllib.loads((folder / "model.toml").read_text())
    assert manifest["schema"] == "vlv-model/1"
    assert manifest["domain"] == "noise"
    assert manifest["view"] == {"size": 64, "fit": "crop", "resample": "bilinear"}
    assert list(manifest["parts"]) == [
        "encoder", "bottleneck", "condition", "diffusion", "connector", "head",
    ]  # fmt: skip
    encoder = manifest["parts"]["encoder"]
    assert encoder["config"] == {"patch": 8, "width": 16, "depth": 1, "heads": 2}
    assert len(encoder["sha256"]) == 64
    assert list(manifest["parts"]["head"]["assets"]) == ["tokenizer.json"]


def test_a_killed_save_leaves_no_model(
    model: VLV, folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model.head, "save_assets", killed)
    with pytest.raises(KeyboardInterrupt):
        save_model(model, folder, choices=choices_of(plugins), name="again")
    with pytest.raises(ModelError, match=r"model\.toml is missing, so .* is no model"):
        load_model(folder, plugins=plugins)


def test_changed_weights_are_refused(folder: Path, plugins: Plugins) -> None:
    path = folder / "head.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match=r"head\.safetensors is not the file .* sha256 differs"):
        load_model(folder, plugins=plugins)


def test_a_changed_tokenizer_is_refused(folder: Path, plugins: Plugins) -> None:
    (folder / "head" / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json is not the file"):
        load_model(folder, plugins=plugins)


def rehash(folder: Path, part: str) -> None:
    import hashlib

    data = (folder / f"{part}.safetensors").read_bytes()
    manifest = tomllib.loads((folder / "model.toml").read_text())
    edit(folder, manifest["parts"][part]["sha256"], hashlib.sha256(data).hexdigest())


def test_missing_and_unexpected_keys_are_listed(folder: Path, plugins: Plugins) -> None:
    path = folder / "connector.safetensors"
    weights = load_file(path)
    weights["extra.weight"] = weights.pop("layers.0.weight")
    save_file(weights, path)
    rehash(folder, "connector")
    wanted = r"missing: \['layers\.0\.weight'\]; unexpected: \['extra\.weight'\]"
    with pytest.raises(ModelError, match=wanted):
        load_model(folder, plugins=plugins)


def test_another_shape_is_refused(folder: Path, plugins: Plugins) -> None:
    edit(folder, "hidden = 24", "hidden = 25")
    with pytest.raises(ModelError, match=r"is \(16, 24\) in the file, but \(16, 25"):
        load_model(folder, plugins=plugins)


def test_a_file_that_is_no_safetensors_is_refused(folder: Path, plugins: Plugins) -> None:
    (folder / "head.safetensors").write_bytes(b"\x80\x04pickle")
    rehash(folder, "head")
    with pytest.raises(ModelError, match="no safetensors file"):
        load_model(folder, plugins=plugins)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname"])
def test_files_stay_inside_the_folder(folder: Path, plugins: Plugins, name: str) -> None:
    edit(folder, 'file = "encoder.safetensors"', f'file = "{name}"')
    with pytest.raises(ModelError, match="would lie outside"):
        load_model(folder, plugins=plugins)


def test_a_link_out_of_the_folder_is_refused(
    folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    path = folder / "encoder.safetensors"
    path.rename(tmp_path / "elsewhere.safetensors")
    path.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ModelError, match=r"encoder\.safetensors is a link to a file outside"):
        load_model(folder, plugins=plugins)


def test_a_part_that_is_not_there_is_named(folder: Path, plugins: Plugins) -> None:
    edit(folder, "[parts.connector", "[parts.adapter")
    with pytest.raises(ModelError, match="model 'tiny' has no part 'connector'; it has encoder"):
        load_model(folder, plugins=plugins)


def test_another_schema_is_refused(folder: Path, plugins: Plugins) -> None:
    edit(folder, "vlv-model/1", "vlv-model/9")
    with pytest.raises(ModelError, match="schema 'vlv-model/9'; this version of vlv reads"):
        load_model(folder, plugins=plugins)


def test_a_manifest_that_is_not_toml_is_refused(folder: Path, plugins: Plugins) -> None:
    (folder / "model.toml").write_text("= nothing")
    with pytest.raises(ModelError, match=r"model\.toml is not TOML"):
        load_model(folder, plugins=plugins)


def test_an_unknown_plugin_is_named(folder: Path, plugins: Plugins) -> None:
    edit(folder, 'plugin = "mini-vit"', 'plugin = "mini-vitt"')
    with pytest.raises(PluginError, match="no encoder named 'mini-vitt'; did you mean 'mini-vit'"):
        load_model(folder, plugins=plugins)


def test_a_mistyped_option_is_named(folder: Path, plugins: Plugins) -> None:
    edit(folder, "patch = 8", "pach = 8")
    with pytest.raises(ConfigError, match="no key 'pach'; did you mean 'patch'"):
        load_model(folder, plugins=plugins)


def test_neighbours_that_do_not_fit_are_both_named(plugins: Plugins) -> None:
    choices = choices_of(plugins, bottleneck=("query", {"num_queries": 78, "heads": 2}))
    with pytest.raises(ConfigError, match=r"num_queries is 78, but condition\.max_queries is 77"):
        compose(choices, view=View(size=64))
    good = compose(choices_of(plugins), view=View(size=64))
    other = compose(
        choices_of(plugins, decoder=("mini-t2i", {**OPTIONS["decoder"][1], "text_width": 32})),
        view=View(size=64),
    )
    with pytest.raises(ConfigError, match=r"dim is 16, but condition\.embedding_dim is 32"):
        VLV(
            view=good.view,
            encoder=good.encoder,
            bottleneck=good.bottleneck,
            condition=other.condition,
            connector=good.connector,
            head=good.head,
        )


def test_any_number_of_queries_captions(plugins: Plugins) -> None:
    for count in (1, 16, 77):
        choices = choices_of(plugins, bottleneck=("query", {"num_queries": count, "heads": 2}))
        model = compose(choices, view=View(size=64))
        output = model(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
        assert output.prefix.shape == (1, count, 16)


def test_unknown_names_say_what_there_is(plugins: Plugins, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder and no bundled model named 'minni'"):
        find_model("minni", plugins=plugins)
    with pytest.raises(ModelError, match=r"holds none of .*model\.toml.*, so it is no model"):
        load(tmp_path, plugins=plugins)


def test_a_loaded_captioner_answers(folder: Path, plugins: Plugins) -> None:
    captioner = load(folder, parts="all", device="cpu", plugins=plugins)
    picture = np.full((80, 100, 3), 90, np.uint8)
    assert captioner.name.startswith("tiny@")
    assert len(captioner.caption([picture])) == 1
    assert captioner.reconstruct([picture], seed=0, steps=2).shape == (1, 64, 64, 3)
