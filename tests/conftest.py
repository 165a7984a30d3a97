"""Small fixtures: a tiny untaught model, an arithmetic task table, run configs."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ccpo.evaluate.parts import Sources

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
ROOT = Path(__file__).resolve().parent.parent
NUMERIC = {"numpy", "pandas", "torch"}
SPEC = {
    "source": "warm_start",
    "benchmark": "arithmetic",
    "teams": ["single", "think_solve", "vote"],
    "hidden": 16,
    "layers": 1,
    "heads": 2,
    "batch": 16,
    "lr": 1e-2,
    "steps": 10,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as numeric what is in a file that imports a library of numbers: what may depend on
    kernels.
    """
    for item in items:
        imported = vars(getattr(item, "module", object)).values()
        if NUMERIC & {value.__name__ for value in imported if isinstance(value, ModuleType)}:
            item.add_marker("numeric")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Says which kernels the libraries use; in words that -q leaves."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or hasattr(session.config, "workerinput"):
        return
    import torch  # noqa: F401

    from ccpo import lineage

    found = lineage.kernels()
    switches = [f"{name}={value}" for name, value in found.switches.items()]
    terminal.write_line(
        f"kernels: torch {found.torch}; {', '.join(switches) or 'nothing switched'}"
    )


def run_data(**over: Any) -> dict[str, Any]:
    """A small run as a mapping; `train` and other blocks given in `over` replace keys of the
    defaults.
    """
    base: dict[str, Any] = {
        "benchmark": {"name": "arithmetic", "operations": 2, "n_train": 32, "n_test": 8},
        "team": "think_solve",
        "credit": "ccpo",
        "model": {"name": "test", "spec": SPEC},
        "policy": "separate",
        "sampling": {"max_tokens": [6, 6]},
        "train": {
            "steps": 4,
            "tasks": 4,
            "fanout": [4, 1],
            "lr": 1e-3,
            "period": 1,
            "minibatches": 2,
        },
        "seed": 0,
    }
    for key, value in over.items():
        merge = isinstance(base.get(key), dict) and isinstance(value, dict) and "name" not in value
        base[key] = {**base[key], **value} if merge else value
    return base


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with random weights of the tiny architecture."""
    import torch

    from ccpo.config import WarmStart
    from ccpo.models import policy, prepare

    torch.manual_seed(0)
    torch.set_num_threads(1)
    spec = WarmStart.model_validate(SPEC)
    tokenizer = prepare.tiny_tokenizer(prepare.roles_of(spec.teams))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    policy.save(prepare.tiny_model(spec, tokenizer), tokenizer, folder)
    return folder


@pytest.fixture
def files(tmp_path: Path, tiny: Path) -> dict[str, Path]:
    """config.json, task table, model, scratch and output folder of the run of `run_data()`."""
    return make_files(tmp_path, tiny)


def make_files(folder: Path, model: Path, /, **over: Any) -> dict[str, Path]:
    """Writes the inputs of a training run into `folder`."""
    from ccpo import schema
    from ccpo.config import RunConfig, canonical
    from ccpo.data import door

    run = RunConfig.model_validate(run_data(**over))
    folder.mkdir(parents=True, exist_ok=True)
    schema.write_text(folder / "config.json", canonical(run.model_dump(mode="json")))
    door.tasks(run.benchmark, folder / "tasks.parquet")
    named = {"config": "config.json", "tasks": "tasks.parquet", "scratch": "scratch", "out": "out"}
    return {**{k: folder / v for k, v in named.items()}, "model": model}


def make_protocol(folder: Path, /, **over: Any) -> Path:
    """Writes a small protocol into `folder`, named by its content as the workflow names it."""
    from ccpo import schema
    from ccpo.config import Protocol, canonical

    protocol = Protocol.model_validate({"name": "test", "tasks": 8, **over})
    path = folder / "protocols" / f"{protocol.id}.json"
    schema.write_text(path, canonical(protocol.model_dump(mode="json")))
    return path


def sources(files: dict[str, Path], protocol: Path, **over: Any) -> Sources:
    """What an evaluation of a run of `make_files` is made from."""
    from ccpo.evaluate.parts import Sources

    untrained = files["model"]
    named = {
        "config": files["config"],
        "provenance": files["out"] / "provenance.json",
        "protocol": protocol,
        "trained_on": files["tasks"],
        "tasks": (files["tasks"],),
        "model": files["out"] / "model",
        "untrained": (untrained,) if isinstance(untrained, Path) else tuple(untrained),
    }
    return Sources(**{**named, **over})


@pytest.fixture
def lively(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untaught model earns nothing, and would not move: here about half of all messages are
    right, by the letters they hold.
    """
    from ccpo.grade.verifier import Verdict, ballots, spelling
    from ccpo.play import rollout

    def verify(text: str, truth: str, kind: str, tolerance: float) -> Verdict:
        return Verdict(text[:2] or None, sum(map(ord, text)) % 2 == 0)

    # of training only: the data door keeps the true one
    stub = SimpleNamespace(
        verify_many=lambda items: (verify(*x) for x in items),
        in_order=lambda function, items: (function(*x) for x in items),
        ballots=ballots,
        equal=spelling,
        spelling=spelling,
        Verdict=Verdict,
    )
    monkeypatch.setattr(rollout, "verifier", stub)


@pytest.fixture
def smooth(monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW divides each gradient by its own size, so that one which is rounding only makes whole
    steps, and every processor's kernels round in their own way: biases of keys, which a softmax
    hardly sees, go where they like. With an eps far above rounding (1e-7 of gradients near 1) a
    step is a smooth function of the gradient, and weights can be compared. All else is as it is:
    the sum over ranks, clipping, decay, moments and their correction.
    """
    from ccpo.learn import optimisers

    monkeypatch.setattr(optimisers, "EPS", 1e-3)


def apart(one: dict[str, Any], two: dict[str, Any], start: dict[str, Any]) -> float:
    """How far two trainings differ in any tensor, as a share of the way it went from `start`. What
    rested in both differs by nothing.
    """
    assert one.keys() == two.keys() <= start.keys()
    assert one, "nothing is compared"
    shares = []
    for name in one:
        difference = float((two[name] - one[name]).norm())
        way = float((one[name] - start[name]).norm())
        shares.append(difference / way if way else difference * float("inf") if difference else 0.0)
    return max(shares)


def conforming(package: ModuleType, name: str) -> ModuleType:
    """A plug-in's file that holds what its folder's contract asks for. A failure says what is
    missing and how to write it.
    """
    module = importlib.import_module(f"{package.__name__}.{name}")
    contract = package.CONTRACT
    complaints = [*contract.breaches(module), *contract.undocumented(module)]
    assert not complaints, "\n".join(complaints)
    return module
