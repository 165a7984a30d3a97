"""Base models that git keeps: made by one rule, pinned by their bytes, compared with it anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ccpo import schema
from ccpo.config import Model, Pin, Replicated, WarmStart, near, read_listed
from ccpo.models.prepare import prepare, solo_accuracy

FOLDER = "base_models"
PINS = "pins.json"


def named(names: Sequence[str], config: Path = Path("config")) -> list[str]:
    """Those names of models that are warm-started, or all of models.yaml where none is given.

    Raises:
        ValueError: a name is not in models.yaml, or is that of a model from elsewhere.
    """
    listed = read_listed(config)
    built = [name for name, model in listed.items() if isinstance(model.spec, Replicated)]
    for name in names:
        if name not in listed:
            raise ValueError(f"model '{name}' is not in models.yaml. {near(name, built)}")
        if name not in built:
            source = listed[name].spec.source
            raise ValueError(
                f"model {name} has the source {source}, which pins it by itself. Only models of "
                f"source warm_start are made here: {', '.join(built)}"
            )
    return list(names) or built


def pin(
    names: Sequence[str],
    config: Path = Path("config"),
    slots: int = 1,
    say: Callable[[str], None] = print,
) -> None:
    """Makes all replicas of some models, then replaces what config/base_models holds of them.

    Raises:
        ValueError: a name is no warm-started model, or a replica cannot be made.
    """
    listed = read_listed(config)
    kept = config / FOLDER
    chosen = {name: listed[name].unpinned() for name in named(names, config)}
    pins = {name: model.pins for name, model in listed.items() if model.pins}
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        for line in _built([m for models in chosen.values() for m in models], made, slots):
            say(line)
        for name, models in chosen.items():
            shutil.rmtree(kept / name, ignore_errors=True)
            # beside the folders: pins.json has the recipe and the hash of each
            unkept = shutil.ignore_patterns("*.manifest.json", "*.passport.json", "code-*.patch")
            shutil.copytree(made / name, kept / name, ignore=unkept)
            pins[name] = {spec.seed: _pin_of(spec, made / m.base) for m, spec in _recipes(models)}
    raw = {}
    for name in sorted(pins):
        raw[name] = {str(seed): one.model_dump() for seed, one in sorted(pins[name].items())}
    schema.write_json(kept / PINS, raw)


def compare(
    names: Sequence[str],
    config: Path = Path("config"),
    slots: int = 1,
    say: Callable[[str], None] = print,
) -> None:
    """Makes all replicas of some models anew, and says of each how it differs from the pinned one.

    Raises:
        ValueError: as `pin`; or a model is not pinned, its pin is stale, its folder damaged.
    """
    listed = read_listed(config)
    chosen = [m for name in named(names, config) for m in listed[name].replicas]
    for model, spec in _recipes(chosen):
        if not spec.sha256:
            raise ValueError(
                f"model {model.name} is not pinned in {config / FOLDER / PINS}, so there is "
                f"nothing to compare with. Remedy: python -m ccpo base-models {model.name}"
            )
    with tempfile.TemporaryDirectory() as scratch:
        pinned = Path(scratch) / "pinned"
        made = Path(scratch) / "made"
        for model in chosen:
            prepare(model, pinned / model.base, config / FOLDER)
        unpinned = [m for name in named(names, config) for m in listed[name].unpinned()]
        for line in _built(unpinned, made, slots):
            say(line)
        for model, spec in _recipes(chosen):
            say(f"{model.base}: {difference(pinned / model.base, made / model.base, spec)}")


def _recipes(models: Sequence[Model]) -> Iterator[tuple[Model, WarmStart]]:
    for model in models:
        if isinstance(model.spec, WarmStart):
            yield model, model.spec


def _pin_of(spec: WarmStart, folder: Path) -> Pin:
    return Pin(spec=spec.fingerprint, sha256=schema.sha256(folder))


def _built(models: Sequence[Model], into: Path, slots: int) -> Iterator[str]:
    """Makes unpinned models, each as the workflow's rule does: in a process of one thread. Yields
    a line for each as it is done."""

    def build(model: Model) -> str:
        start = time.monotonic()
        command = [sys.executable, "-m", "ccpo", "model", "--model", model.model_dump_json()]
        done = subprocess.run(
            [*command, "--out", str(into / model.base)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise ValueError(f"base model {model.base} cannot be made: {last}")
        return f"{model.base}: made in {time.monotonic() - start:.0f} s"

    with ThreadPoolExecutor(slots) as pool:
        yield from pool.map(build, models)


def difference(pinned: Path, made: Path, spec: WarmStart) -> str:
    """In words, how a base model made here differs from the pinned one."""
    if schema.sha256(pinned) == schema.sha256(made):
        return "identical bytes"
    largest = largest_difference(pinned, made)
    if largest is None:
        return "its weights have other names or shapes"
    if largest == 0:
        return f"identical weights, other bytes in {', '.join(other_files(pinned, made))}"
    words = [f"largest difference of weights {largest:.3g}; solo accuracy"]
    for whose, folder in (("pinned", pinned), ("made here", made)):
        sampled, greedy = (solo_accuracy(folder, spec, heat) for heat in (1.0, 0.0))
        words.append(f"{whose} {sampled:.3f} sampled and {greedy:.3f} greedy")
    return ", ".join(words)


def largest_difference(a: Path, b: Path) -> float | None:
    """Largest absolute difference of two models' weights; None if names or shapes differ."""
    one = _weights(a)
    two = _weights(b)
    if {k: v.shape for k, v in one.items()} != {k: v.shape for k, v in two.items()}:
        return None
    return max(float(np.abs(one[k].astype(float) - two[k].astype(float)).max()) for k in one)


def _weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}


def other_files(a: Path, b: Path) -> list[str]:
    """Names of the files that only one of two folders has, or that differ."""
    hashes = [{p.name: schema.sha256(p) for p in folder.iterdir()} for folder in (a, b)]
    return sorted(k for k in {*hashes[0], *hashes[1]} if hashes[0].get(k) != hashes[1].get(k))
