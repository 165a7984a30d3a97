"""One Python program at a time, shut away: what it may touch, how long it may take, and what it
answered.

With bubblewrap the program has user, process, network, IPC, host-name and mount namespaces of its
own: it sees the libraries Python needs, read-only, and an empty scratch folder in memory; nothing
else exists. Without, Landlock (Linux 5.13) leaves it no files but those libraries and its scratch
folder, no /proc above all, through which it could read the expected values in the memory of
whoever runs it. Where there is neither, no program is run: `describe()` says why.

In both, limits on memory, processor time, file size and open files are set before the program is
read, no output is kept but the reply, and a filter of system calls (x86-64 and ARM Linux) refuses
new processes. The filter is needed because the kernel exempts root from its limit on processes
(RLIMIT_NPROC), and bubblewrap run by root is root to the kernel; threads remain allowed.

Time is processor time of the program, so that a busy machine gives the same verdicts. A program
that waits (sleeps, reads, holds a lock against itself) uses none: it is ended when it has used next
to nothing for IDLE_SECONDS by the clock.
"""

from __future__ import annotations

import errno
import functools
import logging
import marshal
import math
import os
import platform
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from ccpo.grade.process import Late
from ccpo.grade.sandbox import plain

log = logging.getLogger("ccpo")

SECONDS = 10.0  # processor time of the program and its calls together
# By the clock: what uses less than IDLE_SHARE of one core for so long waits for something. A
# program that works gets more on a machine with fifty times as many busy processes as cores.
IDLE_SECONDS = 30.0
IDLE_SHARE = 0.02
STALLED_SECONDS = 600.0  # by the clock: no verdict was reached
TRIES = 2
# seconds an idle machine would need a thousandth of; only a broken installation exceeds them
STARTING = 60.0
MEMORY = 1 << 30  # bytes of address space
SCRATCH = 16 << 20  # bytes of the scratch folder, and of one file
REPLY = 16 << 20  # bytes
# hash order is fixed, so a program that prints a set's order does so each time; few arenas, as each
# takes 64 MiB of the address space
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "utf-8:backslashreplace",
    "TZ": "UTC",
    "LANG": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",
}
_START = "import marshal; code, job = marshal.load(open(0, 'rb', closefd=False)); exec(code)"
_REMEDY = (
    "Remedy: install bubblewrap (Debian: apt-get install bubblewrap), allow user namespaces "
    "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), "
    "give the machine more memory and processes, or use a Linux kernel with Landlock (5.13)."
)


@dataclass(frozen=True)
class Replies:
    """A line for each call that was answered ("=" and plain data, or "!" and a reason), and why
    there are no more ("": all were).
    """

    lines: list[str]
    ending: str


@dataclass(frozen=True)
class _Isolation:
    """A way to run Python shut away: a command in front of it, and the filter that the command
    installs (`outer`), or the worker itself (`inner`). landlock: the worker leaves itself only the
    files that Python needs. refusal: why no program may be run ("": it may).
    """

    name: str
    command: tuple[str, ...] = ()
    outer: bytes = b""
    inner: bytes = b""
    landlock: bool = False
    refusal: str = ""


def describe() -> str:
    """Which isolation is in force on this machine: "bubblewrap", "Landlock and plain limits" and
    what is then missing, or "none" and why.
    """
    return _isolation().name


def run(parts: Sequence[str], calls: Sequence[str]) -> Replies:
    """Runs the parts of a program one after the other, then evaluates each call, all in one
    namespace, within SECONDS of processor time; without calls, nothing.

    May be called from any thread. Nothing of it runs any more on return.

    Raises:
        RuntimeError: the sandbox itself did not start, or this machine has none. Late: the machine
            ended the program, or gave it no time, twice.
    """
    for left in reversed(range(TRIES)):
        try:
            return _run(_isolation(), parts, calls)
        except Late:
            if not left:
                raise
    raise AssertionError("unreachable")


def _run(isolation: _Isolation, parts: Sequence[str], calls: Sequence[str]) -> Replies:
    if isolation.refusal:
        raise RuntimeError(
            f"sandbox: no program is graded on this machine: {isolation.refusal}. {_REMEDY}"
        )
    with (
        tempfile.TemporaryFile() as stdin,
        _folder(isolation) as folder,
        _filter_fd(isolation.outer) as (fds, option),
    ):
        stdin.write(_job(isolation, folder, parts, calls))
        stdin.seek(0)
        killed = _out_of_memory()
        try:
            process = subprocess.Popen(
                [*isolation.command, *option, *_python(), "-s", "-P", "-S", "-B", "-c", _START],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=fds,
                cwd=folder,
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        except OSError as error:
            raise _broken(isolation, str(error)) from None
        assert process.stderr is not None
        try:
            text, ending = _read(process, len(calls))
        finally:
            _end(process)
        complaint = process.stderr.read(2000).decode(errors="replace").strip()
        process.stderr.close()
    lines = text.split("\n")[:-1]  # what follows the last newline was cut off
    if not ending and len(lines) <= len(calls):
        ending = _death(process.returncode, killed)
    if not lines or lines[0] != "R":
        raise _broken(isolation, complaint or ending or "it ended without a word")
    if len(lines) > 1 and lines[1].startswith("X"):
        return Replies([], f"the program fails: {reason(lines[1])}")
    return Replies(lines[1 : len(calls) + 1], "" if len(lines) > len(calls) else ending)


def _job(isolation: _Isolation, folder: str, parts: Sequence[str], calls: Sequence[str]) -> bytes:
    """What the process reads: the worker's code, and what it is to do."""
    seconds = math.ceil(SECONDS)
    limits = [
        ("RLIMIT_CPU", seconds, seconds + 1),  # SIGXCPU, and SIGKILL for what ignores it
        *(
            (name, amount, amount)
            for name, amount in (
                ("RLIMIT_FSIZE", SCRATCH),
                ("RLIMIT_NOFILE", 64),
                ("RLIMIT_CORE", 0),
                ("RLIMIT_AS", MEMORY),
            )
        ),
    ]
    files = (_libraries(), _DEVICES, folder) if isolation.landlock else None
    return marshal.dumps((_worker(), (list(parts), list(calls), limits, files, isolation.inner)))


def _death(code: int, killed: int) -> str:
    """Why a program's process ended before its time.

    Raises:
        Late: the machine ran out of memory, which says nothing about the program.
    """
    number = -code if code < 0 else code - 128  # as bubblewrap gives a signal on
    if number == signal.SIGKILL and _out_of_memory() > killed:
        raise Late("no verdict: the machine ran out of memory and ended the program")
    if number == signal.SIGXCPU:
        return f"time limit of {SECONDS:.0f} s"
    return "the program's process died"


def _out_of_memory() -> int:
    """How many processes this machine's kernel has ended for want of memory."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _broken(isolation: _Isolation, why: str) -> RuntimeError:
    return RuntimeError(
        f"sandbox: no program can be run under {isolation.name.split(':')[0]}: {why}. {_REMEDY}"
    )


def reason(line: str) -> str:
    """The reason in a reply, as text that can be printed and encoded."""
    try:
        return plain.printable(str(plain.read(line[1:]))[:200])
    except ValueError:
        return "of a reason that cannot be read"


def _read(process: subprocess.Popen[bytes], calls: int) -> tuple[str, str]:
    """The reply up to the line of the last call, and why it was cut short ("": it was not, or the
    process is gone).

    Raises:
        Late: no verdict within STALLED_SECONDS by the clock.
    """
    stream = process.stdout
    assert stream is not None
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    chunks: list[bytes] = []
    lines = 0
    size = 0
    began = time.monotonic()
    watch: _Watch | None = None
    while lines < calls + 1:
        if watch is None and time.monotonic() - began > STARTING:
            return "", f"it did not start within {STARTING:.0f} s"
        if watch is not None and watch.idle():
            return _text(chunks), f"it waits: no work for {IDLE_SECONDS:.0f} s"
        if not poll.poll(1000 * min(1.0, IDLE_SECONDS / 2)):
            continue
        chunk = os.read(stream.fileno(), 1 << 16)
        if not chunk:
            _await(process)
            break
        if watch is None and b"\n" in chunk:
            watch = _Watch(process.pid)
        chunks.append(chunk)
        lines += chunk.count(b"\n")
        size += len(chunk)
        if size > REPLY:
            return _text(chunks), f"a reply of more than {REPLY >> 20} MiB"
    return _text(chunks), ""


def _text(chunks: list[bytes]) -> str:
    return b"".join(chunks).decode("ascii", "replace")


class _Watch:
    """Looks, whenever IDLE_SECONDS have passed, whether a process and its children still work."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.began = time.monotonic()
        self.looked = self.began
        self.used = 0.0

    def idle(self) -> bool:
        """Whether they have used next to no processor time since the last look.

        Raises:
            Late: they work, and STALLED_SECONDS have passed.
        """
        now = time.monotonic()
        if now - self.looked < IDLE_SECONDS:
            return False
        used = processor_seconds(self.pid)
        idle = used - self.used < IDLE_SHARE * (now - self.looked)
        self.looked = now
        self.used = used
        if not idle and now - self.began > STALLED_SECONDS:
            raise Late(
                f"no verdict: {used:.1f} s of processor time in {now - self.began:.0f} s by the "
                "clock"
            )
        return idle


def processor_seconds(pid: int) -> float:
    """Processor time of a process, its children and theirs, those that are over included."""
    tick = os.sysconf("SC_CLK_TCK")
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # the name, which may hold anything, ends with the last bracket
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            number = int(path.parent.name)
            children.setdefault(int(fields[1]), []).append(number)
            used[number] = sum(map(int, fields[11:15])) / tick
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return sum(used.get(member, 0.0) for member in family)


def _await(process: subprocess.Popen[bytes]) -> None:
    """Waits until a process that has closed its pipe is over, so that it can say why; what goes on
    is ended.
    """
    with suppress(subprocess.TimeoutExpired):
        process.wait(IDLE_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the group and waits. Bubblewrap's death is its namespace's; the pipe is at its end when
    all who held it are gone.
    """
    with suppress(ProcessLookupError):  # it is over
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    deadline = time.monotonic() + 5
    while (
        time.monotonic() < deadline
        and poll.poll(5000)
        and os.read(process.stdout.fileno(), 1 << 16)
    ):
        pass
    process.stdout.close()


@functools.cache
def _worker() -> CodeType:
    text = Path(plain.__file__).read_text(encoding="utf-8") + Path(__file__).with_name(
        "worker.py"
    ).read_text(encoding="utf-8")
    return compile(text, "<worker>", "exec", dont_inherit=True)


def _python() -> list[str]:
    """The interpreter itself, not a virtual environment's link to it."""
    return [os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)]


@contextmanager
def _folder(isolation: _Isolation) -> Iterator[str]:
    """Where the process begins: bubblewrap makes the scratch folder itself."""
    if isolation.command:
        yield "/"
    else:
        with tempfile.TemporaryDirectory(prefix="ccpo-", ignore_cleanup_errors=True) as folder:
            yield folder


@contextmanager
def _filter_fd(code: bytes) -> Iterator[tuple[tuple[int, ...], list[str]]]:
    """The filter in a pipe, and the option that names it to bubblewrap."""
    if not code:
        yield (), []
        return
    out, into = os.pipe()
    try:
        os.write(into, code)  # fits: a pipe holds at least a page
        os.close(into)
        yield (out,), ["--seccomp", str(out)]
    finally:
        os.close(out)


_once = threading.Lock()
_chosen: list[_Isolation] = []


def _isolation() -> _Isolation:
    """The best isolation that works here, tried once in a process."""
    with _once:
        if not _chosen:
            _chosen.append(_choose(shutil.which("bwrap")))
            if _chosen[0].command:
                log.info("programs run in bubblewrap")
            else:
                log.warning("programs run under: %s", _chosen[0].name)
        return _chosen[0]


def _choose(bwrap: str | None) -> _Isolation:
    machine = platform.machine() if sys.platform == "linux" else ""
    why = "bubblewrap is not installed (Debian: apt-get install bubblewrap)"
    if bwrap:
        code = _filter(machine, _REFUSED)
        walled = _Isolation("bubblewrap" + _lacks(code), (bwrap, *_walls()), outer=code)
        try:
            _run(walled, [], [])
            return walled
        except RuntimeError as error:
            why = str(error)
    code = _filter(machine, (*_REFUSED, *_REFUSED_UNWALLED))
    name = (
        "Landlock and plain limits: names of files and processes can be seen, the scratch folder "
        f"lies on disk. {why}"
    )
    refusal = (
        "without bubblewrap a program could read the expected values from the memory of whoever "
        f"runs it, and this machine has no {{}} to hold it off; {why}"
    )
    if not code:
        refusal = refusal.format("filter of system calls")
        return _Isolation(f"none: {refusal}", refusal=refusal)
    limited = _Isolation(name, inner=code, landlock=True)
    try:
        _run(limited, [], [])
        return limited
    except RuntimeError as error:
        refusal = f"{refusal.format('Landlock')} ({error})"
        return _Isolation(f"none: {refusal}", refusal=refusal)


def _lacks(code: bytes) -> str:
    return (
        ""
        if code
        else "; no filter of system calls for this machine: nothing refuses new processes"
    )


_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def _libraries() -> tuple[str, ...]:
    """The files and folders that Python needs to read."""
    base = Path(sys.base_prefix)
    return tuple(
        dict.fromkeys(
            [
                *("/lib", "/lib64", "/usr/lib", "/usr/lib64"),
                *("/usr/share/zoneinfo", "/etc/ld.so.cache"),
                *(str(base / "lib"), str(base / sys.platlibdir), *_python()),
            ]
        )
    )


def _walls() -> list[str]:
    """Bubblewrap's options. No /proc, no /sys, of /dev only what is harmless; a root that cannot be
    written.
    """
    namespaces = ("user", "pid", "net", "ipc", "uts", "cgroup-try")
    return [
        *(f"--unshare-{name}" for name in namespaces),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *("--uid", "65534", "--gid", "65534"),
        *("--size", str(SCRATCH), "--tmpfs", "/tmp"),  # first: Python itself may lie below it
        *(word for path in _libraries() for word in ("--ro-bind-try", path, path)),
        *(word for path in _DEVICES for word in ("--dev-bind", path, path)),
        *("--remount-ro", "/", "--chdir", "/tmp", "--setenv", "HOME", "/tmp"),
    ]


# System calls by their numbers on x86-64 and on ARM (-1: there is none), from the kernel's tables.
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH_*
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_PRLIMIT = (302, 261)
_REFUSED = (
    *((57, -1), (58, -1)),  # fork, vfork
    *(
        (101, 117),
        (310, 270),
        (311, 271),
        (438, 438),
    ),  # ptrace, process_vm_readv, process_vm_writev, pidfd_getfd
    *(
        (272, 97),
        (308, 268),
        (165, 40),
        (166, 39),
        (155, 41),
        (161, 51),
    ),  # unshare, setns, mount, umount2, pivot_root, chroot
    *(
        (428, 428),
        (429, 429),
        (430, 430),
        (431, 431),
        (432, 432),
        (433, 433),
    ),  # open_tree, move_mount, fsopen and its kin
    *(
        (321, 280),
        (298, 241),
        (323, 282),
        (425, 425),
        (426, 426),
        (427, 427),
    ),  # bpf, perf_event_open, userfaultfd, io_uring_*
    *(
        (248, 217),
        (249, 218),
        (250, 219),
        (304, 265),
    ),  # add_key, request_key, keyctl, open_by_handle_at
    *(
        (319, 279),
        (447, 447),
        (29, 194),
        (64, 190),
        (68, 186),
        (240, 180),
    ),  # memory that no limit counts: memfd_*, shmget, semget, ...
)
_REFUSED_UNWALLED = (
    *(
        (59, 221),
        (322, 281),
    ),  # execve, execveat: bubblewrap's filter cannot refuse them, as it starts Python by one
    *((41, 198), (62, 129), (200, 130), (234, 131)),  # socket, kill, tkill, tgkill
    *(
        (129, 138),
        (297, 240),
        (424, 424),
        (160, 164),
    ),  # rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal, setrlimit
    *(
        (175, 105),
        (313, 273),
        (246, 104),
        (169, 142),
        (133, -1),
        (259, 33),
    ),  # init_module, finit_module, kexec_load, reboot, mknod, mknodat
    *((76, 45), (90, -1), (268, 53), (452, 452)),  # truncate, chmod, fchmodat, fchmodat2
    *((92, -1), (94, -1), (260, 54)),  # chown, lchown, fchownat
    *((188, 5), (189, 6), (197, 14), (198, 15)),  # setxattr, removexattr and their kin
    *((132, -1), (235, -1), (261, -1)),  # utime, utimes, futimesat; utimensat is of open files too
    _PRLIMIT,
)


def _filter(machine: str, refused: tuple[tuple[int, int], ...]) -> bytes:
    """A filter (classic BPF over struct seccomp_data) that refuses these calls, and new processes
    but not threads; b"" elsewhere.
    """
    if machine not in _MACHINES or sys.maxsize < 1 << 32:
        return b""
    column, arch = _MACHINES[machine]
    # LD W ABS, JEQ, JGE, JSET, RET
    load = 0x20
    equal = 0x15
    least = 0x35
    any_bit = 0x45
    result = 0x06
    allow = 0x7FFF0000
    kill = 0x80000000
    no = 0x50000 | errno.EPERM
    unknown = 0x50000 | errno.ENOSYS
    steps = [(load, 0, 0, 4), (equal, 1, 0, arch), (result, 0, 0, kill), (load, 0, 0, 0)]
    if machine == "x86_64":
        steps += [
            (least, 0, 1, 0x40000000),
            (result, 0, 0, no),
        ]  # the same calls by other numbers (x32)
    for numbers in refused:
        if numbers == _PRLIMIT:  # reading a limit is allowed: the pointer to the new one is null
            steps += [
                (equal, 0, 6, numbers[column]),
                (load, 0, 0, 32),
                (equal, 0, 3, 0),
                (load, 0, 0, 36),
                (equal, 0, 1, 0),
            ]
            steps += [(result, 0, 0, allow), (result, 0, 0, no)]
        elif numbers[column] >= 0:
            steps += [(equal, 0, 1, numbers[column]), (result, 0, 0, no)]
    steps += [
        (equal, 0, 4, _CLONE[column]),
        (load, 0, 0, 16),
        (any_bit, 0, 1, 0x10000),
        (result, 0, 0, allow),
        (result, 0, 0, no),
    ]  # CLONE_THREAD
    steps += [
        (equal, 0, 1, _CLONE3[column]),
        (result, 0, 0, unknown),
        (result, 0, 0, allow),
    ]  # its flags lie in memory; libc falls back to clone
    return b"".join(struct.pack("<HBBI", *step) for step in steps)
