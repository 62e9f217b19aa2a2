"""Published weights into a tower that may be shorter than the model they belong to."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging as library

from vlv_core.errors import ModelError
from vlv_plugins import _hub

# Of whole models: the text tower, projections and heads; and masks, which pretraining alone used.
_ELSEWHERE = re.compile(
    r"(^|\.)(text_model|text_projection|visual_projection|logit_scale|logit_bias|classifier"
    r"|pooler|head|mask_token|embeddings\.position_ids|rope_embeddings)(\.|$)"
)
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
_WHERE = "vision tower"


def load_tower(tower: PreTrainedModel, folder: Path, *, whole_depth: int) -> set[str]:
    """Fill the tower from model.safetensors or its shards; answers the names that were filled.

    Weights of layers that the tower does not have, below `whole_depth`, are left aside. Raises
    ModelError for names that are missing or left over, and for other shapes.
    """
    tensors = _of_tower(_hub.read_weights(folder, "model"), tower, whole_depth)
    return _hub.fill(tower, _renamed(tower, tensors), where=_WHERE)


def _of_tower(
    tensors: dict[str, Tensor], tower: PreTrainedModel, whole_depth: int
) -> dict[str, Tensor]:
    depth = int(tower.config.num_hidden_layers)
    kept = {name: tensor for name, tensor in tensors.items() if not _ELSEWHERE.search(name)}
    layer_of = {name: int(m[1]) for name in kept if (m := _LAYER.search(name))}
    found = max(layer_of.values(), default=-1) + 1
    if found != whole_depth:
        raise ModelError(
            f"{_WHERE}: the weights have {found} layers, but the configuration {whole_depth}",
            hint="is this the model whose configuration the recipe names?",
        )
    return {name: tensor for name, tensor in kept.items() if layer_of.get(name, 0) < depth}


def _renamed(tower: PreTrainedModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By the library's own loader: published names are older than those of its modules."""
    with _quiet():
        try:
            loaded, info = _loaded(tower, tensors)
        except RuntimeError as error:
            raise ModelError(f"{_WHERE}: the weights do not fit: {error}") from error
    left_over = set(info["unexpected_keys"])
    ours, missing = set(tower.state_dict()), set(info["missing_keys"])
    state: dict[str, Tensor] = loaded.state_dict()
    filled = {name: tensor for name, tensor in state.items() if name in ours - missing}
    # `fill` reports both kinds, under the library's names.
    return {**filled, **{name: tensors.get(name, _any(tensors)) for name in left_over}}


def _loaded(tower: PreTrainedModel, tensors: dict[str, Tensor]) -> Any:
    """The model, and what was missing or unexpected."""
    return type(tower).from_pretrained(
        None, config=deepcopy(tower.config), state_dict=tensors, output_loading_info=True
    )


def _any(tensors: dict[str, Tensor]) -> Tensor:
    return next(iter(tensors.values()))


@contextmanager
def _quiet() -> Iterator[None]:
    """A training has its own display, and what is missing or left over is our error to raise."""
    bar, verbosity = library.is_progress_bar_enabled(), library.get_verbosity()
    library.disable_progress_bar()
    library.set_verbosity(library.CRITICAL)
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
        if bar:
            library.enable_progress_bar()
