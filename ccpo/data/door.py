"""The data door: pinned raw files, verified byte for byte, and the task tables made from them."""

from __future__ import annotations

import functools
import gzip
import http.client
import importlib
import json
import logging
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from ccpo import benchmark, lease, lineage, schema
from ccpo.benchmark import Source, Task
from ccpo.config import Choice
from ccpo.data import overlap
from ccpo.data.overlap import normalised
from ccpo.grade import process, verifier

log = logging.getLogger("ccpo")

RAW = Path("data/raw")
# connections in a row that may break before a download gives up; only those that brought something
# are followed by another
TRIES = 5
BLOCK = 1 << 16  # bytes
Tell = Callable[[int, int], None]  # bytes there, bytes in all (0: not known)


def fetch(source: Source, root: Path = RAW, tell: Tell = lambda have, total: None) -> Path:
    """The verified raw file of a source below `root`: as it lies there, else downloaded (going on
    from what an earlier call left in `<name>.part`), or copied from the folder CCPO_DATA_MIRROR.
    Two processes may ask at once: one fetches, the other waits.

    Raises:
        ValueError: it cannot be had (what came is kept), or its bytes are not the pinned ones
            (nothing is kept).
    """
    target = root / source.path
    if _is(target, source):
        return target
    origin, take = _origin(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target) as (partial, handle):
        if _is(target, source):  # another process was quicker
            return target
        # Bytes from two connections may not fit together (an old part, another version at the same
        # address): then all of it, once more.
        if not take(handle, tell) and not _is(partial, source):
            _empty(handle)
            take(handle, tell)
        if not _is(partial, source):
            have = schema.sha256(partial)
            partial.unlink()
            raise ValueError(
                f"{origin} has sha256 {have}, {source.path} is pinned to {source.sha256}. "
                "Nothing was kept. Remedy: do not use that copy; "
                "take the file from elsewhere and set CCPO_DATA_MIRROR to its folder."
            )
        os.replace(partial, target)
    return target


def _is(path: Path, source: Source) -> bool:
    return path.is_file() and schema.sha256(path) == source.sha256


@contextmanager
def _alone(target: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """The part of a file, open at its end and locked: one process at a time."""
    partial = target.with_name(target.name + ".part")
    handle, _ = lease.lock(partial, wait=True)
    assert handle is not None, "a lock that is waited for is had"
    with handle:
        try:
            yield partial, handle
        finally:
            if partial.exists() and not partial.stat().st_size:
                partial.unlink()  # nothing came


def _empty(out: BinaryIO) -> None:
    out.seek(0)
    out.truncate()


def _origin(source: Source) -> tuple[str, Callable[[BinaryIO, Tell], bool]]:
    """Where a file comes from, in words, and what writes it into an open part: True if all bytes
    are of one connection.
    """
    mirror = os.environ.get("CCPO_DATA_MIRROR")
    if not mirror:
        return source.url, functools.partial(_download, source.url)
    path = Path(mirror) / source.path
    if not path.is_file():
        raise ValueError(
            f"CCPO_DATA_MIRROR={mirror} has no file {source.path}. Remedy: correct the folder, "
            "or unset it to download."
        )
    return str(path), functools.partial(_copy, path)


def _copy(path: Path, out: BinaryIO, tell: Tell) -> bool:
    _empty(out)
    with open(path, "rb") as file:
        shutil.copyfileobj(file, out)
    out.flush()
    tell(path.stat().st_size, path.stat().st_size)
    return True


def _download(url: str, out: BinaryIO, tell: Tell) -> bool:
    """Appends to `out` what is missing, over as many connections as it takes while each brings
    something.
    """
    why = "the connection broke"
    for _ in range(TRIES):
        before = out.tell()
        try:
            if _receive(url, out, tell):
                return before == 0
        except urllib.error.HTTPError as error:
            error.close()
            why = f"the server answers {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            why = str(getattr(error, "reason", error)) or type(error).__name__
        if out.tell() == before:
            break
    kept = f" (the {out.tell():,} bytes that came are kept)" if out.tell() else ""
    raise ValueError(
        f"{url} cannot be had: {why}. Remedy: try again{kept}, or set CCPO_DATA_MIRROR to a "
        "folder with the same files."
    )


def _receive(url: str, out: BinaryIO, tell: Tell) -> bool:
    """One connection. Whether `out` then holds all that the server has."""
    have = out.tell()
    headers = {"User-Agent": "ccpo", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    except urllib.error.HTTPError as error:
        if (
            error.code == 416 and have
        ):  # nothing after the part: it is whole or too long, which the hash will say
            error.close()
            return True
        raise
    with answer:
        if have and answer.status != 206:
            # the whole file; and whether a range is the one asked for, the hash will say
            _empty(out)
        length = answer.headers.get("Content-Length")
        total = out.tell() + int(length) if length else 0
        try:
            while block := answer.read(BLOCK):
                out.write(block)
                tell(out.tell(), total)
        finally:
            out.flush()  # an interrupted download keeps what came
        return not total or out.tell() == total


def data(names: list[str]) -> None:
    """Fetches the raw files of some benchmarks (none named: of all), with a bar for each on a
    terminal and a line for each elsewhere.

    Raises:
        ValueError: an unknown benchmark; or as `fetch`.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    sources = {s.path: s for name in _known(names) for s in benchmark.load(name).SOURCES.values()}
    shown = sys.stderr.isatty()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:

        def show(bar: TaskID, have: int, total: int) -> None:
            progress.update(bar, completed=have, total=total or None)

        for source in sources.values():
            bar = progress.add_task(source.path, total=None)
            size = fetch(source, tell=functools.partial(show, bar)).stat().st_size
            show(bar, size, size)
            if not shown:
                log.info("%s: %s bytes, verified (%s)", source.path, f"{size:,}", source.licence)


def _known(names: Sequence[str]) -> list[str]:
    """The names, or where there are none those of all benchmarks; ValueError for a name that is no
    benchmark's.
    """
    for name in names:
        if name not in benchmark.names():
            raise ValueError(
                f"benchmark '{name}' is not a file in ccpo/benchmark/. Known: "
                f"{', '.join(benchmark.names())}."
            )
    return list(names) or benchmark.names()


def items(names: Sequence[str], split: str, root: Path = RAW) -> dict[str, list[Task]]:
    """All items of a split of these benchmarks (none named: of all that have it), under default
    parameters and before any is dropped.

    Raises:
        ValueError: an unknown benchmark, or a named one without this split; or as `fetch`.
    """
    for name in _known(names):
        if split not in benchmark.load(name).SPLITS and names:
            raise ValueError(
                f"benchmark {name} has no split {split}. It has: "
                f"{', '.join(benchmark.load(name).SPLITS)}."
            )
    modules = {name: benchmark.load(name) for name in _known(names)}
    return {n: m.tasks(split, _raw(n, m, root)) for n, m in modules.items() if split in m.SPLITS}


def raw_files(names: Sequence[str], root: Path = RAW) -> list[Path]:
    """Where the raw files of these benchmarks lie, each once."""
    return sorted({root / s.path for name in names for s in benchmark.load(name).SOURCES.values()})


def overlap_table(train: Sequence[str], test: Sequence[str], out: Path) -> None:
    """Counts the test items among the training items of benchmarks (none named: of all), writes
    them as CSV, and shows them.
    """
    trained = items(train, "train")
    tested = items(test, "test")
    begun = lineage.begin(raw_files([*trained, *tested]))
    overlap.write(overlap.table(trained, tested), out)
    lineage.write_passport(out, begun)


def rows_of(path: Path) -> int:
    """Rows of a raw file: lines of .jsonl and .jsonl.gz, rows of .parquet, blocks between empty
    lines of .txt, elements of .json.

    Raises:
        ValueError: another kind of file.
    """
    if path.suffix == ".parquet":
        return schema.parquet_rows(path)
    text = (
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    ).decode()
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    if kind == "jsonl":
        return sum(bool(line.strip()) for line in text.split("\n"))
    if kind == "txt":
        return sum(bool(block.strip()) for block in re.split(r"\n\s*\n", text))
    if kind == "json":
        return len(json.loads(text))
    raise ValueError(
        f"{path}: rows of a .{kind} file cannot be counted. Known: jsonl, jsonl.gz, parquet, "
        "txt, json."
    )


def tasks(choice: Choice, out: Path, root: Path = RAW) -> None:
    """Writes the task table of a benchmark, each split checked, and beside it as `<out's
    stem>.dropped.json` what was dropped and why.

    Raises:
        ValueError: a raw file or a split has another number of rows than stated, an id occurs
            twice, or a split has no usable item.
    """
    module = benchmark.load(choice.name)
    raw = _raw(choice.name, module, root)
    begun = lineage.begin(raw_files([choice.name], root))
    table, dropped = made(choice, raw)
    beside = out.with_suffix(".dropped.json")
    schema.write_json(beside, dropped)
    schema.write_table(out, table)
    for artefact in (beside, out):
        lineage.write_passport(artefact, begun, choice.model_dump(mode="json"))


def made(choice: Choice, raw: Mapping[str, Path]) -> tuple[schema.Table, dict[str, Any]]:
    """The task table of a benchmark from its raw files (by the names of SOURCES), and what was
    dropped and why. ValueError as `tasks`.
    """
    module = benchmark.load(choice.name)
    rows: list[dict[str, Any]] = []
    dropped: list[dict[str, str]] = []
    sizes = {}
    seen = Counter[str]()
    for split, stated in module.SPLITS.items():
        items = module.tasks(split, raw, **choice.params)
        where = f"benchmark {choice.name}, split {split}"
        if len(items) != stated if stated else not items:
            raise ValueError(f"{where}: {len(items)} items, SPLITS says {stated or 'at least one'}")
        seen.update(t.task_id for t in items)
        if twice := [name for name, n in seen.items() if n > 1]:
            raise ValueError(f"{where}: task_id {twice[0]!r} occurs {seen[twice[0]]} times")
        kept, bad = usable(items)
        if not kept:
            raise ValueError(
                f"{where}: none of {len(items)} items is usable. The first: {bad[0][1]}"
            )
        columns = [name for name in schema.TABLES["tasks"][1] if name != "split"]
        rows += [{"split": split, **{k: getattr(t, k) for k in columns}} for t in kept]
        dropped += [
            {"split": split, "task_id": t.task_id, "reason": why, "question": t.question[:100]}
            for t, why in bad
        ]
        sizes[split] = {"items": len(items), "usable": len(kept)}
        _log_split(choice.name, split, kept, bad)
    document = {"benchmark": choice.name, "splits": sizes, "dropped": dropped}
    return schema.rows_to_table("tasks", rows), document


def _log_split(
    name: str, split: str, kept: Sequence[Task], bad: Sequence[tuple[Task, str]]
) -> None:
    """A line on what was dropped, and why the first five were."""
    reasons = "; ".join(f"{task.task_id}: {why}" for task, why in bad[:5])
    log.info(
        "%s %s: %s items, %s usable; dropped %d%s%s",
        name,
        split,
        f"{len(kept) + len(bad):,}",
        f"{len(kept):,}",
        len(bad),
        f": {reasons}" if bad else "",
        "; ..." if len(bad) > 5 else "",
    )


def _raw(name: str, module: ModuleType, root: Path) -> Mapping[str, Path]:
    """The raw files of a benchmark by the name of their source, each with its number of rows."""
    raw = {key: fetch(source, root) for key, source in module.SOURCES.items()}
    for key, source in module.SOURCES.items():
        if (have := rows_of(raw[key])) != source.rows:
            raise ValueError(
                f"benchmark {name}: {raw[key]} has {have} rows, SOURCES['{key}'] says "
                f"{source.rows}. Remedy: correct the number."
            )
    return raw


def usable(items: Sequence[Task]) -> tuple[list[Task], list[tuple[Task, str]]]:
    """The items of a split that can be asked and graded, and the others, each with the reason.

    Of a repeated question with one truth the first is kept; with two truths nobody can be right,
    and all of them go.
    """
    checked = [_checked(task) for task in items]
    sound = [task for task, why in checked if not why]
    asked: dict[str, list[Task]] = {}
    for task in sound:
        asked.setdefault(normalised(task.question), []).append(task)
    again: dict[str, str] = {}
    for first, *others in asked.values():
        if all(_agree(first, other) for other in others):
            again |= {other.task_id: f"same as task {first.task_id}" for other in others}
        else:
            ids = ", ".join(t.task_id for t in (first, *others))
            again |= {
                t.task_id: f"contradictory keys: tasks {ids} ask the same and have different truths"
                for t in (first, *others)
            }
    kept = [task for task in sound if task.task_id not in again]
    bad = [
        (task, why or again[task.task_id]) for task, why in checked if why or task.task_id in again
    ]
    return kept, bad


def _checked(task: Task) -> tuple[Task, str]:
    """The item (of code: its expected outputs filled in) and why it cannot be used ("": it can), by
    itself.
    """
    if task.flaw:
        return task, task.flaw
    if not task.question.strip():
        return task, "the question is empty"
    if not task.truth.strip():
        return task, "the truth is empty"
    if task.kind == "code":
        try:
            return replace(task, truth=_run_gold(task)), ""
        except process.Late as late:
            raise _unreached(task, str(late)) from None
        except ValueError as error:
            return task, f"the gold program fails: {error}"
    right = _right(task, task.truth)
    return (
        task,
        "" if right else f"the verifier does not find the truth {task.truth!r} equal to itself",
    )


def _right(task: Task, answer: str) -> bool:
    """Whether an answer is the truth of a task.

    Raises:
        ValueError: no verdict was reached.
    """
    verdict = verifier.verify(f"\\boxed{{{answer}}}", task.truth, task.kind)
    if verdict.late:
        raise _unreached(task, verdict.reason)
    return verdict.correct


def _unreached(task: Task, why: str) -> ValueError:
    """What a task table is made of must not depend on the machine: nothing is dropped for this."""
    return ValueError(
        f"task {task.task_id}: {why}. Nothing was written. Remedy: try again, on a machine with "
        "more memory or less work beside."
    )


def _run_gold(task: Task) -> str:
    """The tests of a task of kind code, their expected outputs filled in by its gold program, which
    passes them; else ValueError.
    """
    sandbox = importlib.import_module("ccpo.grade.sandbox.programs")  # when there is code to run
    truth = str(sandbox.complete(task.truth, task.gold))
    graded = sandbox.grade(task.gold, truth)
    if not graded.passed:
        raise ValueError(graded.reason)
    return truth


def _agree(first: Task, other: Task) -> bool:
    """Whether two items of one question have one truth (of code: whether the one's gold program
    passes the other's tests).
    """
    if first.truth == other.truth:
        return first.kind == other.kind
    if first.kind != other.kind:
        return False
    if first.kind == "code":
        sandbox = importlib.import_module("ccpo.grade.sandbox.programs")
        try:
            return bool(sandbox.grade(first.gold, other.truth).passed)
        except process.Late as late:
            raise _unreached(other, str(late)) from None
    return _right(other, first.truth)
