"""A choice: a file of a plug-in folder and its parameters, checked against the file's own function.
And the text that names content.

Parameters are the keyword-only arguments of the file's function: the function is the schema.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    JsonValue,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
)

from ccpo import advantage, benchmark, credit, intervention, objective, team
from ccpo.document import near as near
from ccpo.files import canonical

FOLDERS: dict[str, Any] = {
    "benchmark": benchmark,
    "team": team,
    "credit": credit,
    "advantage": advantage,
    "objective": objective,
    "intervention": intervention,
}
FUNCTIONS = {
    "benchmark": "tasks",
    "team": "team",
    "credit": "credit",
    "advantage": "advantage",
    "objective": "loss",
    "intervention": "alter",
}

COMMON = {
    "advantage": ("per_token",),
    "objective": ("kl", "kl_target", "kl_horizon", "entropy"),
    "intervention": ("agents",),
}  # keys that every file of a folder has beside its own


# Of a setting that came after runs had been named: at its default, which is what runs did before,
# it is no part of what is written or named, so that these runs keep names and results.
LATER: dict[str, JsonValue] = {"later": True}


class Strict(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _without_later(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings marked LATER are left out at their default."""
        written: dict[str, Any] = handler(self)
        for name, field in type(self).model_fields.items():
            if field.json_schema_extra == LATER and getattr(self, name) == field.default:
                written.pop(name, None)
        return written


class Choice(Strict):
    """A file of a plug-in folder, all of its parameters (defaults filled in) and its VERSION."""

    name: str
    params: dict[str, Any] = {}
    version: int = 0


def parameters(kind: str, name: str) -> dict[str, inspect.Parameter]:
    """Keyword-only parameters of a plug-in's function: its config schema."""
    function = getattr(FOLDERS[kind].load(name), FUNCTIONS[kind])
    return {
        k: p
        for k, p in inspect.signature(function).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }


def resolve(kind: str, value: object) -> dict[str, Any]:
    """`name` or {name: ..., parameter: ...} as a Choice with every parameter checked and filled in.

    Raises:
        ValueError: no such file, or an unknown, missing or ill-typed parameter.
    """
    written = _one(kind, value)
    common = {key: written.pop(key) for key in COMMON.get(kind, ()) if key in written}
    if set(written) == {"name", "params", "version"}:
        written = {"name": written["name"], **written["params"]}
    name = str(written.pop("name"))
    known = FOLDERS[kind].names()
    if name not in known:
        raise ValueError(f"{kind} '{name}' is not a file in ccpo/{kind}/. {near(name, known)}")
    params = _filled(kind, name, written)
    return {"name": name, "params": params, "version": FOLDERS[kind].load(name).VERSION, **common}


def _filled(kind: str, name: str, written: Mapping[str, object]) -> dict[str, object]:
    """All parameters of a plug-in: those written, checked, and the defaults of the others."""
    schema = parameters(kind, name)
    hints = _hints(kind, FOLDERS[kind].load(name), schema)
    for key in written:
        if key not in schema:
            raise ValueError(f"{kind} {name} has no parameter '{key}'. {near(key, list(schema))}")
    params = {}
    for key, parameter in schema.items():
        if key not in written and parameter.default is inspect.Parameter.empty:
            raise ValueError(f"{kind} {name} needs the parameter '{key}'")
        value = written.get(key, parameter.default)
        try:
            params[key] = TypeAdapter(hints[key]).validate_python(value, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(f"{kind} {name}, parameter {key}={value!r}: {reason}") from None
    return params


def _one(kind: str, value: object) -> dict[str, Any]:
    """The block of a single choice.

    Raises:
        ValueError: it is a list of choices, or names none.
    """
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return dict(value)
    remedy = (
        f"Remedy: name one, as `{kind}: NAME` or `{kind}: {{name: NAME, parameter: ...}}`; to "
        f"compare several, list them in grid.{kind}"
    )
    if kind == "benchmark":
        remedy += (
            ". A run trains on one benchmark; others to evaluate on stand in a protocol's `also`"
        )
    raise ValueError(f"{kind} must be a single file of ccpo/{kind}/, it is {value!r}. {remedy}")


def _hints(
    kind: str, module: ModuleType, schema: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    """Types of the parameters alone: what else a function takes may be of a library that is not
    loaded.
    """
    # of the file that defines it, which another file may only name
    names = getattr(module, FUNCTIONS[kind]).__globals__
    return {
        k: eval(p.annotation, names) if isinstance(p.annotation, str) else p.annotation
        for k, p in schema.items()
    }


def fingerprint(value: object) -> str:
    """First 8 hex digits of the sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:8]
