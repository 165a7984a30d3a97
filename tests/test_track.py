"""The import into MLflow adds nothing twice, and never fails or holds up an experiment."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from test_study import made_up

from ccpo import schema
from ccpo.evaluate.analyse import analyse
from ccpo.publish import track

pytestmark = pytest.mark.filterwarnings("ignore")


def made(folder: Path, uri: str) -> track.Source:
    """A made-up experiment with its statistics."""
    experiment, runs = made_up(folder, n_seeds=1)
    analyse(experiment=experiment, runs=runs, stats=folder / "stats.json")
    return track.Source(experiment, runs, folder / "stats.json", uri)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, which takes seconds to make."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(empty: Path, tmp_path: Path) -> str:
    """A store of its own."""
    shutil.copy(empty, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_tracking_twice_imports_once(tmp_path: Path, store: str) -> None:
    from mlflow.tracking import MlflowClient

    source = made(tmp_path, store)
    out = tmp_path / "mlflow.json"
    for _ in range(2):
        assert track.track(source, out) == ""
    client = MlflowClient(source.uri)
    ids = schema.read_json(out)
    runs = client.search_runs([ids["experiment_id"]])
    assert {r.info.run_id for r in runs} == set(ids["runs"].values())
    assert len(runs) == 2
    history = client.get_metric_history(ids["runs"]["other.s0"], "agent0/reward")
    assert [m.value for m in history] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_holds_nothing_up(
    tmp_path: Path, store: str, silent_server: str
) -> None:
    """The command ends well, in the ten seconds and what Python takes to start, and says how to
    try again; that command is then one that works.
    """
    source = made(tmp_path, silent_server)
    out = tmp_path / "mlflow.json"
    command = shlex.split(source.command(out))
    assert command[0] == "python"
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, *command[1:]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < track.PATIENCE + 30  # of which imports are most
    assert "warning: not all of" in done.stderr
    assert source.command(out) in done.stderr
    record = schema.read_json(out)
    assert source.command(out) in record["warning"]
    assert record["runs"] == {}
    again = track.Source(source.experiment, source.runs, source.stats, store)
    assert track.track(again, out) == ""
    assert "warning" not in schema.read_json(out)


def test_a_server_that_is_away_is_a_warning(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    source = made(tmp_path, f"http://127.0.0.1:{port}")
    start = time.monotonic()
    warning = track.track(source, tmp_path / "mlflow.json")
    assert time.monotonic() - start < track.PATIENCE + 5
    assert "To try again: python -m ccpo track" in warning


def test_a_server_that_drips_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run takes ten times as long as it may: given up after the patience and a few runs."""
    monkeypatch.setattr(track, "EACH", 0.02)

    def drip() -> Iterator[None]:
        for _ in range(100):
            time.sleep(0.2)
            yield

    start = time.monotonic()
    assert "not done in 0.5 seconds" in track._watched(drip(), 0.5)
    assert time.monotonic() - start < 2

    def quick() -> Iterator[None]:
        for _ in range(100):
            time.sleep(0.01)
            yield

    assert track._watched(quick(), 0.5) == ""  # a second in all, but each run is quick


def test_an_experiment_deleted_there_is_named_with_the_remedy(tmp_path: Path, store: str) -> None:
    from mlflow.tracking import MlflowClient

    source = made(tmp_path, store)
    out = tmp_path / "mlflow.json"
    assert track.track(source, out) == ""
    deleted = schema.read_json(out)["experiment_id"]
    MlflowClient(source.uri).delete_experiment(deleted)
    warning = track.track(source, out)
    assert f"mlflow experiments restore --experiment-id {deleted}" in warning


def test_a_run_that_is_not_there_keeps_no_other_out(tmp_path: Path, store: str) -> None:
    source = made(tmp_path, store)
    shutil.rmtree(source.runs / "plain.s0")
    out = tmp_path / "mlflow.json"
    warning = track.track(source, out)
    assert "1 of its runs are not there (plain.s0)" in warning
    assert list(schema.read_json(out)["runs"]) == ["other.s0"]


@pytest.mark.parametrize("broken", ["no mlflow", "no stats"])
def test_what_is_broken_is_a_warning(
    broken: str, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = made(tmp_path, store)
    if broken == "no mlflow":
        for name in ("mlflow", "mlflow.tracking"):
            monkeypatch.setitem(sys.modules, name, None)
    else:
        source.stats.write_text("{")
    warning = track.track(source, tmp_path / "mlflow.json")
    assert "The experiment is whole without it. To try again:" in warning
    assert (tmp_path / "mlflow.json").is_file()
