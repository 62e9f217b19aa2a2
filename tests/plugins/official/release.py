"""A tiny release of our own making: random library models under the official release's names.

The names are put on by hand, in the direction that the importer does not know; and what the model
should answer is computed by the libraries' own models alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.plugins.florence2.tiny_florence import (
    PROMPT_IDS,
    SIZE,
    TEXT,
    original_state,
    tiny_model,
    write_original,
)
from tests.plugins.stable_diffusion.tiny import VIEW, publish, shaken
from vlv_plugins._hub import byte_tokenizer

QUERIES, PHI, PSI = 6, 20, 28
WIDTH = 32
"""of the text encoder"""
WORDS = 300
"""the language model's vocabulary; 256 ends a text"""
LANGUAGE_MODEL: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 40,
    "intermediate_size": 36,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 256,
}


@dataclass(frozen=True)
class Release:
    """The checkpoint's tensors, the folders it was made from, and the models themselves."""

    state: dict[str, Tensor]
    """stage 2, with U-Net and VAE"""
    models: Path
    florence: Any
    pipe: Any
    lm: Any
    queries: Tensor
    phi: nn.Sequential
    psi: nn.Sequential

    def stage1(self) -> dict[str, Tensor]:
        start = "VLV_model."
        return {k.removeprefix(start): t for k, t in self.state.items() if k.startswith(start)}

    def without(self, *starts: str) -> dict[str, Tensor]:
        return {name: t for name, t in self.state.items() if not name.startswith(starts)}

    @torch.no_grad()
    def answers(self, views: Tensor) -> Mapping[str, Tensor]:
        """What views uint8 (B, S, S, 3) become, by the libraries."""
        pixels = processed(views)
        tokens = self.florence.get_image_features(pixels).pooler_output
        prompt = self.florence.get_input_embeddings()(torch.tensor([PROMPT_IDS]))
        hidden = self.florence.model.language_model(
            inputs_embeds=torch.cat([tokens, prompt.expand(len(views), -1, -1)], dim=1),
            decoder_inputs_embeds=self.queries.expand(len(views), -1, -1),
        ).last_hidden_state
        z = self.phi(hidden)
        context = self.read_z(z)
        prefix = self.psi(context)
        pictures = 2 * (views.permute(0, 3, 1, 2).contiguous() / 255) - 1
        return {
            "pixels": pixels,
            "decoder_hidden": hidden,
            "z": z,
            "context": context,
            "prefix": prefix,
            "last_logits": self.lm(inputs_embeds=prefix).logits[:, -1],
            "greedy": self.write(prefix, beams=1),
            "beam4": self.write(prefix, beams=4),
            "vae_mean": self.pipe.vae.encode(pictures).latent_dist.mean,
        }

    def read_z(self, z: Tensor) -> Tensor:
        """The text encoder's output, its token table made to answer with z."""
        encoder = self.pipe.text_encoder
        tables = [m for n, m in encoder.named_modules() if n.endswith("token_embedding")]
        handle = tables[0].register_forward_hook(lambda *_: z)
        try:
            found: Tensor = encoder(torch.zeros(z.shape[:2], dtype=torch.int64)).last_hidden_state
        finally:
            handle.remove()
        return found

    def write(self, prefix: Tensor, *, beams: int) -> Tensor:
        written: Tensor = self.lm.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(prefix.shape[:2], dtype=torch.int64),
            max_new_tokens=8,
            do_sample=False,
            num_beams=beams,
            early_stopping=beams > 1,
            pad_token_id=256,
        )
        return written


def make_release(folder: Path) -> Release:
    """Everything random, by fixed seeds; the folders are those of the three published models."""
    florence = tiny_model()
    write_original(florence, folder / "florence2")
    pipe = publish("stable-diffusion", folder / "sd").pipe
    torch.manual_seed(11)
    lm = shaken(Qwen2ForCausalLM(Qwen2Config(**LANGUAGE_MODEL)))
    lm.save_pretrained(folder / "llm")
    byte_tokenizer().save(str(folder / "llm" / "tokenizer.json"))
    write_prompt(folder / "florence2")
    width = TEXT["d_model"]
    queries = torch.randn(1, QUERIES, width)
    phi = nn.Sequential(nn.Linear(width, PHI), nn.GELU(), nn.Linear(PHI, WIDTH))
    psi = nn.Sequential(nn.Linear(WIDTH, PSI), nn.GELU(), nn.Linear(PSI, 40))
    state = {f"qwen2_model.{n}": t for n, t in lm.state_dict().items()}
    state |= {f"mlp.layers.{n}": t for n, t in psi.state_dict().items()}
    body = {f"model.{n}": t for n, t in original_state(florence).items()}
    body |= {f"text_encoder.{clip(n)}": t for n, t in pipe.text_encoder.state_dict().items()}
    body |= {f"language_proj.{n}": t for n, t in phi.state_dict().items()}
    body |= {f"unet.{n}": t for n, t in pipe.unet.state_dict().items()}
    body |= {f"vae.{n}": t for n, t in pipe.vae.state_dict().items()}
    body["query_embed"] = queries
    state |= {f"VLV_model.{n}": t for n, t in body.items()}
    return Release(state, folder, florence, pipe, lm, queries, phi, psi)


def clip(name: str) -> str:
    """The release's version of transformers has the common prefix, newer ones may not."""
    return name if name.startswith("text_model.") else f"text_model.{name}"


def write_prompt(folder: Path) -> None:
    """A tokenizer that splits the task prompt in three, so that its tokens are PROMPT_IDS."""
    words = {
        "<unk>": 3,
        "Describe with a": 17,
        " paragraph what is": 18,
        " shown in the image.": 19,
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    pattern = Regex(r"(?<=with a)(?= )|(?<=is)(?= )")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))


def processed(views: Tensor) -> Tensor:
    """By the class that Florence-2's processor names."""
    processor = CLIPImageProcessorPil(
        do_center_crop=False,
        size={"height": SIZE, "width": SIZE},
        resample=3,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    pictures = [Image.fromarray(view.numpy()) for view in views]
    return torch.from_numpy(np.stack(processor(pictures, return_tensors="np")["pixel_values"]))


def random_views(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randint(0, 256, (count, VIEW, VIEW, 3), generator=generator, dtype=torch.uint8)
