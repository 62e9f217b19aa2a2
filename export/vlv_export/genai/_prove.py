"""Parity of a package: the captions that the real wheel makes, against two others.

Against plain onnxruntime on the same graphs they must be the same whatever the precision: GenAI
reads the package as it is meant. Against the eager model they are judged as those of the variants
that our own runtime runs: by the limits of `parity.thresholds`.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import MissingExtra, ModelError
from vlv_export.genai.config import MAX_ROWS
from vlv_export.genai.placeholders import Placeholders
from vlv_export.golden import Golden, Said
from vlv_export.parity.figures import agreed
from vlv_export.parity.report import Check, Level, broken, judged
from vlv_export.parity.thresholds import Limits, limits_of

WHEEL = "onnxruntime_genai"
MISSING = "onnxruntime-genai is not installed"
PROGRAM = Path(__file__).with_name("_stock.py")
ALONE = 4
"""pictures that are captioned one by one as well"""
TIMEOUT_S = 3600

Tokens = list[list[int]]


@dataclass(frozen=True)
class Package:
    """A package on disk, as the stock program needs to know it."""

    folder: Path
    placeholders: Placeholders
    eos: tuple[int, ...]

    def said(
        self, pixels: NDArray[np.uint8], *, batch: int, length: int, words: Sequence[Any] = ()
    ) -> tuple[Tokens, list[str]]:
        """What the wheel says of pictures uint8 (N, S, S, 3), ends of text left out, and how the
        rows of tokens `words` read.

        Raises MissingExtra without the wheel, ModelError if it cannot run the package.
        """
        if find_spec(WHEEL) is None:
            raise MissingExtra(MISSING, extra="genai")
        with TemporaryDirectory() as work:
            np.save(Path(work) / "pixels.npy", pixels)
            (Path(work) / "words.json").write_text(json.dumps(words), encoding="utf-8")
            numbers = self.placeholders.pad, self.placeholders.count, batch, length
            _run([str(self.folder), work, *map(str, numbers)])
            data = json.loads((Path(work) / "said.json").read_text(encoding="utf-8"))
        return [self._caption(row) for row in data["tokens"]], data["words"]

    def _caption(self, row: list[int]) -> list[int]:
        ends = (index for index, token in enumerate(row) if token in self.eos)
        return row[: next(ends, len(row))]


def open_package(folder: Path) -> Package:
    """Raises ModelError if the folder is no package of ours."""
    path = folder / "genai_config.json"
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        placeholders = Placeholders(model["image_token_id"], model["vision"]["num_visual_tokens"])
        return Package(folder, placeholders, tuple(model["eos_token_id"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not what vlv-export writes: {error}") from error


def compare(folder: Path, *, dtype: str, golden: Golden) -> Level:
    """Level L3 of the package: its captions of the golden file's pictures."""
    if find_spec(WHEEL) is None:
        return Level(level="L3", state="not run", reason=MISSING)
    from vlv_export.genai._plain import Plain

    package, facts = open_package(folder), golden.facts
    pixels, length = golden.pixels, facts.max_new_tokens
    # GenAI ends a text where its bytes are none; other captions of words must read the same.
    read = [each for each in facts.words if "\ufffd" not in each.text]
    rows = [list(each.tokens) for each in read]
    try:
        batched, words = package.said(pixels, batch=MAX_ROWS, length=length, words=rows)
        alone, _ = package.said(pixels[:ALONE], batch=1, length=length)
    except ModelError as error:
        return broken("L3", str(error))
    plain = Plain(folder, package.placeholders)
    same = [
        tokens
        for start in range(0, len(pixels), MAX_ROWS)
        for tokens in plain.caption(
            pixels[start : start + MAX_ROWS], length=length, eos=package.eos
        )
    ]
    return judged(
        "L3",
        [
            _share("captions that plain onnxruntime makes of these graphs", batched, same),
            _share(
                "captions alone that are those in a batch",
                alone,
                batched[:ALONE],
                # Kernels of fewer bits round differently by batch, which a near-tie makes heard.
                least=1.0 if dtype == "fp32" else None,
            ),
            *_against_eager(batched, golden, limits=limits_of(dtype), eos=package.eos),
            _share("texts", words, [each.text for each in read]),
        ],
        notes=(f"{len(pixels)} pictures by the wheel itself",),
    )


def _against_eager(
    found: Tokens, golden: Golden, *, limits: Limits, eos: tuple[int, ...]
) -> list[Check]:
    """How many captions are the eager model's, and how many part from it where it was decided."""
    facts = golden.facts
    heard = [_as_far(tokens, said) for tokens, said in zip(found, facts.greedy, strict=True)]
    eager = [list(said.tokens) for said in facts.greedy]
    parted = [
        row
        for row, tokens in enumerate(heard)
        if tokens != eager[row]
        and not _undecided(golden, row, [*tokens, eos[0]], tie=limits.near_tie)
    ]
    return [
        _share("captions of the eager model", heard, eager, least=None),
        Check(
            part="package",
            output="tokens",
            figure="captions that part from the eager model's without a near-tie, share",
            value=len(parted) / max(len(heard), 1),
            most=None if facts.random_weights else limits.unexplained,
            worst=f"row {parted[0]}" if parted else "",
        ),
    ]


def _undecided(golden: Golden, row: int, tokens: list[int], *, tie: float) -> bool:
    """Whether a caption, its end included, leaves the eager model's by a token that was there as
    good as the best."""
    ids, chances = golden.teacher(row)
    place = agreed(tokens, golden.facts.greedy[row].tokens)
    if place >= min(len(ids), len(tokens)):
        return False
    (column,) = np.nonzero(ids[place] == tokens[place])
    return bool(column.size and chances[place, 0] - chances[place, column[0]] < tie)


def _as_far(tokens: list[int], said: Said) -> list[int]:
    """Of a caption that our loop ended because it repeated itself, which GenAI's does not notice,
    the part that both said."""
    return tokens[: len(said.tokens)] if said.finish_reason == "repetition" else tokens


def _share(
    figure: str, found: Sequence[Any], expected: Sequence[Any], *, least: float | None = 1.0
) -> Check:
    """How many of the expected were found, as a share."""
    pairs = list(zip(found, expected, strict=True))
    wrong = [index for index, (left, right) in enumerate(pairs) if left != right]
    return Check(
        part="package",
        output="tokens",
        figure=figure,
        value=1.0 - len(wrong) / max(len(pairs), 1),
        least=least,
        worst=f"row {wrong[0]}" if wrong else "",
    )


def _run(arguments: Sequence[str]) -> None:
    """Raises ModelError with the wheel's last words."""
    command = [sys.executable, "-P", str(PROGRAM), *arguments]
    try:
        ended = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"ONNX Runtime GenAI took more than {TIMEOUT_S} s") from None
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        raise ModelError(
            f"ONNX Runtime GenAI cannot run the package: {lines[-1] if lines else ended.returncode}"
        )
