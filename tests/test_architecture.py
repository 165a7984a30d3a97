"""The house rules: imports go down a floor only and never in a circle; heavy libraries stay where
they belong; no room is a cupboard.
"""

from __future__ import annotations

import graphlib
import re
from collections import Counter

import pytest
from conftest import ROOT

from benchmarks.form import files, imported, room

# From the ground up. A room imports from the floors below its own, and on the ground from its
# neighbours.
FLOORS = [
    {
        "__init__",
        "files",
        "schema",
        "document",
        "manifest",
        "tree",
        "lease",
        "ranks",
        "lineage",
        "merkle",
        "source",
        "contract",
        "grade",
    },
    {"benchmark", "team"},
    {"credit", "advantage", "objective", "intervention"},
    {"play", "publish"},
    {"config"},
    {"data", "models"},
    {"learn"},
    {"evaluate"},
    {"oracle", "operate"},
    {"audit"},
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


def broken(sources: dict[str, str]) -> list[str]:
    """Breaches of the rules, each with its remedy."""
    out = []
    known = set(files()) | set(sources)
    for file, source in sources.items():
        own = room(file)
        for other in sorted(imported(file, source, known)):
            if not other.endswith(".py"):
                if other in OWNERS and file not in OWNERS[other]:
                    owners = ", ".join(sorted(OWNERS[other])) or "no file"
                    out.append(
                        f"ccpo/{file} imports {other}, which only {owners} may. Remedy: ask that "
                        "file for what is needed"
                    )
                continue
            theirs = room(other)
            if theirs in (own, "__init__"):
                continue
            if own in ALONE:
                out.append(
                    f"ccpo/{file} imports ccpo/{other}; {own} is usable alone. Remedy: pass in "
                    "what it needs"
                )
            elif floor(theirs) > floor(own) or (floor(theirs) == floor(own) > 0):
                out.append(
                    f"ccpo/{file} (floor {floor(own)}) imports ccpo/{other} (floor "
                    f"{floor(theirs)}). Remedy: move what both need to a "
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
    lines: Counter[str] = Counter()
    for file, source in files().items():
        floor(room(file))
        package = file.rpartition("/")[0] or room(file)  # a package inside a room is one of its own
        lines[package] += len(source.splitlines())
    share = {name: count / lines.total() for name, count in lines.items()}
    largest = max(share, key=lambda name: share[name])
    assert share[largest] <= LARGEST, (
        f"ccpo/{largest} has {share[largest]:.0%} of all lines. Remedy: find the two rooms in it"
    )


def undrawn(readme: str, names: set[str]) -> tuple[list[str], list[str]]:
    """Rooms that the README's tree does not name, and rooms that it names and that are not there.

    Of each line below `ccpo/` the first word is a room's, and so are those that follow it and end
    as files and folders do.
    """
    tree = readme.split("## The tree")[1].split("\nccpo/\n")[1]
    lines = tree.split("\n```")[0].splitlines()
    below = [line for line in lines if line.startswith("  ")]
    drawn = {
        name.removesuffix(".py").removesuffix("/")
        for line in below
        for name in re.findall(r"\w+(?:\.py|/)(?=\s|$)", line)
    }
    return sorted(names - drawn), sorted(drawn - names)


def test_the_readme_draws_the_rooms_that_there_are() -> None:
    names = {room(file) for file in files()} - {"__init__"}
    missing, gone = undrawn((ROOT / "README.md").read_text(), names)
    assert not missing, (
        f"README.md, The tree, does not name {missing}. Remedy: say what each is for"
    )
    assert not gone, f"README.md, The tree, names {gone}, which ccpo/ has not. Remedy: take it out"


def test_a_room_that_the_readme_lacks_or_invents_is_named() -> None:
    readme = (ROOT / "README.md").read_text()
    names = {room(file) for file in files()} - {"__init__"}
    assert undrawn(readme, {*names, "attic"}) == (["attic"], [])
    assert undrawn(readme, names - {"oracle"}) == ([], ["oracle"])


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("play/rollout.py", "from ccpo.learn.train import train", "floor"),
        ("credit/shared.py", "from ccpo.play import rollout", "floor"),
        ("publish/report.py", "from ccpo.play import rollout", "floor"),
        ("grade/verifier.py", "from ccpo import schema", "usable alone"),
        ("config/run.py", "def f():\n    import mlflow.tracking", "only publish/track.py may"),
    ],
)
def test_the_check_can_fail(file: str, source: str, complaint: str) -> None:
    assert len(broken({file: source})) == 1
    assert complaint in broken({file: source})[0]
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
