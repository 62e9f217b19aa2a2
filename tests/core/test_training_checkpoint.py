"""Checkpoints: whole or absent, newest valid first, and only of the same recipe."""

from pathlib import Path

import pytest
import torch
from torch import nn

from vlv_core.errors import ConfigError, ModelError
from vlv_core.training import checkpoint
from vlv_core.training.checkpoint import Checkpoint


def at(step: int, **identity: object) -> Checkpoint:
    return Checkpoint(
        step=step,
        identity=dict(identity),
        weights={"w": torch.full((2, 3), float(step)), "tied": torch.arange(3.0)},
        optimizer={"w/exp_avg": torch.ones(2, 3), "w/step": torch.tensor(float(step))},
    )


def test_round_trip(tmp_path: Path) -> None:
    checkpoint.save(at(7, lr=1e-3, data={"name": "x"}), tmp_path, keep=2)
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.step == 7 and found.ema == {}
    assert found.identity == {"lr": 1e-3, "data": {"name": "x"}}
    assert torch.equal(found.weights["w"], torch.full((2, 3), 7.0))
    assert found.optimizer["w/step"].item() == 7.0 and found.optimizer["w/step"].ndim == 0


def test_tied_and_strided_tensors_are_written_plainly(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    state = Checkpoint(step=1, identity={}, weights={"a": shared, "b": shared.T, "c": shared})
    checkpoint.save(state, tmp_path, keep=1)
    found = checkpoint.newest(tmp_path)
    assert found is not None and torch.equal(found.weights["b"], shared.T)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    written = checkpoint.save(at(1), tmp_path, keep=1)
    assert {path.suffix for path in written.iterdir()} == {".safetensors", ".json"}


def test_the_last_n_are_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        checkpoint.save(at(step), tmp_path, keep=2)
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-00000040", "step-00000030"]


def damage_flip(path: Path) -> None:
    data = bytearray((path / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "weights.safetensors").write_bytes(bytes(data))


def damage_cut(path: Path) -> None:
    data = (path / "optimizer.safetensors").read_bytes()
    (path / "optimizer.safetensors").write_bytes(data[: len(data) // 2])


def damage_missing(path: Path) -> None:
    (path / "state.json").unlink()


def damage_manifest_gone(path: Path) -> None:
    (path / "manifest.json").unlink()


def damage_manifest_cut(path: Path) -> None:
    (path / "manifest.json").write_text('{"sha256": {"weights.sa')


def damage_manifest_empty(path: Path) -> None:
    (path / "manifest.json").write_text('{"sha256": {}}')


DAMAGES = [
    damage_flip,
    damage_cut,
    damage_missing,
    damage_manifest_gone,
    damage_manifest_cut,
    damage_manifest_empty,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_a_damaged_newest_falls_back(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.save(at(1), tmp_path, keep=3)
    damage(checkpoint.save(at(2), tmp_path, keep=3))  # type: ignore[operator]
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.step == 1
    assert "step-00000002 is damaged and passed by" in caplog.text


def test_none_if_all_are_damaged_or_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "nowhere") is None
    damage_flip(checkpoint.save(at(1), tmp_path, keep=1))
    assert checkpoint.newest(tmp_path) is None


def test_a_write_that_was_cut_is_not_seen_and_is_replaced(tmp_path: Path) -> None:
    checkpoint.save(at(1), tmp_path, keep=2)
    half = tmp_path / ".writing-step-00000002"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.step == 1
    checkpoint.save(at(2), tmp_path, keep=2)
    assert not half.exists() and checkpoint.verify(tmp_path / "step-00000002") is None


def test_a_failed_write_leaves_the_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(at(1), tmp_path, keep=1)

    def disk_full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_sync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(at(2), tmp_path, keep=1)
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.step == 1


def test_a_given_up_future_does_not_outrank_the_present(tmp_path: Path) -> None:
    checkpoint.save(at(1), tmp_path, keep=1)
    damage_flip(checkpoint.save(at(9), tmp_path, keep=2))
    checkpoint.save(at(2), tmp_path, keep=1)
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-00000002"]


def test_another_recipe_is_refused_with_its_differences(tmp_path: Path) -> None:
    found = {"stage1.lr": 1e-3, "stage1.betas": [0.9, 0.99], "old": 1}
    checkpoint.check_identity(
        found, {"stage1.lr": 1e-3, "stage1.betas": (0.9, 0.99), "old": 1}, folder=tmp_path
    )
    with pytest.raises(
        ConfigError,
        match=r"another recipe: old: 1 there, None here; stage1\.lr: 0\.001 there, 0\.002 here$",
    ):
        checkpoint.check_identity(
            found, {"stage1.lr": 2e-3, "stage1.betas": (0.9, 0.99)}, folder=tmp_path
        )


def test_weights_are_copied_strictly() -> None:
    model = nn.Linear(2, 3)
    named = list(model.named_parameters())
    checkpoint.copy_weights({"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, named)
    assert torch.equal(model.weight, torch.ones(3, 2))
    with pytest.raises(
        ModelError,
        match=r"missing \['bias'\], unexpected \['gain'\], of another shape \['weight'\]",
    ):
        checkpoint.copy_weights({"weight": torch.ones(2, 2), "gain": torch.zeros(3)}, named)
