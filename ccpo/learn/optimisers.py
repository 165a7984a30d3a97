"""How a policy takes a step: AdamW on weights that every rank holds in full, or sharded over the
ranks by DeepSpeed (ZeRO).

Both add up the gradients of all ranks, clip their norm and keep float32 weights: where the model is
bfloat16, steps of a usual learning rate would vanish in its rounding, so it computes with a rounded
copy. What they save is the same too, full tensors by name, so that a run may go on with other
ranks or another stage. Only parameters that require a gradient when the optimiser is made are its
own.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from ccpo.models import policy
from ccpo.ranks import ALONE, UNSHARDED, Ranks, Sharding

MOMENTS = ("exp_avg", "exp_avg_sq")
EPS = 1e-8  # AdamW's, as published
# elements up to which stage 3 leaves a parameter unsharded: gathering it would cost more than it
# frees
KEPT_FULL = 100_000

Saved = dict[str, Any]  # tensors by name; of moments also the number of steps
Report = TypeVar("Report")
# of a model: a loss, and what else is reported of it
Loss = Callable[[Any], tuple[torch.Tensor, Report]]


class Optimiser(Protocol):
    """What `update_policy` and a checkpoint need. All ranks call everything but `backward`, of
    which each calls its own share.
    """

    def backward(self, loss: Loss[Report]) -> tuple[float, Report]:
        """Adds the gradient of loss(model); returns loss and report."""
        ...

    def dummy_backward(self, loss: Loss[Report]) -> None:
        """Stands for one `backward` that other ranks have and this one has not; adds nothing."""
        ...

    def step(self, lr: float) -> float:
        """Clips the sum of all gradients, moves the weights, forgets the gradients; returns the
        norm before clipping.
        """
        ...

    def gathered(self) -> AbstractContextManager[None]:
        """A context in which every rank holds the model's weights in full, to play and to save; no
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


class Settings(Protocol):
    """What AdamW is told; a run's `train` block is such."""

    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...
    @property
    def grad_clip(self) -> float: ...


@dataclass(frozen=True)
class AdamWSettings:
    """Settings given by themselves."""

    lr: float
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 1.0


def make(
    model: torch.nn.Module,
    settings: Settings,
    ranks: Ranks = ALONE,
    sharding: Sharding = UNSHARDED,
) -> Optimiser:
    """The optimiser of a model's parameters. Stage 0 is without DeepSpeed, which would do the same
    sum and the same step.
    """
    return (
        Sharded(model, settings, ranks, sharding)
        if sharding.stage
        else Plain(model, settings, ranks)
    )


def check_names(named: dict[str, torch.nn.Parameter], weights: Saved, moments: Saved) -> None:
    """Raises a ValueError where what was saved is not of the parameters `named`."""
    if unmatched := sorted((set(named) ^ set(weights)) | (set(moments) ^ {"step", *MOMENTS})):
        raise ValueError(
            f"the checkpoint is not of this model and version of ccpo: {', '.join(unmatched[:3])} "
            f"({len(unmatched)} in all) are in one only. "
            "Remedy: delete the run's folder in scratch/ to start anew."
        )


class Plain:
    """AdamW; every rank holds everything."""

    def __init__(self, model: torch.nn.Module, settings: Settings, ranks: Ranks = ALONE) -> None:
        self.model = model
        self.ranks = ranks
        self.clip = settings.grad_clip
        self.parameters = policy.trainable(model)
        self.masters = {name: _master(parameter) for name, parameter in self.parameters.items()}
        self.adamw = torch.optim.AdamW(
            self.masters.values(),
            lr=settings.lr,
            betas=settings.betas,
            eps=EPS,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def backward(self, loss: Loss[Report]) -> tuple[float, Report]:
        """See Optimiser."""
        value, report = loss(self.model)
        value.backward()
        return float(value.detach()), report

    def dummy_backward(self, loss: Loss[Report]) -> None:
        """See Optimiser: nobody waits for it."""

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
        for parameter, master in zip(self.parameters.values(), self.masters.values(), strict=True):
            if parameter is not master:
                parameter.copy_(master)

    def gathered(self) -> AbstractContextManager[None]:
        """See Optimiser: they always are."""
        return nullcontext()

    def state(self) -> tuple[Saved, Saved]:
        """See Optimiser."""
        if not self.ranks.first:
            return {}, {}
        states = {
            name: self.adamw.state[master]
            for name, master in self.masters.items()
            if master in self.adamw.state
        }
        weights = {name: master.detach() for name, master in self.masters.items()}
        step = max((int(state["step"]) for state in states.values()), default=0)
        moments = {key: {name: state[key] for name, state in states.items()} for key in MOMENTS}
        return weights, {"step": step, **moments}

    @torch.no_grad()
    def load(self, weights: Saved, moments: Saved) -> None:
        """See Optimiser."""
        check_names(self.parameters, weights, moments)
        for name, master in self.masters.items():
            master.copy_(weights[name])
            if moments["step"]:
                copies = {
                    key: torch.empty_like(master).copy_(moments[key][name]) for key in MOMENTS
                }
                # a fused step reads its number on the parameter's device
                step = torch.tensor(float(moments["step"]), device=master.device)
                self.adamw.state[master] = {"step": step, **copies}
        self._round()


def _master(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    """The parameter, or the float32 copy that takes its steps and collects its gradients."""
    if parameter.dtype == torch.float32:
        return parameter
    master = torch.nn.Parameter(parameter.detach().float())

    def collect(rounded: torch.Tensor) -> None:
        if rounded.grad is not None:
            gradient = rounded.grad
            master.grad = gradient.float() if master.grad is None else master.grad.add_(gradient)
            rounded.grad = None

    parameter.register_post_accumulate_grad_hook(collect)
    return master


class Sharded:
    """AdamW under DeepSpeed's ZeRO: each rank holds a share of the moments and float32 weights, of
    the gradients too (stage 2), of the weights that the model computes with too (stage 3: of one
    optimiser only). With `offload` the moments and float32 weights live in main memory.
    """

    def __init__(
        self, model: torch.nn.Module, settings: Settings, ranks: Ranks, sharding: Sharding
    ) -> None:
        self.model = model
        self.ranks = ranks
        self.stage = sharding.stage
        self.parameters = policy.trainable(model)
        self.shapes = {name: parameter.shape for name, parameter in self.parameters.items()}
        parameters = list(self.parameters.values())
        # fused: without the compiler that DeepSpeed's own Adam for CPUs needs
        self.adamw = torch.optim.AdamW(
            parameters,
            lr=settings.lr,
            betas=settings.betas,
            eps=EPS,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        with redirect_stdout(io.StringIO()):  # tables of memory
            self.engine = _deepspeed().initialize(
                model=_LossModule(model),
                optimizer=self.adamw,
                model_parameters=parameters,
                config=_zero_config(parameters, settings, sharding),
                dist_init_required=False,
            )[0]

    def backward(self, loss: Loss[Report]) -> tuple[float, Report]:
        """See Optimiser."""
        value, report = self.engine(loss)
        # DeepSpeed takes means over ranks, these are parts of a sum
        self.engine.backward(value * self.ranks.world)
        return float(value.detach()), report

    def dummy_backward(self, loss: Loss[Report]) -> None:
        """See Optimiser: all ranks must gather and reduce equally often."""
        self.engine.backward(self.engine(loss)[0] * 0.0)

    def step(self, lr: float) -> float:
        """See Optimiser."""
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.engine.step()
        norm = float(self.engine.get_global_grad_norm())
        return norm if norm >= 0 else float("nan")  # DeepSpeed says -1

    @contextmanager
    def gathered(self) -> Iterator[None]:
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
        for name, parameter in self.parameters.items():
            tensors = [(weights, safe_get_full_fp32_param(parameter))]
            if step:
                tensors += [
                    (moments[key], safe_get_full_optimizer_state(parameter, key)) for key in MOMENTS
                ]
            for by_name, tensor in tensors if self.ranks.first else ():
                by_name[name] = tensor.detach().reshape(self.shapes[name]).cpu()
        return weights, {"step": step, **moments}

    def load(self, weights: Saved, moments: Saved) -> None:
        """See Optimiser."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        check_names(self.parameters, weights, moments)
        for name, parameter in self.parameters.items():
            safe_set_full_fp32_param(parameter, weights[name])
        # a step of length 0 makes the moments, which are not there before the first, and shows the
        # model its weights
        self.backward(_zero_loss)
        self.step(0.0)
        for name, parameter in self.parameters.items():
            for key in MOMENTS if moments["step"] else ():
                safe_set_full_optimizer_state(parameter, moments[key][name], key)
        for state in self.adamw.state.values():
            state["step"].fill_(moments["step"])

    def _steps(self) -> int:
        return max((int(state["step"]) for state in self.adamw.state.values()), default=0)


class _LossModule(torch.nn.Module):
    """A model as DeepSpeed wants it: what is computed with it is computed inside a forward."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss: Loss[Report]) -> tuple[torch.Tensor, Report]:
        return loss(self.model)


def _zero_loss(model: Any) -> tuple[torch.Tensor, None]:
    """A loss of 0 that all weights take part in."""
    token_ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    return model(input_ids=token_ids).logits.sum() * 0.0, None


def _zero_config(
    parameters: Sequence[torch.nn.Parameter], settings: Settings, sharding: Sharding
) -> dict[str, Any]:
    """DeepSpeed's configuration."""
    # buffers of this size are made, whatever the model's
    bucket = min(500_000_000, sum(p.numel() for p in parameters))
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,  # a step is when `step` is called
        "gradient_clipping": settings.grad_clip,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {
            "stage": sharding.stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "stage3_param_persistence_threshold": KEPT_FULL,
            **({"offload_optimizer": {"device": "cpu"}} if sharding.offload else {}),
        },
    }
    if {p.dtype for p in parameters} == {torch.bfloat16}:
        config |= {
            "bf16": {"enabled": True},
            "data_types": {"grad_accum_dtype": "fp32"},
            "communication_data_type": "fp32",
        }
    return config


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
