"""vLLM in the trainer's own process: the rollout engine for GPUs, and the same on a CPU.

What it speaks with is pushed into it, tensor by tensor, from a live transformers model; nothing goes through disk. Its prefix cache is
keyed by the version of those weights. On a GPU it sleeps (weights in main memory, cache gone) from `rest` until it next speaks.

Draws: each completion has a seed of its own, from the seed of the call and its place. vLLM then draws the same whatever else is in the
batch, as long as the logits are the same; their last bits may move with the shape of the batch, so that a token may come out differently
where another is as likely to seven digits. Log-probs are of the full distribution at the drawing temperature, from the sampling pass.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ccpo.play.engine import Completion, Draw, fits
from ccpo.ranks import ALONE, Ranks

CACHE = 1 << 30  # bytes of the key-value cache on a CPU
SHARE = 0.3  # of a GPU's memory that it may take, weights included; the trainer needs the rest


class VLLM:
    """An engine with a copy of a live model's weights: those it had when the engine first spoke or was last refreshed.

    Where several `ranks` speak with the same weights, each has an engine and completes its share of the prompts; all get all completions.
    """

    taken = False  # vLLM lets one engine of a process sleep: the first that starts

    def __init__(self, model: Any, end_ids: Sequence[int], ranks: Ranks = ALONE) -> None:
        self.model, self.end_ids, self.ranks = model, list(end_ids), ranks
        self.limit: int | None = int(model.config.max_position_embeddings)
        self.version, self.sleeps, self.asleep = 0, False, False

    @functools.cached_property
    def core(self) -> Any:
        """The engine itself, started when it is first needed and given the model's weights."""
        cuda = self.model.device.type == "cuda"
        for name, value in _ENVIRONMENT.items() if cuda else (_ENVIRONMENT | _ON_A_CPU).items():
            os.environ.setdefault(name, value)
        try:
            from vllm import LLM
        except ImportError as error:
            raise ValueError(f"sampling.engine is vllm, and this Python cannot import it ({error}). Remedy: envs/README.md") from None
        self.sleeps = cuda and not VLLM.taken
        VLLM.taken |= self.sleeps
        memory = {"gpu_memory_utilization": SHARE, "enable_sleep_mode": self.sleeps} if cuda else {"kv_cache_memory_bytes": CACHE}
        several = {"distributed_executor_backend": "external_launcher"} if self.ranks.world > 1 else {}
        core = _said(
            "does not start",
            lambda: LLM(
                model=self.model.name_or_path,
                load_format="dummy",  # a weight that is never pushed is then noise, which no canary overlooks
                dtype=str(self.model.dtype).removeprefix("torch."),
                max_model_len=self.limit,
                skip_tokenizer_init=True,
                enable_prefix_caching=True,
                enforce_eager=not cuda,
                logprobs_mode="processed_logprobs",
                disable_log_stats=True,
                **memory,
                **several,
            ),
        )
        _push(core, self.model)
        return core

    def generate(self, prompts: Sequence[list[int]], n: int, draw: Draw, seed: Sequence[int]) -> list[list[Completion]]:
        """See Engine.

        Raises:
            ValueError: a prompt with its message does not fit into the model's context, or is empty; or vLLM failed.
        """
        fits(prompts, draw, self.limit)
        seeds = np.random.default_rng(list(seed)).integers(2**63, size=(len(prompts), n))
        mine = self.ranks.mine(len(prompts))
        asked = [(prompts[i], {"seed": int(s), "logprobs": 0}) for i in mine for s in seeds[i]]
        found = [self._completion(o) for o in self._ask(asked, draw)]
        return self.ranks.gather([found[i : i + n] for i in range(0, len(found), n)])

    def logprobs(self, prompts: Sequence[list[int]], completions: Sequence[list[int]], temperature: float) -> list[list[float]]:
        """See Engine. Each token is asked for as the next one of its prefix, so prefix cache and sampling pass have their say."""
        asked = [
            (prompt + said[:t], {"logprob_token_ids": [token]})
            for prompt, said in zip(prompts, completions, strict=True)
            for t, token in enumerate(said)
        ]
        found = iter(self._ask(asked, Draw(temperature, 1)))
        return [[float(next(found).logprobs[0][token].logprob) for token in said] for said in completions]

    def refresh(self) -> None:
        """See Engine: pushes the model's weights. What was cached with the old ones is found no more, and then let go."""
        self.version += 1
        if "core" in self.__dict__:
            self._wake()
            _push(self.core, self.model)
            self.core.reset_prefix_cache()

    def rest(self) -> None:
        """See Engine."""
        if self.sleeps and not self.asleep:
            self.core.sleep(level=1)
            self.asleep = True

    def _wake(self) -> None:
        if self.asleep:
            self.core.wake_up()
            self.asleep = False

    def _ask(self, asked: Sequence[tuple[list[int], dict[str, Any]]], draw: Draw) -> list[Any]:
        """vLLM's answer to each (prompt, parameters), one completion each, all of them whole."""
        core = self.core
        from vllm import SamplingParams

        self._wake()
        common: dict[str, Any] = {"temperature": draw.temperature, "max_tokens": draw.max_tokens, "detokenize": False}
        params = [SamplingParams(**common, stop_token_ids=self.end_ids, **own) for _, own in asked]
        texts = [{"prompt_token_ids": prompt, "cache_salt": str(self.version)} for prompt, _ in asked]
        found = _said("died while it spoke", lambda: core.generate(texts, params, use_tqdm=False)) if asked else []
        outputs = [o for answer in found for o in answer.outputs]
        whole = [o for o in outputs if o.finish_reason in ("stop", "length")]
        if len(whole) != len(asked):
            raise ValueError(f"vLLM completed {len(whole)} of {len(asked)} messages; none is counted. Remedy: run again, it goes on.")
        return whole

    def _completion(self, output: Any) -> Completion:
        logprobs = [float(at[token].logprob) for token, at in zip(output.token_ids, output.logprobs, strict=True)]
        if not all(map(math.isfinite, logprobs)):
            raise ValueError("vLLM gave a log-prob that is not finite: the policy's weights are broken. Remedy: lower train.lr.")
        return Completion(list(output.token_ids), logprobs, output.finish_reason)


# In this process, silent, nothing reported. On a CPU: threads as torch has them, nothing compiled (37 s for one small function).
_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
_ON_A_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}


def _push(core: Any, model: Any) -> None:
    """Gives the engine the model's weights, in place."""
    weights = iter(model.state_dict().items())
    _said("refuses the weights", lambda: core.collective_rpc("reload_weights", kwargs={"weights_iterator": weights}))


def _said(what: str, act: Any) -> Any:
    """Does something with vLLM, whose errors are many, and says them as one."""
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    try:
        return act()
    except (RuntimeError, AssertionError, OSError, ValueError, EngineDeadError, EngineGenerateError) as error:
        raise ValueError(
            f"vLLM {what}: {type(error).__name__}: {str(error).strip()}. Nothing it said since the last update is counted. Remedy: if the "
            "model or the machine is not for vLLM, sampling.engine hf; else run again, it goes on from the last checkpoint."
        ) from error
