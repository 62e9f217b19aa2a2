"""Placeholders: the tokens in a prompt that stand for the prefix, one for each of its K rows.

GenAI writes the prompt START + K times PAD + END and tokenizes it, which would be K + 2 tokens. Two
more tokens are therefore spelt START PAD and PAD END: the longest match wins, and K are left. All
of them lie beyond the vocabulary, so that no word is taken for a placeholder.
"""

import json
from dataclasses import dataclass
from typing import Any

from vlv_core.errors import ModelError

START, PAD, END = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
"""as GenAI's processor spells them"""
PROMPT = START + END
"""what the user writes: GenAI puts the K placeholders between"""


@dataclass(frozen=True)
class Placeholders:
    """Those of one model."""

    vocab_size: int
    count: int
    """K, rows of the prefix"""

    @property
    def tokens(self) -> dict[str, int]:
        """text -> id. The first one is for prompts that are given as ids."""
        texts = [PAD, START + PAD, PAD + END] if self.count > 1 else [START + PAD + END]
        return {text: self.vocab_size + index for index, text in enumerate(texts)}

    @property
    def pad(self) -> int:
        """The id that stands for any row of the prefix."""
        return self.vocab_size

    @property
    def total(self) -> int:
        """Ids that the package knows: words and placeholders."""
        return self.vocab_size + len(self.tokens)

    def added_to(self, tokenizer: str) -> str:
        """The text of a tokenizer.json with the placeholders among its special tokens.

        Raises ModelError if it is no such text.
        """
        try:
            data: dict[str, Any] = json.loads(tokenizer)
            kept = [each for each in data["added_tokens"] if each["content"] not in self.tokens]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"tokenizer.json is not what `tokenizers` writes: {error}") from error
        data["added_tokens"] = [*kept, *(_special(*token) for token in self.tokens.items())]
        return json.dumps(data, ensure_ascii=False)


def _special(text: str, number: int) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, **plain, "special": True}
