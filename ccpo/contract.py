"""What a plug-in's file must hold, and the complaint where it does not: which file, what is
missing, how to write it. Whoever loads a file gets the complaint, and so do the conformance tests.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

KEYWORD = inspect.Parameter.KEYWORD_ONLY
EXAMPLES = {int: "1", str: '"a few words"', dict: "{...}", list: "[...]"}


@dataclass(frozen=True, eq=False)
class Contract:
    """The contract of a folder of plug-ins, told in full by the folder's own docstring.

    constants  name -> its type, or the values that are allowed
    functions  name -> arguments before the `*`
    schema     the function whose keyword-only parameters are the config schema; "": there is none
    accepts    the functions that are called with these parameters too
    docstring  what the docstring must say -> an example of it (for the conformance tests only)
    """

    constants: Mapping[str, type | tuple[str, ...]]
    functions: Mapping[str, tuple[str, ...]]
    schema: str = ""
    accepts: tuple[str, ...] = ()
    docstring: Mapping[str, str] = field(default_factory=dict)

    def breaches(self, module: ModuleType) -> list[str]:
        """What is missing in a file, each with its remedy."""
        out = [
            complaint
            for name, allowed in self.constants.items()
            if (complaint := _constant(module, name, allowed))
        ]
        functions = self._functions(module)
        for name, arguments in functions.items():
            out += _function(module, name, arguments, self._takes_params(name))
        if self.schema and callable(getattr(module, self.schema, None)):
            schema = _keywords(getattr(module, self.schema))
            out += _schema(module, self.schema, schema)
            for name in self.accepts:
                if name in functions and callable(getattr(module, name, None)):
                    out += _accepts(module, name, self.schema, list(schema))
        return out

    def undocumented(self, module: ModuleType) -> list[str]:
        """What the docstring of a file does not say."""
        text = module.__doc__ or ""
        return [
            f"{path(module)}: its docstring has no `{words}`. Remedy: {example}"
            for words, example in self.docstring.items()
            if words not in text
        ]

    def require(self, module: ModuleType) -> ModuleType:
        """The file itself.

        Raises:
            ValueError: it breaks the contract; with every breach.
        """
        breaches = _breaches(self, module)
        if breaches:
            raise ValueError("; ".join(breaches))
        return module

    def _functions(self, module: ModuleType) -> dict[str, tuple[str, ...]]:
        """The functions with their arguments; a file that remembers has one more, and a memory in
        its main one.
        """
        out = dict(self.functions)
        if "remember" in self.accepts and hasattr(module, "remember"):
            out[self.schema] = out["remember"] = (*out[self.schema], "memory")
        return out

    def _takes_params(self, name: str) -> bool:
        return name in (self.schema, *self.accepts)


@functools.cache
def _breaches(contract: Contract, module: ModuleType) -> tuple[str, ...]:
    """As `breaches`; a file is looked at once."""
    return tuple(contract.breaches(module))


def path(module: ModuleType) -> str:
    """Where a plug-in's file stands in the repository."""
    return f"{module.__name__.replace('.', '/')}.py"


def _contract_of(module: ModuleType) -> str:
    return f"{module.__name__.rpartition('.')[0].replace('.', '/')}/__init__.py"


def _constant(module: ModuleType, name: str, allowed: type | tuple[str, ...]) -> str:
    if isinstance(allowed, tuple):
        remedy = f"one of {', '.join(allowed)}"
    else:
        remedy = f"{name} = {EXAMPLES[allowed]}, see {_contract_of(module)}"
    if not hasattr(module, name):
        return f"{path(module)} has no {name}. Remedy: {remedy}"
    value = getattr(module, name)
    right = value in allowed if isinstance(allowed, tuple) else isinstance(value, allowed)
    return "" if right else f"{path(module)}: {name} = {value!r}. Remedy: {remedy}"


def _function(
    module: ModuleType, name: str, arguments: tuple[str, ...], takes_params: bool
) -> list[str]:
    wanted = ", ".join([*arguments, *(["**params"] if takes_params else [])])
    remedy = f"Remedy: def {name}({wanted}), see {_contract_of(module)}"
    function = getattr(module, name, None)
    if not callable(function):
        return [f"{path(module)} has no {name}(). {remedy}"]
    signature = inspect.signature(function).parameters.values()
    positional = [p.name for p in signature if p.kind is p.POSITIONAL_OR_KEYWORD]
    if positional != list(arguments):
        return [
            f"{path(module)}: {name}({', '.join(positional)}) does not take the arguments of the "
            f"contract. {remedy}; what is configured stands behind a `*`"
        ]
    return []


def _keywords(function: Any) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if p.kind is KEYWORD}


def _schema(
    module: ModuleType, function: str, schema: Mapping[str, inspect.Parameter]
) -> list[str]:
    """Every parameter of the config schema has a type and a default."""
    out = []
    for name, parameter in schema.items():
        for value, what, remedy in (
            (parameter.annotation, "type", f"{name}: float"),
            (parameter.default, "default", f"{name}: float = 0.5"),
        ):
            if value is inspect.Parameter.empty:
                out.append(
                    f"{path(module)}: {function}()'s parameter {name} has no {what}. Remedy: as "
                    f"in `{remedy}`"
                )
    return out


def _accepts(module: ModuleType, name: str, schema: str, wanted: list[str]) -> list[str]:
    """A function that is called with the config schema takes all of it, and nothing else."""
    parameters = inspect.signature(getattr(module, name)).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    refused = [key for key in wanted if key not in parameters]
    if not refused or takes_any:
        return []
    return [
        f"{path(module)}: {name}() does not take {', '.join(refused)}, which {schema}() has. "
        "Remedy: **_: object as its last argument"
    ]
