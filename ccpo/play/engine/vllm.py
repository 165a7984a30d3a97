"""vLLM in the trainer's own process: the rollout engine for GPUs, and the same on a CPU.

What it generates with is pushed into it from a live transformers model: weights tensor by tensor in
place, an adapter (LoRA) as a small folder beside a base that stays. Its prefix cache is keyed by
the version of what was pushed. On a GPU it sleeps (weights in main memory, cache gone) from `sleep`
until it next generates.

Draws: each completion has a seed of its own, from the seed of the call and its place. vLLM then
draws the same whatever else is in the batch, as long as the logits are the same; their last bits
may move with the shape of the batch, so that a token may come out differently where another is as
likely to seven digits. Log-probs are from the sampling pass, of the distribution drawn from: at the
sampling temperature, and where draws are truncated of what is left, renormalised.
"""

from __future__ import annotations

import functools
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from transformers import PreTrainedModel

from ccpo.play.engine import Completion, SamplingParams, check_context, sums_by_layer
from ccpo.ranks import ALONE, Ranks

if TYPE_CHECKING:
    import torch
    from vllm import CompletionOutput
    from vllm.lora.request import LoRARequest

T = TypeVar("T")

CACHE = 1 << 30  # bytes of the key-value cache on a CPU
SHARE = 0.3  # of a GPU's memory that it may take, weights included; the trainer needs the rest


class VLLM:
    """An engine with a copy of a live model's weights: those it had when the engine first generated
    or was last refreshed.

    Where several `ranks` hold the same weights, each has an engine and completes its share of the
    prompts; all get all completions.
    `activate` is called before weights are pushed: where policies are adapters of one model, it
    switches this engine's adapter on. Such policies share one vLLM.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        end_ids: Sequence[int],
        ranks: Ranks = ALONE,
        activate: Callable[[], object] = lambda: None,
    ) -> None:
        self.model = model
        self.end_ids = list(end_ids)
        self.ranks = ranks
        self.activate = activate
        self.limit: int | None = int(model.config.max_position_embeddings)
        # what was last pushed: its version, and vLLM's name of an adapter
        self.salt = ""
        self.adapter: LoRARequest | None = None

    def generate(
        self, prompts: Sequence[list[int]], n: int, sampling: SamplingParams, seed: Sequence[int]
    ) -> list[list[Completion]]:
        """See Engine.

        Raises:
            ValueError: a prompt with its message does not fit into the model's context, or is
            empty; or vLLM failed.
        """
        check_context(prompts, sampling, self.limit)
        seeds = np.random.default_rng(list(seed)).integers(2**63, size=(len(prompts), n))
        requests = [
            _Request(prompts[i], {"seed": int(s), "logprobs": 0})
            for i in self.ranks.share(len(prompts))
            for s in seeds[i]
        ]
        completions = [_completion(output) for output in self._ask(requests, sampling)]
        return self.ranks.gather([completions[i : i + n] for i in range(0, len(completions), n)])

    def logprobs(
        self, prompts: Sequence[list[int]], completions: Sequence[list[int]], temperature: float
    ) -> list[list[float]]:
        """See Engine. Each token is asked for as the next one of its prefix, so prefix cache and
        sampling pass take part.
        """
        requests = [
            _Request(prompt + token_ids[:t], {"logprob_token_ids": [token]})
            for prompt, token_ids in zip(prompts, completions, strict=True)
            for t, token in enumerate(token_ids)
        ]
        outputs = iter(self._ask(requests, SamplingParams(temperature, 1)))
        return [
            [float(next(outputs).logprobs[0][token].logprob) for token in token_ids]
            for token_ids in completions
        ]

    def refresh(self) -> None:
        """See Engine: pushes the model's weights. What was cached with the old ones is found no
        more.
        """
        if self.salt:
            self._push(_core(self.model, self.ranks))

    def layer_sums(self) -> dict[str, float]:
        """See Engine. On a CPU vLLM keeps its matrices in another form only, and there are none."""
        if self.model.device.type != "cuda":
            return {}
        [sums] = _core(self.model, self.ranks).llm.collective_rpc(_worker_sums)
        return sums

    def sleep(self) -> None:
        """See Engine."""
        if self.salt:
            _core(self.model, self.ranks).sleep()

    def _push(self, core: _Core) -> None:
        """Gives vLLM what the live model computes with now: all weights, or of a model with
        adapters the active one.
        """
        self.activate()
        core.wake()
        core.pushed += 1
        self.salt = str(core.pushed)
        if core.adapters:
            self.adapter = core.exchange(self.adapter, self.model)
        else:
            core.load(self.model.state_dict())
        core.llm.reset_prefix_cache()

    def _ask(
        self, requests: Sequence[_Request], sampling: SamplingParams
    ) -> list[CompletionOutput]:
        """vLLM's answer to each request, one completion each, all of them complete."""
        core = _core(self.model, self.ranks)
        if not self.salt:
            self._push(core)
        import vllm

        core.wake()
        params = [
            vllm.SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=sampling.max_tokens,
                detokenize=False,
                # the end tokens are those given here, not those of the model's folder
                stop_token_ids=self.end_ids,
                ignore_eos=True,
                **request.options,
            )
            for request in requests
        ]
        texts = [{"prompt_token_ids": r.prompt, "cache_salt": self.salt} for r in requests]
        generate = functools.partial(
            core.llm.generate, texts, params, use_tqdm=False, lora_request=self.adapter
        )
        answers = _call("died while it generated", generate) if requests else []
        outputs = [output for answer in answers for output in answer.outputs]
        complete = [o for o in outputs if o.finish_reason in ("stop", "length")]
        if len(complete) != len(requests):
            raise ValueError(
                f"vLLM completed {len(complete)} of {len(requests)} messages; none is counted. "
                "Remedy: run again, it goes on."
            )
        return complete


@dataclass(frozen=True)
class _Request:
    """A prompt, and the sampling parameters of vLLM that are its own."""

    prompt: list[int]
    options: dict[str, Any]


def _worker_sums(worker: Any) -> dict[str, float]:
    return sums_by_layer(worker.model_runner.model.named_parameters())


def _completion(output: CompletionOutput) -> Completion:
    logprobs = [
        float(by_token[token].logprob)
        for token, by_token in zip(output.token_ids, output.logprobs, strict=True)
    ]
    if not all(map(math.isfinite, logprobs)):
        raise ValueError(
            "vLLM gave a log-prob that is not finite: the policy's weights are broken. Remedy: "
            "lower train.lr."
        )
    return Completion(list(output.token_ids), logprobs, output.finish_reason)


# In this process, silent, nothing reported. On a CPU: threads as torch has them, nothing compiled
# (37 s for one small function).
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "CRITICAL",
}
_ON_A_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}
_RANKS_OF_ADAPTERS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has kernels for


class _Core:
    """One vLLM, started with a model's shape and without its weights. `pushed`: how often something
    was pushed into it.
    """

    sleeper = False  # vLLM lets one engine of a process sleep: the first that starts

    def __init__(self, model: PreTrainedModel, ranks: Ranks) -> None:
        cuda = model.device.type == "cuda"
        for name, value in _ENVIRONMENT.items() if cuda else (_ENVIRONMENT | _ON_A_CPU).items():
            os.environ.setdefault(name, value)
        try:
            from vllm import LLM
        except ImportError as error:
            raise ValueError(
                f"sampling.engine is vllm, and this Python cannot import it ({error}). Remedy: "
                "envs/README.md"
            ) from None
        self.sleeps = cuda and not _Core.sleeper
        self.asleep = False
        self.pushed = 0
        _Core.sleeper |= self.sleeps
        self.adapters: dict[str, Any] = getattr(model, "peft_config", None) or {}
        start = functools.partial(
            LLM,
            model=model.name_or_path,
            # a weight that is never pushed is then noise, which no canary overlooks
            load_format="dummy",
            dtype=str(model.dtype).removeprefix("torch."),
            max_model_len=int(model.config.max_position_embeddings),
            skip_tokenizer_init=True,
            enable_prefix_caching=True,
            enforce_eager=not cuda,
            logprobs_mode="processed_logprobs",
            disable_log_stats=True,
            **self._options(model, ranks),
        )
        self.llm = _call("does not start", start)
        if self.adapters:
            base = {
                name.replace(".base_layer.", "."): weight
                for name, weight in model.state_dict().items()
                if ".lora_" not in name
            }
            self.load(base)

    def _options(self, model: PreTrainedModel, ranks: Ranks) -> dict[str, Any]:
        """Options that depend on the machine, on the number of ranks and on adapters."""
        options: dict[str, Any] = {
            "gpu_memory_utilization": SHARE,
            "enable_sleep_mode": self.sleeps,
        }
        if model.device.type != "cuda":
            # half a prompt with a seed is an error there: torch's CPU generators cannot go back
            options = {
                "kv_cache_memory_bytes": CACHE,
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(4096, int(model.config.max_position_embeddings)),
            }
        if ranks.world > 1:
            options["distributed_executor_backend"] = "external_launcher"
        if self.adapters:
            largest = max(config.r for config in self.adapters.values())
            rank = next((r for r in _RANKS_OF_ADAPTERS if r >= largest), largest)
            options |= {"enable_lora": True, "max_loras": len(self.adapters), "max_lora_rank": rank}
        return options

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Puts weights in place."""
        pairs = iter(weights.items())
        _call(
            "refuses the weights",
            lambda: self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": pairs}),
        )

    def exchange(self, old: LoRARequest | None, model: PreTrainedModel) -> LoRARequest:
        """Puts the model's active adapter in the place of an old one (None: there is none); returns
        vLLM's name of it.
        """
        from vllm.lora.request import LoRARequest

        engine = self.llm.llm_engine
        if old:
            engine.remove_lora(old.lora_int_id)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            new = LoRARequest(f"adapter{self.pushed}", self.pushed, folder)
            _call("refuses the adapter", lambda: engine.add_lora(new))
        return new

    def sleep(self) -> None:
        if self.sleeps and not self.asleep:
            self.llm.sleep(level=1)
            self.asleep = True

    def wake(self) -> None:
        if self.asleep:
            self.llm.wake_up()
            self.asleep = False


# Each lives as long as the process: one that went would take down what vLLM's engines of a process
# have in common.
_CORES: dict[PreTrainedModel, _Core] = {}


def _core(model: PreTrainedModel, ranks: Ranks) -> _Core:
    """The vLLM of a model, started when it is first needed."""
    if model not in _CORES:
        _CORES[model] = _Core(model, ranks)
    return _CORES[model]


def _call(failure: str, act: Callable[[], T]) -> T:
    """Does something with vLLM, whose errors are many, and raises them as one."""
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    try:
        return act()
    except (
        RuntimeError,
        AssertionError,
        OSError,
        ValueError,
        EngineDeadError,
        EngineGenerateError,
    ) as error:
        raise ValueError(
            f"vLLM {failure}: {type(error).__name__}: {str(error).strip()}. Nothing it generated "
            "since the last update is counted. Remedy: if the model or the machine is not for "
            "vLLM, sampling.engine hf; else run again, it goes on from the last checkpoint."
        ) from error
