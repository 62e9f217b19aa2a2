"""An engine by TensorRT or TensorRT-RTX, whose Python modules are one API. Written by the manuals
of TensorRT 11 (`ICudaEngine`, `IExecutionContext`) and TensorRT-RTX 1.7 (`IRuntimeConfig`).
"""

from collections.abc import Mapping
from typing import Any

from vlv_core.errors import ModelError, VlvError
from vlv_export.runtime.engine._device import CudaDevice
from vlv_export.runtime.engine.device import Shape
from vlv_export.tensorrt._library import open_library
from vlv_export.tensorrt.caches import cache_file, read_cache, write_cache
from vlv_export.tensorrt.job import LibraryName


class TensorRt:
    """The library, loaded once in a process, and what its engines share.

    Raises MissingExtra if it is absent, VlvError if it does not load or the other one is there.
    """

    def __init__(self, name: LibraryName, device: CudaDevice, *, sm: int, host_code: bool) -> None:
        library = open_library(name)
        self.module, self.package, self.version = library.module, library.package, library.version
        self.device, self.sm = device, sm
        self.log = _logger(self.module)
        self.runtime = self.module.Runtime(self.log)
        # An engine for later versions brings its own runtime as machine code of the host.
        self.runtime.engine_host_code_allowed = host_code

    def open(self, data: bytes, *, sha256: str, file: str) -> "TensorRtEngine":
        """The engine `file` of an artefact, whose bytes were checked.

        Raises ModelError if the library refuses it.
        """
        self._check_validity(data, file)
        engine = self.runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise ModelError(
                f"{file} cannot be opened by {self.package} {self.version}: {self.log.last}",
                hint="vlv-export build OUT",
            )
        return TensorRtEngine(self, engine, sha256=sha256)

    def _check_validity(self, data: bytes, file: str) -> None:
        """TensorRT-RTX's own opinion; TensorRT gives its own by refusing to deserialise."""
        if not hasattr(self.runtime, "get_engine_validity"):
            return
        verdict, why = self.runtime.get_engine_validity(data)
        if verdict == self.module.EngineValidity.INVALID:
            known = self.module.EngineInvalidityDiagnostics.__members__
            reasons = [
                name.lower().replace("_", " ")
                for name, each in known.items()
                if int(why) & int(each)
            ]
            raise ModelError(
                f"{self.package} {self.version} calls {file} invalid on this machine: "
                f"{', '.join(reasons) or 'it does not say why'}",
                hint="vlv-export build OUT",
            )


class TensorRtEngine:
    """A `device.Engine`: one execution context for each profile, made when it is first used."""

    def __init__(self, owner: TensorRt, engine: Any, *, sha256: str) -> None:
        self._owner, self._engine = owner, engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.forms = {
            name: (engine.get_tensor_dtype(name).name, tuple(engine.get_tensor_shape(name)))
            for name in names
        }
        modes, places = owner.module.TensorIOMode, owner.module.TensorLocation
        self.host_inputs = frozenset(
            name
            for name in names
            if engine.get_tensor_mode(name) == modes.INPUT
            and engine.get_tensor_location(name) == places.HOST
        )
        self._contexts: dict[int, Any] = {}
        self._cache_path = cache_file(owner.package, owner.version, sm=owner.sm, sha256=sha256)
        self._config, self._cache = self._runtime_cache()

    def enqueue(
        self, profile: int, inputs: Mapping[str, tuple[int, Shape]], outputs: Mapping[str, int]
    ) -> None:
        fresh = profile not in self._contexts
        if fresh:
            self._contexts[profile] = self._context(profile)
        context = self._contexts[profile]
        for name, (address, shape) in inputs.items():
            self._must(context.set_input_shape(name, shape), f"{name!r} of shape {shape}")
            self._must(context.set_tensor_address(name, address), f"{name!r} at its address")
        for name, address in outputs.items():
            self._must(context.set_tensor_address(name, address), f"{name!r} at its address")
        self._must(context.execute_async_v3(self._owner.device.stream), "the run")
        if fresh:
            self._keep_cache()

    def _context(self, profile: int) -> Any:
        if self._config is None:
            context = self._engine.create_execution_context()
        else:
            context = self._engine.create_execution_context(self._config)
        if context is None:
            # It takes the memory of activations at once.
            raise MemoryError(f"no room on the GPU for an engine's context: {self._owner.log.last}")
        device = self._owner.device
        try:
            done = context.set_optimization_profile_async(profile, device.stream)
        except RuntimeError:
            # Unlike its neighbours, the binding of this call raises where C++ answers false.
            done = False
        self._must(done, f"profile {profile}")
        device.synchronise()
        return context

    def _runtime_cache(self) -> tuple[Any, Any]:
        """TensorRT-RTX compiles an engine for this very GPU on first use, and can keep that."""
        if not hasattr(self._owner.module, "IRuntimeCache"):
            return None, None
        config = self._engine.create_runtime_config()
        cache = config.create_runtime_cache()
        kept = read_cache(self._cache_path)
        if kept:
            # A cache of another driver or GPU is refused, and filled anew.
            cache.deserialize(kept)
        config.set_runtime_cache(cache)
        return config, cache

    def _keep_cache(self) -> None:
        if self._cache is None:
            return
        self._owner.device.synchronise()
        data = self._cache.serialize()
        if data is not None:
            write_cache(self._cache_path, bytes(memoryview(data)))

    def _must(self, done: bool, what: str) -> None:
        if not done:
            owner = self._owner
            raise VlvError(
                f"{owner.package} {owner.version} refuses {what}: {owner.log.last}",
                hint="vlv-export verify OUT",
            )


def _logger(module: Any) -> Any:
    """Keeps the last error in one line, and says nothing itself."""

    class Log(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.last = "it does not say why"

        def log(self, severity: Any, message: str) -> None:
            if severity <= module.ILogger.ERROR:
                self.last = " ".join(message.split())[:300]

    return Log()
