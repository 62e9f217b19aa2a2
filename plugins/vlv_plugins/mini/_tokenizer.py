"""Byte-level BPE for the bundled world's captions, shared by the text encoder and the head."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from vlv_core.errors import ModelError

END, START = 0, 1
"""ids of the two special tokens: end of text (and padding), start of text"""


def train_tokenizer(captions: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer whose first two ids are END and START."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<end>", "<start>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer


def bundled_tokenizer() -> Tokenizer:
    """The tokenizer that pretraining made from the world's captions; spells any other text."""
    return Tokenizer.from_file(str(Path(__file__).with_name("tokenizer.json")))


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder's part; ModelError if there is none."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"{path} is missing", hint="the model folder is incomplete: save it again")
    return Tokenizer.from_file(str(path))
