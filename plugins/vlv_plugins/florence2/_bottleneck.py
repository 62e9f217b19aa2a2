"""The `florence2` bottleneck: the language model reads tokens and prompt, queries read that.

Method: Zhang et al., arXiv 2507.07104, on Florence-2's language model, which is BART's.
Shape legend: B batch, N visual tokens, P prompt tokens, K queries, D model width.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BartConfig, BartModel

from vlv_core import Near
from vlv_core.errors import ConfigError
from vlv_plugins._florence_names import LANGUAGE, to_native
from vlv_plugins._hub import fill, read_weights
from vlv_plugins.florence2._architecture import text_config
from vlv_plugins.florence2.config import PROMPT_IDS, BottleneckConfig


class Florence2Bottleneck(nn.Module):
    """tokens (B, N, De) -> z (B, K, Dz), De = D unless adapted.

    The decoder's self-attention is causal, so that the first k of z do not depend on later queries.
    """

    causal = True

    def __init__(
        self,
        config: BartConfig,
        *,
        num_queries: int,
        prompt_ids: tuple[int, ...],
        hidden: int,
        dim: int,
        token_dim: int = 0,
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.dim = dim
        width = config.d_model
        assert isinstance(width, int)
        self.language_model = BartModel(config)
        # One table under three names, whatever a version of the library does at construction.
        self.language_model.set_input_embeddings(self.language_model.shared)
        self.adapter = nn.Linear(token_dim, width) if token_dim else nn.Identity()
        self.queries = nn.Parameter(torch.randn(num_queries, width))
        self.phi = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.register_buffer("prompt_ids", torch.tensor(prompt_ids), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        z: Tensor = self.phi(self.read(tokens))
        return z

    def read(self, tokens: Tensor) -> Tensor:
        """tokens (B, N, De) -> the decoder's output on the queries (B, K, D), before phi."""
        language, batch = self.language_model, tokens.shape[0]
        tokens = self.adapter(tokens.to(self.queries.dtype))
        prompt = language.shared(self.prompt_ids).to(tokens.dtype)
        inputs = torch.cat([tokens, prompt.expand(batch, -1, -1)], dim=1)
        seen = language.encoder(inputs_embeds=inputs).last_hidden_state
        # As inputs_embeds, queries are not scaled by `scale_embedding`: that is the token table's.
        read: Tensor = language.decoder(
            inputs_embeds=self.queries.expand(batch, -1, -1),
            encoder_hidden_states=seen,
            use_cache=False,
        ).last_hidden_state
        return read

    def load_pretrained(self, folder: Path) -> set[str]:
        """Read the language half of a Florence-2 in either naming; queries and phi stay new."""
        tensors = to_native(read_weights(folder, "model"))
        mine = {
            name.removeprefix(LANGUAGE): tensor
            for name, tensor in tensors.items()
            if name.startswith(LANGUAGE)
        }
        filled = fill(self.language_model, mine, where="florence2 bottleneck")
        return {f"{LANGUAGE}{name}" for name in filled}


def build(config: BottleneckConfig, near: Near) -> Florence2Bottleneck:
    """Architecture only; `near` gives the encoder's tokens and the condition's embedding width.

    Raises ConfigError for an encoder of another width, and where positions do not suffice.
    """
    language = text_config(config.architecture)
    ids = config.prompt_ids or PROMPT_IDS
    _check(config, language, near, ids)
    bottleneck = Florence2Bottleneck(
        language,
        num_queries=config.num_queries,
        prompt_ids=ids,
        hidden=config.hidden or near.embedding_dim,
        dim=near.embedding_dim,
        token_dim=near.token_dim if config.adapt else 0,
    )
    if config.gradient_checkpointing:
        bottleneck.language_model.activation_checkpointing_enable({"use_reentrant": False})
    return bottleneck


def _check(
    config: BottleneckConfig, language: BartConfig, near: Near, ids: tuple[int, ...]
) -> None:
    if near.token_dim != language.d_model and not config.adapt:
        raise ConfigError(
            f"the encoder's tokens are {near.token_dim} wide, but this Florence-2 reads "
            f"{language.d_model}",
            hint="give encoder and bottleneck one model, or set bottleneck.adapt = true",
        )
    most = language.max_position_embeddings
    if not 1 <= config.num_queries <= most:
        raise ConfigError(f"num_queries is {config.num_queries}; this model has {most} positions")
    if near.num_tokens + len(ids) > most:
        raise ConfigError(
            f"{near.num_tokens} tokens and {len(ids)} of the prompt exceed the {most} positions"
        )
    if max(ids) >= language.vocab_size:
        raise ConfigError(
            f"prompt_ids has {max(ids)}, but vocab_size is {language.vocab_size}",
            hint="the model's folder should hold its own tokenizer.json; or set prompt_ids in the "
            "recipe to tokens that it has",
        )
