"""Building in the compiler's own process: parse, check, build, prove, write."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from vlv_core.errors import VlvError
from vlv_core.files import write_atomically
from vlv_export.tensorrt import _network
from vlv_export.tensorrt._library import Library, open_library
from vlv_export.tensorrt._network import Network
from vlv_export.tensorrt._watch import Log, Progress, progress_monitor, verbose_logger
from vlv_export.tensorrt.job import LAYERS, BuildJob, BuildResult, Engine, Profile
from vlv_export.tensorrt.layers import MESSAGE, parse_message, read_layers
from vlv_export.tensorrt.precision import prove_precision
from vlv_export.tensorrt.profiles import check_profiles

_SIZES = {
    "weights_bytes": "Total Weights Memory",
    "activation_bytes": "Total Activation Memory",
    "scratch_bytes": "Max Scratch Memory",
}
"""field of Engine -> the builder's words before its number of bytes"""


def run(job: BuildJob, progress: Progress) -> BuildResult:
    """Do a job, part by part; `layers.json` comes last. Raises UsageError, VlvError, NotProved."""
    library = open_library(job.library)
    started, targets = time.monotonic(), () if job.check_only else library.targets(job)
    engines: dict[str, Engine] = {}
    layers: dict[str, Any] = {}
    for part, graph in job.graphs.items():
        progress.part = part
        engines[part], layers[part] = _one(library, job, part, graph, targets, progress)
    if not job.check_only:
        write_atomically(job.out / LAYERS, json.dumps(layers, separators=(",", ":")).encode())
    return BuildResult(
        package=library.package,
        version=library.version,
        sm=targets,
        engines=engines,
        seconds=time.monotonic() - started,
        host_bytes=peak_bytes(),
    )


def _one(
    library: Library, job: BuildJob, part: str, graph: Path, targets: tuple[int, ...],
    progress: Progress,
) -> tuple[Engine, dict[str, Any]]:  # fmt: skip
    log, profiles = Log(), job.profiles.get(part, ())
    progress.phase("parsing")
    network = _network.parse(
        library.module, graph, part=part, logger=verbose_logger(library.module, log)
    )
    check_profiles(part, profiles, _network.dynamic_names(network))
    _network.check_products(network, job.dtype, part=part)
    checked = Engine(
        inputs=_network.entries(network.inputs()),
        outputs=_network.entries(network.outputs()),
        profiles=profiles,
        aliases=_network.check_caches(network, job.aliases.get(part, {}), part=part),
    )
    if job.check_only:
        return checked, {}
    started = time.monotonic()
    config = _configured(library, network, job, targets, profiles)
    config.progress_monitor = progress_monitor(library.module, progress)
    plan = _compiled(network, config, log, progress, part)
    library.finish(config)
    facts = _layers(library.module, plan, log)
    precision = prove_precision(read_layers(facts, where=part), job.dtype, part=part)
    file = job.out / f"{part}.engine"
    _written(file, plan)
    return _measured(checked, file, time.monotonic() - started, log, precision, facts), facts


def _configured(
    library: Library, network: Network, job: BuildJob, targets: tuple[int, ...],
    profiles: tuple[Profile, ...],
) -> Any:  # fmt: skip
    trt = library.module
    config = network.builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    # TF32 rounds the operands of float32 products to 10 bits, and is on if nobody turns it off.
    config.clear_flag(trt.BuilderFlag.TF32)
    if job.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace_bytes)
    for index, profile in enumerate(profiles):
        made = network.builder.create_optimization_profile()
        _fill(made, profile, network)
        if config.add_optimization_profile(made) != index:
            raise VlvError(f"the compiler refuses profile {index}: {profile}")
    library.configure(config, job, targets=targets)
    return config


def _fill(made: Any, profile: Profile, network: Network) -> None:
    for tensor in network.inputs():
        if tensor.is_shape_tensor:
            # As many values as the input has elements; a scalar has one too.
            count = int(tensor.shape[0]) if len(tensor.shape) else 1
            made.set_shape_input(tensor.name, *((value,) * count for value in profile[tensor.name]))
        elif -1 in tuple(tensor.shape):
            made.set_shape(
                tensor.name,
                *(
                    tuple(
                        size if size >= 0 else profile[tensor.get_dimension_name(axis)][which]
                        for axis, size in enumerate(tensor.shape)
                    )
                    for which in range(3)
                ),
            )


def _compiled(network: Network, config: Any, log: Log, progress: Progress, part: str) -> Any:
    plan = network.builder.build_serialized_network(network.definition, config)
    progress.check()
    if plan is None:
        words = log.errors[0] if log.errors else "it does not say why"
        raise VlvError(
            f"the compiler cannot build part {part!r}: {words}",
            hint="another --dtype, a smaller --batch or another --sm may build",
        )
    return plan


def _layers(trt: Any, plan: Any, log: Log) -> dict[str, Any]:
    """From the builder's own message; where it gave none, from the engine, which needs a GPU."""
    text = log.last(MESSAGE)
    if text is not None:
        return parse_message(text)
    runtime = trt.Runtime(log.logger)
    # A version-compatible engine brings its own runtime; this one was built a moment ago.
    runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise VlvError("the compiler told no layers, and its engine cannot be opened here")
    inspector = engine.create_engine_inspector()
    facts: dict[str, Any] = json.loads(
        inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    )
    return facts


def _written(file: Path, plan: Any) -> None:
    try:
        write_atomically(file, memoryview(plan))
    except OSError as error:
        file.with_name(f".{file.name}.partial").unlink(missing_ok=True)
        raise VlvError(
            f"{file} cannot be written: {error.strerror}",
            hint=f"it has {memoryview(plan).nbytes / 1e6:.0f} MB; make room, or give another OUT",
        ) from error


def _measured(
    checked: Engine, file: Path, seconds: float, log: Log, precision: dict[str, float],
    facts: dict[str, Any],
) -> Engine:  # fmt: skip
    sizes = {name: max(log.numbers(words), default=0) for name, words in _SIZES.items()}
    return Engine(
        inputs=checked.inputs,
        outputs=checked.outputs,
        profiles=checked.profiles,
        aliases=checked.aliases,
        file=file.name,
        bytes=file.stat().st_size,
        seconds=seconds,
        layers=len(facts["Layers"]),
        precision={name: round(share, 6) for name, share in precision.items()},
        **sizes,
    )


def peak_bytes() -> int:
    """The most memory of the host that this process has held; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
