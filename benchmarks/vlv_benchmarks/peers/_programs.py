"""Each program's own way to decode a prompt greedily and past any end of text.

A maker gets the prepared folder (see `_head.prepare`) and the number of threads, and answers
`decode(ids (B, T), tokens) -> ids (B, tokens)`. It imports nothing of vlv, so that each runs in an
environment of its own. Every call reads its prompt anew: caches of prompts are switched off."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Decode = Callable[[Ids, int], Ids]
EXPORT = """
import sys
from optimum.onnxruntime import ORTModelForCausalLM
ORTModelForCausalLM.from_pretrained(sys.argv[1], export=True).save_pretrained(sys.argv[2])
"""


def transformers(folder: Path, threads: int) -> Decode:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float32).eval()
    embedded = torch.from_numpy(np.load(folder / "embedded.npy"))
    prompts = np.load(folder / "prompts.npy")
    vocabulary = int(json.loads((folder / "facts.json").read_text())["vocab_size"])

    def decode(ids: Ids, tokens: int) -> Ids:
        with torch.inference_mode():
            said = model.generate(
                inputs_embeds=embedded[which(prompts, ids)], max_new_tokens=tokens,
                do_sample=False, eos_token_id=vocabulary, pad_token_id=0,
            )  # fmt: skip
        return np.asarray(said.numpy())

    return decode


def genai(folder: Path, threads: int) -> Decode:
    """A package made by the library's own builder from the same weights, of 8 bits."""
    return _genai(folder, threads, precision="int8")


def genai_int4(folder: Path, threads: int) -> Decode:
    """Of 4 bits, as the builder chooses by itself."""
    return _genai(folder, threads, precision="int4")


def _genai(folder: Path, threads: int, *, precision: str) -> Decode:
    import onnxruntime_genai as og

    place = folder / f"genai-{precision}"
    if not place.is_dir():
        with _made(place) as part:
            _program("-m", "onnxruntime_genai.models.builder", "-i", folder / "hf", "-o", part,
                    "-p", precision, "-e", "cpu", "-c", folder / "cache")  # fmt: skip
            _set_threads(part / "genai_config.json", threads)
    model = og.Model(str(place))

    def decode(ids: Ids, tokens: int) -> Ids:
        length = ids.shape[1] + tokens
        parameters = og.GeneratorParams(model)
        parameters.set_search_options(
            max_length=length, min_length=length, batch_size=len(ids), do_sample=False,
            past_present_share_buffer=True,
        )  # fmt: skip
        generator = og.Generator(model, parameters)
        generator.append_tokens(ids.astype(np.int32))
        for _ in range(tokens):
            generator.generate_next_token()
        rows = [generator.get_sequence(row)[ids.shape[1] :] for row in range(len(ids))]
        return np.array(rows, np.int64)

    return decode


def llama(folder: Path, threads: int) -> Decode:
    """The low-level loop: no text, no sampler in Python; one row, for that is its way."""
    import llama_cpp

    file = str(folder / "model.gguf")
    model = llama_cpp.Llama(
        file, n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model.model))

    def advance(ids: list[int]) -> int:
        held = (llama_cpp.llama_token * len(ids))(*ids)
        if llama_cpp.llama_decode(model.ctx, llama_cpp.llama_batch_get_one(held, len(ids))) != 0:
            raise RuntimeError("llama.cpp failed")
        logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
        return int(np.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())

    def decode(ids: Ids, tokens: int) -> Ids:
        rows = []
        for row in ids.tolist():
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(model.ctx), True)
            said = [advance(row)]
            while len(said) < tokens:
                said.append(advance([said[-1]]))
            rows.append(said)
        return np.array(rows, np.int64)

    return decode


def openvino(folder: Path, threads: int) -> Decode:
    """By token ids, for its pipeline takes no embeddings. Its 4 bits hold whole zero points, which
    the file's do not have: logits correlate to 0.97 alone, so that weights are of 8."""
    import openvino
    import openvino_genai

    place = folder / "openvino"
    if not place.is_dir():
        with _made(place) as part:
            _program("-m", "optimum.commands.optimum_cli", "export", "openvino",
                     "-m", folder / "hf", "--task", "text-generation-with-past",
                     "--weight-format", "int8", "--disable-convert-tokenizer", part)  # fmt: skip
    scheduler = openvino_genai.SchedulerConfig()
    # as the pipeline chooses by itself, but for the prompts that it would remember
    scheduler.max_num_batched_tokens = sys.maxsize
    scheduler.enable_prefix_caching = False
    pipe = openvino_genai.LLMPipeline(
        str(place), "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=threads
    )

    def decode(ids: Ids, tokens: int) -> Ids:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = tokens, True, False
        mask = openvino.Tensor(np.ones_like(ids))
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), mask)
        return np.array(pipe.generate(inputs, config).tokens, np.int64)

    return decode


def optimum(folder: Path, threads: int) -> Decode:
    import onnxruntime
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    place = folder / "optimum"
    if not place.is_dir():
        with _made(place) as part:
            # in a process of its own, whose memory is not the decoder's
            _program("-c", EXPORT, folder / "hf", part)
    model: Any = ORTModelForCausalLM.from_pretrained(place, session_options=options)
    vocabulary = int(json.loads((folder / "facts.json").read_text())["vocab_size"])

    def decode(ids: Ids, tokens: int) -> Ids:
        with torch.inference_mode():
            said = model.generate(
                torch.from_numpy(ids), max_new_tokens=tokens, do_sample=False,
                eos_token_id=vocabulary, pad_token_id=0,
            )  # fmt: skip
        return np.asarray(said.numpy())[:, ids.shape[1] :]

    return decode


def vllm(folder: Path, threads: int) -> Decode:
    """On a GPU, by prompt embeddings. Written after the documentation of 0.33 and never run: no
    machine with a GPU was at hand that could install it."""
    import torch
    from vllm import LLM, SamplingParams

    del threads
    model = LLM(
        model=str(folder / "hf"), dtype="bfloat16", max_model_len=512, enable_prompt_embeds=True,
        enable_prefix_caching=False,
    )  # fmt: skip
    embedded = torch.from_numpy(np.load(folder / "embedded.npy")).to(torch.bfloat16)
    prompts = np.load(folder / "prompts.npy")

    def decode(ids: Ids, tokens: int) -> Ids:
        sampling = SamplingParams(
            temperature=0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True, detokenize=False
        )
        given = [{"prompt_embeds": embedded[row]} for row in which(prompts, ids)]
        said = model.generate(given, sampling, use_tqdm=False)
        return np.array([each.outputs[0].token_ids for each in said], np.int64)

    return decode


@contextmanager
def _made(place: Path) -> Iterator[Path]:
    """A folder to fill beside `place`, which appears only once it is full: a process that is
    stopped halfway leaves nothing that the next would take for whole."""
    part = place.with_name(f"{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    yield part
    part.rename(place)


def _program(*arguments: str | Path) -> None:
    """Run python with these. Raises RuntimeError with its last line if it fails."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise RuntimeError(f"python {command[1]} {command[2][:60]}: {last[0]}")


def _set_threads(path: Path, threads: int) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")


def which(prompts: Ids, ids: Ids) -> NDArray[np.int64]:
    """Rows of the prompts that these are."""
    return np.array([int((prompts == row).all(axis=1).argmax()) for row in ids], np.int64)
