"""TensorBoard, where it is installed."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vlv_core.training.log import Metrics


class Board:
    """Scalars for TensorBoard; does nothing where the extra `tensorboard` is not installed."""

    def __init__(self, folder: Path, *, resume_at: int = 0, active: bool = True) -> None:
        self._writer: Any = None
        if active and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=resume_at + 1)

    def write(self, row: Metrics) -> None:
        if self._writer is None:
            return
        for name in ("loss", "lr", "grad_norm", "pictures_per_s"):
            self._writer.add_scalar(name, getattr(row, name), row.step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
