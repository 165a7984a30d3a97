"""Completions by our engine against transformers' `generate`, and vLLM. `python
benchmarks/rollout.py [MODEL ...]`

First equality: greedy completions token for token in float32, and the engine's log-probs of what it
sampled against a plain forward. Then time, on the same prompts, in turns in one run, one thread.
`flat`: several samples of each of several prompts, for `generate` one call with
`num_return_sequences`. `tree`: a [4, 4] tree of a two-agent team, played turn by turn, against as
many completions of the very same prompts by flat calls of `generate`, one for each turn. A question
has about 12 tokens or 512. `full`: no completion ends before its last token (all load a folder
whose end token is one that is never said); `natural`: completions end when the model ends them,
`generate` when all have.

`--vllm PYTHON`: the interpreter of vLLM's environment; it answers the flat cases, in a process that
sleeps while others work.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import functools
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _pairs
import numpy as np
import torch
from transformers import AutoModelForCausalLM

from ccpo import team
from ccpo.benchmark import Task
from ccpo.models import policy
from ccpo.play.engine import SamplingParams
from ccpo.play.engine.hf import HF
from ccpo.play.rollout import play
from ccpo.play.types import AgentEndpoint, Ledger, PlayingTeam
from ccpo.team import SOLO
from ccpo.tree import Plan

TOKENS = 32
FLAT = {"tiny": (32, 8), "smollm2-135m": (2, 8)}  # prompts and samples of each
TASKS = {"tiny": 8, "smollm2-135m": 1}  # of the tree
LENGTHS = {"short": 12, "long": 512}
Ids = list[list[int]]


class Sides:
    """A model in float32 and the contestants that generate with it."""

    def __init__(self, folder: Path) -> None:
        self.model, self.tokenizer = policy.load(folder)
        # as anybody loads it
        self.plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.ends = policy.end_ids(self.model, self.tokenizer)
        self.endpoint = AgentEndpoint(HF(self.model, self.ends), self.tokenizer)
        self.seeds = itertools.count()

    def prompts(self, tasks: list[Task]) -> Ids:
        """What a single agent is asked."""
        return [self.endpoint.prompt(SOLO, task.question, []) for task in tasks]

    def ours(self, prompts: Ids, n: int, temperature: float = 1.0) -> Ids:
        """Completions by our engine."""
        said = self.endpoint.engine.generate(
            prompts, n, SamplingParams(temperature, TOKENS), [next(self.seeds)]
        )
        return [c.token_ids for row in said for c in row]

    def tree(self, tasks: list[Task]) -> list[tuple[Ids, int]]:
        """Plays a [4, 4] tree on each task; returns each turn's prompts and the samples of each."""
        dyad = team.load("think_solve").team()
        playing = PlayingTeam(dyad, [self.endpoint] * 2, 1.0, [TOKENS])
        played = play(Plan((4, 4)), tasks, playing, [next(self.seeds)], Ledger())
        turns = (
            [
                m.prompt
                for m, at in zip(played.messages, played.tree.turn, strict=True)
                if at == turn
            ]
            for turn in range(2)
        )
        return [(prompts[::4], 4) for prompts in turns]

    @torch.inference_mode()
    def theirs(self, prompts: Ids, n: int, temperature: float = 1.0) -> Ids:
        """Completions by transformers."""
        padded = self.tokenizer.pad(
            {"input_ids": prompts}, padding_side="left", return_tensors="pt"
        )
        ids = padded["input_ids"]
        mask = padded["attention_mask"]
        how = {
            "max_new_tokens": TOKENS,
            "num_return_sequences": n,
            "eos_token_id": self.ends,
            "pad_token_id": 0,
        }
        drawn = (
            {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
            if temperature
            else {"do_sample": False}
        )
        out = self.plain.generate(input_ids=ids, attention_mask=mask, **how, **drawn)
        return [self._ended(row) for row in out[:, ids.shape[1] :].tolist()]

    def _ended(self, row: list[int]) -> list[int]:
        return row[: next((i + 1 for i, token in enumerate(row) if token in self.ends), len(row))]

    @torch.inference_mode()
    def gap(self, prompts: Ids) -> float:
        """Largest difference of the engine's log-probs of sampled completions and those of a
        forward of each message by itself.
        """
        worst = 0.0
        said = self.endpoint.engine.generate(
            prompts, 2, SamplingParams(1.0, TOKENS), [next(self.seeds)]
        )
        for prompt, completion in (
            (p, c) for p, row in zip(prompts, said, strict=True) for c in row
        ):
            logits = (
                self.plain(torch.tensor([prompt + completion.token_ids]))
                .logits[0, len(prompt) - 1 : -1]
                .float()
            )
            plain = torch.log_softmax(logits, -1).gather(
                1, torch.tensor(completion.token_ids)[:, None]
            )[:, 0]
            worst = max(worst, float((plain - torch.tensor(completion.logprobs)).abs().max()))
        return worst


class Vllm:
    """Our vLLM engine in its own environment: this file, run there with `--serve FOLDER`."""

    def __init__(self, python: Path, folder: Path) -> None:
        command = [str(python), __file__, "--serve", str(folder)]
        paths = {"PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **paths},
        )

    def __call__(self, prompts: Ids, n: int) -> Ids:
        """Completions by vLLM.

        Raises:
            ValueError: vLLM cannot do that, and why.
        """
        print(json.dumps([prompts, n]), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        reply = json.loads(line or '{"failed": "its process ended; what it said stands above"}')
        if "failed" in reply:
            raise ValueError(reply["failed"])
        return reply["said"]

    def close(self) -> None:
        """Ends the process, which this class began."""
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


def serve(folder: Path) -> None:
    """Answers requests for completions, one a line."""
    from ccpo.play.engine.vllm import VLLM

    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    model, tokenizer = policy.load(folder)
    engine = VLLM(model, policy.end_ids(model, tokenizer))
    for seed, line in enumerate(sys.stdin):
        prompts, n = json.loads(line)
        try:
            reply: Any = {
                "said": [
                    c.token_ids
                    for row in engine.generate(prompts, n, SamplingParams(1.0, TOKENS), [seed])
                    for c in row
                ]
            }
        except ValueError as error:
            reply = {"failed": str(error)}
        print(json.dumps(reply), file=out)


def questions(n: int, length: int) -> list[Task]:
    """Sums of about as many tokens."""
    rng = np.random.default_rng(length)
    texts = ["".join(f"{d}+" for d in rng.integers(1, 9, length // 2)) + "1" for _ in range(n)]
    return [Task(t, t, "0", "number") for t in texts]


def equality(name: str, sides: Sides) -> None:
    """Prints how far we say what transformers says."""
    for length, size in LENGTHS.items():
        prompts = sides.prompts(questions(4, size))
        same = sum(
            a == b
            for a, b in zip(sides.ours(prompts, 1, 0.0), sides.theirs(prompts, 1, 0.0), strict=True)
        )
        print(
            f"{name}, {length}: {same} of {len(prompts)} greedy completions are generate's, "
            f"log-prob gap {sides.gap(prompts):.1e} (1e-4)"
        )


def all_turns(sides: Sides, turns: list[tuple[list[list[int]], int]]) -> None:
    """The peer's way through a tree: one call a turn, with the prompts that our side had."""
    for prompts, n in turns:
        sides.theirs(prompts, n)


def cases(name: str, ends: str, sides: Sides, repeats: int, served: Vllm | None) -> None:
    """Prints the table's rows of one model."""
    for length, size in LENGTHS.items():
        tasks = questions(FLAT[name][0], size)
        n = FLAT[name][1]
        flat = sides.prompts(tasks)
        few = questions(TASKS[name], size)
        turns = sides.tree(few)
        rows = {
            f"flat {len(flat)} x {n}": (
                functools.partial(sides.ours, flat, n),
                functools.partial(sides.theirs, flat, n),
            ),
            f"tree {len(few)} x [4, 4]": (
                functools.partial(sides.tree, few),
                functools.partial(all_turns, sides, turns),
            ),
        }
        for shape, (ours, theirs) in rows.items():
            contestants = {"ccpo": ours, "generate": theirs}
            if served and shape.startswith("flat"):
                contestants["vllm"] = functools.partial(served, flat, n)
            found = _pairs.alternate(contestants, repeats)
            middle = {side: _pairs.median(taken) for side, taken in found.items()}
            walls = "".join(
                f"{middle[side].wall:10.3f}" if side in middle else f"{'-':>10}"
                for side in ("ccpo", "generate", "vllm")
            )
            print(
                f"{name:14}{ends:9}{length:7}{len(flat[0]):7}  {shape:16}{walls}   "
                f"{_pairs.ratio(found['generate'], found['ccpo'])}"
            )


def main() -> None:
    """Prints the tables."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("models", nargs="*", default=list(FLAT), help=f"some of {', '.join(FLAT)}")
    options.add_argument(
        "--ends", nargs="*", default=["full", "natural"], choices=["full", "natural"]
    )
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--vllm", type=Path, help="interpreter of vLLM's environment")
    options.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    if chosen.serve:
        return serve(chosen.serve)
    print(_pairs.machine())
    print(
        f"float32, temperature 1, at most {TOKENS} tokens, {chosen.repeats} turns of each; freed "
        "memory is kept, for both"
    )
    print("generate: dynamic cache, sdpa, one batch")
    if not chosen.vllm:
        print("without vLLM: no --vllm PYTHON was given")
    head = (
        f"{'model':14}{'ends':9}{'prefix':7}{'tokens':>7}  "
        f"{'shape':16}{'ccpo s':>10}{'generate s':>11}{'vllm s':>9}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folders = {}
        for name, ends in itertools.product(chosen.models, chosen.ends):
            target = Path(temporary) / f"{name}-{ends}"
            folders[name, ends] = _pairs.changed_folder(
                _pairs.folder(name), target, endless=ends == "full", context=1024
            )
        for (name, ends), folder in folders.items():
            equality(f"{name}, {ends}", Sides(folder))
        print(f"{head}   generate / ccpo: wall, processor (middle half)")
        for (name, ends), folder in folders.items():
            served = Vllm(chosen.vllm, folder) if chosen.vllm else None
            try:
                if served:
                    served([[1, 2, 3]], 1)
            except ValueError as error:
                print(f"{name}, without vLLM: {error}")
                served = served.close()
            cases(name, ends, Sides(folder), chosen.repeats, served)
            if served:
                served.close()


if __name__ == "__main__":
    main()
