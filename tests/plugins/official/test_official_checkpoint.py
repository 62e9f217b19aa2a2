"""Checkpoint files of every kind; and those that are refused, unread."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vlv_core.errors import ModelError
from vlv_plugins.official._checkpoint import Checkpoint, read_checkpoint

STATE = {"query_embed": torch.arange(6.0).reshape(1, 2, 3), "mlp.layers.0.bias": torch.ones(3)}


def same(found: Checkpoint, due: dict[str, Tensor] = STATE) -> None:
    assert found.tensors.keys() == due.keys()
    assert all(torch.equal(found.tensors[name], due[name]) for name in due)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize("wrapper", ["", "model_state_dict", "state_dict", "model"])
def test_files_of_torch(suffix: str, wrapper: str, tmp_path: Path) -> None:
    file = tmp_path / f"checkpoint{suffix}"
    torch.save({wrapper: STATE, "step": 7, "lr": [0.1]} if wrapper else STATE, file)
    found = read_checkpoint(file)
    same(found)
    assert found.wrapper == wrapper
    assert set(found.others) == ({"step", "lr"} if wrapper else set())


def test_the_format_before_zip_files(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    same(read_checkpoint(tmp_path / "old.pth"))


def test_safetensors_whole_and_in_shards(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "one.safetensors")
    same(read_checkpoint(tmp_path / "one.safetensors"))
    folder = shards(tmp_path / "shards")
    same(read_checkpoint(folder))
    same(read_checkpoint(folder / "model.safetensors.index.json"))


def test_a_folder_that_a_trainer_left(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
        (tmp_path / name).write_bytes(b"not to be read")
    same(read_checkpoint(tmp_path))


def test_a_folder_with_one_file_of_any_name(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "checkpoint-step-5.pt")
    (tmp_path / "optimizer.pt").write_bytes(b"not to be read")
    same(read_checkpoint(tmp_path))


def test_prefixes_of_trainers_are_removed_and_remembered(tmp_path: Path) -> None:
    torch.save({f"module._orig_mod.{n}": t for n, t in STATE.items()}, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    same(found)
    assert found.keys["query_embed"] == "module._orig_mod.query_embed"


def test_what_is_no_tensor_is_told(tmp_path: Path) -> None:
    torch.save(STATE | {"epoch": 3}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt").others == {"epoch": "not a tensor"}


class Attack:
    """A pickle that would write a file if it were ever built."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("plain", [True, False])
def test_nothing_is_unpickled(plain: bool, tmp_path: Path) -> None:
    trap, file = tmp_path / "trap", tmp_path / "a.bin"
    if plain:
        file.write_bytes(pickle.dumps(Attack(trap)))
    else:
        torch.save({"query_embed": STATE["query_embed"], "x": Attack(trap)}, file)
    refused = "holds more than tensors and plain values, so it was not read"
    with pytest.raises(ModelError, match=refused if plain else f"{refused}: .* for posix.mkdir$"):
        read_checkpoint(file)
    assert not trap.exists()


def test_a_refusal_repeats_no_advice_to_run_the_file(tmp_path: Path) -> None:
    torch.save({"query_embed": STATE["query_embed"], "out": tmp_path}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"it asks for pathlib\.PosixPath$"):
        read_checkpoint(tmp_path / "a.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "b.pt"))
    with pytest.raises(ModelError, match=r"is no checkpoint of torch: .*TorchScript") as caught:
        read_checkpoint(tmp_path / "b.pt")
    assert "Re-running" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.safetensors", b"no header", "is no safetensors file"),
        ("a.pt", b"PK\x03\x04 cut short", "is no checkpoint of torch"),
        ("a.pt", b"", "is no checkpoint of torch"),
        ("a.ckpt", b"x", r"unknown kind; known: \.safetensors, \.bin, \.pt, \.pth"),
    ],
)
def test_damaged_and_unknown_files(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("share", [0.5, 0.99])
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_files_that_were_cut_short(name: str, share: float, tmp_path: Path) -> None:
    save = save_file if name.endswith("safetensors") else torch.save
    save(STATE, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=r"is no (checkpoint|safetensors)") as caught:
        read_checkpoint(tmp_path / name)
    assert str(caught.value.hint).startswith("copy or download it again")


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "A.PT")
    same(read_checkpoint(tmp_path))


def test_files_without_tensors(tmp_path: Path) -> None:
    torch.save({"step": 5}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="holds no tensors; it has step"):
        read_checkpoint(tmp_path / "a.pt")
    torch.save([torch.ones(2)], tmp_path / "b.pt")
    with pytest.raises(ModelError, match="holds a list, but a state dict is due"):
        read_checkpoint(tmp_path / "b.pt")


def test_folders_that_do_not_say_which(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no checkpoint: nothing"):
        read_checkpoint(tmp_path)
    for name in ("a.pt", "b.pt"):
        torch.save(STATE, tmp_path / name)
    with pytest.raises(ModelError, match=r"has several checkpoints: a\.pt, b\.pt"):
        read_checkpoint(tmp_path)


def test_a_missing_shard(tmp_path: Path) -> None:
    folder = shards(tmp_path)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("{}", r"model\.safetensors\.index\.json has no 'weight_map'"),
        ('{"weight_map": {"other": "model-00001-of-00002.safetensors"}}', "lists other, but no"),
        ('{"weight_map": {"other": "../model.safetensors"}}', "would lie outside"),
    ],
)
def test_an_index_that_is_wrong(table: str, reason: str, tmp_path: Path) -> None:
    folder = shards(tmp_path)
    (folder / "model.safetensors.index.json").write_text(table)
    with pytest.raises(ModelError, match=reason):
        read_checkpoint(folder)


def shards(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name, (key, tensor) in zip(names, STATE.items(), strict=True):
        save_file({key: tensor}, folder / name)
    table = ", ".join(f'"{key}": "{name}"' for key, name in zip(STATE, names, strict=True))
    (folder / "model.safetensors.index.json").write_text(f'{{"weight_map": {{{table}}}}}')
    return folder
