"""What may be exported: a trained model's folder, or a recipe with random weights."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.core import tiny_folder
from vlv_core.errors import ModelError, UsageError
from vlv_core.plugins import load_plugins
from vlv_export._source import RANDOM_DOMAIN, Source, find_source, weights_of
from vlv_export.manifest import MANIFEST

PLUGINS = load_plugins(third_party=False)
RECIPE = Path(__file__).parents[2] / "recipes" / "mini.toml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder.make(tmp_path_factory.mktemp("model") / "tiny")


def find(name: Path | str, *, diffusion: bool = False, random_weights: bool = False) -> Source:
    return find_source(
        str(name), plugins=PLUGINS, diffusion=diffusion, random_weights=random_weights
    )


def test_a_folder_is_known_by_its_weights(folder: Path) -> None:
    source = find(folder)
    assert (source.name, source.random, source.folder) == ("tiny", False, folder)
    assert all(len(digest) == 64 for digest in source.digests.values())
    assert "diffusion" not in source.digests
    assert set(find(folder, diffusion=True).digests) == {*source.digests, "diffusion"}


def test_other_weights_are_another_identity(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    text = (other / "model.toml").read_text()
    digest = find(folder).digests["head"]
    (other / "model.toml").write_text(text.replace(digest, "0" * 64))
    assert find(other).identity != find(folder).identity


def test_a_sketch_has_every_size_and_no_memory(folder: Path) -> None:
    source = find(folder)
    sketch, model = source.sketch(diffusion=False), opened(source)
    assert {each.device.type for each in sketch.parameters()} == {"meta"}
    assert weights_of(sketch) == weights_of(model)


def test_tied_tensors_are_counted_once_and_matrices_apart(folder: Path) -> None:
    model = opened(find(folder))
    tensors = {each.data_ptr(): each for each in (*model.parameters(), *model.buffers())}
    weights = weights_of(model)
    assert weights.matrices == sum(each.numel() for each in tensors.values() if each.ndim == 2)
    assert weights.matrices + weights.rest == sum(each.numel() for each in tensors.values())


def test_an_opened_model_is_ready_to_be_exported(folder: Path) -> None:
    model = opened(find(folder))
    assert not model.training
    assert not any(each.requires_grad for each in model.parameters())


def test_a_recipes_weights_are_random_and_always_the_same() -> None:
    source = find(RECIPE, random_weights=True)
    assert (source.random, source.domain, source.folder) == (True, RANDOM_DOMAIN, None)
    assert source.digests == {}
    first, second = (opened(source).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_recipes_identity_holds_seed_and_options(tmp_path: Path) -> None:
    text = RECIPE.read_text()
    assert "seed = 2\n" in text
    (tmp_path / "other.toml").write_text(text.replace("seed = 2\n", "seed = 7\n"))
    first, other = (find(each, random_weights=True) for each in (RECIPE, tmp_path / "other.toml"))
    assert other.seed == 7
    assert {**other.identity, "seed": first.seed} == first.identity != other.identity


@pytest.mark.parametrize(
    ("name", "random_weights", "error", "said"),
    [
        (RECIPE, False, UsageError, "is a recipe, which holds no weights"),
        ("mini", True, UsageError, "--random-weights needs a recipe's file, and 'mini' is none"),
        ("minni", False, ModelError, "no bundled model named 'minni'; did you mean 'mini'"),
    ],
)
def test_what_cannot_be_exported(
    name: Path | str, random_weights: bool, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        find(name, random_weights=random_weights)


def test_an_artefact_is_no_source(folder: Path, tmp_path: Path) -> None:
    artefact = shutil.copytree(folder, tmp_path / "OUT")
    (artefact / MANIFEST).write_text("{}")
    with pytest.raises(ModelError, match="is an artefact already") as told:
        find(artefact)
    assert told.value.hint == "export the model it came from"


def opened(source: Source) -> torch.nn.Module:
    model: torch.nn.Module = source.open(plugins=PLUGINS, diffusion=False).backend.model  # type: ignore[attr-defined]
    return model
