"""GGUF files: architecture and tokenizer from their metadata, weights dequantised to float32.

Names and layouts are llama.cpp's (its convert_hf_to_gguf.py): Llama's query and key rows are
stored in another order. What a file does not say is refused, never guessed: Gemma's scale of
queries, and scaled rotary frequencies, which the library's reader passes over.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

from vlv_core.errors import MissingExtra, ModelError
from vlv_plugins.causal_lm._complete import plain
from vlv_plugins.causal_lm._tokenizer import Words

READ = ("llama", "qwen2", "qwen3")
"""`general.architecture` of the files that say all that is needed"""


def describe(file: Path) -> tuple[dict[str, Any], tuple[int, ...]]:
    """What the model's config.json would say, and the tokens that end a text.

    Raises ModelError for a file that is not read.
    """
    reader = _open(file)
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    described = plain(config.to_diff_dict())
    width = reader.fields.get(f"{described['model_type']}.attention.key_length")
    if width is not None:
        # The library's reader passes over it, and takes what its published models have.
        described["head_dim"] = int(width.contents())
    return described, _ends_of_text(reader)


def words(file: Path, *, eos: Iterable[int] = ()) -> Words:
    """The file's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    return Words(tokenizer.backend_tokenizer, tuple(eos) or _ends_of_text(_open(file)))


def tensors(file: Path, config: Any, names: Iterable[str]) -> dict[str, Tensor]:
    """Weights in float32 under the library's `names`; those it has no name for keep the file's.

    `config` is the library's, of the model that has these names.
    """
    reader = _open(file)
    from gguf import MODEL_ARCH_NAMES, dequantize, get_tensor_name_map

    kind = reader.fields["general.architecture"].contents()
    known = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}
    table = get_tensor_name_map(known[kind], config.num_hidden_layers)
    ours = {_their_name(table, name): name for name in names}
    return {
        ours.get(tensor.name, tensor.name): torch.from_numpy(
            _library_layout(
                np.array(dequantize(tensor.data, tensor.tensor_type), np.float32),
                tensor.name,
                kind=kind,
                config=config,
            )
        )
        for tensor in reader.tensors
    }


def unpermute(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows (heads * D, ...) from pairs of neighbours, as llama.cpp turns them, to halves."""
    pairs = rows.reshape(heads, len(rows) // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))


def _ends_of_text(reader: Any) -> tuple[int, ...]:
    """End of text, and end of turn where there is one."""
    fields = [reader.fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    return tuple(dict.fromkeys(int(field.contents()) for field in fields if field is not None))


def _library_layout(
    weights: NDArray[np.float32], name: str, *, kind: str, config: Any
) -> NDArray[np.float32]:
    if kind == "llama" and ".attn_q." in name:
        return unpermute(weights, config.num_attention_heads)
    if kind == "llama" and ".attn_k." in name:
        return unpermute(weights, config.num_key_value_heads)
    return weights


def _their_name(table: Any, name: str) -> str | None:
    """blk.0.attn_q.weight for model.layers.0.self_attn.q_proj.weight."""
    stem, _, suffix = name.rpartition(".")
    theirs = table.get_name(stem)
    return theirs and f"{theirs}.{suffix}"


def _open(file: Path) -> Any:
    """A reader of a file of a known kind. Raises ModelError or MissingExtra."""
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError as error:
        raise MissingExtra("gguf", extra="models") from error
    try:
        reader = GGUFReader(file)
    except (ValueError, OSError, LookupError) as error:
        raise ModelError(f"{file} is no GGUF file: {error}") from error
    kind = reader.fields["general.architecture"].contents()
    if kind not in READ:
        raise ModelError(
            f"{file.name} holds a {kind!r} model; GGUF files are read of {', '.join(READ)}",
            hint="use the model's safetensors",
        )
    scaling = reader.fields.get(f"{kind}.rope.scaling.type")
    if scaling is not None and scaling.contents() != "none":
        raise ModelError(
            f"{file.name} scales its rotary frequencies ({scaling.contents()}), which is not read",
            hint="use the model's safetensors",
        )
    return reader
