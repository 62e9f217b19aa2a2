"""`yardstick.json`: how far the eager model itself strays from float32 in a lower precision.

What a compiled variant of that precision may differ by follows from it: rounding as such is no
fault, rounding worse than the model's own is. Read without torch; written by `_yardstick`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from vlv_core.config import convert
from vlv_core.errors import ConfigError, ModelError
from vlv_core.files import write_atomically

SCHEMA = "vlv-yardstick/1"
YARDSTICK = "yardstick.json"
FLOOR = 2.0**-10
"""relative L2 that is taken at least: an answer rounded once to bfloat16 is off by more"""


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """Eager errors on the golden cases."""

    schema: str = SCHEMA
    errors: dict[str, dict[str, dict[str, float]]]
    """dtype (such as bf16) -> part -> output -> relative L2 of the worst row of all cases"""

    def error(self, dtype: str, part: str, output: str) -> float | None:
        """None if it was not measured; never below FLOOR."""
        found = self.errors.get(dtype, {}).get(part, {}).get(output)
        return None if found is None else max(found, FLOOR)


def write(errors: Mapping[str, dict[str, dict[str, float]]], path: Path) -> None:
    """Write the file, whole or not at all."""
    data = asdict(Yardstick(errors=dict(errors)))
    write_atomically(path, f"{json.dumps(data, indent=1, allow_nan=False)}\n".encode())


def read_yardstick(path: Path) -> Yardstick:
    """Raises ModelError or ConfigError with the file's name."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} cannot be read: {' '.join(str(error).split())}", hint="export the model again"
        ) from error
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
        raise ConfigError(
            f"{path} is no yardstick of schema {SCHEMA!r}",
            hint="use the version of vlv that wrote it, or export the model again",
        )
    return convert(Yardstick, dict(data), str(path))
