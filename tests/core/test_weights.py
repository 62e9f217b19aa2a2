"""Tensors to and from files: ties, strictness, half-written files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vlv_core.errors import ModelError
from vlv_core.weights import (
    assign,
    distinct,
    first_names,
    materialise,
    read,
    sha256_of,
    skeleton,
    write,
)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.words.weight
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("table", torch.arange(3.0), persistent=False)


def on_meta() -> Tied:
    with skeleton():
        return Tied()


def test_tied_weights_have_one_name() -> None:
    names = first_names(Tied())
    assert names == {"words.weight": "words.weight", "out.weight": "words.weight", "scale": "scale"}
    assert set(distinct(Tied())) == {"words.weight", "scale"}


def test_what_is_written_comes_back_tied(tmp_path: Path) -> None:
    module, file = Tied(), tmp_path / "a.safetensors"
    digest = write(distinct(module), file, dtype=torch.float16)
    assert digest == sha256_of(file)
    assert load_file(file)["scale"].dtype == torch.float16
    other = on_meta()
    assign(other, read(file, digest), part="head")
    assert other.out.weight is other.words.weight
    assert torch.equal(other.out.weight, module.words.weight.half().float())
    assert torch.equal(other.table, torch.arange(3.0)) and not other.table.is_meta


def test_a_skeleton_has_no_memory_but_buffers_and_ties() -> None:
    module = on_meta()
    assert all(p.is_meta for p in module.parameters())
    assert module.out.weight is module.words.weight
    assert torch.equal(module.table, torch.arange(3.0))
    assert not any(p.is_meta for p in Tied().parameters())


class Filling(nn.Module):
    """Fills parameters in every way that constructors of layers do, and a buffer and a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(6, 4, padding_idx=0)
        self.grid = nn.Conv2d(4, 4, 3)
        self.out = nn.Linear(4, 6)
        nn.init.normal_(self.out.weight, std=0.5)
        nn.init.trunc_normal_(self.words.weight)
        nn.init.zeros_(tensor=self.out.bias)
        self.positions = nn.Parameter(torch.empty(2, 4))
        nn.init.xavier_normal_(self.positions)
        self.register_buffer("ones", torch.zeros(3).fill_(1.0), persistent=False)
        self.plain = nn.init.constant_(torch.empty(3), 2.0)


def test_a_skeleton_fills_what_has_memory_alone() -> None:
    with skeleton():
        module = Filling()
    assert all(p.is_meta and p.requires_grad for p in module.parameters())
    assert torch.equal(module.ones, torch.ones(3))
    assert torch.equal(module.plain, torch.full((3,), 2.0))
    shapes = {name: tensor.shape for name, tensor in Filling().state_dict().items()}
    assert {name: tensor.shape for name, tensor in module.state_dict().items()} == shapes
    assert torch.equal(Filling().out.bias, torch.zeros(6)), "outside, filling is as ever"


def test_a_skeleton_that_fails_leaves_filling_as_it_was() -> None:
    with pytest.raises(ZeroDivisionError, match="division"), skeleton():
        1 / 0  # noqa: B018
    module = nn.Linear(4, 6)
    assert not module.weight.is_meta and module.weight.std() > 0


def test_materialised_parameters_have_memory_and_keep_their_ties() -> None:
    module = on_meta()
    materialise(module)
    assert not any(p.is_meta for p in module.parameters())
    assert module.out.weight is module.words.weight
    assert torch.equal(module.table, torch.arange(3.0))


def test_a_part_of_the_tensors_is_an_error_unless_meant() -> None:
    module = Tied()
    with pytest.raises(ModelError, match=r"missing: \['words\.weight'\]; unexpected: none"):
        assign(module, {"scale": torch.zeros(3)}, part="head")
    assign(module, {"scale": torch.zeros(3)}, part="head", partly=True)
    assert torch.equal(module.scale, torch.zeros(3))


def test_unexpected_tensors_and_other_shapes_are_named() -> None:
    with pytest.raises(ModelError, match=r"unexpected: \['scales'\]"):
        assign(Tied(), {"scales": torch.zeros(3)}, part="head", partly=True)
    with pytest.raises(ModelError, match=r"head: 'scale' is \(4,\) in the file, but \(3,\)"):
        assign(Tied(), {"scale": torch.zeros(4)}, part="head", partly=True)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    write(distinct(Tied()), file, dtype=torch.float32)
    before = file.read_bytes()
    with pytest.raises(Exception, match="unsupported memory format"):
        write({"a": torch.zeros(2, 2).to_sparse()}, file, dtype=torch.float32)
    assert file.read_bytes() == before


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write(distinct(Tied()), tmp_path / "a.safetensors", dtype=torch.float32)
    modes = {(tmp_path / name).stat().st_mode for name in ("plain", "a.safetensors")}
    assert len(modes) == 1


def test_integers_keep_their_type(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    digest = write({"steps": torch.tensor([7])}, file, dtype=torch.float16)
    assert torch.equal(read(file, digest)["steps"], torch.tensor([7]))
