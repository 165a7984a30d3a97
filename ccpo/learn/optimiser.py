"""How a policy takes a step: AdamW on weights that every rank holds whole, or sharded over the
ranks by DeepSpeed (ZeRO).

Both add up the gradients of all ranks, clip their norm and keep float32 weights: where the model is
bfloat16, steps of a usual learning rate would vanish in its rounding, so it computes with a rounded
copy. What they save is the same too, whole tensors by name, so that a run may go on with other
ranks or another stage. Only parameters that require a gradient when the optimiser is made are its
own.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any, Protocol

import torch

from ccpo.config.run import Train
from ccpo.models import policy
from ccpo.ranks import ALONE, WHOLE, Ranks, Sharding

MOMENTS = ("exp_avg", "exp_avg_sq")
EPS = 1e-8  # AdamW's, as published
# elements up to which stage 3 leaves a parameter whole: gathering it would cost more than it frees
KEPT_WHOLE = 100_000

Saved = dict[str, Any]
Loss = Callable[
    ..., tuple[torch.Tensor, dict[str, Any]]
]  # of a model and more: a loss, and what else was found


class Optimiser(Protocol):
    """What `improve` and a checkpoint need. All ranks call everything but `backward`, of which each
    calls its own share.
    """

    def backward(self, loss: Loss, *arguments: Any) -> tuple[float, dict[str, Any]]:
        """Adds the gradient of loss(model, *arguments); gives what it gave."""
        ...

    def idle(self, loss: Loss, *arguments: Any) -> None:
        """Stands for one `backward` that other ranks have and this one has not; adds nothing."""
        ...

    def step(self, lr: float) -> float:
        """Clips the sum of all gradients, moves the weights, forgets the gradients; gives the norm
        before clipping.
        """
        ...

    def whole(self) -> Any:
        """A context in which the model's weights are whole on every rank, to play and to save; no
        step is taken inside.
        """
        ...

    def state(self) -> tuple[Saved, Saved]:
        """Float32 weights by name, and {"step", "exp_avg": by name, "exp_avg_sq": by name}; empty
        but on the first rank.
        """
        ...

    def load(self, weights: Saved, moments: Saved) -> None:
        """Goes on from a `state`.

        Raises:
            ValueError: it is of other parameters.
        """
        ...


def make(model: Any, train: Train, ranks: Ranks = ALONE, sharding: Sharding = WHOLE) -> Optimiser:
    """The optimiser of a model's parameters. Stage 0 is without DeepSpeed, which would do the same
    sum and the same step.
    """
    return Sharded(model, train, ranks, sharding) if sharding.stage else Plain(model, train, ranks)


def fits(named: dict[str, Any], weights: Saved, moments: Saved) -> None:
    """Raises a ValueError where what was saved is not of the parameters `named`."""
    if odd := sorted((set(named) ^ set(weights)) | (set(moments) ^ {"step", *MOMENTS})):
        raise ValueError(
            f"the checkpoint is not of this model and version of ccpo: {', '.join(odd[:3])} "
            f"({len(odd)} in all) are in one only. "
            "Remedy: delete the run's folder in scratch/ to start anew."
        )


class Plain:
    """AdamW; every rank holds everything."""

    def __init__(self, model: Any, train: Train, ranks: Ranks = ALONE) -> None:
        self.model = model
        self.ranks = ranks
        self.clip = train.grad_clip
        self.own = policy.learnt(model)
        self.masters = {name: _master(parameter) for name, parameter in self.own.items()}
        self.adamw = torch.optim.AdamW(
            self.masters.values(), lr=train.lr, eps=EPS, weight_decay=train.weight_decay, fused=True
        )

    def backward(self, loss: Loss, *arguments: Any) -> tuple[float, dict[str, Any]]:
        """See Optimiser."""
        value, found = loss(self.model, *arguments)
        value.backward()
        return float(value.detach()), found

    def idle(self, loss: Loss, *arguments: Any) -> None:
        """Nobody waits."""

    def step(self, lr: float) -> float:
        """See Optimiser."""
        masters = list(self.masters.values())
        if self.ranks.world > 1:
            for master in masters:
                if master.grad is None:  # this rank's share gave none
                    master.grad = torch.zeros_like(master)
            self.ranks.add_up(master.grad for master in masters)
        norm = torch.nn.utils.clip_grad_norm_(masters, self.clip)
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        self._round()
        return float(norm)

    @torch.no_grad()
    def _round(self) -> None:
        """Shows the model its new weights, where they are not the same tensors."""
        for parameter, master in zip(self.own.values(), self.masters.values(), strict=True):
            if parameter is not master:
                parameter.copy_(master)

    def whole(self) -> Any:
        """They always are."""
        return nullcontext()

    def state(self) -> tuple[Saved, Saved]:
        """See Optimiser."""
        if not self.ranks.first:
            return {}, {}
        of = {
            name: self.adamw.state[master]
            for name, master in self.masters.items()
            if master in self.adamw.state
        }
        moments: Saved = {key: {name: state[key] for name, state in of.items()} for key in MOMENTS}
        step = max((int(state["step"]) for state in of.values()), default=0)
        return {name: master.detach() for name, master in self.masters.items()}, {
            "step": step,
            **moments,
        }

    @torch.no_grad()
    def load(self, weights: Saved, moments: Saved) -> None:
        """See Optimiser."""
        fits(self.own, weights, moments)
        for name, master in self.masters.items():
            master.copy_(weights[name])
            if moments["step"]:
                copies = {
                    key: torch.empty_like(master).copy_(moments[key][name]) for key in MOMENTS
                }
                self.adamw.state[master] = {"step": torch.tensor(float(moments["step"])), **copies}
        self._round()


def _master(parameter: Any) -> Any:
    """The parameter, or the float32 copy that takes its steps and collects its gradients."""
    if parameter.dtype == torch.float32:
        return parameter
    master = torch.nn.Parameter(parameter.detach().float())

    def collect(rounded: Any) -> None:
        master.grad = (
            rounded.grad.float() if master.grad is None else master.grad.add_(rounded.grad)
        )
        rounded.grad = None

    parameter.register_post_accumulate_grad_hook(collect)
    return master


class Sharded:
    """AdamW under DeepSpeed's ZeRO: each rank holds a share of the moments and float32 weights, of
    the gradients too (stage 2), of the weights that the model computes with too (stage 3: of one
    optimiser only). With `offload` the moments and float32 weights live in main memory.
    """

    def __init__(self, model: Any, train: Train, ranks: Ranks, sharding: Sharding) -> None:
        self.model = model
        self.ranks = ranks
        self.stage = sharding.stage
        self.own = policy.learnt(model)
        self.shapes = {name: parameter.shape for name, parameter in self.own.items()}
        mixed = {p.dtype for p in self.own.values()} == {torch.bfloat16}
        parameters = list(self.own.values())
        # fused: without the compiler that DeepSpeed's own Adam for CPUs needs
        self.adamw = torch.optim.AdamW(
            parameters, lr=train.lr, eps=EPS, weight_decay=train.weight_decay, fused=True
        )
        # buffers of this size are made, whatever the model's
        bucket = min(500_000_000, sum(p.numel() for p in parameters))
        config: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "managed_gradient_accumulation": False,  # a step is when we say so
            "gradient_clipping": train.grad_clip,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "zero_optimization": {
                "stage": sharding.stage,
                "reduce_bucket_size": bucket,
                "allgather_bucket_size": bucket,
                "stage3_param_persistence_threshold": KEPT_WHOLE,
                **({"offload_optimizer": {"device": "cpu"}} if sharding.offload else {}),
            },
        }
        if mixed:
            config |= {
                "bf16": {"enabled": True},
                "data_types": {"grad_accum_dtype": "fp32"},
                "communication_data_type": "fp32",
            }
        with redirect_stdout(io.StringIO()):  # tables of memory
            self.engine = _deepspeed().initialize(
                model=_Called(model),
                optimizer=self.adamw,
                model_parameters=parameters,
                config=config,
                dist_init_required=False,
            )[0]

    def backward(self, loss: Loss, *arguments: Any) -> tuple[float, dict[str, Any]]:
        """See Optimiser."""
        value, found = self.engine(loss, *arguments)
        # DeepSpeed takes means over ranks, ours are parts of a sum
        self.engine.backward(value * self.ranks.world)
        return float(value.detach()), found

    def idle(self, loss: Loss, *arguments: Any) -> None:
        """All ranks must gather and reduce equally often: an unneeded loss, times 0."""
        self.engine.backward(self.engine(loss, *arguments)[0] * 0.0)

    def step(self, lr: float) -> float:
        """See Optimiser."""
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.engine.step()
        norm = float(self.engine.get_global_grad_norm())
        return norm if norm >= 0 else float("nan")  # DeepSpeed says -1

    @contextmanager
    def whole(self) -> Iterator[None]:
        """See Optimiser. Meanwhile no module gathers by itself, so that ranks need not compute in
        step.
        """
        if self.stage < 3:
            yield
            return
        offload = self.engine.optimizer.parameter_offload
        offload._remove_module_hooks()
        offload.forward_hooks = []
        offload.backward_hooks = []
        try:
            with _deepspeed().zero.GatheredParameters(list(self.model.parameters())):
                yield
        finally:
            offload.setup_zero_stage3_hooks()

    def state(self) -> tuple[Saved, Saved]:
        """See Optimiser. Tensor by tensor, so that only the first rank ever holds all."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        step = self._steps()
        weights: Saved = {}
        moments: dict[str, Saved] = {key: {} for key in MOMENTS}
        for name, parameter in self.own.items():
            found = [(weights, safe_get_full_fp32_param(parameter))]
            if step:
                found += [
                    (moments[key], safe_get_full_optimizer_state(parameter, key)) for key in MOMENTS
                ]
            for place, tensor in found if self.ranks.first else ():
                place[name] = tensor.detach().reshape(self.shapes[name]).cpu()
        return weights, {"step": step, **moments}

    def load(self, weights: Saved, moments: Saved) -> None:
        """See Optimiser."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        fits(self.own, weights, moments)
        for name, parameter in self.own.items():
            safe_set_full_fp32_param(parameter, weights[name])
        # a step of length 0 makes the moments, which are not there before the first, and shows the
        # model its weights
        self.backward(
            lambda model: (
                model(
                    input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device)
                ).logits.sum()
                * 0.0,
                {},
            )
        )
        self.step(0.0)
        for name, parameter in self.own.items():
            for key in MOMENTS if moments["step"] else ():
                safe_set_full_optimizer_state(parameter, moments[key][name], key)
        for state in self.adamw.state.values():
            state["step"].fill_(moments["step"])

    def _steps(self) -> int:
        return max((int(state["step"]) for state in self.adamw.state.values()), default=0)


class _Called(torch.nn.Module):
    """A model as DeepSpeed wants it: what is computed with it is computed inside a forward."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss: Loss, *arguments: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        return loss(self.model, *arguments)


def _deepspeed() -> Any:
    """DeepSpeed, which must compile nothing and say nothing, in the process group it needs, be it
    of one.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    import deepspeed
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # gloo does
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        os.environ.setdefault("LOCAL_RANK", "0")
        torch.distributed.init_process_group(
            backend, store=torch.distributed.HashStore(), rank=0, world_size=1
        )
    return deepspeed
