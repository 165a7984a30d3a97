"""Task tables, read back."""

from __future__ import annotations

from pathlib import Path

from ccpo import schema
from ccpo.benchmark import Task


def read_tasks(path: Path, split: str) -> list[Task]:
    """Tasks of a split of a task table; their gold programs are not in it.

    Raises:
        ValueError: there are none.
    """
    rows = schema.read_table(path, "tasks").to_pylist()
    tasks = [
        Task(**{k: v for k, v in row.items() if k != "split"})
        for row in rows
        if row["split"] == split
    ]
    if not tasks:
        raise ValueError(
            f"{path} holds no task of split {split}. Remedy: check the benchmark's source and "
            "parameters."
        )
    return tasks
