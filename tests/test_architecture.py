"""The house rules: imports go down a floor only and never in a circle; heavy libraries stay where
they belong; no room is a cupboard.
"""

from __future__ import annotations

import ast
import graphlib
from collections import defaultdict

import pytest
from conftest import ROOT

# From the ground up. A room imports from the floors below its own, and on the ground from its
# neighbours.
FLOORS = [
    {"__init__", "schema", "tree", "lease", "ranks", "lineage", "grade"},
    {"benchmark", "team"},
    {"credit", "advantage", "objective", "intervention"},
    {"play", "publish"},
    {"config"},
    {"data", "models"},
    {"learn"},
    {"evaluate"},
    {"oracle", "operate"},
    {"__main__"},
]
ALONE = {"grade"}  # imports nothing of ccpo
OWNERS = {
    "vllm": {"play/engine/vllm.py"},
    "mlflow": {"publish/track.py"},
    "dvc": set(),
    "peft": {"models/policy.py"},
    "deepspeed": {"learn/optimisers.py"},
    "yaml": {"config/reading.py"},
    "pyarrow": {"schema.py"},
    "snakemake": set(),
}
LARGEST = 0.15  # share of the package's lines that a room may have


def files() -> dict[str, str]:
    """Sources of the package by path below ccpo/."""
    package = ROOT / "ccpo"
    return {p.relative_to(package).as_posix(): p.read_text() for p in sorted(package.rglob("*.py"))}


def room(file: str) -> str:
    return file.removesuffix(".py").split("/")[0]


def floor(name: str) -> int:
    """Where a room stands.

    Raises:
        ValueError: nobody said where.
    """
    for number, names in enumerate(FLOORS):
        if name in names:
            return number
    raise ValueError(
        f"room ccpo/{name} stands on no floor. Remedy: add it to FLOORS in "
        "tests/test_architecture.py, above what it imports"
    )


def imported(file: str, source: str, known: set[str]) -> set[str]:
    """What a file imports, at its head or inside a function: files below ccpo/, and first names of
    libraries.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            found.add(_file_of(name, known) if name.split(".")[0] == "ccpo" else name.split(".")[0])
    return found - {file}


def _file_of(name: str, known: set[str]) -> str:
    """The file that holds `ccpo.a.b.name`: the longest part that is a module or a package."""
    parts = name.split(".")[1:]
    while parts:
        for path in ("/".join(parts) + ".py", "/".join(parts) + "/__init__.py"):
            if path in known:
                return path
        parts.pop()
    return "__init__.py"


def broken(sources: dict[str, str]) -> list[str]:
    """Breaches of the rules, each with its remedy."""
    out = []
    known = set(files()) | set(sources)
    for file, source in sources.items():
        here = room(file)
        for other in sorted(imported(file, source, known)):
            if not other.endswith(".py"):
                if other in OWNERS and file not in OWNERS[other]:
                    owners = ", ".join(sorted(OWNERS[other])) or "no file"
                    out.append(
                        f"ccpo/{file} imports {other}, which only {owners} may. Remedy: ask that "
                        "file for what is needed"
                    )
                continue
            there = room(other)
            if there in (here, "__init__"):
                continue
            if here in ALONE:
                out.append(
                    f"ccpo/{file} imports ccpo/{other}; {here} is usable alone. Remedy: pass in "
                    "what it needs"
                )
            elif floor(there) > floor(here) or (floor(there) == floor(here) > 0):
                out.append(
                    f"ccpo/{file} (floor {floor(here)}) imports ccpo/{other} (floor "
                    f"{floor(there)}). Remedy: move what both need to a "
                    "floor below, or pass it in"
                )
    return out


def circle(sources: dict[str, str]) -> list[str]:
    """A circle of imports between files, or nothing. A package's own file counts where it is named
    itself.
    """
    known = set(sources)
    graph = {
        file: {o for o in imported(file, source, known) if o in known and o != "__init__.py"}
        for file, source in sources.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_imports_go_down_and_libraries_stay_at_home() -> None:
    assert broken(files()) == []


def test_no_file_imports_itself_by_a_detour() -> None:
    assert circle(files()) == []


def test_every_room_has_a_floor_and_none_is_a_cupboard() -> None:
    lines: dict[str, int] = defaultdict(int)
    for file, source in files().items():
        lines[room(file)] += len(source.splitlines())
    assert all(floor(name) >= 0 for name in lines)
    share = {name: n / sum(lines.values()) for name, n in lines.items()}
    largest = max(share, key=lambda name: share[name])
    assert share[largest] <= LARGEST, (
        f"ccpo/{largest} has {share[largest]:.0%} of all lines. Remedy: find the two rooms in it"
    )


def test_the_readme_draws_the_rooms_that_there_are() -> None:
    drawn = (ROOT / "README.md").read_text().split("## The tree")[1]
    names = {room(file) for file in files()} - {"__init__", "__main__"}
    missing = sorted(name for name in names if name not in drawn)
    assert not missing, (
        f"README.md, The tree, does not name {missing}. Remedy: say what each is for"
    )


@pytest.mark.parametrize(
    ("file", "source", "said"),
    [
        ("play/rollout.py", "from ccpo.learn.train import train", "floor"),
        ("credit/shared.py", "from ccpo.play import rollout", "floor"),
        ("publish/report.py", "from ccpo.play import rollout", "floor"),
        ("grade/verifier.py", "from ccpo import schema", "usable alone"),
        ("config/run.py", "def f():\n    import mlflow.tracking", "only publish/track.py may"),
    ],
)
def test_the_check_can_fail(file: str, source: str, said: str) -> None:
    assert len(broken({file: source})) == 1
    assert said in broken({file: source})[0]
    assert not broken(
        {"learn/train.py": "from ccpo.play.rollout import play\nfrom ccpo.config import RunConfig"}
    )


def test_a_circle_and_a_room_without_a_floor_are_named() -> None:
    sources = files() | {"grade/process.py": "def f():\n    from ccpo.grade import verifier"}
    assert {"grade/process.py", "grade/verifier.py"} <= set(circle(sources))
    with pytest.raises(
        ValueError, match=r"room ccpo/attic stands on no floor\. Remedy: add it to FLOORS"
    ):
        broken({"attic/box.py": "from ccpo import schema"})


def test_nothing_names_a_registry_or_this_machine() -> None:
    for name in ("main.lock", "vllm.lock"):
        lock = (ROOT / "envs" / name).read_text()
        assert "://" not in lock
        assert "--hash=sha256:" in lock
        assert not any(line.startswith(("torch==", "nvidia-")) for line in lock.splitlines())
