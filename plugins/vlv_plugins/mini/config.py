"""Options of the bundled small parts. Defaults are the sizes of the bundled model (size S)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VitConfig:
    """`mini-vit`: a plain vision transformer."""

    patch: int = 8
    """pixels"""
    width: int = 160
    depth: int = 5
    heads: int = 5


@dataclass(frozen=True)
class T2iConfig:
    """`mini-t2i`: a causal text encoder, a small VAE, and a diffusion transformer."""

    vocab_size: int = 512
    text_width: int = 128
    text_depth: int = 2
    text_heads: int = 4
    text_length: int = 77
    """longest input of the text encoder, tokens"""
    vae_width: int = 96
    latent_channels: int = 8
    """channels of the 8 x 8 latent of a 64 x 64 view"""
    width: int = 192
    depth: int = 6
    heads: int = 6
    patch: int = 2
    """latent pixels"""


@dataclass(frozen=True)
class LmConfig:
    """`mini-lm`: a small decoder-only language model in the shape of Llama."""

    vocab_size: int = 512
    width: int = 128
    depth: int = 4
    heads: int = 4
    hidden: int = 384
    """width of the gated MLP's hidden layer"""
    max_length: int = 160
    """longest prefix + caption, tokens"""
