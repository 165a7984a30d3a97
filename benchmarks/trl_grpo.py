"""TRL's side of update.py: a GRPOTrainer that works when told to. Runs in TRL's own environment
(envs/trl.lock).

`python trl_grpo.py SETTINGS.json`: `model`, `prompts` (chat messages, one list for each prompt in
the order of use), `truths`, `dtype`, `attention`, `config` (of GRPOConfig). Prints a JSON line when
ready; for each number read from stdin it does as many updates and prints a
JSON line for each: seconds on the wall and of the processor (data, generation, reward, loss,
    optimiser), reward, loss, tokens.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import _reward
import torch
import transformers
import trl
from datasets import Dataset
from transformers import TrainerCallback

NOTHING = {"rewards": 0.0, "completions": 0, "loss": 0.0, "generated": 0, "prompt": 0, "trained": 0}


class Told(TrainerCallback):
    """Lets the trainer go on as long as it was told to, and reports each update."""

    def __init__(self, out: Any) -> None:
        self.out = out
        self.left = 0
        self.seen = dict(NOTHING)

    def _wait(self, control: Any) -> None:
        while self.left == 0 and not control.should_training_stop:
            line = sys.stdin.readline()
            self.left = int(line or 0)
            control.should_training_stop = not line
        self.started = time.perf_counter()
        self.cpu = time.process_time()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        versions = (
            f"trl {trl.__version__}, torch {torch.__version__}, transformers "
            f"{transformers.__version__}"
        )
        print(json.dumps({"ready": versions}), file=self.out)
        self._wait(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        found = self.seen
        took = {"wall": time.perf_counter() - self.started, "cpu": time.process_time() - self.cpu}
        reward = found.pop("rewards") / found.pop("completions")
        print(json.dumps({**took, "reward": reward, **found}), file=self.out)
        self.seen = dict(NOTHING)
        self.left = self.left - 1
        self._wait(control)


def main() -> None:
    """Trains as told."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever TRL prints is no message of ours
    torch.set_num_threads(1)
    asked = json.loads(Path(sys.argv[1]).read_text())
    told = Told(out)

    def reward(
        prompts: list[Any],
        completions: list[Any],
        completion_ids: list[list[int]],
        truth: list[str],
        **_: Any,
    ) -> list[float]:
        right = [
            float(_reward.verify(said[0]["content"], t).correct)
            for said, t in zip(completions, truth, strict=True)
        ]
        for name, number in (
            ("rewards", sum(right)),
            ("completions", len(right)),
            ("generated", sum(map(len, completion_ids))),
        ):
            told.seen[name] += number
        return right

    class Trainer(trl.GRPOTrainer):
        """Counts; changes nothing."""

        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            loss = super()._compute_loss(model, inputs)
            told.seen["loss"] += float(loss.detach())
            told.seen["prompt"] += int(inputs["prompt_mask"].sum())
            told.seen["trained"] += int(inputs["completion_mask"].sum())
            return loss

    form = {"dtype": getattr(torch, asked["dtype"]), "attn_implementation": asked["attention"]}
    model = transformers.AutoModelForCausalLM.from_pretrained(asked["model"], **form)
    trainer = Trainer(
        model=model,
        processing_class=transformers.AutoTokenizer.from_pretrained(
            asked["model"], padding_side="left"
        ),
        reward_funcs=reward,
        args=trl.GRPOConfig(**asked["config"]),
        train_dataset=Dataset.from_list(
            [
                {"prompt": p, "truth": t}
                for p, t in zip(asked["prompts"], asked["truths"], strict=True)
            ]
        ),
        callbacks=[told],
    )
    trainer.train()


if __name__ == "__main__":
    main()
