"""Each program's own way to decode a prompt greedily and past any end of text.

A maker gets the prepared folder (see `_head.prepare`) and the number of threads, and answers
`decode(ids (B, T), tokens) -> ids (B, tokens)`. Nothing of vlv but its manifest is imported by
peers, so that each runs in an environment of its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Decode = Callable[[Ids, int], Ids]


def ours(folder: Path, threads: int, dtype: str) -> Decode:
    """The head's graph in the runtime's own loop."""
    from vlv_core.generation import GenerationOptions, generate
    from vlv_export.facts import Generation
    from vlv_export.manifest import read_manifest
    from vlv_export.runtime.head import Head, HeadStepper
    from vlv_export.runtime.sessions import Sessions

    told = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    embedded = np.load(folder / "embedded.npy")
    prompts = np.load(folder / "prompts.npy")
    facts = Generation(
        eos=tuple(told["eos"]), max_length=told["max_length"], max_queries=embedded.shape[1],
        prefix_length=embedded.shape[1], dim=told["dim"], vocab_size=told["vocab_size"],
        causal=True,
    )  # fmt: skip
    manifest = read_manifest(folder / dtype)
    opened = Head(Sessions(folder / dtype, manifest, dtype, threads), facts)

    def decode(ids: Ids, tokens: int) -> Ids:
        prefix = embedded[_which(prompts, ids)]
        stepper = HeadStepper(opened, prefix, prefix.shape[1] + tokens)
        # no token ends a text: all are decoded
        options = GenerationOptions(max_new_tokens=tokens, stop_on_repetition=False)
        return np.array([row.tokens for row in generate(stepper, eos=(), options=options)])

    return decode


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
                inputs_embeds=embedded[_which(prompts, ids)], max_new_tokens=tokens,
                do_sample=False, eos_token_id=vocabulary, pad_token_id=0,
            )  # fmt: skip
        return np.asarray(said.numpy())

    return decode


def genai(folder: Path, threads: int) -> Decode:
    """A package made by the library's own builder from the same weights."""
    import onnxruntime_genai as og

    place = folder / "genai"
    if not (place / "genai_config.json").is_file():
        command = [
            sys.executable,
            "-m",
            "onnxruntime_genai.models.builder",
            "-i",
            str(folder / "hf"),
        ]
        command += ["-o", str(place), "-p", "int4", "-e", "cpu", "-c", str(folder / "cache")]
        subprocess.run(command, check=True, capture_output=True)
        _set_threads(place / "genai_config.json", threads)
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

    from vlv_benchmarks.peers._head import gguf

    del folder
    model = llama_cpp.Llama(
        str(gguf()), n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False
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
    import openvino_genai

    place = folder / "openvino"
    if not (place / "openvino_model.xml").is_file():
        command = [sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino"]
        command += ["-m", str(folder / "hf"), "--task", "text-generation-with-past"]
        command += ["--weight-format", "int8", "--disable-convert-tokenizer", str(place)]
        subprocess.run(command, check=True, capture_output=True)
    pipe = openvino_genai.LLMPipeline(str(place), "CPU", INFERENCE_NUM_THREADS=threads)

    def decode(ids: Ids, tokens: int) -> Ids:
        import openvino

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
    source, export = (place, False) if place.is_dir() else (folder / "hf", True)
    model: Any = ORTModelForCausalLM.from_pretrained(source, export=export, session_options=options)
    if export:
        model.save_pretrained(place)
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
    """On a GPU, by token ids."""
    from vllm import LLM, SamplingParams

    del threads
    model = LLM(model=str(folder / "hf"), dtype="bfloat16", max_model_len=512)

    def decode(ids: Ids, tokens: int) -> Ids:
        sampling = SamplingParams(
            temperature=0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True
        )
        given = [{"prompt_token_ids": row} for row in ids.tolist()]
        said = model.generate(given, sampling, use_tqdm=False)
        return np.array([each.outputs[0].token_ids for each in said], np.int64)

    return decode


def _set_threads(path: Path, threads: int) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")


def _which(prompts: Ids, ids: Ids) -> NDArray[np.int64]:
    """Rows of the prompts that these are."""
    return np.array([int((prompts == row).all(axis=1).argmax()) for row in ids], np.int64)
