"""CIDEr-D: how far a caption says what its references say, in phrases weighted by their rarity.

Vedantam et al., CIDEr: Consensus-based Image Description Evaluation, arXiv 1411.5726, section 5 on
CIDEr-D, with term counts as in the authors' own code: for phrases of n = 1..4 words

    score_n(c, r) = exp(-(len c - len r)^2 / (2 sigma^2)) * sum_w min(g_w(c), g_w(r)) g_w(r)
                    / (|g(c)| |g(r)|),       g_w(s) = count of w in s * log(N / max(1, df_w))

where df_w counts the pictures, of N, in whose references w occurs. A caption's score is 10 times
the mean over n and references.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

LONGEST = 4
"""words of the longest phrase"""

SIGMA = 6.0
"""words of difference in length that a caption can well have"""

Phrase = tuple[str, ...]
Vector = dict[Phrase, float]

_WORD = re.compile(r"\w+(?:'\w+)?")


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """A score in 0..10 for each caption; `references[i]` are picture i's, at least one."""
    counts = [[phrases(text) for text in texts] for texts in references]
    # A picture counts once, however many of its references hold the phrase.
    pictures = Counter(phrase for own in counts for phrase in set().union(*own))

    def weighed(found: Counter[Phrase]) -> list[Vector]:
        """g of each n; what no reference says is as rare as what one says."""
        vectors: list[Vector] = [{} for _ in range(LONGEST)]
        for phrase, count in found.items():
            rarity = math.log(len(references) / max(1, pictures[phrase]))
            vectors[len(phrase) - 1][phrase] = count * rarity
        return vectors

    scores = []
    for caption, texts, own in zip(captions, references, counts, strict=True):
        candidate, length = weighed(phrases(caption)), len(words(caption))
        each = [
            _similarity(candidate, weighed(reference)) * _fit(length - len(words(text)))
            for text, reference in zip(texts, own, strict=True)
        ]
        scores.append(10 * math.fsum(each) / len(each))
    return scores


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return _WORD.findall(text.lower())


def phrases(text: str) -> Counter[Phrase]:
    """Every run of 1 to `LONGEST` words, with how often it occurs."""
    found = words(text)
    return Counter(
        tuple(found[start : start + length])
        for length in range(1, LONGEST + 1)
        for start in range(len(found) - length + 1)
    )


def _similarity(candidate: Sequence[Vector], reference: Sequence[Vector]) -> float:
    """Clipped cosine, the mean over n."""
    return sum(map(_cosine, candidate, reference)) / LONGEST


def _cosine(candidate: Vector, reference: Vector) -> float:
    shared = sum(
        # Clipped, so that saying a word again and again gains nothing.
        min(weight, reference[phrase]) * reference[phrase]
        for phrase, weight in candidate.items()
        if phrase in reference
    )
    norms = math.hypot(*candidate.values()) * math.hypot(*reference.values())
    return shared / norms if norms else 0.0


def _fit(difference: int) -> float:
    return math.exp(-(difference**2) / (2 * SIGMA**2))
