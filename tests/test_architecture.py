"""The house rules: imports go down a floor only, heavy libraries stay where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

from conftest import ROOT

FLOORS = [
    {"schema", "tree", "plain", "lease", "cluster", "ranks", "benchmark", "team"},
    {"credit", "play", "publish"},
    {"config"},
    {"learn"},
    {"study"},
    {"__main__"},
]
OWNERS = {
    "vllm": {"play/engine/vllm.py"},
    "mlflow": {"publish/lineage.py"},
    "dvc": {"publish/lineage.py"},
    "peft": {"learn/policy.py"},
    "deepspeed": {"learn/optimiser.py"},
    "yaml": {"config/experiment.py"},
    "pyarrow": {"schema.py"},
    "snakemake": set(),
}


def floor(part: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if part in names)


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{a.name}" for a in node.names]
    return found


def broken(files: dict[str, list[str]]) -> list[str]:
    """Breaches of the rules in {file below ccpo/: modules it imports}."""
    out = []
    for file, modules in files.items():
        mine = file.removesuffix(".py").split("/")[0]
        for module in modules:
            parts = module.split(".")
            if parts[0] in OWNERS and file not in OWNERS[parts[0]]:
                out.append(f"{file} imports {module}")
            if parts[0] == "ccpo" and len(parts) > 1 and mine != "__init__":
                theirs = parts[1]
                known = any(theirs in names for names in FLOORS)
                if known and theirs != mine and floor(theirs) >= floor(mine) and {theirs, mine} != {"tree", "schema"}:
                    same_ground = floor(theirs) == floor(mine) == 0
                    if not same_ground:
                        out.append(f"{file} imports {module}")
    return out


def test_imports_go_down_and_libraries_stay_at_home() -> None:
    package = ROOT / "ccpo"
    files = {p.relative_to(package).as_posix(): imports(p) for p in package.rglob("*.py")}
    assert broken(files) == []
    assert len(files) > 25


def test_the_check_can_fail() -> None:
    assert broken({"play/rollout.py": ["ccpo.learn.train"]})
    assert broken({"credit/shared.py": ["ccpo.play.rollout"]})
    assert broken({"publish/report.py": ["ccpo.play.verifier"]})
    assert broken({"config/run.py": ["mlflow.tracking"]})
    assert not broken({"learn/train.py": ["ccpo.play.rollout", "ccpo.config.RunConfig"]})


def test_nothing_names_a_registry_or_this_machine() -> None:
    for name in ("main.lock", "vllm.lock"):
        lock = (ROOT / "envs" / name).read_text()
        assert "://" not in lock
        assert "--hash=sha256:" in lock
        assert not any(line.startswith(("torch==", "nvidia-")) for line in lock.splitlines())
