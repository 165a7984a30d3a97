"""The data door: pinned raw files, verified byte for byte, and the task tables made from them."""

from __future__ import annotations

import logging
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from ccpo import benchmark, schema
from ccpo.benchmark import Source
from ccpo.config import Choice

log = logging.getLogger("ccpo")

RAW = Path("data/raw")


def fetch(source: Source, root: Path = RAW) -> Path:
    """The verified raw file of a source below `root`, downloaded (resuming a part) or copied from CCPO_DATA_MIRROR if it is not there.

    Raises:
        ValueError: it cannot be had, or its bytes are not the pinned ones.
    """
    target = root / source.path
    if target.is_file() and schema.sha256(target) == source.sha256:
        return target
    mirror = os.environ.get("CCPO_DATA_MIRROR")
    partial = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if mirror:
        origin = str(Path(mirror) / source.path)
        if not Path(origin).is_file():
            raise ValueError(f"CCPO_DATA_MIRROR={mirror} has no file {source.path}. Remedy: correct the folder, or unset it to download.")
        shutil.copyfile(origin, partial)
    else:
        origin = source.url
        _download(origin, partial)
    have = schema.sha256(partial)
    if have != source.sha256:
        partial.unlink()
        raise ValueError(f"{origin} has sha256 {have}, {source.path} is pinned to {source.sha256}. Nothing was kept; do not use that copy.")
    os.replace(partial, target)
    return target


def _download(url: str, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            append = have and answer.status == 206
            with open(partial, "ab" if append else "wb") as out:
                shutil.copyfileobj(answer, out, 1 << 20)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise ValueError(
            f"{url} cannot be had: {error}. Remedy: try again (what came is kept), or set CCPO_DATA_MIRROR to a folder with the same bytes."
        ) from None


def data(names: list[str]) -> None:
    """Fetches the raw files of some benchmarks (none named: of all)."""
    for name in names or benchmark.names():
        if name not in benchmark.names():
            raise ValueError(f"benchmark '{name}' is not a file in ccpo/benchmark/. Known: {', '.join(benchmark.names())}.")
        for split, source in benchmark.load(name).SOURCES.items():
            log.info("%s %s: %s", name, split, fetch(source))


def tasks(choice: Choice, out: Path, root: Path = RAW) -> None:
    """Writes the task table of a benchmark: both splits, checked.

    Raises:
        ValueError: a split is empty, an id occurs twice, a truth is empty, or the number of rows is not the pinned one.
    """
    module = benchmark.load(choice.name)
    raw = {split: fetch(source, root) for split, source in module.SOURCES.items()}
    rows = []
    for split in ("train", "test"):
        found = module.tasks(split, raw, **choice.params)
        if not found:
            raise ValueError(f"benchmark {choice.name}: split {split} is empty")
        if split in module.SOURCES and len(found) != module.SOURCES[split].rows:
            raise ValueError(f"benchmark {choice.name}: split {split} has {len(found)} tasks, {module.SOURCES[split].rows} are expected")
        if len({t.task_id for t in found}) != len(found):
            raise ValueError(f"benchmark {choice.name}: split {split} names a task twice")
        for task in found:
            if not task.truth.strip() or not task.question.strip():
                raise ValueError(f"benchmark {choice.name}: task {task.task_id} has an empty question or truth")
            rows.append({"split": split, **{k: getattr(task, k) for k in ("task_id", "question", "truth", "kind")}})
    schema.write_table(out, schema.rows_to_table("tasks", rows))
