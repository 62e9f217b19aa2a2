"""Captions as ids of a fixed length, as the text encoders of diffusion models read them.

Needs no torch, so that a deployed captioner tokenizes as the trained one did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class PromptTokenizer:
    """Rows of start, words, end, padding."""

    tokenizer: "Tokenizer"
    """without truncation and padding of its own"""
    start: int
    end: int
    pad: int

    def __call__(
        self, captions: Sequence[str], *, length: int
    ) -> tuple[NDArray[np.int64], list[int]]:
        """ids (B, length) of captions, and how many tokens of each did not fit."""
        rows, cut = [], []
        for encoding in self.tokenizer.encode_batch(list(captions), add_special_tokens=False):
            words = encoding.ids[: length - 2]
            cut.append(len(encoding.ids) - len(words))
            padding = [self.pad] * (length - 2 - len(words))
            rows.append([self.start, *words, self.end, *padding])
        return np.array(rows, np.int64), cut
