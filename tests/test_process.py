"""Verdicts that may never end: processor time decides, never the clock; what was not reached is
asked again, counted as late and kept nowhere.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import ROOT

from ccpo.benchmark import checks
from ccpo.grade import process, verifier, worker
from ccpo.grade.process import Judge, Late, Request, ask
from ccpo.grade.sandbox import isolation, programs

EASY = Request("equal", "\\sqrt{8}", "2\\sqrt{2}", "expression")
# written out in C, where no signal handler runs; minutes of processor time
ENDLESS = Request("equal", "\\binom{99999999}{49999999}", "1+\\sqrt{2}", "expression")


@pytest.fixture(autouse=True)
def no_workers_remain() -> Iterator[None]:
    yield
    process.stop()


def test_a_worker_is_ended_by_its_processor_time_in_c_code_too() -> None:
    judge = Judge()
    assert judge.ask(EASY, 10.0) is True
    start = time.monotonic()
    with pytest.raises(Late, match=r"more than 0\.5 s of processor time"):
        judge.ask(ENDLESS, 0.5)
    assert time.monotonic() - start < 60
    assert judge.ask(EASY, 10.0) is True  # another worker


def test_a_request_that_waits_for_the_processor_is_not_late() -> None:
    """A worker that is stopped for longer than its limit by the clock has used none of it."""
    judge = Judge()
    judge.ask(EASY, 10.0)
    assert judge.process
    os.kill(judge.process.pid, signal.SIGSTOP)
    replies: list[process.Reply] = []
    thread = threading.Thread(target=lambda: replies.append(judge.ask(EASY, 0.3)))
    thread.start()
    time.sleep(1.0)
    assert replies == []
    os.kill(judge.process.pid, signal.SIGCONT)
    thread.join()
    assert replies == [True]


def test_a_worker_that_never_works_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge()
    judge.ask(EASY, 10.0)
    monkeypatch.setattr(process, "STALLED_SECONDS", 0.5)
    assert judge.process
    os.kill(judge.process.pid, signal.SIGSTOP)
    with pytest.raises(Late, match="by the clock"):
        judge.ask(EASY, 10.0)


def test_what_was_not_reached_is_asked_again_with_more_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[float] = []

    def late_once(self: Judge, request: Request, seconds: float) -> bool:
        limits.append(seconds)
        if len(limits) == 1:
            raise Late("too busy")
        return True

    monkeypatch.setattr(Judge, "ask", late_once)
    assert ask(EASY, 2.0) is True
    assert limits == [2.0, 8.0]


def test_a_late_verdict_is_said_counted_and_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def late(request: Request, seconds: float) -> bool:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise Late("no verdict: busy")
        return True

    monkeypatch.setattr(process, "ask", late)
    verifier.equal.cache_clear()
    message = ("\\boxed{\\sqrt{45}}", "3\\sqrt{5}", "expression")
    for _ in range(2):
        assert verifier.verify(*message) == verifier.Verdict(
            "\\sqrt{45}", False, None, "no verdict: busy", late=True
        )
    assert verifier.verify(*message).correct
    assert verifier.verify(*message).correct
    assert calls == 3  # what was reached is kept
    calls = 0
    verifier.equal.cache_clear()
    assert verifier.explain(*message)[-1].startswith("verdict: not reached")


def test_what_goes_wrong_in_the_algebra_is_wrong_and_want_of_memory_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fresh worker may have the room."""

    def failing(error: type[Exception]) -> Callable[..., bool]:
        def same(*_: object) -> bool:
            raise error

        return same

    asked: dict[str, str | float] = {**asdict(EASY), "seconds": 1.0}
    for error in (RecursionError, NotImplementedError, ZeroDivisionError):
        monkeypatch.setattr(worker, "same", failing(error))
        assert worker.reply(asked) is False
    monkeypatch.setattr(worker, "same", failing(MemoryError))
    with pytest.raises(MemoryError):
        worker.reply(asked)
    judge = Judge()
    judge.ask(EASY, 10.0)
    monkeypatch.setattr(judge, "_line", lambda seconds: b'{"late": "memory"}')
    with pytest.raises(Late, match="memory"):
        judge.ask(EASY, 10.0)
    assert judge.process is None


def test_threads_get_right_verdicts_side_by_side() -> None:
    hard = [(f"\\sqrt{{{8 * k * k}}}", f"{2 * k}\\sqrt{{2}}", k) for k in range(1, 13)]
    out: dict[int, bool] = {}

    def work(rows: list[tuple[str, str, int]]) -> None:
        for a, t, k in rows:
            out[k] = verifier.equal(a, t, "expression")
            out[-k] = verifier.equal(a, t + "+1", "expression")

    process._idle.clear()
    threads = [threading.Thread(target=work, args=(hard[i::2],)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert out == {s * k: s > 0 for k in range(1, 13) for s in (1, -1)}
    assert len(process._idle) <= 2  # lent, not made anew


def _forked(queue: multiprocessing.Queue[bool]) -> None:
    queue.put(verifier.equal("\\sqrt{50}", "5\\sqrt{2}", "expression"))
    process.stop()


def test_a_forked_daemon_gets_its_own_worker() -> None:
    """Where a process pool would refuse to have children, and where two processes would read one
    pipe.
    """
    assert verifier.equal("\\sqrt{32}", "4\\sqrt{2}", "expression")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_forked, args=(queue,), daemon=True)
    child.start()
    assert queue.get(timeout=60) is True
    child.join()
    assert verifier.equal("\\sqrt{72}", "6\\sqrt{2}", "expression")


def test_verdicts_are_the_same_beside_busy_processes() -> None:
    """The reduced form of `benchmarks/load.py`: answers that take a good part of their time."""
    command = [
        sys.executable,
        str(ROOT / "benchmarks/load.py"),
        "--answers",
        "40",
        "--busy",
        "0",
        "4",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical" in done.stdout


def test_a_program_gets_processor_time_not_time_by_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It uses 0.6 s of its 1 s in more than 1.5 s by the clock; with 1.5 s of work it is ended."""
    monkeypatch.setattr(isolation, "SECONDS", 1.0)
    program = (
        "import time\ndef f(x):\n    time.sleep(1)\n    while time.process_time() < {}: pass\n"
        "    return x"
    )
    tests = checks(["f(1)"], [1])
    start = time.monotonic()
    assert programs.grade(program.format(0.6), tests).passed
    assert time.monotonic() - start > 1.5
    assert programs.grade(program.format(2.5), tests).reason == "time limit of 1 s"


def test_a_program_that_waits_is_told_from_one_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "IDLE_SECONDS", 1.0)
    tests = checks(["f(1)"], [1])
    asleep = programs.grade("import time\ndef f(x): time.sleep(1000)", tests)
    assert asleep.reason == "it waits: no work for 1 s"
    locked = "import threading\nlock = threading.Lock()\ndef f(x):\n    lock.acquire()\n"
    assert "it waits" in programs.grade(f"{locked}    lock.acquire()", tests).reason
    works = "import time\ndef f(x):\n    end = time.process_time() + 2.5\n"
    works += "    while time.process_time() < end: pass\n    return x"
    assert programs.grade(works, tests).passed


def test_a_program_that_the_machine_ended_is_run_again_and_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counter = iter(range(100))
    monkeypatch.setattr(isolation, "_out_of_memory", lambda: next(counter))
    killed = "import os\ndef f(x): os.kill(os.getpid(), 9)"
    if isolation.describe() != "bubblewrap":
        pytest.skip("without bubblewrap no program can end itself so")
    verdict = verifier.verify(f"```python\n{killed}\n```", checks(["f(1)"], [1]), "code")
    assert (verdict.late, verdict.correct, verdict.fraction) == (True, False, 0.0)
    assert "out of memory" in verdict.reason
    monkeypatch.setattr(isolation, "_out_of_memory", lambda: 0)
    verdict = verifier.verify(f"```python\n{killed}\n```", checks(["f(1)"], [1]), "code")
    assert (verdict.late, verdict.reason) == (False, "the program's process died")


def test_processor_time_is_of_children_too(tmp_path: Path) -> None:
    work = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(60)"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {work!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as running:
        assert running.stdout
        running.stdout.readline()
        assert isolation.processor_seconds(running.pid) >= 0.28
        assert isolation.processor_seconds(os.getpid()) >= isolation.processor_seconds(running.pid)
        for child in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    assert isolation.processor_seconds(1 << 30) == 0.0
