"""Train the oracle of a world: `python -m vlv_plugins.scenes.train_oracle --world S`.

The bundled one of world S was made by the defaults. Interrupted, --resume continues.
"""

from pathlib import Path

import click

from vlv_plugins.scenes.world import WORLDS, World


@click.command()
@click.option("--world", type=click.Choice(tuple(WORLDS)), default="S", show_default=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Default: the bundled file.")
@click.option("--run", type=click.Path(path_type=Path), help="Default: runs/oracle-WORLD.")
@click.option("--steps", default=4000, show_default=True, help="Updates.")
@click.option("--batch", default=64, show_default=True, help="Pictures an update.")
@click.option("--seed", default=0, show_default=True)
@click.option("--checked", default=2000, show_default=True, help="iid scenes to measure it on.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
def main(
    *,
    world: str,
    out: Path | None,
    run: Path | None,
    steps: int,
    batch: int,
    seed: int,
    checked: int,
    resume: bool,
) -> None:
    """Train an oracle on softened renders of a world and say how well it reads clean ones."""
    from vlv_plugins.scenes._oracle import bundled

    chosen = WORLDS[world]
    run = run or Path("runs") / f"oracle-{world.lower()}"
    out = out or bundled(chosen)
    if train_oracle(chosen, out=out, run=run, steps=steps, batch=batch, seed=seed, resume=resume):
        for name, value in attribute_accuracy(chosen, out=out, scenes=checked).items():
            click.echo(f"{name}: {value:.5f}")


def train_oracle(
    world: World, *, out: Path, run: Path, steps: int, batch: int, seed: int, resume: bool
) -> bool:
    """Train and write `out` (float16); False if a signal stopped it, to be resumed."""
    import torch
    from safetensors.torch import save

    from vlv_core.files import write_atomically
    from vlv_core.training.loop import train
    from vlv_core.training.options import TrainOptions
    from vlv_plugins.scenes._oracle import OracleNet, stamp
    from vlv_plugins.scenes._oracle_task import OracleTask

    torch.manual_seed(seed)
    net = OracleNet(world)
    options = TrainOptions(
        steps=steps,
        batch=batch,
        lr=2e-3,
        warmup_steps=min(100, steps - 1),
        ema=0.995,
        dtype="bfloat16",
        seed=seed,
        checkpoint_every=100,
        log_every=50,
    )
    identity = {"world": world.name, "steps": steps, "batch": batch, "seed": seed}
    task = OracleTask(net, world, seed=seed)
    result = train(task, options, out=run, resume=resume, identity=identity, progress=click.echo)
    if result.complete:
        weights = {key: tensor.half().contiguous() for key, tensor in net.state_dict().items()}
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, save(weights, metadata=stamp(world)))
    return result.complete


def attribute_accuracy(world: World, *, out: Path, scenes: int) -> dict[str, float]:
    """Shares of clean iid scenes' facts that the oracle at `out` reads right, by name."""
    from vlv_plugins.scenes._oracle import Oracle
    from vlv_plugins.scenes.estimates import aggregate
    from vlv_plugins.scenes.pictures import pictures
    from vlv_plugins.scenes.scoring import score
    from vlv_plugins.scenes.splits import scenes as draw

    indices = range(scenes)
    read = Oracle.load(world, path=out).read(pictures(world, "iid", indices))
    pairs = zip(read, draw(world, "iid", indices), strict=True)
    rates = aggregate([score(seen, true, "dense") for seen, true in pairs], seed=0, resamples=1)
    return {name: rate.value for name, rate in rates.items()}


if __name__ == "__main__":
    main()
