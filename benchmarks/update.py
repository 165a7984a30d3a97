"""Seconds of an update against TRL's GRPOTrainer, and where ours go. `python benchmarks/update.py
[CONTEST ...]`

Both train the same model folder on the same prompts in the same order, with the same reward, group
size, lengths, learning rate, loss (clipped ratio, token mean, z-score of the group, no KL term) and
one optimiser step of each batch, on one thread, in turns of a few updates in one run; the first
update of each does not count. `equal`: the end token is one that is never said (both load the same
changed folder), so all completions have full length and both do the same work. `natural`:
completions end when the model ends them. The loss of a first step on fresh messages is minus their
mean advantage, so about 0 whatever is learnt: the reward shows that both learn. `trained` are the
tokens
whose gradient is computed: ours leaves out messages whose advantage is exactly 0.

Ours is then shown by part, and beside its floor: every matrix product of an update (attention
kernels included), done alone on this machine with random numbers in the same shapes. TRL has its
own environment: `make .venv-trl/.ready`, or `--trl PYTHON`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import _floor
import _pairs
import _reward
import torch

from ccpo.benchmark import Task
from ccpo.config import RunConfig
from ccpo.learn import train
from ccpo.play.types import Ledger

SMALL = {"train": {"tasks": 2, "lr": 1.0e-4}}  # less is lost when bfloat16 weights are rounded
THINGS = (
    "bread",
    "bridges",
    "cats",
    "clocks",
    "coffee",
    "gardens",
    "glass",
    "horses",
    "maps",
    "music",
    "rivers",
    "ships",
)
CONTESTS: dict[
    str, tuple[str, str, str, int, dict[str, Any]]
] = {  # model, ends, dtype, updates of a turn, what else differs
    "tiny": ("tiny", "equal", "float32", 5, {}),
    "tiny-natural": ("tiny", "natural", "float32", 5, {}),
    "smollm2": ("smollm2-135m", "equal", "bfloat16", 1, SMALL),
    "smollm2-natural": ("smollm2-135m", "natural", "bfloat16", 1, SMALL),
    "smollm2-float32": ("smollm2-135m", "equal", "float32", 1, SMALL),
}
QUIET = {  # of TRL's settings: our loss, no KL term, and nothing that costs time without need
    "loss_type": "dapo",
    "scale_rewards": "group",
    "beta": 0.0,
    "lr_scheduler_type": "constant",
    "gradient_accumulation_steps": 1,
    "activation_checkpointing": False,
    "bf16": False,  # the weights have the contest's format, as ours: no autocast
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "shuffle_dataset": False,
    "max_steps": 10**6,
    "report_to": "none",
    "logging_strategy": "no",
    "save_strategy": "no",
    "disable_tqdm": True,
}
ATTENTION = {
    "float32": "sdpa",
    "bfloat16": "eager",
}  # what is faster for TRL: on SmolLM2 16.0 processor seconds eager, 17.2 with sdpa
Row = dict[str, float]


class Ours:
    """Our side: does updates when told to."""

    def __init__(self, run: RunConfig, folder: Path) -> None:
        self.run = run
        self.team = run.build_team()
        self.state = train.State(run, folder)
        self.pool = [
            replace(task, kind="text") for task in _pairs.pool(run)
        ]  # a kind decided by rule: TRL's environment has no algebra
        if run.model.name.startswith("smollm2"):
            self.pool = [
                Task(thing, f"Tell me about {thing}.", "e >= 15", "text") for thing in THINGS
            ]

    def update(self) -> Row:
        """One update."""
        ledgers: list[Ledger] = []
        with mock.patch("ccpo.grade.verifier.verify", _reward.verify):
            took = _pairs.taken(
                lambda: ledgers.append(train.update(self.run, self.team, self.pool, self.state))
            )
        ledger = ledgers[0]
        row = self.state.rows["train"][-1]
        counted = {
            name: ledger.total(f"{name}_tokens") for name in ("generated", "prompt", "trained")
        }
        parts = {f"in {k}": v for k, v in ledger.seconds.items()}
        return {
            "wall": took.wall,
            "cpu": took.cpu,
            "reward": row["reward"],
            "loss": row["loss"],
            **counted,
            **parts,
        }

    def prompts(self, updates: int) -> list[tuple[Any, str]]:
        """Chat messages and truths of the first updates, in order."""
        speaker = replace(self.state.endpoints[0], tokenizer=_Messages())
        role = self.team.role(0, range(1))
        batches = [train._batch(self.run, self.pool, step) for step in range(updates)]
        return [
            (speaker.prompt(role, task.question, []), task.truth)
            for batch in batches
            for task in batch
        ]


class _Messages:
    """In a tokenizer's place: leaves chat messages as they are."""

    def apply_chat_template(self, messages: list[Any], **_: Any) -> list[Any]:
        return messages


class Theirs:
    """TRL's side, in a process of its own that sleeps while ours works."""

    def __init__(self, python: Path, ours: Ours, folder: Path, scratch: Path, updates: int) -> None:
        run = ours.run
        asked = ours.prompts(updates)
        n = run.train.tasks * run.train.fanout[0]
        self.config = {
            **QUIET,
            "output_dir": str(scratch),
            "per_device_train_batch_size": n,
            "num_generations": run.train.fanout[0],
            "max_completion_length": run.sampling.max_tokens[0],
            "temperature": run.sampling.temperature,
            "epsilon": run.objective.params["clip_low"],
            "learning_rate": run.train.lr,
            "weight_decay": run.train.weight_decay,
            "max_grad_norm": run.train.grad_clip,
            "seed": run.seed,
        }
        request = {
            "model": str(folder.resolve()),
            "prompts": [p for p, _ in asked],
            "truths": [t for _, t in asked],
        }
        self.form = {"dtype": run.train.dtype, "attention": ATTENTION[run.train.dtype]}
        (scratch / "request.json").write_text(
            json.dumps({**request, **self.form, "config": self.config})
        )
        paths = {
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        command = [
            str(python),
            str(Path(__file__).with_name("trl_grpo.py")),
            str(scratch / "request.json"),
        ]
        self.log = scratch / "trl.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **paths},
            )
        self.versions = self._read()["ready"]

    def _read(self) -> Any:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SystemExit(f"TRL's process ended:\n{self.log.read_text()[-2000:]}")
        return json.loads(line)

    def update(self) -> Row:
        """One update."""
        self.process.stdin.write("1\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return self._read()

    def close(self) -> None:
        """Ends the process, which this class began."""
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


def contest(name: str, python: Path | None, turns: int) -> None:
    """Prints one contest's table."""
    model, ends, dtype, block, changes = CONTESTS[name]
    changes = {**changes, "train": {**changes.get("train", {}), "dtype": dtype}}
    run = _pairs.run(model, advantage={"name": "group_z", "ddof": 1, "eps": 1.0e-4}, **changes)
    with tempfile.TemporaryDirectory() as temporary:
        folder = _pairs.changed_folder(
            _pairs.folder(model), Path(temporary) / "model", endless=ends == "equal"
        )
        ours = Ours(run, folder)
        sides: dict[str, Any] = {"ccpo": ours}
        if python:
            sides["trl"] = Theirs(python, ours, folder, Path(temporary), block * turns + 1)
        rows: dict[str, list[Row]] = {
            side: [who.update()] for side, who in sides.items()
        }  # the first warms up
        for turn in range(turns):
            for side in list(sides)[:: 1 if turn % 2 else -1]:
                rows[side] += [sides[side].update() for _ in range(block)]
        if python:
            sides["trl"].close()
        size = sum(p.numel() for p in ours.state.models[0].parameters())
        n = run.train.fanout[0]
        tokens = run.sampling.max_tokens[0]
        print(
            f"\n{name}: {size:,} parameters, {dtype}; {run.train.tasks} prompts x {n} "
            f"completions of at most {tokens} tokens"
        )
        print(
            f"{'':6}{'s / update':>11}{'of CPU':>8}{'tokens':>8}{'trained':>8}{'prompt':>8}"
            f"{'reward, first to last third':>29}{'loss':>20}"
        )
        for side, all_of in rows.items():
            print(f"{side:6}{summary(all_of)}")
        if python:
            both = (
                [_pairs.Taken(r["wall"], r["cpu"]) for r in rows[side][1:]]
                for side in ("trl", "ccpo")
            )
            print(
                "trl / ccpo, of wall seconds and of processor seconds (middle half of the "
                f"pairs): {_pairs.ratio(*both)}"
            )
            print(
                f"trl: {sides['trl'].versions}; "
                f"{json.dumps(sides['trl'].form | sides['trl'].config)}"
            )
        settings = {"advantage", "objective", "sampling", "train"}
        print(f"ccpo: {json.dumps(run.model_dump(mode='json', include=settings))}")
        parts(ours, rows["ccpo"][1:])


def summary(rows: list[Row]) -> str:
    """A side's row of the table. The first update counts for the reward, not for the time."""
    third = max(1, len(rows) // 3)
    first, last = (
        {k: statistics.mean(r[k] for r in part) for k in ("reward", "loss")}
        for part in (rows[:third], rows[-third:])
    )
    counts = "".join(
        f"{statistics.mean(r[k] for r in rows[1:]):8.0f}"
        for k in ("generated", "trained", "prompt")
    )
    wall, cpu = (statistics.median(r[k] for r in rows[1:]) for k in ("wall", "cpu"))
    learnt = (
        f"{first['reward']:20.3f} -> {last['reward']:5.3f}{first['loss']:+12.4f} -> "
        f"{last['loss']:+.4f}"
    )
    return f"{wall:11.3f}{cpu:8.3f}{counts}{learnt}"


def parts(ours: Ours, rows: list[Row]) -> None:
    """Prints ours by part, and its floor measured beside it."""
    wall = statistics.median(r["wall"] for r in rows)
    known = 0.0
    for part in ("rollout", "verify", "credit", "update"):
        found = statistics.median(r.get(f"in {part}", 0.0) for r in rows)
        known += found
        print(f"  {part:20}{found:8.3f} s {found / wall:5.0%}")
    print(f"  {'prompts, records':20}{wall - known:8.3f} s {(wall - known) / wall:5.0%}")
    ours.run = _pairs.changed(ours.run, train={"lr": 1.0e-30})
    step = ours.state.step

    def again() -> float:
        ours.state.step = step  # the same tasks, draws and weights: the same work
        return ours.update()["cpu"]

    with _floor.Products() as products:
        again()
    beside = [(products.floor(), again()) for _ in range(3)]
    floor, flops = (statistics.median(b[0][k] for b in beside) for k in (0, 1))
    share = statistics.median(b[0][0] / b[1] for b in beside)
    at = f"{flops / 1e9:.2f} GFLOP at {flops / floor / 1e9:.0f} GFLOP/s"
    print(
        f"  matrix products alone: {floor:.3f} processor seconds, {share:.0%} of those of an "
        f"update: {at}"
    )


def main() -> None:
    """Prints the tables."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "contests",
        nargs="*",
        default=["tiny", "tiny-natural", "smollm2"],
        help=f"some of {', '.join(CONTESTS)}",
    )
    options.add_argument(
        "--trl",
        type=Path,
        default=Path(".venv-trl/bin/python"),
        help="interpreter of TRL's environment",
    )
    options.add_argument("--turns", type=int, default=6, help="turns of each side")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    print(_pairs.machine())
    if not chosen.trl.is_file():
        print(
            f"without TRL: {chosen.trl} does not exist. Remedy: make .venv-trl/.ready, or name "
            "an interpreter that has trl with --trl"
        )
    for name in chosen.contests:
        contest(name, chosen.trl if chosen.trl.is_file() else None, chosen.turns)


if __name__ == "__main__":
    main()
