"""The verdict on a Python program: its calls run shut away (grade/sandbox/isolation.py), what they
give is compared outside of it.

The program's process is told the calls and never the expected values; it sends back plain data
(plain.py), which is read, not run, and compared with builtin equality in this process. So an object
that claims to equal everything, a patched builtin, a faked exit code or a forged reply is worth no
more than the data it sends: to be right, it must know the answer.
"""

from __future__ import annotations

import ast
import builtins
import functools
import json
from dataclasses import dataclass

from ccpo.grade.sandbox import blocks, isolation, plain
from ccpo.grade.sandbox.blocks import program
from ccpo.grade.sandbox.isolation import describe

__all__ = ["Graded", "called", "complete", "describe", "grade", "program"]

_KEYS = {
    "preamble": str,
    "setup": str,
    "calls": list,
    "compare": str,
    "rtol": float,
    "atol": float,
    "float_atol": float,
}


@dataclass(frozen=True)
class Graded:
    """Whether every test passed, the share that did (0 to 1), and the reason in words: of the first
    that did not, or "passed".
    """

    passed: bool
    fraction: float
    reason: str


@dataclass(frozen=True)
class _Tests:
    """Tests as read: `right` holds for each call the values that are right, the expected one first;
    None: not yet filled in.
    """

    preamble: str
    setup: str
    calls: list[str]
    right: list[list[object]] | None
    compare: str
    rtol: float
    atol: float
    float_atol: float


def called(tests: str) -> frozenset[str]:
    """The names that tests call and that a program must therefore define.

    Raises:
        ValueError: the tests are malformed.
    """
    return _called(_parse(tests))


@functools.lru_cache(maxsize=512)
def _names(code: str) -> frozenset[str]:
    """Names that an expression reads and does not bind itself (in a lambda, in a loop)."""
    nodes = list(ast.walk(blocks.parse(code) or ast.Module([], [])))
    bound = {node.arg for node in nodes if isinstance(node, ast.arg)}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return frozenset(node.id for node in names) - bound


def _called(asked: _Tests) -> frozenset[str]:
    read = frozenset().union(*(_names(call) for call in asked.calls))
    setup = blocks.Block(asked.setup, blocks.parse(asked.setup))
    return read - setup.defines() - set(dir(builtins))


def grade(program: str, tests: str) -> Graded:
    """Runs the program and compares what its calls give. Takes up to isolation.SECONDS of processor
    time; may be called from any thread.

    tests: made by `ccpo.benchmark.checks`.

    Raises:
        ValueError: the tests are malformed, there are none, or their expected values have not been
            filled in (see `complete`).
        RuntimeError: the sandbox did not start.
    """
    asked = _parse(tests)
    if asked.right is None:
        raise ValueError(
            "sandbox: these tests have no expected values. Remedy: fill them in from the gold "
            "program with sandbox.complete."
        )
    replies = isolation.run([asked.preamble, program, asked.setup], asked.calls)
    verdicts = [
        _verdict(line, right, asked)
        for line, right in zip(replies.lines, asked.right, strict=False)
    ]
    good = sum(verdict == "" for verdict in verdicts)
    first = next((i for i, verdict in enumerate(verdicts) if verdict), len(verdicts))
    if good == len(asked.calls):
        return Graded(True, 1.0, "passed")
    reason = verdicts[first] if first < len(verdicts) else replies.ending
    return Graded(
        False,
        good / len(asked.calls),
        f"{asked.calls[first]:.100}: {reason}" if replies.lines else replies.ending,
    )


def complete(task_truth: str, gold: str) -> str:
    """The tests with the expected values that the gold program gives; tests that have them already
    are returned as they are.

    Raises:
        ValueError: the gold program fails, with the reason, or the tests are malformed.
        RuntimeError: the sandbox did not start. process.Late: no verdict was reached.
    """
    asked = _parse(task_truth)
    if asked.right is not None:
        return task_truth
    replies = isolation.run([asked.preamble, gold, asked.setup], asked.calls)
    for call, line in zip(asked.calls, replies.lines, strict=False):
        if not line.startswith("="):
            raise ValueError(
                f"sandbox: the gold program fails at {call:.100}: {isolation.reason(line)}"
            )
        plain.read(line[1:])
    if len(replies.lines) < len(asked.calls):
        raise ValueError(
            f"sandbox: the gold program answers {len(replies.lines)} of {len(asked.calls)} "
            f"calls: {replies.ending}"
        )
    return json.dumps({**json.loads(task_truth), "expected": [line[1:] for line in replies.lines]})


@functools.lru_cache(maxsize=512)
def _parse(text: str) -> _Tests:
    try:
        data = json.loads(text)
        fields = {key: data[key] for key in _KEYS}
        also = {
            int(call): [plain.read(value) for value in values]
            for call, values in data.get("also", {}).items()
        }
        expected = [plain.read(value) for value in data["expected"]] if "expected" in data else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"sandbox: '{text:.80}' is no set of tests: {type(error).__name__}: {error}. {_MADE}"
        ) from None
    calls = fields["calls"]
    wrong = [
        f"{key}={fields[key]!r:.40}"
        for key, kind in _KEYS.items()
        if not isinstance(fields[key], kind)
    ]
    wrong += (
        ["calls that are not text"] * (not all(isinstance(call, str) for call in calls))
        if not wrong
        else []
    )
    wrong += [f"compare='{fields['compare']}'"] * (fields["compare"] not in ("equal", "root"))
    wrong += ["no calls"] * (calls == [])
    if expected is not None and len(expected) != len(calls):
        wrong.append(f"{len(expected)} expected values for {len(calls)} calls")
    if wrong or any(not 0 <= call < len(calls) for call in also):
        raise ValueError(
            "sandbox: malformed tests: "
            f"{'; '.join(wrong) or 'other values for a call that does not exist'}. {_MADE}"
        )
    right = (
        None
        if expected is None
        else [[value, *also.get(i, [])] for i, value in enumerate(expected)]
    )
    return _Tests(**{**fields, "right": right})


_MADE = "Remedy: make them with ccpo.benchmark.checks."


def _verdict(line: str, right: list[object], asked: _Tests) -> str:
    """Why a reply is wrong ("": it is right)."""
    if not line.startswith("="):
        return (
            isolation.reason(line)
            if line.startswith("!")
            else "a reply that is not of the protocol"
        )
    try:
        answer = plain.read(line[1:])
    except ValueError as error:
        return f"a reply that cannot be read: {error}"
    same = _root if asked.compare == "root" else _same
    return "" if any(same(answer, value, asked) for value in right) else f"gives {line[1:80]}"


def _same(answer: object, expected: object, asked: _Tests) -> bool:
    if answer == expected:
        return True
    floating = isinstance(expected, float) or (
        isinstance(expected, list | tuple)
        and len(expected) > 0
        and all(isinstance(x, float) for x in expected)
    )
    atol = asked.atol or (asked.float_atol if floating else 0.0)
    return (
        atol > 0 and type(answer) is type(expected) and _close(answer, expected, asked.rtol, atol)
    )


def _close(answer: object, expected: object, rtol: float, atol: float) -> bool:
    if isinstance(answer, list | tuple) and isinstance(expected, list | tuple):
        return len(answer) == len(expected) and all(
            _close(a, e, rtol, atol) for a, e in zip(answer, expected, strict=True)
        )
    if not isinstance(answer, int | float | complex) or not isinstance(
        expected, int | float | complex
    ):
        return False
    try:
        return answer == expected or abs(answer - expected) <= atol + rtol * abs(expected)
    except OverflowError:  # an int beyond all floats
        return False


def _root(answer: object, coefficients: object, asked: _Tests) -> bool:
    if not isinstance(answer, int | float) or not isinstance(coefficients, list):
        return False
    try:
        return abs(sum(c * float(answer) ** i for i, c in enumerate(coefficients))) < asked.atol
    except OverflowError:
        return False
