"""ONE decode loop, in numpy, for every runtime: greedy, sampling, beam search, streaming.

A `Stepper` (one a runtime) owns the weights and the cache and answers with the best
k next tokens of each row; everything that decides words is here.
"""

from vlv_core.generation.loop import Word, generate, stream, words
from vlv_core.generation.options import FinishReason, Generated, GenerationOptions

__all__ = [
    "FinishReason",
    "Generated",
    "GenerationOptions",
    "Word",
    "generate",
    "stream",
    "words",
]
