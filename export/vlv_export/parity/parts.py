"""L1: every part, the preparation of pictures and the tokenizer, against the eager model.

Each golden case is run at its own shapes. The head's is a prefill and steps on one cache.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import VlvError
from vlv_core.preprocess import to_pixels, to_view
from vlv_core.prompts import PromptTokenizer
from vlv_export.golden import Case
from vlv_export.parity.figures import cosine, distribution, greatest, per_position, relative_l2
from vlv_export.parity.report import Check, Level, judged
from vlv_export.parity.target import Target
from vlv_export.runtime.backend import read_tokenizer
from vlv_export.runtime.head import cache_layers, fed, fixed_capacities

SPARE = 5
"""cache positions that a case leaves unused"""

Pair = tuple[str, NDArray[Any], NDArray[Any]]
"""where, found, expected"""


def check_parts(target: Target) -> Level:
    """The level's outcome."""
    checks = [*_pictures(target), *_words(target)]
    for part in target.entry.graphs:
        checks += _part(target, part)
    return judged("L1", checks)


def _part(target: Target, part: str) -> list[Check]:
    cases = cases_of(target, part)
    if not cases:
        worst = "the golden file has none; export the model again"
        return [counted(part, "all", "missing golden values", [worst])]
    outputs: dict[str, list[Pair]] = {}
    for case in cases:
        try:
            found = run_case(target, case, part)
        except (VlvError, MemoryError, KeyError) as error:
            trouble = f"{case.title}: {' '.join(str(error).split())}"
            return [counted(part, "all", "calls that failed", [trouble])]
        for name, expected in case.outputs.items():
            outputs.setdefault(name, []).append((case.title, found[name], expected))
    return [
        check for name, pairs in outputs.items() for check in compare(target, part, name, pairs)
    ]


def run_case(target: Target, case: Case, part: str) -> dict[str, NDArray[Any]]:
    """The outputs of the artefact's `part` for a case's inputs."""
    if case.part == "head":
        prefix, tokens = case.inputs["prefix"], case.inputs["tokens"]
        return {"log_probs": run_head(target, prefix, tokens, part=part)}
    return target.backend.sessions.run(part, case.inputs, list(case.outputs))


def run_head(
    target: Target,
    prefix: NDArray[np.float32],
    tokens: NDArray[np.int64],
    *,
    part: str = "head",
    beyond: Callable[[tuple[int, ...]], NDArray[np.float32]] = np.zeros,
) -> NDArray[np.float32]:
    """Logits (B, T + 1, V) after prefix (B, M, Dl) and after each of tokens (B, T).

    `part` is the head's, or `head.C`. `beyond(shape)` makes what unused cache positions hold.
    """
    sessions, rows = target.backend.sessions, len(prefix)
    graph, capacity = sessions.graph(part), capacity_of(target, part, prefix, tokens)
    state = {
        f"past.{layer.name}": beyond((rows, layer.heads, capacity, layer.width))
        for layer in cache_layers(graph)
    }
    presents = [name.replace("past.", "present.", 1) for name in state]
    found, position = [], 0
    for given, words in head_calls(prefix, tokens):
        inputs = {
            **fed(graph, given, words),
            "position": np.full(rows, position, np.int64),
            "k": np.array([1], np.int64),
            **state,
        }
        answer = sessions.run(part, inputs, ["logits", *presents])
        found.append(answer["logits"])
        state = {past: answer[now] for past, now in zip(state, presents, strict=True)}
        position += given.shape[1] + words.shape[1]
    return np.stack(found, axis=1)


def head_calls(
    prefix: NDArray[np.float32], tokens: NDArray[np.int64]
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Prefix and tokens of each call of a decode: all of the prefix, then a token at a time."""
    steps = [(prefix[:, :0], column[:, None]) for column in tokens.T]
    return [(prefix, tokens[:, :0]), *steps]


def capacity_of(
    target: Target, part: str, prefix: NDArray[np.float32], tokens: NDArray[np.int64]
) -> int:
    """The head's own, or one that leaves positions over."""
    fixed = {name: size for size, name in fixed_capacities(target.entry).items()}
    return fixed.get(part, prefix.shape[1] + tokens.shape[1] + SPARE)


def head_parts(target: Target) -> list[str]:
    """`head`, and `head.C` of each smaller capacity."""
    return [part for part in target.entry.graphs if _whole(part) == "head"]


def cases_of(target: Target, part: str) -> list[Case]:
    """The golden cases that a part can be run on: a head's fit its capacity."""
    return [
        case
        for case in target.golden.of(_whole(part))
        if case.part != "head"
        or case.inputs["prefix"].shape[1] + case.inputs["tokens"].shape[1]
        <= capacity_of(target, part, case.inputs["prefix"], case.inputs["tokens"])
    ]


def _whole(part: str) -> str:
    """`head` of `head.C`; other parts are whole."""
    return part.partition(".")[0]


def compare(target: Target, part: str, name: str, pairs: Sequence[Pair]) -> list[Check]:
    """The figures of one output over all its cases."""
    wrong = [
        f"{title}: {found.shape}, expected {expected.shape}"
        for title, found, expected in pairs
        if found.shape != expected.shape
    ]
    if wrong:
        return [counted(part, name, "wrong shapes", wrong)]
    bad = [f"{title}" for title, found, _ in pairs if not np.isfinite(found).all()]
    if bad:
        return [counted(part, name, "outputs that hold no numbers", bad)]
    if name == "log_probs":
        pairs = [
            (title, per_position(found), per_position(expected)) for title, found, expected in pairs
        ]
    limits = target.limits
    return [
        measured(part, name, "relative L2", pairs, relative_l2, most=limits.relative_l2),
        measured(part, name, "cosine", pairs, cosine, least=limits.cosine),
        measured(part, name, "largest error", pairs, greatest),
        *_against_eager(target, part, name, pairs, limits.yardstick),
    ]


def _against_eager(
    target: Target, part: str, name: str, pairs: Sequence[Pair], most: float | None
) -> list[Check]:
    """The worst error as a multiple of what the eager model strays by in this precision."""
    own = target.yardstick and target.yardstick.error(target.entry.dtype, _whole(part), name)
    if not own or most is None:
        return []
    figure = f"relative L2 in multiples of eager {target.entry.dtype}'s"
    return [measured(part, name, figure, pairs, lambda *both: relative_l2(*both) / own, most=most)]


def measured(
    part: str,
    output: str,
    figure: str,
    pairs: Sequence[Pair],
    measure: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]],
    *,
    most: float | None = None,
    least: float | None = None,
) -> Check:
    """A figure of every row of every case; its worst, and where that is."""
    rows = [measure(found, expected) for _, found, expected in pairs]
    values = np.concatenate(rows)
    # A cosine is worst where it is least.
    index = int(values.argmin() if figure == "cosine" else values.argmax())
    places = [f"{pairs[case][0]}, row {row}" for case, each in enumerate(rows)
              for row in range(len(each))]  # fmt: skip
    return Check(
        part=part,
        output=output,
        figure=figure,
        value=float(values[index]),
        most=most,
        least=least,
        worst=places[index],
        distribution=dict(distribution(values)),
    )


def counted(part: str, output: str, figure: str, wrong: Sequence[str]) -> Check:
    """How many things are wrong, of which there may be none."""
    return Check(
        part=part, output=output, figure=figure, value=len(wrong), most=0,
        worst=wrong[0] if wrong else "",
    )  # fmt: skip


def _pictures(target: Target) -> list[Check]:
    """Raw pictures of odd sizes: to views, to pixels, to z."""
    golden, backend = target.golden, target.backend
    views, pixels = [], []
    for index, raw in enumerate(golden.raw):
        view = to_view(raw, target.runtime.view)
        views += _differs(f"picture {index} {raw.shape[:2]}", view, golden.raw_views[index])
        found = to_pixels(golden.raw_views[index], backend.pixels)
        pixels += _differs(f"picture {index}", found, golden.raw_pixels[index])
    checks = [
        counted("preprocess", "view", "pictures prepared otherwise", views),
        counted("preprocess", "pixels", "pictures prepared otherwise", pixels),
    ]
    if views or pixels:
        return checks
    pairs = [("raw pictures", target.runtime.encode(list(golden.raw)).z, golden.raw_z)]
    return [*checks, *compare(target, "pictures", "z", pairs)]


def _differs(name: str, found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> list[str]:
    if found.shape != expected.shape:
        return [f"{name}: {found.shape}, expected {expected.shape}"]
    changed = float((found != expected).mean())
    return [f"{name}: {100 * changed:.1f} % of its numbers"] if changed else []


def _words(target: Target) -> list[Check]:
    """Tokens to words, and words to ids."""
    facts, backend = target.golden.facts, target.backend
    wrong = _texts((backend.words(each.tokens), each.text) for each in facts.words)
    checks = [counted("tokenizer", "words", "texts that differ", wrong)]
    readers = backend.facts.prompts
    if not readers or "text" not in target.entry.graphs:
        return checks
    texts = [each.text for each in facts.prompts]
    columns = []
    for prompt in readers:
        tokenizer = read_tokenizer(target.folder, prompt.file)
        read = PromptTokenizer(tokenizer, prompt.start, prompt.end, prompt.pad)
        columns.append(read(texts, length=prompt.length)[0].tolist())
    found = zip(*columns, strict=True)
    wrong = _texts(
        ([list(each) for each in ids], [list(each) for each in prompt.ids])
        for ids, prompt in zip(found, facts.prompts, strict=True)
    )
    return [*checks, counted("tokenizer", "prompts", "prompts read otherwise", wrong)]


def _texts(pairs: Iterable[tuple[Any, Any]]) -> list[str]:
    return [
        f"{str(found)[:60]!r}, expected {str(expected)[:60]!r}"
        for found, expected in pairs
        if found != expected
    ]
