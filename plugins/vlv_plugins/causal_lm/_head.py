"""`causal-lm`: a pretrained decoder-only language model as the head.

Shape legend: B batch, M prefix, L caption, Dl width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from vlv_core import Near
from vlv_core.errors import ConfigError, UsageError
from vlv_core.parts import ExportPart
from vlv_plugins._hub import fill, known_class, read_weights
from vlv_plugins.causal_lm import _complete
from vlv_plugins.causal_lm._checkpointing import checkpointed
from vlv_plugins.causal_lm._export import make_part
from vlv_plugins.causal_lm._graph import GraphStepper
from vlv_plugins.causal_lm._lora import BASE, adapters, add_adapters, merge_adapters
from vlv_plugins.causal_lm._stepper import CausalLmStepper
from vlv_plugins.causal_lm._tokenizer import Words, byte_words, read_words
from vlv_plugins.causal_lm.config import CausalLmConfig, gguf_pattern

KINDS = (
    *("qwen2", "qwen3", "llama", "smollm3", "gemma", "gemma2", "gemma3_text"),
    *("mistral", "olmo2", "granite", "phi3"),
)
"""`model_type` of the families that are tested here; others keep their state in other ways"""


class CausalLm(nn.Module):
    """prefix (B, M, Dl) -> words. The library's model is `lm`, under the library's names."""

    def __init__(self, config: CausalLmConfig) -> None:
        super().__init__()
        described = library_config(config)
        self.config = config
        self.dim = int(described.hidden_size)
        self.vocab_size = int(described.vocab_size)
        self.max_length = config.max_length
        self.lm: Any = AutoModelForCausalLM.from_config(
            described, dtype=torch.float32, attn_implementation=_attention(described)
        )
        _tie(self.lm)
        if config.lora_rank:
            add_adapters(self.lm, config)
        self.words = byte_words()

    @property
    def eos(self) -> tuple[int, ...]:
        """All tokens that end a caption."""
        return self.words.eos

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids (B, L) int64, end of text appended and as padding; mask (B, L) of what counts.

        The end of text counts once, whatever the tokenizer calls its padding.
        """
        rows = self.words.encode(captions)
        length = max(map(len, rows))
        ids = torch.tensor([row + [self.eos[0]] * (length - len(row)) for row in rows])
        return ids, torch.arange(length) < torch.tensor([len(row) for row in rows])[:, None]

    def decode(self, ids: Sequence[int]) -> str:
        return self.words.decode(ids)

    def loss(self, prefix: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood summed over the masked tokens, (B,), float32."""
        words = self.lm.get_input_embeddings()(ids[:, :-1])
        inputs = torch.cat([prefix.to(words.dtype), words], dim=1)
        with checkpointed(self.lm, on=self.config.gradient_checkpointing):
            # The last L positions say the caption: the prefix' own next words cost nothing.
            out = self.lm(inputs_embeds=inputs, use_cache=False, logits_to_keep=ids.shape[1])
        each = F.cross_entropy(out.logits.flatten(0, 1).float(), ids.flatten(), reduction="none")
        return (each.view_as(ids) * mask).sum(dim=1)

    def start(self, prefix: Tensor, capacity: int) -> CausalLmStepper | GraphStepper:
        """A decode of prefix (B, M, Dl). Raises UsageError if it cannot fit `capacity`."""
        if not prefix.shape[1] < capacity <= self.max_length:
            raise UsageError(
                f"a capacity of {capacity} tokens does not fit: the prefix has {prefix.shape[1]} "
                f"and this head at most {self.max_length}",
                hint="lower max_new_tokens, or raise the head's max_length",
            )
        table = self.lm.get_input_embeddings().weight
        stepper = GraphStepper if table.is_cuda else CausalLmStepper
        return stepper(self.lm, prefix.detach().to(table.device, table.dtype), capacity)

    def fold(self) -> None:
        """Merge adapters into the weights for good: for use alone, not for training or saving."""
        merge_adapters(self.lm)

    def export_part(self) -> ExportPart:
        """The graph that exporters compile, of the weights as they are now, adapters merged."""
        return make_part(self)

    def tokenizer_json(self) -> str:
        """The tokenizer as a tokenizer.json, which decodes as `decode` does."""
        return self.words.tokenizer.to_str()

    def learnable(self) -> set[str]:
        """The adapters if there are any, else all parameters."""
        return adapters(self) or {name for name, _ in self.named_parameters()}

    def load_pretrained(self, folder: Path) -> set[str]:
        """Weights and tokenizer of safetensors or a GGUF; answers the names that were filled.

        Adapters keep their first values. Raises ModelError for what is missing or does not fit.
        """
        ours = {name.replace(BASE, "."): name for name in self.state_dict()}
        file = _complete.gguf_file(folder, gguf_pattern(self.config))
        if file is not None:
            from vlv_plugins.causal_lm import _gguf

            names = [name.removeprefix("lm.") for name in ours]
            tensors = _gguf.tensors(file, self.lm.config, names)
            self._speak(_gguf.words(file, eos=self.config.eos), where=str(file))
        else:
            tensors = read_weights(folder, "model")
            eos = self.config.eos or _complete.ends_of_text(folder)
            self._speak(read_words(folder, eos=eos), where=str(folder))
        # Old Llama files carry these buffers, which follow from the configuration.
        tensors = {n: t for n, t in tensors.items() if not n.endswith("rotary_emb.inv_freq")}
        named = {ours.get(f"lm.{name}", name): tensor for name, tensor in tensors.items()}
        kept = {name: self.get_parameter(name).detach().clone() for name in adapters(self)}
        return fill(self, named | kept, where=self.config.model) - set(kept)

    def load_assets(self, folder: Path) -> None:
        """Read the tokenizer of a model folder's part."""
        self._speak(read_words(folder), where=str(folder))

    def save_assets(self, folder: Path) -> None:
        """Write the tokenizer beside the weights."""
        self.words.write(folder)

    def _speak(self, words: Words, *, where: str) -> None:
        words.check(self.vocab_size, where=where)
        self.words = words


def build(config: CausalLmConfig, near: Near) -> CausalLm:
    """Architecture only; reads no file. Raises ConfigError for one that is unknown."""
    del near
    return CausalLm(config)


def library_config(config: CausalLmConfig) -> Any:
    """transformers' configuration. Raises ConfigError for an absent, unknown or small model."""
    if not config.architecture:
        raise ConfigError(
            f"the architecture of {config.model!r} is not known",
            hint="give architecture, the model's config.json, or train with a recipe, which "
            "reads it",
        )
    kind = config.architecture.get("model_type", "")
    known_class(kind, dict.fromkeys(KINDS), where="causal-lm: model_type")
    rest = {key: value for key, value in config.architecture.items() if key != "model_type"}
    described = CONFIG_MAPPING[kind].from_dict(rest)
    if config.max_length > described.max_position_embeddings:
        raise ConfigError(
            f"max_length is {config.max_length}, but {config.model!r} has "
            f"{described.max_position_embeddings} positions",
            hint="lower max_length",
        )
    return described


def _attention(described: Any) -> str:
    """sdpa, but for models (Gemma 2) that squash attention scores, which it cannot do."""
    return "eager" if getattr(described, "attn_logit_softcapping", None) else "sdpa"


def _tie(lm: Any) -> None:
    """Make tied tables one object again, which building without memory (accelerate) may undo."""
    if lm.config.tie_word_embeddings:
        # Past __setattr__, where accelerate would make a second parameter of it.
        lm.get_output_embeddings()._parameters["weight"] = lm.get_input_embeddings().weight
