"""Florence-2's weights have two namings: the original remote code's, and transformers' own.

Both become one here: transformers' names without their leading `model.`. The table is that of
transformers' conversion script, `convert_florence2_original_pytorch_to_hf.py`.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

VISION = ("vision_tower.", "multi_modal_projector.")
"""beginnings of the names of the vision tower and its projection"""
LANGUAGE = "language_model."
"""beginning of the names of the multimodal encoder and decoder"""
SHARED = f"{LANGUAGE}shared.weight"
"""the table of words, which three modules share"""
PROJECTION = "image_projection"
"""the original's bare matrix (in, out); a linear layer's weight is (out, in)"""

_RULES = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"^model\.", ""),
        (rf"^{PROJECTION}$", "multi_modal_projector.image_projection.weight"),
        (r"^image_pos_embed\.", "multi_modal_projector.image_position_embed."),
        (r"^(image_proj_norm|visual_temporal_embed)\.", r"multi_modal_projector.\1."),
        (r"^language_model\.model\.", LANGUAGE),
        (r"^language_model\.(lm_head|final_logits_bias)", r"\1"),
        (r"^(vision_tower\.convs\.\d+)\.proj\.", r"\1.conv."),
        (r"\.(conv[12])\.fn\.dw\.", r".\1."),
        (r"\.(?:window|channel)_attn\.norm\.", ".norm1."),
        (r"\.(window|channel)_attn\.fn\.", r".\1_attn."),
        (r"\.ffn\.norm\.", ".norm2."),
        (r"\.ffn\.fn\.net\.", ".ffn."),
    )
)

_TABLES = (
    SHARED,
    f"{LANGUAGE}encoder.embed_tokens.weight",
    f"{LANGUAGE}decoder.embed_tokens.weight",
)

_UNUSED = (
    ("lm_head.", "words are the head's affair; Florence-2's own output layer is not on the way"),
    ("final_logits_bias", "it is added to words' scores, which nobody asks for"),
    ("vision_tower.norms.", "the classifier of DaViT, which Florence-2 itself drops"),
    ("vision_tower.head.", "the classifier of DaViT, which Florence-2 itself drops"),
)


def native_name(name: str) -> str:
    """The one name of a weight, from either naming."""
    for pattern, new in _RULES:
        name = pattern.sub(new, name)
    return name


def unused(name: str) -> str | None:
    """Why a weight, by its native name, is not on the way from pictures to caption embeddings."""
    return next((reason for start, reason in _UNUSED if name.startswith(start)), None)


def to_native(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of either naming under native names, those that are unused left out."""
    native: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        new = native_name(name)
        if unused(new) is None:
            native[new] = tensor.T if name.endswith(PROJECTION) else tensor
    if (table := only_table(tensors)) is not None:
        native[SHARED] = tensors[table]
    return native


def only_table(names: Iterable[str]) -> str | None:
    """The output layer's name, of either naming, where it stands for the table of words.

    Both are one tensor; safetensors holds it once, and writers differ in the name that they keep.
    """
    named = {native_name(name): name for name in names}
    return None if any(name in named for name in _TABLES) else named.get("lm_head.weight")
