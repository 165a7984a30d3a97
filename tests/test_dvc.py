"""DVC from a fresh clone: the stage makes the bytes that dvc.lock pins, a remote gives them back, a
second run leaves them alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from ccpo import benchmark, schema
from ccpo.config import read_yaml

SOURCES = {s.path: s for name in benchmark.names() for s in benchmark.load(name).SOURCES.values()}


def run(folder: Path, *command: str, fails: bool = False, **environment: str) -> str:
    """Output of a command in a folder that succeeds (or fails, where that is asked for)."""
    paths = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    given = (
        {k: v for k, v in os.environ.items() if k != "CCPO_DATA_MIRROR"}
        | paths
        | {"DVC_NO_ANALYTICS": "1"}
        | environment
    )
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository of the tracked files as they are now, committed or not."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    origin = tmp_path / "origin"
    names = [
        name
        for name in run(ROOT, "git", "ls-files", "-co", "--exclude-standard").splitlines()
        if (ROOT / name).is_file()
    ]
    for name in names:
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, origin / name, follow_symlinks=False)
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    run(origin, "git", "init", "-q")
    run(origin, "git", "add", "-A")
    run(origin, "git", *who, "commit", "-qm", "all")
    return origin


def clone(origin: Path, name: str, remote: Path) -> Path:
    """A fresh clone with a remote of its own, said in the file that git does not track."""
    folder = origin.parent / name
    run(origin.parent, "git", "clone", "-q", str(origin), name)
    run(folder, "dvc", "remote", "add", "-q", "-d", "--local", "local", str(remote))
    return folder


def raw(folder: Path) -> dict[str, str]:
    """Name below data/raw -> sha256."""
    at = folder / "data" / "raw"
    return {p.relative_to(at).as_posix(): schema.sha256(p) for p in at.rglob("*") if p.is_file()}


def test_the_stage_keeps_what_is_verified() -> None:
    """DVC deletes the outputs of a stage before it runs, unless told otherwise."""
    stage = read_yaml(ROOT / "dvc.yaml")["stages"]["data"]
    assert stage["outs"] == [{"data/raw": {"persist": True}}]
    assert stage["always_changed"]
    assert "deps" not in stage


def test_base_models_are_made_on_purpose_only_and_pinned_by_the_lock(repository: Path) -> None:
    """Git brings them, so that a clone without a remote has them; one byte changed is seen; what
    other stages do leaves them alone."""
    stage = read_yaml(ROOT / "dvc.yaml")["stages"]["base_models"]
    assert stage["frozen"]
    assert stage["outs"] == [{"config/base_models": {"cache": False, "persist": True}}]
    folder = clone(repository, "fresh", repository.parent / "remote")
    base = folder / "config" / "base_models"
    before = schema.sha256(base)

    def status() -> object:
        said = run(folder, "dvc", "status", "--json", "base_models")
        return json.loads(said.splitlines()[0])  # warnings follow

    mend = "dvc.lock is not that of config/base_models. Remedy: dvc commit -f base_models"
    assert status() == {}, mend
    assert "didn't change, skipping" in run(folder, "dvc", "repro", "base_models")
    assert schema.sha256(base) == before
    assert run(folder, "git", "status", "--porcelain") == ""
    weights = base / "smoke" / "0" / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    assert status() == {"base_models": [{"changed outs": {"config/base_models": "modified"}}]}
    run(folder, "git", "checkout", "--", "config/base_models")
    assert status() == {}


def test_no_tool_changes_the_bytes_of_base_models(repository: Path) -> None:
    """Git that writes the ends of lines of another system leaves them as they are."""
    run(repository.parent, "git", "clone", "-q", "-c", "core.autocrlf=true", "origin", "other")
    found = repository.parent / "other" / "config" / "base_models"
    for base in (p.parent for p in found.rglob("config.json")):
        kept = ROOT / "config" / "base_models" / base.relative_to(found)
        assert schema.sha256(base) == schema.sha256(kept)
    assert b"\r\n" in (repository.parent / "other" / "README.md").read_bytes()


@pytest.mark.skipif(
    "CCPO_DATA_MIRROR" not in os.environ,
    reason="needs the raw files: set CCPO_DATA_MIRROR to a folder that has them",
)
def test_repro_push_and_pull_from_fresh_clones(repository: Path, tmp_path: Path) -> None:
    wanted = {path: source.sha256 for path, source in SOURCES.items()}
    first = clone(repository, "first", tmp_path / "remote")
    run(first, "dvc", "repro", "data", CCPO_DATA_MIRROR=os.environ["CCPO_DATA_MIRROR"])
    assert raw(first) == wanted
    changed = run(first, "git", "status", "--porcelain")
    assert changed == "", (
        "dvc.lock is not that of the sources in ccpo/benchmark/. Remedy: rm -rf data/raw; dvc "
        f"repro data; commit it.\n{changed}"
    )
    run(first, "dvc", "push", "-q")

    second = clone(repository, "second", tmp_path / "remote")
    run(second, "dvc", "pull", "-q")
    assert raw(second) == wanted

    # another prompt is no reason to fetch: nothing can be fetched here, and the files are the same
    # ones
    edited = second / "ccpo" / "benchmark" / "gsm8k.py"
    edited.write_text(edited.read_text() + "# an edit\n")
    before = {p: p.stat().st_ino for p in (second / "data" / "raw").rglob("*")}
    run(second, "dvc", "repro", "data", CCPO_DATA_MIRROR=str(tmp_path / "empty"))
    assert {p: p.stat().st_ino for p in (second / "data" / "raw").rglob("*")} == before
    assert run(second, "git", "status", "--porcelain").split() == ["M", "ccpo/benchmark/gsm8k.py"]
