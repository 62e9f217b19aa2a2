"""A GPU by cuda-bindings: memory, copies, one stream. Written by the CUDA 13 runtime API's manual.

Every call answers a tuple: an error code, then its results.
"""

from typing import Any

from cuda.bindings import runtime as cuda
from numpy.typing import NDArray

from vlv_core.errors import VlvError
from vlv_export.runtime.engine.device import Box, DeviceFacts
from vlv_export.tensorrt.gpus import gpus

_KINDS = cuda.cudaMemcpyKind
_SUCCESS = cuda.cudaError_t.cudaSuccess
_NO_ROOM = cuda.cudaError_t.cudaErrorMemoryAllocation
_OLD_DRIVER = cuda.cudaError_t.cudaErrorInsufficientDriver
"""also the answer where there is no driver at all"""


def find_device() -> DeviceFacts | None:
    """The first GPU that CUDA_VISIBLE_DEVICES shows; None if there is no driver or no GPU.

    Raises VlvError for a GPU that does not answer, or whose driver is too old.
    """
    error, count = cuda.cudaGetDeviceCount()
    if error == _OLD_DRIVER and (found := gpus()):
        raise VlvError(
            f"the driver of {found[0].name} is older than the installed cuda-bindings needs",
            hint="update the driver, or install the cuda-bindings of the CUDA that it has",
        )
    if error != _SUCCESS or not count:
        return None
    _done(cuda.cudaSetDevice(0))
    attributes = cuda.cudaDeviceAttr
    major, minor = (
        _done(cuda.cudaDeviceGetAttribute(which, 0))
        for which in (
            attributes.cudaDevAttrComputeCapabilityMajor,
            attributes.cudaDevAttrComputeCapabilityMinor,
        )
    )
    free, _ = _done(cuda.cudaMemGetInfo())
    name = _done(cuda.cudaGetDeviceProperties(0)).name
    return DeviceFacts(name=_text(name), sm=10 * major + minor, free_bytes=int(free))


class CudaDevice:
    """A `device.Device`: the current GPU of this thread."""

    def __init__(self) -> None:
        _done(cuda.cudaSetDevice(0))
        # Not the default stream, on which TensorRT would wait for the whole device.
        self._stream = _done(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))

    @property
    def stream(self) -> int:
        """The handle that libraries are given to put their work on."""
        return int(self._stream)

    def allocate(self, size: int) -> int:
        error, address = cuda.cudaMalloc(size)
        if error == _NO_ROOM:
            raise MemoryError(f"the GPU has no {size} bytes left")
        _done((error, address))
        return int(address)

    def free(self, address: int) -> None:
        _done(cuda.cudaFree(address))

    def clear(self, address: int, size: int) -> None:
        _done(cuda.cudaMemsetAsync(address, 0, size, self._stream))

    def upload(self, address: int, array: NDArray[Any]) -> None:
        # CUDA reads pageable memory before it returns on most systems, and promises it on none.
        _done(
            cuda.cudaMemcpyAsync(
                address,
                array.ctypes.data,
                array.nbytes,
                _KINDS.cudaMemcpyHostToDevice,
                self._stream,
            )
        )

    def download(self, array: NDArray[Any], address: int) -> None:
        _done(
            cuda.cudaMemcpyAsync(
                array.ctypes.data,
                address,
                array.nbytes,
                _KINDS.cudaMemcpyDeviceToHost,
                self._stream,
            )
        )

    def copy(self, target: Box, source: Box, *, width: int, rows: int, slices: int) -> None:
        job = cuda.cudaMemcpy3DParms()
        job.srcPtr = _pitched(source, width)
        job.dstPtr = _pitched(target, width)
        job.extent = cuda.make_cudaExtent(width, rows, slices)
        job.kind = _KINDS.cudaMemcpyDeviceToDevice
        _done(cuda.cudaMemcpy3DAsync(job, self._stream))

    def synchronise(self) -> None:
        _done(cuda.cudaStreamSynchronize(self._stream))


def _pitched(box: Box, width: int) -> Any:
    """`ysize` is the distance of slices in rows; `xsize` is of no account for linear memory."""
    return cuda.make_cudaPitchedPtr(box.address, box.pitch, width, box.rows)


def _done(answer: tuple[Any, ...]) -> Any:
    """What a call answers beside its error code. Raises VlvError for one."""
    error, *found = answer
    if error != _SUCCESS:
        _, words = cuda.cudaGetErrorString(error)
        raise VlvError(f"CUDA failed: {_text(words)} ({error.name})", hint="vlv-export doctor")
    return found[0] if len(found) == 1 else tuple(found)


def _text(words: Any) -> str:
    return words.decode(errors="replace").rstrip("\0") if isinstance(words, bytes) else str(words)
