"""Pretrain the bundled text-to-image model on captioned scenes.

    python -m vlv_plugins.mini.pretrain recipes/pretrain-s.toml -o runs/pretrain-s

First the VAE, then text encoder and denoiser together; both are frozen ever after. Interrupted,
the same command with --resume continues. OUT/decoder then holds the two parts,
for a recipe's `weights`.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from vlv_core.config import convert, to_dict
from vlv_core.plugins import load_plugins
from vlv_core.specs import Near, View, resolve
from vlv_plugins.mini.config import T2iConfig


@dataclass(frozen=True)
class PretrainRecipe:
    """What `recipes/pretrain-*.toml` may say."""

    seed: int
    data: dict[str, Any]
    """options of the `scenes` dataset"""
    vae: dict[str, Any]
    """training options"""
    t2i: dict[str, Any]
    """training options"""
    latents: int = 200_000
    """captioned pictures that the denoiser sees again and again"""
    decoder: T2iConfig = field(default_factory=T2iConfig)


@click.command()
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Run folder.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
def main(recipe: Path, out: Path, resume: bool) -> None:
    """Pretrain the decoder that RECIPE describes."""
    data = tomllib.loads(recipe.read_text())
    pretrain(convert(PretrainRecipe, data, str(recipe)), out=out, resume=resume)


def pretrain(recipe: PretrainRecipe, *, out: Path, resume: bool) -> None:
    """Run both trainings and write OUT/decoder. Raises Abort if a signal stopped one of them."""
    import torch

    from vlv_plugins.mini import _condition, _diffusion
    from vlv_plugins.mini._latents import latent_means, standardise
    from vlv_plugins.mini._tasks import DenoiserTask, VaeTask

    torch.manual_seed(recipe.seed)
    condition = _condition.build(recipe.decoder, Near())
    diffusion = _diffusion.build(recipe.decoder, Near())
    dataset = _open_scenes(recipe.data)
    out.mkdir(parents=True, exist_ok=True)
    condition.tokenizer = _tokenizer(dataset, vocab_size=recipe.decoder.vocab_size)

    _train(VaeTask(diffusion, dataset, seed=recipe.seed), recipe, out=out, resume=resume)
    means = latent_means(diffusion, dataset, count=recipe.latents, path=out / "latents.npy")
    standardise(diffusion, means)
    task = DenoiserTask(condition, diffusion, dataset, means, seed=recipe.seed)
    _train(task, recipe, out=out, resume=resume)
    _save(out / "decoder", recipe=recipe, condition=condition, diffusion=diffusion)


def _train(task: Any, recipe: PretrainRecipe, *, out: Path, resume: bool) -> None:
    from vlv_core.training.charts import draw_curve
    from vlv_core.training.log import read
    from vlv_core.training.loop import train
    from vlv_core.training.options import TrainOptions

    table: dict[str, Any] = {"seed": recipe.seed, **getattr(recipe, task.name)}
    folder = out / task.name
    result = train(
        task,
        convert(TrainOptions, table, task.name),
        out=folder,
        resume=resume,
        identity={**table, "data": recipe.data, "decoder": to_dict(recipe.decoder)},
        progress=click.echo,
    )
    draw_curve(read(folder / "metrics.jsonl"), folder / "loss.png", title=task.name)
    if not result.complete:
        click.echo(f"stopped at step {result.step} of {task.name}; --resume goes on from there")
        raise click.Abort


def _open_scenes(options: dict[str, Any]) -> Any:
    spec = load_plugins().get("dataset", "scenes").spec
    return resolve(spec.open)(convert(spec.config, options, "data"), Path())


def _tokenizer(dataset: Any, *, vocab_size: int) -> Any:
    from vlv_plugins.mini._tokenizer import train_tokenizer

    return train_tokenizer(dataset.captions(range(20_000)), vocab_size=vocab_size)


def _save(folder: Path, *, recipe: PretrainRecipe, condition: Any, diffusion: Any) -> None:
    from vlv_core.compose import Choice
    from vlv_core.model_folder import save_parts

    spec = load_plugins().get("decoder", "mini-t2i").spec
    save_parts(
        {"condition": condition, "diffusion": diffusion},
        folder,
        choices={"decoder": Choice(spec, recipe.decoder)},
        view=View(size=64),
        said={"name": "mini-t2i", "licence": "Apache-2.0"},
    )


if __name__ == "__main__":
    main()
