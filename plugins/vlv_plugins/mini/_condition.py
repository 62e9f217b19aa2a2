"""The condition half of `mini-t2i`: a causal text encoder in CLIP's manner, fed by embeddings."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vlv_core import Conditioning, Near
from vlv_core.layers import Block
from vlv_core.prompts import PromptTokenizer
from vlv_plugins.mini._tokenizer import END, START, bundled_tokenizer, load_tokenizer
from vlv_plugins.mini.config import T2iConfig


class MiniCondition(nn.Module):
    """z (B, K, Dz) -> context (B, K, Dc): positions added, causal blocks, final norm."""

    causal = True

    def __init__(self, *, vocab: int, width: int, depth: int, heads: int, length: int) -> None:
        super().__init__()
        self.embedding_dim = self.context_dim = width
        self.max_queries = length
        self.tokenizer = bundled_tokenizer()
        self.embed = nn.Embedding(vocab, width)
        nn.init.normal_(self.embed.weight, std=0.5)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.1)
        self.blocks = nn.ModuleList(Block(width, heads, causal=True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, z: Tensor) -> Conditioning:
        x = z + self.positions[: z.shape[1]]
        for block in self.blocks:
            x = block(x)
        return Conditioning(self.norm(x))

    def from_text(self, captions: Sequence[str]) -> tuple[Conditioning, list[int]]:
        """Conditioning (B, max_queries, Dc) of captions, and how many tokens of each were cut."""
        ids, cut = self.tokenize(captions, length=self.max_queries)
        return self.read_ids(ids.to(self.embed.weight.device)), cut

    def read_ids(self, ids: Tensor) -> Conditioning:
        """ids (B, max_queries) of `prompts` -> Conditioning."""
        return self(self.embed(ids))

    @property
    def prompts(self) -> tuple[PromptTokenizer, ...]:
        """How captions become ids, one for each text encoder."""
        return (PromptTokenizer(self.tokenizer, start=START, end=END, pad=END),)

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Rows of each text encoder's table."""
        return (self.embed.num_embeddings,)

    def unconditional(self, length: int) -> Conditioning:
        """The padded empty prompt's first `length` positions, (1, length, Dc)."""
        context = self.from_text([""])[0].context
        return Conditioning(context[:, :length])

    def tokenize(self, captions: Sequence[str], *, length: int) -> tuple[Tensor, list[int]]:
        """ids (B, length): start, words, end, and the end again as padding; and the cut counts."""
        ids, cut = self.prompts[0](captions, length=length)
        return torch.from_numpy(ids), cut

    def longest(self, captions: Sequence[str]) -> int:
        """Tokens of the longest caption, start and end included."""
        return 2 + max(
            len(encoding.ids) for encoding in self.tokenizer.encode_batch(list(captions))
        )

    def load_assets(self, folder: Path) -> None:
        """Read the tokenizer of a model folder's part."""
        self.tokenizer = load_tokenizer(folder)

    def save_assets(self, folder: Path) -> None:
        """Write the tokenizer beside the weights."""
        self.tokenizer.save(str(folder / "tokenizer.json"))


def build(config: T2iConfig, near: Near) -> MiniCondition:
    """Architecture only."""
    del near
    return MiniCondition(
        vocab=config.vocab_size,
        width=config.text_width,
        depth=config.text_depth,
        heads=config.text_heads,
        length=config.text_length,
    )
