"""Element types of a device's tensors, and their numpy arrays on the host.

Numpy has no bfloat16: such numbers travel as their 16 bits (uint16), and are read and given as
float32.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

RAW: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),
    "int64": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "uint8": np.dtype(np.uint8),
}
"""element type -> how its bytes lie in a host array"""

TENSORRT = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
}
"""element types as TensorRT names them -> as manifests do"""


def encoded(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The array as a tensor of this element type, contiguous; rounded to the nearest, ties to
    even."""
    if dtype != "bfloat16":
        return np.ascontiguousarray(array, RAW[dtype])
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # Rounding could carry a not-a-number into infinity: keep it one.
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def decoded(raw: NDArray[Any], dtype: str) -> NDArray[Any]:
    """What a host array of `RAW[dtype]` says; bfloat16 as float32."""
    if dtype != "bfloat16":
        return raw
    return (raw.astype(np.uint32) << 16).view(np.float32)
