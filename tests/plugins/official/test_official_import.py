"""Which checkpoints are imported, what is taken from elsewhere, and what is refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.plugins.official.plugins import plugins
from tests.plugins.official.reference import bring
from tests.plugins.official.release import Release, random_views
from tests.plugins.stable_diffusion.tiny import VIEW
from vlv_core.compose import choose
from vlv_core.errors import ModelError, UsageError, VlvError
from vlv_core.model_folder import load_model, load_part, open_model, read_manifest
from vlv_core.specs import Near, OpenOptions, resolve

State = dict[str, Tensor]
FLORENCE = "VLV_model.model."


@pytest.fixture
def put(release: Release, tmp_path: Path) -> Callable[..., Any]:
    """Import a state dict; the report as JSON, or the error that came of it."""

    def put(state: State, *options: str, models: Path | None = None) -> Any:
        torch.save(state, tmp_path / "checkpoint.pth")
        folder = tmp_path / "model"
        size = ("--view-size", str(VIEW), *options)
        result = bring(tmp_path / "checkpoint.pth", folder, models or release.models, *size)
        if result.exception is not None:
            raise result.exception
        return json.loads((folder / "import.json").read_text())

    return put


@pytest.fixture
def bare(release: Release, tmp_path: Path) -> Path:
    """The three folders without any weights."""
    folder = tmp_path / "bare"
    shutil.copytree(release.models, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def test_stage_1_is_written_as_parts(release: Release, put: Any, tmp_path: Path) -> None:
    report = put(release.stage1())
    assert report["stage"] == 1 and set(report["parts"]) == {
        "encoder", "bottleneck", "condition", "diffusion",
    }  # fmt: skip
    with pytest.raises(ModelError, match=r"has no part 'connector'"):
        load_model(tmp_path / "model", plugins=plugins())


def test_stage_1s_parts_are_what_recipes_take_weights_from(
    release: Release, put: Any, tmp_path: Path
) -> None:
    put(release.stage1())
    entry = read_manifest(tmp_path / "model").entry("bottleneck")
    choice = choose("bottleneck", entry.plugin, entry.config, plugins=plugins())
    near = Near(num_tokens=5, token_dim=24, embedding_dim=32, max_queries=40)
    module: Any = resolve(choice.spec.build)(choice.config, near)
    load_part(module, tmp_path / "model", "bottleneck", entry, plugins=plugins())
    assert torch.equal(module.queries, release.queries[0])
    assert torch.equal(module.phi[2].weight, release.phi.state_dict()["2.weight"])


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "captioner."])
def test_any_prefix(prefix: str, release: Release, put: Any, bare: Path) -> None:
    state = {f"{prefix}{name}": tensor for name, tensor in release.state.items()}
    report = put(state, models=bare)
    assert report["stage"] == 2 and report["missing"] == {}
    assert len(report["unused"]) == 2, "lm_head and final_logits_bias"


def test_weights_that_the_checkpoint_lacks_come_from_the_folders(
    release: Release, put: Any, tmp_path: Path
) -> None:
    report = put(release.without("VLV_model.vae.", f"{FLORENCE}vision_tower.convs.1."))
    missing = report["missing"]
    assert sum(name.startswith("diffusion: ") for name in missing) == len(
        release.pipe.vae.state_dict()
    )
    assert {name for name in missing if name.startswith("encoder: ")} == {
        f"encoder: vision_tower.convs.1.{name}"
        for name in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")
    }
    assert set(missing.values()) == {str(release.models / "sd"), str(release.models / "florence2")}
    captioner = open_model(
        tmp_path / "model", OpenOptions(parts="all", device="cpu", plugins=plugins())
    )
    z = captioner.encode(list(random_views().numpy())).z
    due = release.answers(random_views())["z"]
    torch.testing.assert_close(torch.from_numpy(z), due, atol=1e-5, rtol=1e-5)


def test_a_tied_table_is_not_undone_by_the_folders(
    release: Release, put: Any, tmp_path: Path
) -> None:
    """The folder's own table under the name that the checkpoint lacks, and a norm that it lacks."""
    models = tmp_path / "models"
    shutil.copytree(release.models, models)
    file = models / "llm" / "model.safetensors"
    published = {name: tensor + 1 for name, tensor in load_file(file).items()}
    published["lm_head.weight"] = published["model.embed_tokens.weight"].clone()
    save_file(published, file)
    report = put(release.without("qwen2_model.lm_head.", "qwen2_model.model.norm."), models=models)
    assert list(report["missing"]) == ["head: model.norm.weight"]
    head = load_model(tmp_path / "model", plugins=plugins())[0].head
    state = head.state_dict()
    tables = [t for name, t in state.items() if name.endswith("embed_tokens.weight")]
    assert torch.equal(tables[0], release.lm.model.embed_tokens.weight)


def test_tied_tables_that_the_file_holds_once(release: Release, put: Any, tmp_path: Path) -> None:
    """Under the first of their names, as safetensors saves a model: that of the output layers.

    Florence-2's folder has another table, which must not come in its place.
    """
    first: dict[int, str] = {}
    for name, tensor in sorted(release.state.items()):
        first.setdefault(tensor.data_ptr(), name)
    state = {name: release.state[name] for name in first.values()}
    assert not [name for name in state if "embed_tokens" in name or "shared" in name]
    models = tmp_path / "models"
    shutil.copytree(release.models, models)
    file = models / "florence2" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    assert put(state, models=models)["missing"] == {}
    model = load_model(tmp_path / "model", plugins=plugins())[0]
    table = model.bottleneck.language_model.shared.weight
    assert torch.equal(table, release.florence.get_input_embeddings().weight)
    assert torch.equal(model.head.lm.lm_head.weight, release.lm.lm_head.weight)


def test_a_missing_tokenizer_is_said_of_the_users_folder(
    release: Release, put: Any, bare: Path
) -> None:
    (bare / "llm" / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"head: '.*bare/llm' has no file 'tokenizer\.json'"):
        put(release.state, models=bare)
    (bare / "florence2" / "tokenizer.json").unlink()
    with pytest.raises(VlvError, match="prompt_ids has 47066, but vocab_size is 61") as caught:
        put(release.state, models=bare)
    assert "hold its own tokenizer.json" in str(caught.value.hint)


def test_without_a_diffusion_anywhere_the_model_captions(
    release: Release, put: Any, bare: Path, tmp_path: Path
) -> None:
    report = put(release.without("VLV_model.vae.", "VLV_model.unet."), models=bare)
    assert "diffusion" not in report["parts"]
    assert "has the weights of unet and vae, without which no picture" in report["notes"][0]
    captioner = open_model(tmp_path / "model", OpenOptions(device="cpu", plugins=plugins()))
    with pytest.raises(UsageError, match="loaded without its diffusion"):
        captioner.reconstruct(list(random_views().numpy()), seed=0)


def test_half_a_diffusion_is_left_out_and_said(release: Release, put: Any, bare: Path) -> None:
    report = put(release.without("VLV_model.vae."), models=bare)
    unused = [key for key, why in report["unused"].items() if why == "the diffusion was left out"]
    assert unused and all(key.startswith("VLV_model.unet.") for key in unused)


def test_no_diffusion_when_told(release: Release, put: Any) -> None:
    report = put(release.state, "--no-diffusion")
    assert "diffusion" not in report["parts"]
    assert report["notes"][0] == "--no-diffusion leaves the diffusion out"


def test_a_diffusion_that_is_demanded_must_be_had(release: Release, put: Any, bare: Path) -> None:
    with pytest.raises(ModelError, match=r"lacks weights of 'vae', and '.*sd' does not have them"):
        put(release.without("VLV_model.vae."), "--diffusion", models=bare)


def test_missing_weights_that_nobody_has(release: Release, put: Any, bare: Path) -> None:
    with pytest.raises(ModelError, match=r"missing: encoder\.layers\.0\.fc1\.bias"):
        put(release.without(f"{FLORENCE}language_model.model.encoder.layers.0.fc1."), models=bare)
    with pytest.raises(ModelError, match=r"lacks weights of 'llm', and .* does not have them"):
        put(release.without("qwen2_model."), models=bare)
    with pytest.raises(ModelError, match="the checkpoint has no connector"):
        put(release.without("mlp."), models=bare)


@pytest.mark.parametrize(
    ("key", "shape", "reason"),
    [
        (f"{FLORENCE}vision_tower.convs.0.proj.bias", (9,), r"is \(9,\) in the file"),
        ("VLV_model.language_proj.2.weight", (33, 20), r"bottleneck: 'phi\.2\.weight' is \(33"),
        ("VLV_model.query_embed", (1, 6, 23), r"bottleneck: 'queries' is \(6, 23\)"),
        ("mlp.layers.0.weight", (28, 31), r"connector: 'layers\.0\.weight' is \(28, 31\)"),
        ("qwen2_model.model.norm.weight", (41,), r"is \(41,\) in the file"),
        ("VLV_model.unet.conv_in.weight", (16, 5, 3, 3), r"is \(16, 5, 3, 3\) in the file"),
    ],
)
def test_other_shapes_are_refused(
    key: str, shape: tuple[int, ...], reason: str, release: Release, put: Any
) -> None:
    with pytest.raises(VlvError, match=reason) as caught:
        put(release.state | {key: torch.zeros(shape)})
    assert re.search(r"--(florence2|stable-diffusion|llm)", str(caught.value.hint))


def test_a_refused_import_leaves_no_model(release: Release, put: Any, tmp_path: Path) -> None:
    with pytest.raises(VlvError, match="connector"):
        put(release.state | {"mlp.layers.2.bias": torch.zeros(41)})
    assert not (tmp_path / "model" / "model.toml").exists()


def test_keys_of_a_deeper_model_are_refused(release: Release, put: Any) -> None:
    key = f"{FLORENCE}language_model.model.encoder.layers.7.fc1.bias"
    with pytest.raises(ModelError, match=r"unexpected: encoder\.layers\.7\.fc1\.bias"):
        put(release.state | {key: torch.zeros(3)})


def test_more_queries_than_the_text_encoder_reads(release: Release, put: Any) -> None:
    queries = torch.randn(1, 41, 24)
    with pytest.raises(VlvError, match="has 41 queries, but this text encoder reads at most 40"):
        put(release.state | {"VLV_model.query_embed": queries})


def test_strangers_are_told_of(release: Release, put: Any) -> None:
    state = release.state | {"ema.decay": torch.zeros(1), "VLV_model.logit_scale": torch.ones(1)}
    unused = put(state)["unused"]
    for key in ("ema.decay", "VLV_model.logit_scale"):
        assert unused[key] == "it belongs to no part of the official layout"


def test_half_precision_on_disk(release: Release, put: Any, tmp_path: Path) -> None:
    put(release.state, "--dtype", "bfloat16")
    assert not list(tmp_path.glob(".vlv-import-*")), "scratch folders are gone"
    weights = load_file(tmp_path / "model" / "bottleneck.safetensors")
    assert {t.dtype for t in weights.values()} == {torch.bfloat16}


def test_a_folder_in_use_is_left_alone(release: Release, put: Any, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").touch()
    with pytest.raises(UsageError, match="holds something already"):
        put(release.state)
