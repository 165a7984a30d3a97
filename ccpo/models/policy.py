"""Policies: load, adapt, save, forward; and checkpoints that are complete or not there."""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache

from ccpo.config import Lora, RunConfig
from ccpo.play.engine import attention, head
from ccpo.play.engine.batching import token_mask
from ccpo.play.engine.prefix import SharedPrefixes, prefill
from ccpo.play.prompts import ChatFormat
from ccpo.ranks import device
from ccpo.schema import check_manifest, new_folder, sha256, write_json

KEPT = 2  # checkpoints of a run


def starts(run: RunConfig, model: Path | Sequence[Path]) -> list[Path]:
    """The folders of a run's models: one for all agents, or one for each.

    Raises:
        ValueError: their number is not that of the run's models.
    """
    folders = [model] if isinstance(model, Path) else list(model)
    if len(folders) != len(run.models):
        names = ", ".join(m.name for m in run.models)
        raise ValueError(
            f"{len(folders)} model folder(s) given, the run starts with {names}. Remedy: one "
            "folder for each, in this order."
        )
    return folders


def load(
    folder: str | Path, dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a Hugging Face folder.

    Raises:
        ValueError: the folder is not there, is not what its manifest says, holds no model that
            transformers can load, or one whose prompts cannot be shared.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    if device() == "cpu":
        _reuse_memory()
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"model folder {folder} has no config.json. Remedy: run the rule that makes it "
            f"(snakemake {folder})."
        )
    check_manifest(folder)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True
        )
        model = model.to(device())
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"model folder {folder} cannot be loaded: {error}. Remedy: try once more; if it "
            "says the same, move the folder away and run snakemake again, which makes it anew."
        ) from None
    attention.prepare(model)
    switch_off_dropout(model)
    return model, tokenizer


def load_reader(
    folder: Path, dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, bool]:
    """Body and tokenizer of a Hugging Face folder for a critic, of a model that speaks or of one
    that only reads, and whether it reads from left to right alone.

    Raises:
        ValueError: as `load`.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.utils import logging

    if not (folder / "config.json").is_file():
        raise ValueError(
            f"model folder {folder} has no config.json. Remedy: run the rule that makes it "
            f"(snakemake {folder})."
        )
    check_manifest(folder)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # that a body leaves its head behind
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        body: Any = AutoModel.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"model folder {folder} cannot be loaded: {error}") from None
    finally:
        logging.set_verbosity(verbosity)
    switch_off_dropout(body)
    causal = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not _masked(config)
    return body.to(device()), tokenizer, causal


def _masked(config: Any) -> bool:
    """Whether a model was made to fill in masked words, whatever else its family can do."""
    return any("MaskedLM" in name for name in config.architectures or ())


def switch_off_dropout(model: torch.nn.Module) -> list[str]:
    """Sets every dropout of a model to 0, whatever it is called, in its modules and in their
    configuration; the names of those that were not. An importance ratio compares one function with
    itself.
    """
    switched = set()
    for module in model.modules():
        if isinstance(module, _DropoutNd) and module.p:
            module.p = 0.0
            switched.add(type(module).__name__)
        for holder in (module, getattr(module, "config", None)):
            for name, value in list(getattr(holder, "__dict__", {}).items()):
                if "drop" in name and isinstance(value, float) and value > 0:
                    setattr(holder, name, 0.0)
                    switched.add(name)
    return sorted(switched)


@functools.cache
def _reuse_memory() -> None:
    """Makes glibc, where there is one, keep what is freed: else large tensors are new pages each
    time, and the kernel's zeroing of these is a fifth of an update of SmolLM2-135M
    (https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html).
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        trim_threshold = -1
        mmap_max = -4
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_max, 0)


def save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, folder: str | Path
) -> None:
    """Writes a plain Hugging Face folder, complete or not at all; of a model with adapters the
    active adapter alone, in peft's form.
    """
    with new_folder(folder) as temporary:
        # nothing wraps it; to look for a wrapper, accelerate would import all of DeepSpeed, which
        # takes seconds of every run
        with patch("transformers.modeling_utils.unwrap_model", lambda model, **_: model):
            model.save_pretrained(temporary)
        if tokenizer:
            tokenizer.save_pretrained(temporary)


def adapt(model: PreTrainedModel, lora: Lora, names: Sequence[str], seed: Sequence[int]) -> None:
    """Freezes a model and lays adapters beside all its linear layers but the last; each starts as
    nothing, with directions of its own.
    """
    from peft import LoraConfig
    from peft.functional import cast_adapter_dtype

    for place, name in enumerate(names):
        config = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            torch.manual_seed(int(np.random.SeedSequence([*seed, place]).generate_state(1)[0]))
            model.add_adapter(config, name)
        # float32 beside weights of any kind: small steps would be lost in bfloat16
        cast_adapter_dtype(model, name)
        # from a set, it would be written in another order each time
        config.target_modules = _target_modules(model, name)


def _target_modules(model: Any, adapter: str) -> list[str]:
    """The modules that an adapter is laid beside."""
    return sorted(model.peft_config[adapter].target_modules)


def set_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The model, which from now on computes with that adapter and takes gradients for it alone ("":
    it has no adapters).
    """
    if adapter:
        from peft.functional import set_adapter as peft_set_adapter

        peft_set_adapter(model, adapter)
    return model


@contextmanager
def without_adapters(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """Inside, a model with adapters computes without them, as it did before training; any other
    model as it is.
    """
    adapted = bool(getattr(model, "peft_config", None))
    if adapted:
        model.disable_adapters()
    try:
        yield model
    finally:
        if adapted:
            model.enable_adapters()


def merge_adapter(folder: Path, adapter: Path, dtype: str) -> PreTrainedModel:
    """The model of a folder with an adapter's product added to its weights: a plain model again."""
    from peft import PeftModel

    adapted: Any = PeftModel.from_pretrained(load(folder, dtype)[0], adapter)
    merged: PreTrainedModel = adapted.merge_and_unload()
    return merged


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The weights that training moves, by name: all, or the active adapter's."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids that end a message: those of the folder, and the mark with which the template ends
    one, which a base model's folder does not name.
    """
    configured = model.generation_config.eos_token_id
    ids = {
        tokenizer.eos_token_id,
        ChatFormat(tokenizer).end_id,
        *(configured if isinstance(configured, list) else [configured]),
    }
    return sorted(i for i in ids if i is not None)


class TokenLogprobs(NamedTuple):
    """Of S completions of at most T tokens, all [S, T]: log-probs of the tokens, the mask of what
    is a token, and the entropy of the distribution that each was drawn from.
    """

    logprobs: torch.Tensor
    mask: torch.Tensor
    entropy: torch.Tensor


def completion_logprobs(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    temperature: float,
    shared: SharedPrefixes | None = None,
    entropy_gradient: bool = False,
) -> TokenLogprobs:
    """Log-probs of the completions' tokens at a temperature, and entropies (with their gradient if
    asked for).

    What prompts begin with in common is computed once where `shared` says so; logits are computed
    at the completions' positions only.
    """
    device = model.device
    lengths = torch.tensor([len(c) for c in completions], device=device)
    starts = torch.tensor([len(p) for p in prompts], device=device)
    mask = token_mask(lengths, max(map(len, completions)))
    row, offset = mask.nonzero(as_tuple=True)
    # nothing follows the last token
    rows = [p + c[:-1] for p, c in zip(prompts, completions, strict=True)]
    cache = DynamicCache(config=model.config) if shared else None
    prefilled = prefill(model, rows, shared, cache)
    hidden = prefilled.hidden[row, (starts - prefilled.start)[row] + offset - 1]
    logits = head.logits(model, hidden).float()
    # at temperature 1 undivided, which saves a copy of all logits
    full = torch.log_softmax(logits if temperature == 1 else logits / temperature, -1)
    tokens = torch.tensor([token for c in completions for token in c], device=device)
    logprobs = full.new_zeros(mask.shape)
    logprobs[row, offset] = full.gather(1, tokens[:, None]).squeeze(1)
    entropy = full.new_zeros(mask.shape)
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        entropy[row, offset] = -(full.exp() * full).sum(-1)
    return TokenLogprobs(logprobs, mask, entropy)


def _save_object(path: Path, value: object) -> None:
    """torch.save, flushed to the disk; a full disk is called so."""
    with open(path, "wb") as handle:
        try:
            torch.save(value, handle)
        except RuntimeError:  # how torch reports that a write failed, without the reason
            if shutil.disk_usage(path.parent).free < 1 << 20:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
            raise
        handle.flush()
        os.fsync(handle.fileno())


def write_checkpoint(scratch: Path, step: int, files: dict[str, Any]) -> None:
    """Saves objects (torch.save for anything but JSON-ready `state`) as scratch/step-N, verified,
    flushed, renamed; keeps the last two.
    """
    with new_folder(scratch / f"step-{step:08d}") as temporary:
        for name, value in files.items():
            _save_object(temporary / name, value)
        manifest = {name: sha256(temporary / name) for name in sorted(files)}
        write_json(temporary / "MANIFEST.json", manifest)
    for old in sorted(scratch.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def read_checkpoint(scratch: Path) -> dict[str, Any] | None:
    """The newest checkpoint of a run, or None. Tensors are mapped from its files: copy what shall
    live on.

    Raises:
        ValueError: it is damaged; the message says which file, and how to go on from the one
            before.
    """
    checkpoints = sorted(scratch.glob("step-*"))
    if not checkpoints:
        return None
    newest = checkpoints[-1]
    try:
        manifest = json.loads((newest / "MANIFEST.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"checkpoint {newest} has no readable manifest ({error}). Remedy: delete that folder "
            "to go on without it."
        ) from None
    for name, want in manifest.items():
        have = sha256(newest / name) if (newest / name).is_file() else "missing"
        if have != want:
            older = checkpoints[:-1]
            way_on = f"go on from {older[-1].name}" if older else "start anew"
            raise ValueError(
                f"checkpoint {newest} is damaged: {name} has sha256 {have[:9]}, saved was "
                f"{want[:9]}. Remedy: delete that folder to {way_on}."
            )
    return {
        name: torch.load(newest / name, weights_only=True, map_location="cpu", mmap=True)
        for name in manifest
    }
