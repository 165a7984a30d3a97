"""The program in a completion: which of its blocks of code are run.

The rule, in order:

1. A completion that is a Python program as it stands is the program.
2. Else its blocks are the fenced ones tagged as Python, and those without a tag that read as Python
   and define something. A fence may be indented, and may lack its end (the completion was cut
   off) or its beginning (the prompt ended with it). It ends at the first bare fence up to which
   the block reads as Python: a docstring may hold fences itself.
3. The solution is the last block that defines a name which the tests call (by def or class where
   any does): what comes after it is example usage, what came before it and defines the same was
   revised. Where none does, it is the last block that defines a function or a class, else the last
   block.
4. To it are added, in the order of the text, the blocks that define what it uses and does not
   define itself, and what they need likewise: of several blocks with one name the last before it.

A block is run as a whole; blocks that are not chosen (usage, output, revised attempts) are not run,
so that an error in an example is no error of the solution.
"""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[ \t]*([^\n`]*?)[ \t\r]*$")
_PYTHON = re.compile(r"(?:i?python|py)[\d.]*", re.IGNORECASE)
_PARSES = 64  # of one completion: a hostile one may hold thousands of fences
_ENDS = 8  # fences at which one block may end
_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Block:
    """Code, and its syntax (None: it does not read as Python)."""

    code: str
    module: ast.Module | None

    def solid(self) -> set[str]:
        """Names of the functions and classes that it defines."""
        body = self.module.body if self.module else []
        return {node.name for node in body if isinstance(node, _DEFINES)}

    def defines(self) -> set[str]:
        """Names that are bound when it has run."""
        return set(_bound(self.module.body)) if self.module else set()

    def needs(self) -> set[str]:
        """Names that it reads and does not bind itself."""
        if self.module is None:
            return set()
        read = {
            node.id
            for node in ast.walk(self.module)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        return read - self.defines()


def program(text: str, wanted: Collection[str] = ()) -> str | None:
    """The program in a completion, or None where there is none.

    wanted: names that the tests call.
    """
    whole = parse(text)
    if whole and any(isinstance(n, (*_DEFINES, ast.Assign)) for n in whole.body):
        return text
    blocks = _Reader(text).blocks()
    if not blocks:
        return None
    chosen = {_solution(blocks, set(wanted))}
    missing = sorted(chosen)
    for index in missing:
        for name in sorted(blocks[index].needs()):
            source = _source(blocks, index, name)
            if source is not None and source not in chosen:
                chosen.add(source)
                missing.append(source)
    return "\n".join(blocks[index].code for index in sorted(chosen))


def parse(code: str) -> ast.Module | None:
    """The syntax of Python code, None where it is none."""
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _solution(blocks: list[Block], wanted: set[str]) -> int:
    """The last block that defines what is wanted, a function or a class before another value."""
    for names in (
        [wanted & block.solid() for block in blocks],
        [wanted & block.defines() for block in blocks],
        [block.solid() for block in blocks],
    ):
        if any(names):
            return max(index for index, defined in enumerate(names) if defined)
    return len(blocks) - 1


def _source(blocks: list[Block], user: int, name: str) -> int | None:
    """The block that gives a name to another: the last before it, else the first after it."""
    sources = [index for index, block in enumerate(blocks) if name in block.defines()]
    before = [index for index in sources if index < user]
    return before[-1] if before else sources[0] if sources else None


def _bound(statements: Iterable[ast.stmt]) -> Iterable[str]:
    """Names that statements of a module bind, those of its branches and loops included."""
    for node in statements:
        if isinstance(node, _DEFINES):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield (alias.asname or alias.name).split(".")[0]
        else:
            inner = ("body", "orelse", "finalbody")
            for part in inner:
                yield from _bound(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from _bound(handler.body)
            for child in ast.walk(node) if not hasattr(node, "body") else ():
                if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                    yield child.id


class _Reader:
    """The blocks of a completion, read line by line."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.parses = 0
        numbered = ((number, _FENCE.match(line)) for number, line in enumerate(self.lines))
        self.fences = [(number, match) for number, match in numbered if match]

    def blocks(self) -> list[Block]:
        """All blocks that may be Python, in order."""
        out = []
        past = 0  # the line after the last block
        if self.fences and not self.fences[0][1][3]:
            before = self._block(0, self.fences[0][0], "")
            if before.solid():  # its beginning stands in the prompt
                out.append(before)
                past = self.fences[0][0] + 1
        for index, (number, fence) in enumerate(self.fences):
            if number < past:
                continue
            python = _PYTHON.fullmatch(fence[3].split(" ")[0]) is not None
            block, past = self._fenced(index, python or not fence[3])
            if python or (not fence[3] and block.defines()):
                out.append(block)
        return out

    def _fenced(self, index: int, python: bool) -> tuple[Block, int]:
        """The block that a fence opens, and the line after it."""
        number, opening = self.fences[index]
        closing = (
            line
            for line, fence in itertools.islice(self.fences, index + 1, None)
            if not fence[3] and fence[2].startswith(opening[2])
        )
        ends = list(itertools.islice(closing, _ENDS)) or [len(self.lines)]
        if python:
            for end in ends:
                block = self._block(number + 1, end, opening[1])
                if block.module:
                    return block, end + 1
        return Block(self._code(number + 1, ends[0], opening[1]), None), ends[0] + 1

    def _block(self, start: int, end: int, indent: str) -> Block:
        code = self._code(start, end, indent)
        self.parses += 1
        if self.parses > _PARSES:
            return Block(code, None)
        return Block(code, parse(code))

    def _code(self, start: int, end: int, indent: str) -> str:
        """Lines without the indentation of their fence, or what they have in common."""
        lines = [
            line.removeprefix(indent) if line.strip() else line for line in self.lines[start:end]
        ]
        code = "\n".join(lines) + "\n" * (start < end < len(self.lines))
        return textwrap.dedent(code) if indent or code[:1] in " \t" else code
