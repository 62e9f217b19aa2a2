"""The GPUs of this machine, asked of the driver itself: no CUDA package is needed."""

import ctypes
import sys
from dataclasses import dataclass

_NAME_BYTES = 256
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h"""


@dataclass(frozen=True)
class Gpu:
    """One device, in the driver's order."""

    name: str
    sm: int
    """compute capability: 89 for 8.9"""


def gpus() -> list[Gpu]:
    """All that CUDA_VISIBLE_DEVICES shows; none where there is no driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int()
    # Every call answers 0 for success; cuInit fails where a driver is installed without a GPU.
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_gpu(driver, index) for index in range(count.value)]


def _gpu(driver: ctypes.CDLL, index: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, _NAME_BYTES, device)
    major, minor = (_attribute(driver, which, device) for which in (_MAJOR, _MINOR))
    return Gpu(name.value.decode(errors="replace"), 10 * major + minor)


def _attribute(driver: ctypes.CDLL, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return value.value
