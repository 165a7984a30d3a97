"""Documents are read through the type they were written with, or refused with place and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from ccpo import document, manifest
from ccpo.config import read_experiment
from ccpo.document import Document, Record
from ccpo.manifest import OracleManifest, TrainingManifest
from ccpo.publish import statistics


class Leaf(Record):
    share: float


class Note(Document):
    kind: Literal["note"] = "note"
    version: Literal[2] = 2
    leaves: dict[int, Leaf]


class Other(Document):
    kind: Literal["other"] = "other"
    version: Literal[1] = 1


def test_what_is_written_is_read_digit_for_digit(tmp_path: Path) -> None:
    note = Note(leaves={10: Leaf(share=0.1 + 0.2), 9: Leaf(share=1e-300)})
    note.write(tmp_path / "note.json")
    held = document.read(tmp_path / "note.json", Note)
    assert held == note
    assert list(held.leaves) == [10, 9]
    assert isinstance(document.read(tmp_path / "note.json", Other, Note), Note)


def test_not_a_number_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="finite"):
        Leaf(share=float("nan"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "other"}, "holds a document of kind 'other'; note is read. Remedy: name another"),
        ({"kind": None}, "holds no document of this project's; note is read. Remedy"),
        ({"version": 1}, "holds note of version 1, this code reads version 2. Remedy: delete it"),
        ({"version": None}, "holds note of version None"),
        ({"leaves": {"9": {"share": "x"}}}, r"note.json, leaves.9.share: .* \(1 such\). Remedy"),
        ({"leaves": {"9": {"share": 1.0, "more": 1}}}, r"leaves.9.more: Extra inputs"),
    ],
)
def test_another_kind_version_or_content_is_refused(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    path = tmp_path / "note.json"
    content = {"kind": "note", "version": 2, "leaves": {"9": {"share": 0.5}}}
    path.write_text(json.dumps({**content, **change}))
    with pytest.raises(ValueError, match=complaint):
        document.read(path, Note)
    path.write_text("[1]")
    with pytest.raises(ValueError, match="no document of this project's"):
        document.read(path, Note)


def test_statistics_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    """What read these files before they had a version says what to do; so does a swapped pair."""
    old = tmp_path / "stats.json"
    old.write_text('{"experiment": "e", "conditions": {}}')
    with pytest.raises(ValueError, match=r"stats.json holds no document .* Remedy: .*snakemake"):
        statistics.read(old)
    experiment = tmp_path / "experiment.json"
    read_experiment("credit_truth").manifest().write(experiment)
    with pytest.raises(ValueError, match="kind 'oracle experiment'; training experiment is read"):
        manifest.read_training(experiment)
    with pytest.raises(ValueError, match="training statistics or oracle statistics is read"):
        statistics.read(experiment)


@pytest.mark.parametrize("name", ["quickstart", "credit_truth"])
def test_the_manifest_of_a_shipped_experiment_is_read_back(name: str, tmp_path: Path) -> None:
    made = read_experiment(name).manifest()
    made.write(tmp_path / "experiment.json")
    assert manifest.read(tmp_path / "experiment.json") == made
    assert isinstance(made, OracleManifest if name == "credit_truth" else TrainingManifest)
