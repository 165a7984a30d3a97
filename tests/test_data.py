"""The data door against a real server that breaks, lies and lacks; the usability gate, reason by
reason.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from ccpo import benchmark, schema
from ccpo.benchmark import Source, Task, checks
from ccpo.config import Choice
from ccpo.data import door
from ccpo.data.tables import read_tasks
from ccpo.grade import process as judging
from ccpo.grade import verifier
from ccpo.grade.sandbox import programs

BODY = np.random.default_rng(0).bytes(300_000)


@dataclass
class Server:
    """An HTTP server on this machine. `manner` says how it behaves, `asked` what the Range headers
    were, `cuts` how often it cut.
    """

    manner: str = "plain"
    body: bytes = BODY
    asked: list[str] = field(default_factory=list)
    cuts: int = 0
    go_on: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def source(self, path: str = "set/rows.bin") -> Source:
        return Source(
            f"http://127.0.0.1:{self.port}/{path}",
            hashlib.sha256(BODY).hexdigest(),
            path,
            1,
            "test",
        )


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            server.asked.append(asked)
            if server.manner == "missing":
                self.send_error(404)
                return
            body = server.body[::-1] if server.manner == "corrupt" else server.body
            start = (
                0
                if server.manner == "ignores_range" or not asked
                else int(asked.removeprefix("bytes=").rstrip("-"))
            )
            if start >= len(body) and asked:
                self.send_error(416)
                return
            start -= start // 2 if server.manner == "other_range" else 0
            self.send_response(206 if asked and server.manner != "ignores_range" else 200)
            if asked and server.manner != "ignores_range":
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if server.manner != "bare":
                self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if server.manner == "cuts_always" or (server.manner == "cuts" and server.cuts < 2):
                server.cuts += 1
                self.wfile.write(
                    body[
                        start : start
                        + (100_000 if server.cuts == 1 or server.manner == "cuts" else 0)
                    ]
                )
                return
            if server.manner == "slow":
                self.wfile.write(body[start : start + 200_000])
                start = min(start + 200_000, len(body))
                server.go_on.wait(20)
            self.wfile.write(body[start:])

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("CCPO_DATA_MIRROR", raising=False)
    state = Server()
    real = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    state.port = real.server_address[1]
    thread = threading.Thread(target=real.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    real.shutdown()
    real.server_close()
    thread.join()


def left(root: Path) -> dict[str, bytes]:
    """What lies below a folder: name -> bytes."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def part(root: Path, content: bytes) -> None:
    (root / "set").mkdir(parents=True, exist_ok=True)
    (root / "set" / "rows.bin.part").write_bytes(content)


def test_a_file_comes_whole_and_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = door.fetch(server.source(), tmp_path, lambda have, total: told.append((have, total)))
    assert left(tmp_path) == {"set/rows.bin": BODY}
    assert told[-1] == (len(BODY), len(BODY))
    assert [h for h, _ in told] == sorted(h for h, _ in told)
    assert door.fetch(server.source(), tmp_path) == path
    assert server.asked == [""]


def test_a_broken_connection_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.manner = "cuts"
    door.fetch(server.source(), tmp_path)
    assert left(tmp_path) == {"set/rows.bin": BODY}
    assert server.asked == ["", "bytes=100000-", "bytes=200000-"]


def test_a_server_that_brings_nothing_more_is_an_error_and_the_part_is_kept(
    server: Server, tmp_path: Path
) -> None:
    server.manner = "cuts_always"
    with pytest.raises(
        ValueError,
        match=r"rows\.bin cannot be had: the connection broke.*100,000 bytes that came are "
        r"kept.*CCPO_DATA_MIRROR",
    ):
        door.fetch(server.source(), tmp_path)
    assert left(tmp_path) == {"set/rows.bin.part": BODY[:100_000]}
    server.manner = "plain"
    door.fetch(server.source(), tmp_path)
    assert left(tmp_path) == {"set/rows.bin": BODY}
    assert server.asked[-1] == "bytes=100000-"


@pytest.mark.parametrize(
    ("manner", "content", "asked"),
    [
        ("plain", BODY[:7], ["bytes=7-"]),
        ("ignores_range", BODY[:7], ["bytes=7-"]),  # answers 200: from the start
        ("other_range", BODY[:8], ["bytes=8-", ""]),  # another range than asked for: from the start
        ("bare", BODY[:7], ["bytes=7-"]),  # does not say how long it is
        ("plain", BODY, [f"bytes={len(BODY)}-"]),  # killed before the last step; 416
        ("plain", BODY + b"x", [f"bytes={len(BODY) + 1}-", ""]),  # too long; 416, then once more
        ("plain", b"wrong" * 9, ["bytes=45-", ""]),  # a part of other bytes: once more
    ],
)
def test_parts_are_gone_on_with_or_thrown_away(
    server: Server, tmp_path: Path, manner: str, content: bytes, asked: list[str]
) -> None:
    server.manner = manner
    part(tmp_path, content)
    door.fetch(server.source(), tmp_path)
    assert left(tmp_path) == {"set/rows.bin": BODY}
    assert server.asked == asked


@pytest.mark.parametrize("begun", [b"", BODY[:1000]])
def test_corrupted_bytes_are_refused_and_not_kept(
    server: Server, tmp_path: Path, begun: bytes
) -> None:
    server.manner = "corrupt"
    if begun:
        part(tmp_path, begun)
    with pytest.raises(
        ValueError, match=r"has sha256 [0-9a-f]{64}, set/rows\.bin is pinned to"
    ) as error:
        door.fetch(server.source(), tmp_path)
    # of what the server has, whatever the part was
    assert hashlib.sha256(BODY[::-1]).hexdigest() in str(error.value)
    assert left(tmp_path) == {}


def test_a_wrong_file_in_place_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "rows.bin").write_bytes(b"half")
    door.fetch(server.source(), tmp_path)
    assert left(tmp_path) == {"set/rows.bin": BODY}


def test_what_is_not_there_says_so(server: Server, tmp_path: Path) -> None:
    server.manner = "missing"
    with pytest.raises(ValueError, match=r"the server answers 404.*Remedy: try again"):
        door.fetch(server.source(), tmp_path)
    assert left(tmp_path) == {}


def test_offline_is_one_error_and_the_part_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("CCPO_DATA_MIRROR", raising=False)
    nobody = Server(port=9).source()
    part(tmp_path, BODY[:10])
    with pytest.raises(
        ValueError, match=r"cannot be had: .*refused.*10 bytes that came are kept.*CCPO_DATA_MIRROR"
    ):
        door.fetch(nobody, tmp_path)
    assert left(tmp_path) == {"set/rows.bin.part": BODY[:10]}


def test_a_mirror_serves_the_same_bytes_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Server().source()
    mirror = tmp_path / "mirror"
    root = tmp_path / "root"
    monkeypatch.setenv("CCPO_DATA_MIRROR", str(mirror))
    with pytest.raises(ValueError, match=r"has no file set/rows\.bin. Remedy: correct the folder"):
        door.fetch(source, root)
    (mirror / "set").mkdir(parents=True)
    (mirror / "set" / "rows.bin").write_bytes(BODY[1:])
    with pytest.raises(ValueError, match="is pinned to"):
        door.fetch(source, root)
    assert left(root) == {}
    (mirror / "set" / "rows.bin").write_bytes(BODY)
    part(root, b"of an earlier download")
    door.fetch(source, root)
    assert left(root) == {"set/rows.bin": BODY}


def _fetch(source: Source, root: Path, results: multiprocessing.Queue[str]) -> None:
    results.put(hashlib.sha256(door.fetch(source, root).read_bytes()).hexdigest())


def started(server: Server, root: Path, n: int) -> tuple[list[Any], multiprocessing.Queue[str]]:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    several = [
        context.Process(target=_fetch, args=(server.source(), root, results)) for _ in range(n)
    ]
    for process in several:
        process.start()
    return several, results


@pytest.mark.parametrize("begun", [b"", BODY[:1000]])
def test_processes_that_want_one_file_do_not_harm_each_other(
    server: Server, tmp_path: Path, begun: bytes
) -> None:
    """The server keeps the first one waiting until all have long begun."""
    if begun:
        part(tmp_path, begun)
    server.manner = "slow"
    several, results = started(server, tmp_path, 3)
    threading.Timer(4, server.go_on.set).start()
    assert {results.get(timeout=60) for _ in several} == {hashlib.sha256(BODY).hexdigest()}
    for process in several:
        process.join()
    assert left(tmp_path) == {"set/rows.bin": BODY}
    assert len(server.asked) == 1  # the others waited


def test_a_killed_download_keeps_its_part_and_is_gone_on_with(
    server: Server, tmp_path: Path
) -> None:
    server.manner = "slow"
    [process], _ = started(server, tmp_path, 1)
    deadline = time.monotonic() + 30
    while not sum(map(len, left(tmp_path).values())) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.join()
    server.go_on.set()
    [(name, content)] = left(tmp_path).items()
    assert name == "set/rows.bin.part"
    assert content
    assert content == BODY[: len(content)]
    door.fetch(server.source(), tmp_path)
    assert left(tmp_path) == {"set/rows.bin": BODY}
    assert server.asked == ["", f"bytes={len(content)}-"]


def test_the_verb_fetches_a_shared_file_once_and_says_a_line_for_each(
    server: Server, plug: Callable[..., ModuleType], tmp_path: Path
) -> None:
    """Two names of one benchmark, one file; not on a terminal, so no bars."""
    source = server.source()
    plug(SOURCES={"train": source, "test": source, "more": server.source("set/more.bin")})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        lines: list[str] = []
        patch.setattr(door.log, "info", lambda text, *values: lines.append(text % values))
        door.data(["made_up"])
    assert left(tmp_path / "data" / "raw") == {"set/rows.bin": BODY, "set/more.bin": BODY}
    assert server.asked == ["", ""]
    assert lines == [f"set/{name}.bin: 300,000 bytes, verified (test)" for name in ("rows", "more")]


def test_an_unknown_benchmark_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ccpo", "data", "gsm9k"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "ccpo data: benchmark 'gsm9k' is not a file in ccpo/benchmark/. Known: "
    )


# ------------------------------------------------------------------------------------------------
# rows and items


def test_rows_are_counted_by_kind_of_file(tmp_path: Path) -> None:
    import pandas as pd

    rows = [
        {"a": 1, "text": "x\u2028y"},
        {"a": 2, "text": "z"},
    ]  # a separator that str.splitlines() would take for a line end
    text = "\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n\n"
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.txt").write_text("\na\nfirst\n\nb\nsecond\n \n\n")
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    for kind in ("jsonl", "jsonl.gz", "json", "txt", "parquet"):
        assert door.rows_of(tmp_path / f"a.{kind}") == 2, kind
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(ValueError, match=r"rows of a \.tsv file cannot be counted"):
        door.rows_of(tmp_path / "a.tsv")


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Makes a benchmark `made_up` of lists of tasks by split, or of whatever else is given."""

    def make(items: dict[str, list[Task]] | None = None, **over: object) -> ModuleType:
        items = items or {}
        module = SimpleNamespace(
            VERSION=1,
            SOURCES={},
            SPLITS={k: len(v) for k, v in items.items()},
            tasks=lambda split, raw, **_: items[split],
        )
        for key, value in over.items():
            setattr(module, key, value)
        monkeypatch.setattr(benchmark, "names", lambda: ["made_up"])
        monkeypatch.setattr(benchmark, "load", lambda name: module)
        return module  # type: ignore[return-value]

    return make


MADE_UP = Choice(name="made_up")


def test_every_unusable_item_is_dropped_with_its_reason(
    plug: Callable[..., ModuleType], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = [
        Task("good", "What is 1+1?", "2", "number"),
        Task("flawed", "What is 2+2?", "4", "number", flaw="the picture is missing"),
        Task("mute", "  ", "4", "number"),
        Task("keyless", "What is 3+3?", " ", "number"),
        Task("same", "What is $1+1$ ?", "2.0", "number"),
        Task("half", "What is 5-4?", "1", "number"),
        Task("other half", "what is 5 - 4", "9", "number"),
        Task("unreadable", "What is love?", "\\frac{1}{2", "number"),
        Task("close", "What is 1-1?", "0", "number", tolerance=0.05, origin="set/7"),
    ]
    plug({"train": train, "validation": [Task("v", "What is 9+9?", "18", "number")]})
    with caplog.at_level(logging.INFO, "ccpo"):
        door.tasks(MADE_UP, tmp_path / "t.parquet")
    assert read_tasks(tmp_path / "t.parquet", "train") == [train[0], train[8]]
    assert [t.task_id for t in read_tasks(tmp_path / "t.parquet", "validation")] == ["v"]
    report = schema.read_json(tmp_path / "t.dropped.json")
    assert report["splits"] == {
        "train": {"items": 9, "usable": 2},
        "validation": {"items": 1, "usable": 1},
    }
    contradiction = (
        "contradictory keys: tasks half, other half ask the same and have different truths"
    )
    assert {r["task_id"]: r["reason"] for r in report["dropped"]} == {
        "flawed": "the picture is missing",
        "mute": "the question is empty",
        "keyless": "the truth is empty",
        "same": "same as task good",
        "half": contradiction,
        "other half": contradiction,
        "unreadable": "the verifier does not find the truth '\\\\frac{1}{2' equal to itself",
    }
    assert report["dropped"][0] == {
        "split": "train",
        "task_id": "flawed",
        "reason": "the picture is missing",
        "question": "What is 2+2?",
    }
    said = caplog.messages[0]
    assert said.startswith(
        "made_up train: 9 items, 2 usable; dropped 7: flawed: the picture is missing; mute: "
    )
    assert said.endswith("; ...")
    assert caplog.messages[1] == "made_up validation: 1 items, 1 usable; dropped 0"


@pytest.mark.parametrize("kind", ["expression", "code"])
def test_an_item_is_never_dropped_for_what_the_machine_did(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict that is not reached stops the door: a task table must not depend on the day."""

    def late(*_: object) -> bool:
        raise judging.Late("no verdict: busy")

    monkeypatch.setattr(judging, "ask", late)
    monkeypatch.setattr(programs.isolation, "run", late)
    verifier.equal.cache_clear()
    truth = checks(["f()"], [1]) if kind == "code" else "\\sqrt{7+a}"
    task = Task("a", "How many?", truth, kind, gold="def f(): return 1")
    other = replace(task, task_id="b", truth=truth.replace("7+a", "a+7").replace("f()", "f( )"))
    with pytest.raises(
        ValueError, match=r"task [ab]: no verdict: busy.*Nothing was written.*Remedy"
    ):
        door.usable([task, other])


def one(name: str = "a", question: str = "What is 1+1?") -> Task:
    return Task(name, question, "2", "number")


REFUSED = {
    "nothing usable": (
        {"test": [Task("a", "", "2", "number")]},
        {},
        "none of 1 items is usable. The first: the question is empty",
    ),
    "an id twice in a split": (
        {"test": [one(), one("a", "What is 0+2?")]},
        {},
        "task_id 'a' occurs 2 times",
    ),
    "an id twice in two": (
        {"train": [one()], "test": [one("a", "What is 0+2?")]},
        {},
        "task_id 'a' occurs 2 times",
    ),
    "too few items": (
        {"test": [one()]},
        {"SPLITS": {"test": 2}},
        "split test: 1 items, SPLITS says 2",
    ),
    "too many items": (
        {"test": [one(), one("b", "What is 0+2?")]},
        {"SPLITS": {"test": 1}},
        "split test: 2 items, SPLITS says 1",
    ),
    "no items": ({"test": []}, {}, "split test: 0 items, SPLITS says at least one"),
    "an unknown kind": (
        {"test": [Task("a", "What?", "2", "numbre")]},
        {},
        "unknown kind of answer 'numbre'",
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_a_set_that_is_wrong_as_a_whole_is_refused(
    case: str, plug: Callable[..., ModuleType], tmp_path: Path
) -> None:
    items, over, message = REFUSED[case]
    plug(items, **over)
    with pytest.raises(ValueError, match=message):
        door.tasks(MADE_UP, tmp_path / "t.parquet")
    assert left(tmp_path) == {}


def test_a_raw_file_of_another_number_of_rows_is_refused(
    plug: Callable[..., ModuleType], tmp_path: Path
) -> None:
    path = tmp_path / "set" / "a.jsonl"
    path.parent.mkdir()
    path.write_text('{"q": 1}\n{"q": 2}\n')
    plug(
        {"test": [one()]},
        SOURCES={"all": Source("http://nowhere", schema.sha256(path), "set/a.jsonl", 3, "test")},
    )
    with pytest.raises(ValueError, match=r"a\.jsonl has 2 rows, SOURCES\['all'\] says 3"):
        door.tasks(MADE_UP, tmp_path / "t.parquet", tmp_path)


@dataclass(frozen=True)
class Graded:
    passed: bool
    reason: str = ""


class Sandbox:
    """A sandbox of one line: a program is a Python expression of x, tests are "x>expected" by line,
    an expected "?" is filled in.
    """

    def complete(self, truth: str, gold: str) -> str:
        lines = []
        for line in truth.splitlines():
            x, expected = line.split(">")
            if "/0" in gold:
                raise ValueError("division by zero")
            lines.append(f"{x}>{eval(gold, {'x': int(x)}) if expected == '?' else expected}")
        return "\n".join(lines)

    def grade(self, program: str, tests: str) -> Graded:
        for line in tests.splitlines():
            x, expected = line.split(">")
            if str(eval(program, {"x": int(x)})) != expected:
                return Graded(False, f"{line} fails")
        return Graded(True)


def test_code_is_kept_if_its_gold_program_passes(
    plug: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ccpo.grade.sandbox.programs", Sandbox())
    plug(
        {
            "test": [
                Task("good", "Double a number.", "1>2\n4>?", "code", gold="2*x"),
                Task("wrong", "Triple a number.", "1>3", "code", gold="x+x"),
                Task("dies", "Divide a number.", "1>?", "code", gold="x/0"),
                Task("again", "double a number", "5>10", "code", gold="x+x"),
                Task("square", "Square a number.", "2>4", "code", gold="x*x"),
                Task("not square", "Square a number.", "2>5", "code", gold="x*x+1"),
            ]
        }
    )
    door.tasks(MADE_UP, tmp_path / "t.parquet")
    assert [(t.task_id, t.truth, t.gold) for t in read_tasks(tmp_path / "t.parquet", "test")] == [
        ("good", "1>2\n4>8", "")
    ]
    clash = "contradictory keys: tasks square, not square ask the same and have different truths"
    assert {
        r["task_id"]: r["reason"] for r in schema.read_json(tmp_path / "t.dropped.json")["dropped"]
    } == {
        "wrong": "the gold program fails: 1>3 fails",
        "dies": "the gold program fails: division by zero",
        "again": "same as task good",
        "square": clash,
        "not square": clash,
    }
