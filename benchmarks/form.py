"""How the package reads, in numbers. `python benchmarks/form.py`, and of another commit with
`--at REV`.

Lines over 100 columns; functions in lines as `ruff format --line-length 88` lays them out;
expression nodes a statement (docstrings and imports left out); assignments that pack a tuple into a
tuple; uses of `Any`; the most arguments that a function takes (`self` not counted, nor what is a
plug-in's config schema, see SCHEMA); words that DESIGN took out of the vocabulary, as names and in
comments and docstrings; and the rooms of the package: lines, and what they import from each other.
tests/test_form.py and tests/test_architecture.py hold what this prints.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100
PACKED = 0.027  # the largest share of packed assignments in the codebases we learn from
ARGUMENTS = 6

# Words of an earlier vocabulary. A name that has one of the first among its parts, or that is one
# of the second, is an old one; the third are the words of both that plain English does not need.
PARTS = {"song", "heard", "sing", "grove", "groves", "voices", "trunks", "lots", "learnt"} | {
    "riders",
    "teach",
    "improve",
    "study",
    "studies",
}
WHOLE = {"said", "found", "given", "told", "here", "mine", "some"} | {
    "Speaker",
    "Draw",
    "Tail",
    "enter",
    "bare",
    "live",
}
PRIVATE = {"song", "heard", "grove", "voices", "trunks", "riders", "study", "studies"}
STANDARD = re.compile(r"free_?rider", re.IGNORECASE)  # the field's own word

FILES = {"live"}  # operate/live.py shows an experiment live
CHECKER = re.compile(r"\s*# (?:type:|noqa).*")

COMMAND_LINE = "__main__.py"  # the functions it decorates are verbs: their arguments are options
# Functions of a plug-in whose keyword-only parameters are its config schema, and may be many.
SCHEMA = {
    "credit/ccpo_v1.py": {"credit", "remember"},
    "benchmark/arithmetic.py": {"demos"},
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(root: Path = ROOT) -> dict[str, str]:
    """Sources of the package in `root`, by path below ccpo/."""
    package = root / "ccpo"
    paths = sorted(package.rglob("*.py"))
    return {path.relative_to(package).as_posix(): path.read_text() for path in paths}


def at(revision: str, folder: Path) -> Path:
    """A root with the package as it was at a commit, unpacked into `folder`.

    Raises:
        ValueError: git knows no such commit.
    """
    command = ["git", "-C", str(ROOT), "archive", revision, "ccpo"]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        reason = archive.stderr.decode().strip()
        raise ValueError(f"--at {revision}: {reason}. Remedy: a commit of this repository")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as members:
        members.extractall(folder)  # of our own making; not every 3.11 knows filters
    return folder


# -- imports


def room(file: str) -> str:
    """The first part of a path below ccpo/: a folder, or a file that stands alone."""
    return file.removesuffix(".py").split("/")[0]


def imported(file: str, source: str, known: set[str]) -> set[str]:
    """What a file imports, at its head or inside a function: files below ccpo/ (of those that are
    `known`), and first names of libraries.
    """
    out = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first = name.split(".")[0]
            out.add(_file_of(name, known) if first == "ccpo" else first)
    return out - {file}


def _file_of(name: str, known: set[str]) -> str:
    """The file that holds `ccpo.a.b.name`: the longest part that is a module or a package."""
    parts = name.split(".")[1:]
    while parts:
        for path in ("/".join(parts) + ".py", "/".join(parts) + "/__init__.py"):
            if path in known:
                return path
        parts.pop()
    return "__init__.py"


@dataclass(frozen=True)
class Room:
    """Lines of a room, the rooms that it imports, and the rooms that import it."""

    lines: int
    imports: set[str]
    importers: set[str]


def rooms(sources: Mapping[str, str]) -> dict[str, Room]:
    """Every room of the package. Its `__init__` is no room: what it holds is version numbers."""
    known = set(sources)
    lines: Counter[str] = Counter()
    imports: dict[str, set[str]] = defaultdict(set)
    importers: dict[str, set[str]] = defaultdict(set)
    for file, source in sources.items():
        lines[room(file)] += len(source.splitlines())
        for other in imported(file, source, known) & known:
            if room(other) not in (room(file), "__init__"):
                imports[room(file)].add(room(other))
                importers[room(other)].add(room(file))
    return {name: Room(lines[name], imports[name], importers[name]) for name in lines}


# -- statements


def long_lines(source: str) -> list[int]:
    """Numbers of the lines that are too long, by the rule of ruff's E501: a closing comment to a
    checker does not count, nor does a line of one word, which cannot be broken.
    """
    lines = [CHECKER.sub("", line) for line in source.splitlines()]
    return [n for n, line in enumerate(lines, 1) if len(line) > WIDTH and len(line.split()) > 1]


def functions(source: str) -> Iterator[tuple[Function, str]]:
    """Every function of a file, methods and inner ones too, with its dotted name."""

    def below(node: ast.AST, path: str) -> Iterator[tuple[Function, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function | ast.ClassDef):
                name = f"{path}{child.name}"
                if isinstance(child, Function):
                    yield child, name
                yield from below(child, f"{name}.")
            else:
                yield from below(child, path)

    yield from below(ast.parse(source), "")


def lines_of(function: Function) -> int:
    """Lines of a function from its `def` to its end, decorators left out."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def arguments(file: str, function: Function) -> int:
    """How many arguments a function takes, `self`, a config schema and a verb's options not
    counted.
    """
    taken = function.args
    ordered = [*taken.posonlyargs, *taken.args]
    if ordered and ordered[0].arg in ("self", "cls"):
        ordered = ordered[1:]
    is_schema = function.name in SCHEMA.get(file, ())
    if file == COMMAND_LINE and function.decorator_list:
        return 0
    return len(ordered) + (0 if is_schema else len(taken.kwonlyargs))


def expression_nodes(source: str) -> list[int]:
    """Expression nodes of each statement, those of the statements below it left out."""
    out = []
    for statement in ast.walk(ast.parse(source)):
        if not isinstance(statement, ast.stmt) or isinstance(
            statement, ast.Import | ast.ImportFrom
        ):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        out.append(sum(isinstance(node, ast.expr) for node in _own(statement)))
    return out


def _own(statement: ast.stmt) -> Iterator[ast.AST]:
    """Nodes of a statement without those of the statements below it."""
    waiting = list(ast.iter_child_nodes(statement))
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.stmt):
            yield node
            waiting += ast.iter_child_nodes(node)


def assignments(source: str) -> tuple[int, int]:
    """How many assignments there are, and how many of them pack a tuple into a tuple. A swap, in
    which a name stands on both sides, is one idea.
    """
    every = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assign)]
    return len(every), sum(_packs(node) for node in every)


def _packs(node: ast.Assign) -> bool:
    target = node.targets[0]
    if not isinstance(target, ast.Tuple | ast.List) or not isinstance(node.value, ast.Tuple):
        return False
    sides = (
        {ast.dump(part) for part in ast.walk(side) if isinstance(part, ast.Name | ast.Attribute)}
        for side in (_loaded(target), node.value)
    )
    return not set.intersection(*sides)


def _loaded(target: ast.expr) -> ast.expr:
    """A target as if it were read, so that it can be compared with what is."""
    return ast.parse(ast.unparse(target), mode="eval").body


def uses_of_any(source: str) -> int:
    """How often `Any` is used, its imports not counted."""
    nodes = ast.walk(ast.parse(source))
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in nodes)


# -- words


def names_bound(file: str, source: str) -> set[str]:
    """Every name that a file gives: of itself, of functions, classes, arguments, variables,
    attributes, and of what it imports under another name.
    """
    out = set(file.removesuffix(".py").split("/")) - FILES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function | ast.ClassDef):
            out.add(node.name)
        elif isinstance(node, ast.arg):
            out.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            out.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            out.add(node.attr)
        elif isinstance(node, ast.alias) and node.asname:
            out.add(node.asname)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            out.add(node.name)
    return out


def old_words(file: str, source: str) -> set[str]:
    """Names of a file that are, or have in them, a word of the earlier vocabulary."""
    return {name for name in names_bound(file, source) if _is_old(name)}


def _is_old(name: str) -> bool:
    if name.startswith("__"):
        return False
    plain = STANDARD.sub("", name.strip("_"))
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", plain)
    return plain in WHOLE or any(part.lower() in PARTS for part in parts)


def prose(source: str) -> str:
    """Comments and docstrings of a file."""
    read = io.StringIO(source).readline
    comments = [t.string for t in tokenize.generate_tokens(read) if t.type == tokenize.COMMENT]
    documented = Function | ast.ClassDef | ast.Module
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
    return "\n".join([*comments, *(ast.get_docstring(node) or "" for node in nodes)])


def old_words_in_prose(source: str) -> int:
    """How often comments and docstrings use a word that is no plain English there."""
    words = re.findall(r"[a-z]+", STANDARD.sub("", prose(source)).lower())
    return sum(word in PRIVATE for word in words)


# -- the page


def formatted(sources: Mapping[str, str], width: int) -> dict[str, str]:
    """The sources as ruff lays them out at a width."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for file, source in sources.items():
            path = root / "ccpo" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "--quiet"]
        subprocess.run([*ruff, "--line-length", str(width), folder], check=True)
        return files(root)


def report(sources: Mapping[str, str]) -> list[str]:
    """The lines of the page."""
    narrow = formatted(sources, 88)
    lengths = {
        f"{file}:{name}": lines_of(function)
        for file, source in narrow.items()
        for function, name in functions(source)
    }
    taken = {
        f"{file}:{name}": arguments(file, function)
        for file, source in sources.items()
        for function, name in functions(source)
    }
    nodes = [n for source in sources.values() for n in expression_nodes(source)]
    every, packed = map(sum, zip(*(assignments(s) for s in sources.values()), strict=True))
    long = sum(len(long_lines(source)) for source in sources.values())
    deciles = statistics.quantiles(lengths.values(), n=10)
    most = max(taken, key=lambda name: taken[name])
    out = [
        f"lines                           {sum(len(s.splitlines()) for s in sources.values()):,}",
        f"lines over {WIDTH} columns          {long}",
        f"functions                       {len(lengths):,}",
        "  lines at 88 columns           "
        f"median {statistics.median(lengths.values()):g}, p90 {deciles[-1]:g}, "
        f"max {max(lengths.values())}",
        f"  longer than 40                {sum(n > 40 for n in lengths.values())}",
        f"  with more than {ARGUMENTS} arguments    {sum(n > ARGUMENTS for n in taken.values())}",
        f"  most arguments                {taken[most]} ({most})",
        "expression nodes a statement    "
        f"median {statistics.median(nodes):g}, mean {statistics.mean(nodes):.1f}",
        f"packed assignments              {packed} of {every:,} ({packed / every:.1%})",
        f"uses of Any                     {sum(map(uses_of_any, sources.values()))}",
    ]
    longest = sorted(lengths, key=lambda name: -lengths[name])[:3]
    out += ["longest functions               " + ", ".join(f"{n} {lengths[n]}" for n in longest)]
    return [*out, "", *_words(sources), "", *_rooms(sources)]


def _words(sources: Mapping[str, str]) -> list[str]:
    """Old words: names by room, and prose as a whole."""
    names: dict[str, Counter[str]] = defaultdict(Counter)
    for file, source in sources.items():
        names[room(file)].update(old_words(file, source))
    total = sum(sum(counts.values()) for counts in names.values())
    out = [f"old words as names              {total}"]
    for name, counts in sorted(names.items()):
        if counts:
            out.append(f"  {name:30}" + ", ".join(f"{w} {n}" for w, n in counts.most_common()))
    in_prose = sum(map(old_words_in_prose, sources.values()))
    return [*out, f"old words in comments           {in_prose}"]


def _rooms(sources: Mapping[str, str]) -> list[str]:
    """The table of rooms, the largest first."""
    table = rooms(sources)
    total = sum(entry.lines for entry in table.values())
    inside: Counter[str] = Counter()
    for file, source in sources.items():
        if file.count("/") > 1:
            inside[file.rpartition("/")[0]] += len(source.splitlines())
    out = [f"{'room':14}{'lines':>7}{'share':>8}  imports | is imported by"]
    for name, entry in sorted(table.items(), key=lambda item: -item[1].lines):
        arrows = f"{', '.join(sorted(entry.imports))} | {', '.join(sorted(entry.importers))}"
        out.append(f"{name:14}{entry.lines:7,}{entry.lines / total:8.1%}  {arrows}")
        for package, lines in inside.items():
            if package.startswith(f"{name}/"):
                out.append(f"  of these {lines:,} ({lines / total:.1%}) in {package}/")
    return out


def main() -> None:
    """Prints the page."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--at", metavar="REV", help="a commit; the working tree by default")
    revision = options.parse_args().at
    with tempfile.TemporaryDirectory() as folder:
        try:
            root = at(revision, Path(folder)) if revision else ROOT
        except ValueError as error:
            options.error(str(error))
        sources = files(root)
    print("\n".join(report(sources)))


if __name__ == "__main__":
    main()
