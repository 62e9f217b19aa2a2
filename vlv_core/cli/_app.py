"""`vlv` and its table of subcommands. Each module below holds one, as `command`."""

import sys

import click

from vlv_core.console import Lazy, LazyGroup, run

TABLE = {
    "plugins": Lazy("vlv_core.cli.plugins", "List every component, dataset and model found."),
    "demo": Lazy("vlv_core.cli.demo", "Caption and redraw a few pictures of the bundled world."),
    "caption": Lazy("vlv_core.cli.caption", "Caption pictures, from one to millions."),
    "reconstruct": Lazy("vlv_core.cli.reconstruct", "Draw pictures again from their embeddings."),
    "train": Lazy("vlv_core.cli.train", "Train a recipe's stages into a model folder."),
    "eval": Lazy("vlv_core.cli.eval", "Measure a model."),
    "serve": Lazy("vlv_core.cli.serve", "Caption pictures over HTTP, as OpenAI's clients ask."),
    "import": Lazy("vlv_core.cli.import_", "Turn a foreign checkpoint into a model folder."),
}

HELP = """\
Train an image captioner from interchangeable pretrained parts, and use it.

Exit codes: 0 done; 1 a failure of vlv; 2 wrong usage or input; 3 inconclusive; 4 finished, but
some inputs failed; 5 made, but not proved.
"""

EXAMPLES = """\
\b
Examples:
  vlv demo
  vlv caption picture.png
  vlv train recipe.toml --set stage1.lr=1e-4
  vlv plugins --plugin ./my_encoder.py
"""

app: click.Group = click.version_option(package_name="vlv", message="%(prog)s %(version)s")(
    LazyGroup(name="vlv", help=HELP, epilog=EXAMPLES, table=TABLE)
)


def main() -> None:
    """Entry point of the command `vlv`."""
    sys.exit(run(app, name="vlv"))
