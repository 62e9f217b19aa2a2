"""Captions to tokens and back, and where a caption ends."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from vlv_core.errors import ModelError
from vlv_plugins._hub import END_OF_TEXT, byte_tokenizer, read_json, read_tokenizer

SPECIALS = "specials.json"
"""written beside tokenizer.json, which does not say where a text ends"""


class Words:
    """A tokenizer with its ends of text: all stop decoding, the first is what captions end with.

    Special tokens that stand in a caption as text stay text, and none is put before it: the head
    reads its prefix alone.
    """

    def __init__(self, tokenizer: Tokenizer, eos: Sequence[int]) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.eos = tuple(eos)

    def encode(self, captions: Sequence[str]) -> list[list[int]]:
        """Tokens of each caption, end of text appended."""
        rows = self.tokenizer.encode_batch(list(captions), add_special_tokens=False)
        return [[*row.ids, self.eos[0]] for row in rows]

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def check(self, vocab_size: int, *, where: str) -> None:
        """Raises ModelError if the model cannot speak these tokens."""
        # Added tokens may lie beyond: as text in captions they are never read as themselves.
        words = self.tokenizer.get_vocab_size(with_added_tokens=False)
        largest = max([*self.eos, words - 1])
        if not self.eos:
            raise ModelError(
                f"{where}: no file says which token ends a text",
                hint="set eos to the token's number, such as [2]",
            )
        if largest >= vocab_size:
            raise ModelError(
                f"{where}: the tokenizer has token {largest}, but the model knows {vocab_size}",
                hint="is this the tokenizer of the model that the recipe names?",
            )

    def write(self, folder: Path) -> None:
        self.tokenizer.save(str(folder / "tokenizer.json"))
        (folder / SPECIALS).write_text(json.dumps({"eos": self.eos}) + "\n", encoding="utf-8")


def read_words(folder: Path, *, eos: Sequence[int] | None = None) -> Words:
    """A folder's tokenizer.json; ends of text are what SPECIALS says if they are not given.

    Raises ModelError if a file is missing or damaged.
    """
    tokenizer = read_tokenizer(folder / "tokenizer.json")
    return Words(tokenizer, read_json(folder / SPECIALS)["eos"] if eos is None else eos)


def byte_words() -> Words:
    """For random weights: one token a byte, and one more to end a caption."""
    tokenizer = byte_tokenizer()
    return Words(tokenizer, [tokenizer.get_vocab()[END_OF_TEXT]])
