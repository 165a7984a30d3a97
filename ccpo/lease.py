"""One writer at a time in a folder, and what it says of itself.

Two guards, since the file systems of clusters differ. `flock` dies with its process and is exact
wherever it is seen: on one machine always, between machines where the file system carries it (NFS
4, Lustre with flock, GPFS). Where it is not carried, the signs of life in
`status.json` tell: an owner on another machine is waited for until it releases the folder or falls
silent. Silence is timed by who waits, so that clocks of machines are never compared. A writer that
was taken for dead finds out before it writes anything (`Lease.check`).

The same file is what `python -m ccpo watch` reads: who works, since when, how far.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import BinaryIO

from ccpo import files

log = logging.getLogger("ccpo")

BEAT = 5.0  # seconds between signs of life
SILENT = 30.0  # seconds without one after which an owner on another machine is taken for dead
# seconds that a living owner is waited for: longer than a cluster takes to kill a job
PATIENCE = 120.0


@dataclass(frozen=True)
class Status:
    """What a writer says of itself. Times are Unix seconds; `first` is `done` when this writer
    began; `error` is what ended it.
    """

    stage: str
    token: str
    machine: str
    node: str
    pid: int
    job: str
    starts: int
    since: float
    at: float
    beat: int = 0
    first: float = 0
    done: float = 0
    total: float = 0
    note: str = ""
    released: bool = False
    error: str = ""

    @property
    def owner(self) -> str:
        """The writer in words."""
        return f"process {self.pid} on {self.node}" + (
            f", SLURM job {self.job}" if self.job else ""
        )


def read(folder: str | Path) -> Status | None:
    """The newest word of a folder's writer; None if there was none, or it is not whole."""
    try:
        content = json.loads((Path(folder) / "status.json").read_text())
        return Status(**{f.name: content[f.name] for f in fields(Status)})
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        return None


class Lease:
    """A folder that is held: tells how far its holder is, and whether it holds it still."""

    def __init__(self, folder: Path, status: Status) -> None:
        self.folder = folder
        self.status = status
        self._began = False
        self._lock = threading.Lock()
        self._over = threading.Event()

    def tell(self, done: float, total: float, note: str = "") -> None:
        """Says how far the work is. The first word of a writer is where it began."""
        first = self.status.first if self._began else done
        self._began = True
        self._say(first=first, done=done, total=total, note=note)

    def check(self) -> None:
        """Raises ValueError if somebody else took the folder: then this process must write nothing
        any more.
        """
        now = read(self.folder)
        if now is not None and now.token != self.status.token:
            raise ValueError(
                f"{self.folder} was taken over by {now.owner}, since this process gave no sign "
                "of life; it writes nothing more"
            )

    def _say(self, **changes: object) -> None:
        with self._lock:
            status = replace(self.status, at=time.time(), beat=self.status.beat + 1, **changes)  # type: ignore[arg-type]
            self.status = status
            _write(self.folder, status)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with suppress(
                OSError, ValueError
            ):  # a full disk must not end the work, and `check` tells of a loss
                self.check()
                self._say()


def _write(folder: Path, status: Status) -> None:
    """Whole or not at all, but not flushed to disk: a sign of life is of no use after a crash."""
    files.replace_bytes(folder / "status.json", json.dumps(asdict(status)).encode(), flush=False)


@contextmanager
def hold(folder: str | Path, stage: str) -> Iterator[Lease]:
    """Holds a folder, which is made if need be, for one stage of work. An owner that died leaves it
    free; one that lives is waited for.

    Raises:
        ValueError: an owner still lives after PATIENCE seconds; the message names it.
    """
    folder = Path(folder)
    handle, before = _take(folder)
    starts = before.starts + 1 if before and before.stage == stage else 1
    lease = Lease(folder, _me(stage, starts))
    try:
        lease._say()
        beating = threading.Thread(target=lease._beat, daemon=True)
        beating.start()
        error = "stopped without a word"
        try:
            yield lease
            error = ""
        except BaseException as caught:
            error = f"{caught}".strip().split("\n")[0] or type(caught).__name__
            raise
        finally:
            lease._over.set()
            beating.join()
            with suppress(OSError, ValueError):  # the folder may be gone: its work is done
                lease.check()
                lease._say(released=True, error=error)
    finally:
        handle.close()


def _me(stage: str, starts: int) -> Status:
    now = time.time()
    node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    job = os.environ.get("SLURM_JOB_ID", "")
    return Status(stage, secrets.token_hex(8), machine(), node, os.getpid(), job, starts, now, now)


def machine() -> str:
    """One name for all that one kernel's locks reach: containers of a machine have it in common,
    clones of a machine do not.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.is_file() else socket.gethostname()


def _take(folder: Path) -> tuple[BinaryIO, Status | None]:
    """The locked file of a folder that is free, and what was last said in it."""
    began = changed = time.monotonic()
    last: tuple[str, int] | None = None
    while True:
        handle, exact = lock(folder / "lock")  # without locks the signs of life alone must do
        other = read(folder)
        if handle:
            nobody = other is None and not (folder / "status.json").exists()
            if nobody or (other and (other.released or (exact and other.machine == machine()))):
                return handle, other
            sign = (other.token, other.beat) if other else ("words that cannot be read", 0)
            if sign != last:
                last = sign
                changed = time.monotonic()
            elif time.monotonic() - changed >= SILENT:
                log.warning(
                    "%s was left by %s, silent for %.0f s",
                    folder,
                    other.owner if other else "a writer unknown",
                    SILENT,
                )
                return handle, other
            handle.close()
        if time.monotonic() - began >= PATIENCE:
            who = (
                f"{other.owner} ({other.stage}, {other.note or 'no update yet'})"
                if other
                else "another process"
            )
            raise ValueError(
                f"{folder} is being written by {who}, for more than {PATIENCE:.0f} s. Remedy: "
                "wait for it, or end it"
                + (f" (scancel {other.job})." if other and other.job else ".")
            )
        time.sleep(0.2)


def lock(path: Path, wait: bool = False) -> tuple[BinaryIO | None, bool]:
    """A file, open at its end and locked until it is closed, and whether that is exact on this
    machine; None while another process has it, unless that is waited for. The file is made if need
    be, its folder too.

    A file that was deleted or renamed by who had it before is opened anew: a lock on it guards
    nothing.
    """
    mode = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = open(path, "a+b")  # noqa: SIM115 - held as long as the lock
        except FileNotFoundError:  # the folder went when its work was done
            continue
        try:
            fcntl.flock(handle, mode)
        except BlockingIOError:
            handle.close()
            return None, True
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL):
                handle.close()
                raise
            return handle, False  # a file system without locks
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                return handle, True
        handle.close()
