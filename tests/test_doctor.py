"""What slurm-check reads and says, on what real clusters print."""

from __future__ import annotations

import pytest

from ccpo.operate import doctor


@pytest.mark.parametrize(
    ("said", "minutes"),
    [
        ("30:00", 30),
        ("1:30:00", 90),
        ("2-00:00:00", 2880),
        ("1-12", 2160),
        ("1-12:30", 2190),
        ("infinite", float("inf")),
        ("45", 45),
        ("0:30", 0.5),
    ],
)
def test_times_of_slurm(said: str, minutes: float) -> None:
    assert doctor.minutes(said) == minutes


@pytest.mark.parametrize(
    ("value", "minutes"),
    [(20, 20), ("4h", 240), ("30m", 30), ("2d", 2880), ("90s", 1.5), ("240", 240)],
)
def test_times_of_a_profile(value: object, minutes: float) -> None:
    assert doctor.asked(value) == minutes


@pytest.mark.parametrize(
    ("wanted", "partition", "words"),
    [
        ({}, {}, ""),
        ({"slurm_partition": "gpus"}, {}, "there is no partition 'gpus'. Remedy: name one of gpu"),
        ({}, {"up": False}, "partition gpu is down"),
        (
            {"runtime": "3d"},
            {},
            "4320 minutes are asked for, partition gpu allows 1440. Remedy: set-resources: "
            "train: runtime: 1440",
        ),
        (
            {"mem_mb": 900_000},
            {},
            "900000 MB are asked for, the largest node of partition gpu has 512000",
        ),
        ({}, {"gres": "(null)"}, "has no GPU gres"),
        ({"gres": "gpu:8"}, {}, "gpu:8 is asked for, the nodes of partition gpu have gpu:a100:4"),
        ({"gres": "gpu:h100:1"}, {}, "gpu:h100:1 is asked for"),
        ({"gres": "gpu:a100:4"}, {}, ""),
        ({"gres": "gpu:1"}, {"gres": "gpu:2"}, ""),
        ({"gres": "gpu:1"}, {"gres": "gpu:fake:2(S:0-1)"}, ""),
    ],
)
def test_what_a_rule_asks_for_and_a_partition_has(
    wanted: dict[str, object], partition: dict[str, object], words: str
) -> None:
    has = {
        "name": "gpu",
        "up": True,
        "limit": 1440.0,
        "gres": "gpu:a100:4",
        "cpus": 64,
        "memory": 512_000,
        **partition,
    }
    asked = {"slurm_partition": "gpu", "gres": "gpu:1", "runtime": 240, "mem_mb": 2000, **wanted}
    said = list(doctor._partition("train", asked, {"gpu": doctor.Partition(**has)}))  # type: ignore[arg-type]
    assert len(said) == bool(words)
    assert words in "".join(said)
    assert all("train" in line for line in said)


def test_settings_that_would_hang_a_study() -> None:
    good = {"slurm-status-command": "squeue", "slurm-requeue": True}
    assert not list(
        doctor._settings(
            {"AccountingStorageType": "accounting_storage/slurmdbd", "KillWait": "30 sec"}, good
        )
    )
    assert "never noticed" in next(
        doctor._settings(
            {"AccountingStorageType": "accounting_storage/slurmdbd"},
            {**good, "slurm-status-command": "sacct"},
        )
    )
    none = {"AccountingStorageType": "accounting_storage/none", "MinJobAge": "30 sec"}
    assert "slurm-init-seconds-before-status-checks: 10" in next(doctor._settings(none, good))
    assert "slurm-requeue: true" in next(
        doctor._settings({"AccountingStorageType": "x"}, {"slurm-status-command": "squeue"})
    )


def test_sqlite_on_a_network_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_file_system", lambda path: "nfs4")
    said = list(doctor._files({"workflow": {"mlflow_uri": "sqlite:///results/mlflow.db"}}))
    assert "SQLite breaks on network file systems (nfs4)" in said[0]
    assert not list(doctor._files({"workflow": {"mlflow_uri": "http://tracking:5000"}}))
    monkeypatch.setattr(doctor, "_file_system", lambda path: "ext4")
    assert not list(doctor._files({"workflow": {"mlflow_uri": "sqlite:///results/mlflow.db"}}))
