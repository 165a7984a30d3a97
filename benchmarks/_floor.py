"""The matrix-product floor: what a piece of work multiplies, done alone on this machine."""

from __future__ import annotations

import functools
import statistics
from collections import Counter
from typing import Any

import _pairs
import torch
from torch.utils._python_dispatch import TorchDispatchMode

ATTEND = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
ATTEND_BACK = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
PRODUCTS = (
    torch.ops.aten.mm,
    torch.ops.aten.addmm,
    torch.ops.aten.bmm,
    torch.ops.aten.baddbmm,
    ATTEND,
    ATTEND_BACK,
)


class Products(TorchDispatchMode):
    """While it is entered, records every matrix product and attention kernel: operator, shapes,
    strides, formats.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in PRODUCTS:
            self.calls[
                func, tuple(map(_shape, args)), tuple((k, _shape(v)) for k, v in kwargs.items())
            ] += 1
        else:  # without gradients, operators made of others come here whole
            with self:
                done = func.decompose(*args, **kwargs)
            if done is not NotImplemented:
                return done
        return func(*args, **kwargs)

    def floor(self) -> tuple[float, float]:
        """Processor seconds that the recorded products take alone, with random numbers, and their
        floating-point operations.
        """
        total = flops = 0.0
        for (func, args, kwargs), times in self.calls.items():
            given = [_tensor(a) for a in args]
            call = functools.partial(func, *given, **{k: _tensor(v) for k, v in kwargs})
            call()
            total += times * statistics.median(_pairs.taken(call).cpu for _ in range(5))
            flops += times * _flops(
                func.overloadpacket, [a for a in given if isinstance(a, torch.Tensor)]
            )
        return total, flops


def _shape(value: Any) -> Any:
    return (
        (tuple(value.shape), value.stride(), value.dtype)
        if isinstance(value, torch.Tensor)
        else value
    )


def _tensor(value: Any) -> Any:
    if not (isinstance(value, tuple) and len(value) == 3 and isinstance(value[2], torch.dtype)):
        return value
    shape, stride, dtype = value
    size = 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    return (
        (torch.randn(size) if dtype.is_floating_point else torch.ones(size))
        .to(dtype)
        .as_strided(shape, stride)
    )


def _flops(packet: Any, given: list[torch.Tensor]) -> float:
    if packet in (ATTEND, ATTEND_BACK):  # two products forwards, five backwards
        q, k = given[:2] if packet is ATTEND else given[1:3]
        return (4 if packet is ATTEND else 10) * q.numel() * k.shape[-2]
    return 2.0 * given[-2].numel() * given[-1].shape[-1]
