"""What the recipes of real models need, as a dry run without downloads says: docs/recipes.md."""

import sys
from pathlib import Path

from vlv_core.cli.train import command
from vlv_core.plugins import load_plugins
from vlv_core.recipe import load_recipe
from vlv_core.training.plan import inference_bytes, plan
from vlv_core.training.start import outline

ROOT = Path(__file__).parents[1]
RECIPES = ("vlv-paper", "vlv-paper-small", "siglip2-sdxl", "dinov2-flow", "smollm2")
RATE = 1e12 * next(option.default for option in command.params if option.name == "tflops")
"""operations a second"""
GIB = 2**30


def main() -> None:
    plugins = load_plugins(third_party=False)
    heading = ("recipe", "parameters", "captioning", "stage", "samples", "learn")
    rows = [(*heading, "memory", "activations", "GPU hours")]
    for name in RECIPES:
        recipe = load_recipe(ROOT / "recipes" / f"{name}.toml")
        model = outline(recipe, plugins=plugins, root=ROOT / "recipes", fetching=False).model
        numbers = sum(p.numel() for p in model.parameters())
        sizes = inference_bytes(model)
        first = (f"[{name}](../recipes/{name}.toml)", f"{numbers / 1e9:.2f} B")
        first += (f"{(sum(sizes.values()) - sizes['diffusion']) / GIB:.1f} GiB",)
        for number, stage in ((1, recipe.stage1), (2, recipe.stage2)):
            assert stage is not None
            cost = plan(model, stage, number)
            trained = sum(part.gradients for part in cost.parts.values()) / 4
            held = cost.memory - cost.activations
            rows.append(
                (
                    *first,
                    str(number),
                    f"{cost.samples / 1e6:.1f} M",
                    f"{trained / 1e6:,.0f} M",
                    f"{held / GIB:.0f} GiB",
                    f"{cost.activations / GIB:.0f} GiB",
                    f"{cost.gpu_hours(RATE):,.0f}",
                )
            )
            first = ("", "", "")
    rows.insert(1, ("---",) * len(rows[0]))
    for row in rows:
        sys.stdout.write(f"| {' | '.join(row)} |\n")


if __name__ == "__main__":
    main()
