"""One writer at a time: among processes by the kernel's locks, among machines by signs of life."""

from __future__ import annotations

import dataclasses
import itertools
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from ccpo import lease

FORK = multiprocessing.get_context("fork")


def write(folder: Path, **changes: object) -> lease.Status:
    """Puts a writer's words into a folder."""
    status = lease.Status(
        "train",
        "theirs",
        "another machine",
        "n7",
        41,
        "1234",
        2,
        time.time(),
        time.time(),
        note="update 3",
    )
    status = dataclasses.replace(status, **changes)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "new").write_text(json.dumps(dataclasses.asdict(status)))
    os.replace(folder / "new", folder / "status.json")  # as a lease writes it: whole or not at all
    return status


def enter(folder: Path, diary: Path, seconds: float) -> None:
    """Holds a folder for a while, and notes when."""
    with lease.hold(folder, "train"):
        begun = time.monotonic()
        time.sleep(seconds)
        with open(diary, "a") as file:
            file.write(f"{begun} {time.monotonic()}\n")


def test_twelve_processes_hold_a_folder_one_after_the_other(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    crowd = [FORK.Process(target=enter, args=(tmp_path / "run", diary, 0.05)) for _ in range(12)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(60)
    held = sorted(tuple(map(float, line.split())) for line in diary.read_text().splitlines())
    assert len(held) == 12
    overlaps = [(one, two) for one, two in itertools.pairwise(held) if one[1] > two[0]]
    assert not overlaps
    status = lease.read(tmp_path / "run")
    assert status is not None
    assert status.released
    assert status.starts == 12


def test_a_killed_owner_leaves_the_folder_free_at_once(tmp_path: Path) -> None:
    process = FORK.Process(target=enter, args=(tmp_path, tmp_path / "diary", 60))
    process.start()
    while lease.read(tmp_path) is None:
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    begun = time.monotonic()
    with lease.hold(tmp_path, "train") as held:
        assert time.monotonic() - begun < lease.SILENT  # nobody's silence was waited for
        assert held.status.starts == 2


def test_a_living_owner_is_named_when_patience_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "PATIENCE", 0.5)
    process = FORK.Process(target=enter, args=(tmp_path, tmp_path / "diary", 60))
    process.start()
    while lease.read(tmp_path) is None:
        time.sleep(0.01)
    try:
        with (
            pytest.raises(
                ValueError,
                match=f"is being written by process {process.pid} on .*Remedy: wait for it, or "
                "end it",
            ),
            lease.hold(tmp_path, "train"),
        ):
            pass
    finally:
        process.kill()
        process.join()


def test_a_silent_owner_on_another_machine_is_waited_for_then_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is not seen here, as on file systems that carry none; only silence tells that it
    died. Its clock may be wrong by hours.
    """
    monkeypatch.setattr(lease, "SILENT", 1.0)
    write(tmp_path, at=time.time() - 7200)
    begun = time.monotonic()
    with lease.hold(tmp_path, "train") as held:
        assert 1.0 <= time.monotonic() - begun < 15  # elsewhere 30 s, or PATIENCE
        assert held.status.starts == 3


def test_an_owner_on_another_machine_that_gives_signs_of_life_keeps_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SILENT", 3.0)
    monkeypatch.setattr(lease, "PATIENCE", 6.0)

    def live(folder: Path) -> None:
        for beat in range(100):
            write(folder, beat=beat)
            time.sleep(0.2)

    write(tmp_path)
    process = FORK.Process(target=live, args=(tmp_path,))
    process.start()
    try:
        with (
            pytest.raises(
                ValueError,
                match=r"process 41 on n7, SLURM job 1234 \(train, update 3\).*scancel 1234",
            ),
            lease.hold(tmp_path, "train"),
        ):
            pass
    finally:
        process.kill()
        process.join()


def test_who_was_followed_writes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that stood still for a while wakes up to find that another went on in its place."""
    monkeypatch.setattr(lease, "BEAT", 0.05)
    with lease.hold(tmp_path, "train") as held:
        held.tell(3, 10)
        theirs = write(tmp_path)
        time.sleep(0.3)  # several signs of life that must not be given
        with pytest.raises(ValueError, match="was taken over by process 41 on n7, SLURM job 1234"):
            held.check()
    assert lease.read(tmp_path) == theirs  # not even the release is written over it


def test_what_a_writer_tells_and_what_ended_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.05)
    with lease.hold(tmp_path, "rollout") as held:
        held.tell(20, 100)
        held.tell(30, 100, "update 3")
        before = lease.read(tmp_path)
        assert before is not None
        assert (before.first, before.done, before.total, before.note) == (20, 30, 100, "update 3")
        while True:  # for ever, if no sign of life comes
            time.sleep(0.01)
            after = lease.read(tmp_path)
            assert after is not None
            if after.beat > before.beat:
                break
    with pytest.raises(RuntimeError), lease.hold(tmp_path, "rollout"):
        raise RuntimeError("the GPU fell off\nthe bus")
    last = lease.read(tmp_path)
    assert last is not None
    assert last.released
    assert last.error == "the GPU fell off"
    with lease.hold(tmp_path, "train") as held:
        assert held.status.starts == 1  # of this stage


def test_an_owner_whose_words_cannot_be_read_is_waited_for_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SILENT", 1.0)
    (tmp_path / "status.json").write_text("{")
    begun = time.monotonic()
    with lease.hold(tmp_path, "train") as held:
        assert 1.0 <= time.monotonic() - begun < 15  # elsewhere 30 s, or PATIENCE
        assert held.status.starts == 1


def test_words_that_are_not_whole_are_none(tmp_path: Path) -> None:
    assert lease.read(tmp_path) is None
    (tmp_path / "status.json").write_text('{"stage": "train"')
    assert lease.read(tmp_path) is None
    (tmp_path / "status.json").write_text('{"stage": "train"}')
    assert lease.read(tmp_path) is None


def test_a_folder_that_goes_when_its_work_is_done(tmp_path: Path) -> None:
    """The next owner gets the new folder, not the lock file of the old one."""
    import shutil

    folder = tmp_path / "run"
    with lease.hold(folder, "train"):
        shutil.rmtree(folder)
    assert not folder.exists()
    with lease.hold(folder, "train") as held:
        assert held.status.starts == 1
        assert (folder / "lock").is_file()


def test_who_waited_for_a_file_that_went_locks_the_one_that_is_there(tmp_path: Path) -> None:
    """A lock on a file without a name would keep nobody else out."""
    path = tmp_path / "rows.bin.part"
    first, exact = lease.lock(path)
    assert first is not None
    assert exact
    assert lease.lock(path) == (None, True)
    locked: list[int] = []

    def wait() -> None:
        handle, _ = lease.lock(path, wait=True)
        assert handle is not None
        with handle:
            locked.append(os.fstat(handle.fileno()).st_ino)
            assert lease.lock(path) == (None, True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.2)
    assert not locked
    path.rename(tmp_path / "rows.bin")
    first.close()
    waiting.join(10)
    assert locked == [path.stat().st_ino]
