"""CLIP's text encoder, fed by embeddings where the original takes token ids.

transformers' CLIPTextModel takes ids alone, so its pass is written out here, on its own layers.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from vlv_core.errors import ConfigError

MODEL_TYPE = "clip_text_model"


class TextEncoder(nn.Module):
    """embeddings (B, K, W) -> hidden (B, K, W), and pooled (B, P) where there is a projection.

    Names of parameters are those of the published files.
    """

    def __init__(self, config: CLIPTextConfig, *, projected: bool, penultimate: bool) -> None:
        super().__init__()
        self.width: int = config.hidden_size
        self.length: int = config.max_position_embeddings
        self.vocab_size: int = config.vocab_size
        self.layers_left = 1 if penultimate else 0
        """layers after the one whose output is `hidden`; without any, the final norm is applied"""
        self.text_projection: nn.Linear | None = None
        # sdpa: causal by a flag, which the eager path would not read.
        if projected:
            model = CLIPTextModelWithProjection._from_config(config, attn_implementation="sdpa")
            self.text_model, self.text_projection = model.text_model, model.text_projection
        else:
            self.text_model = CLIPTextModel._from_config(config, attn_implementation="sdpa")

    def embed(self, ids: Tensor) -> Tensor:
        """ids int64 (B, L) -> token embeddings (B, L, W), positions not added."""
        table: nn.Embedding = self.text_model.embeddings.token_embedding
        return table(ids.to(table.weight.device))

    def forward(
        self, embeddings: Tensor, *, ends: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """`ends` (B,): positions to pool at; the last where there are none.

        A caption is pooled where its end token stands, up to which a causal encoder has read it
        all. Learned embeddings fill the whole length, so that theirs is the last.
        """
        model = self.text_model
        embeddings = embeddings.to(model.embeddings.token_embedding.weight.dtype)
        x = model.embeddings(inputs_embeds=embeddings)
        layers = list(model.encoder.layers)
        split = len(layers) - self.layers_left
        for layer in layers[:split]:
            x = layer(x, None, is_causal=True)
        hidden = x if self.layers_left else model.final_layer_norm(x)
        if self.text_projection is None:
            return hidden, None
        for layer in layers[split:]:
            x = layer(x, None, is_causal=True)
        last = x[:, -1] if ends is None else _at(x, ends.to(x.device))
        return hidden, self.text_projection(model.final_layer_norm(last))


def first_end(ids: Tensor, *, end: int) -> Tensor:
    """Where the first end token after the start stands, (B,), in ids (B, L).

    A caption that holds the end token as a word ends there, as it does in the original.
    """
    return 1 + (ids[:, 1:] == end).int().argmax(dim=1)


def _at(x: Tensor, positions: Tensor) -> Tensor:
    """x (B, K, W) at positions (B,) -> (B, W)."""
    return x.gather(1, positions[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]


def text_config(table: Mapping[str, Any], *, where: str) -> CLIPTextConfig:
    """Raises ConfigError for a text encoder that is not CLIP's."""
    found = table.get("model_type", MODEL_TYPE)
    if found != MODEL_TYPE:
        raise ConfigError(f"{where}: {found!r} is not supported; known: {MODEL_TYPE}")
    return CLIPTextConfig.from_dict(dict(table))
