"""What every program is given to go on from: windows of a description, as long as the paper's
caption embeddings."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

LENGTH = 77
"""tokens"""
TEXT = """
A wide photograph of a harbour in the early morning. In the foreground three small wooden boats,
one red and two white, are tied to a stone pier; a fisherman in a yellow coat mends a green net
beside a stack of crates. Behind them the water is calm and reflects a row of narrow houses with
blue shutters, and on the hill above the town stands a church with a round tower. Gulls sit on
the lamps along the quay, a bicycle leans against a wall, and the sky is pale orange.
"""
STARTS = 64
"""windows that differ"""


def prompts(
    encode: Callable[[Sequence[str]], Sequence[Sequence[int]]], rows: int
) -> NDArray[np.int64]:
    """Ids int64 (rows, LENGTH)."""
    ids = encode([" ".join(TEXT.split()) * 2])[0]
    return np.array([ids[row % STARTS : row % STARTS + LENGTH] for row in range(rows)], np.int64)
