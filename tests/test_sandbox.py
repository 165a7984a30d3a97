"""Hostile programs are contained and never pass; ordinary ones do. Those that need bubblewrap are
skipped where it does not work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ccpo import schema
from ccpo.benchmark import Comparison, checks
from ccpo.grade import verifier
from ccpo.grade.sandbox import isolation, plain, programs

SECRET = "secret-5f1c0b7e9a2d4638"
REACHED = 42
MARK = f"ccpo-test-{os.getpid()}-"


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is enough for what is to be stopped anyway; three by the clock tell a program that
    works beside other tests from one that waits.
    """
    monkeypatch.setattr(isolation, "SECONDS", 1.0)
    monkeypatch.setattr(isolation, "IDLE_SECONDS", 3.0)


def needs_walls() -> None:
    if isolation.describe() != "bubblewrap":
        pytest.skip(f"needs bubblewrap: {isolation.describe()}")


@pytest.fixture(autouse=True)
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of this test process's sandboxes, bubblewrap's own too, carry its number in
    their command line.
    """
    monkeypatch.setattr(isolation, "_START", f"{isolation._START} # {MARK}")


def remains() -> list[str]:
    """Command lines of the processes of any sandbox of this test process that are still there.
    Zombies have none.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            if MARK in command:
                found.append(command[-200:])
    return found


@contextlib.contextmanager
def leaves_nothing() -> Iterator[None]:
    """What is inside takes little longer than its time limit, and none of its processes remains."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < isolation.SECONDS + 60  # what sleeps would do so for 1,000
    assert remains() == []
    assert programs.grade("def answer(x): return x", checks(["answer(1)"], [1])).passed


# What should come back is SECRET, which a program cannot know: it must claim, fake, break or
# search.
FORGERIES = {
    "always equal": """
        class Same:
            def __eq__(self, other): return True
            def __hash__(self): return 0
            def __len__(self): return 1
        def answer(x): return Same()
    """,
    "int that lies": """
        class Lie(int):
            __eq__ = __le__ = __ge__ = lambda self, other: True
            __hash__ = int.__hash__
        def answer(x): return Lie(1)
    """,
    "str that lies": """
        class Lie(str):
            def __eq__(self, other): return True
            __hash__ = str.__hash__
        def answer(x): return Lie("x")
    """,
    "list that lies": """
        class Lie(list):
            def __eq__(self, other): return True
            def __iter__(self): raise KeyError
        def answer(x): return Lie([1])
    """,
    "dict that lies": """
        class Lie(dict):
            def __eq__(self, other): return True
        def answer(x): return Lie()
    """,
    "class that lies": """
        class Lie:
            __class__ = str
            def __eq__(self, other): return True
        def answer(x): return Lie()
    """,
    "metaclass that lies": """
        class Meta(type):
            def __instancecheck__(cls, x): return True
            def __eq__(cls, other): return True
            def mro(cls): return [cls, str, object] if False else type.mro(cls)
            __hash__ = type.__hash__
        class Lie(metaclass=Meta): pass
        def answer(x): return Lie()
    """,
    "os._exit(0)": "import os\ndef answer(x): os._exit(0)",
    "os._exit(0) on import": "import os\nos._exit(0)",
    "sys.exit": "import sys\ndef answer(x): sys.exit(0)",
    "sys.exit on import": "import sys\nsys.exit(0)",
    "base exception": "class Stop(BaseException): pass\ndef answer(x): raise Stop(0)",
    "generator exit": "def answer(x): raise GeneratorExit",
    "patched builtins": """
        import builtins
        for name in "eval compile exec type next isinstance list str repr len".split():
            setattr(builtins, name, lambda *a, **k: True)
        def answer(x): return True
    """,
    "patched assertions": """
        import builtins
        class Never(BaseException): pass
        builtins.AssertionError = Never
        def answer(x): return None
    """,
    "replaced json": """
        import sys, types
        fake = types.ModuleType("json")
        fake.loads = fake.dumps = lambda *a, **k: True
        sys.modules["json"] = sys.modules["_json"] = sys.modules["marshal"] = fake
        def answer(x): return 1
    """,
    "emptied sys.modules": "import sys\nsys.modules.clear()\ndef answer(x): return 1",
    "replaced functions of the worker": """
        import sys, os
        space = sys._getframe(1).f_globals
        for name in list(space):
            if name in ("write", "_atom", "_members"): space[name] = lambda *a, **k: '"passed"'
        os.write = lambda fd, data: len(data)
        os._exit = lambda code: None
        def answer(x): return 1
    """,
    "replaced local functions of the worker": """
        import sys
        for name, cell in [(n, c) for f in (sys._getframe(1),) for n, c in f.f_locals.items()]:
            if callable(cell) and hasattr(cell, "__code__") and not cell.__closure__:
                cell.__code__ = (lambda *a: "passed").__code__
        def answer(x): return 1
    """,
    "changes the calls": """
        import sys
        frame = sys._getframe(1)
        calls = frame.f_locals["calls"]
        calls.clear()
        def answer(x): return 1
    """,
    "forged replies on every descriptor": """
        import os
        for fd in range(64):
            first = (b"=true\\n", b"R\\n", b"passed\\n", b"=null\\n" * 5)
            for text in (*first, b'["l"]\\n', b'=["l",', b"\\xff\\xfe\\n"):
                try: os.write(fd, text)
                except OSError: pass
        def answer(x): return 1
    """,
    "half a reply": """
        import os
        for fd in range(64):
            try: os.write(fd, b"=")
            except OSError: pass
        os._exit(0)
    """,
    "closes all descriptors": "import os\nos.closerange(0, 1 << 16)\ndef answer(x): return 1",
    "turns descriptors around": """
        import os
        for a in range(3, 10):
            try: os.dup2(1, a)
            except OSError: pass
        def answer(x): return 1
    """,
    "replaced stdout": "import sys, io\nsys.stdout = sys.__stdout__ = "
    "io.StringIO()\nprint('passed')\ndef answer(x): return 1",
    "prints passed": "print('passed\\nOK\\n=true')\ndef answer(x): print('passed')",
    "searches frames and objects": f"""
        import sys, gc, re
        def answer(x):
            frame, seen = sys._getframe(), []
            while frame:
                values = [*frame.f_locals.values(), *frame.f_globals.values()]
                seen += [repr(v)[:10000] for v in values]
                frame = frame.f_back
            for thing in gc.get_objects():
                try: seen.append(repr(thing)[:10000])
                except BaseException: pass
            found = re.findall("{SECRET[:6]}" + "-[0-9a-f]{{16}}", " ".join(seen))
            return found[0] if found else 0
    """,
    "searches memory": f"""
        import ctypes, re
        def answer(x):
            pattern = re.compile(b"{SECRET[:6]}" + b"-[0-9a-f]{{16}}")
            for start in (id(object()) & ~0xFFFFF, id(answer) & ~0xFFFFF, id("x") & ~0xFFFFF):
                found = pattern.findall(ctypes.string_at(start, 1 << 18))
                if found: return found[0].decode()
            return 0
    """,
    "searches descriptors": """
        import os, re
        def answer(x):
            for fd in range(64):
                try: os.lseek(fd, 0, 0); data = os.read(fd, 1 << 20)
                except OSError: continue
                found = re.findall(b"secret-[0-9a-f]{16}", data)
                if found: return found[0].decode()
            return 0
    """,
    "searches the command line": """
        import sys, os
        def answer(x):
            words = [*sys.orig_argv, *os.environ.values()]
            return [w for w in words if "secret-" in w][0]
    """,
    "kills itself": "import os\nos.kill(os.getpid(), 9)\ndef answer(x): return 1",
    "stops itself": "import os, signal\ndef answer(x): os.kill(os.getpid(), signal.SIGSTOP)",
    "kills its parent": "import os\ndef answer(x): os.kill(os.getppid(), 9)",
    "kills its group": "import os\ndef answer(x): os.killpg(0, 9)",
    "kills all": "import os\ndef answer(x): os.kill(-1, 9)",
    "crashes": "import ctypes\ndef answer(x): ctypes.string_at(0)",
    "sleeps": "import time\ndef answer(x): time.sleep(1000)",
    "sleeps on import": "import time\ntime.sleep(1000)",
    "spins": "while True: pass",
    "catches everything and spins": """
        import signal
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except BaseException: pass
        def answer(x):
            while True:
                try:
                    while True: pass
                except BaseException: pass
    """,
    "endless output": "def answer(x):\n    while True: print('x' * 100000)",
    "endless output on every descriptor": """
        import os
        def answer(x):
            while True:
                for fd in range(64):
                    try: os.write(fd, b"x" * 65536)
                    except OSError: pass
    """,
    "endless lines": """
        import os
        def answer(x):
            while True:
                for fd in range(3, 9):
                    try: os.write(fd, b"\\n" * 65536)
                    except OSError: pass
    """,
    "catastrophic regex": "import re\ndef answer(x): return re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "recursion": "def answer(x): return answer(x)",
    "recursion without limit": "import sys\nsys.setrecursionlimit(1 << 30)\ndef answer(x): "
    "return [answer(x)]",
    "recursion in C": """
        import sys
        sys.setrecursionlimit(1 << 30)
        class Deep:
            def __repr__(self): return repr(Deep())
        def answer(x): return repr(Deep())
    """,
    "memory": "def answer(x):\n    held = []\n    while True: held.append(bytearray(1 << 26))",
    "memory of threads": """
        import threading, time
        threading.stack_size(1 << 15)
        def answer(x):
            while True:
                try: threading.Thread(target=time.sleep, args=(1000,)).start()
                except RuntimeError: pass
    """,
    "zip bomb": """
        import zlib
        def answer(x):
            deflate = zlib.compressobj(9)
            packed = b"".join(deflate.compress(bytes(1 << 24)) for _ in range(128))
            packed += deflate.flush()
            return len(zlib.decompress(packed))
    """,
    "huge power": "def answer(x): return 9 ** 9 ** 9 ** 9",
    "huge int": "def answer(x): return 1 << (1 << 28)",
    "huge int to str": "import sys\nsys.set_int_max_str_digits(0)\ndef answer(x): return str(1 "
    "<< 40000000)",
    "huge str": "def answer(x): return 'x' * (1 << 28)",
    "wide data": "def answer(x): return [0] * (1 << 24)",
    "data that contains itself": "held = []\nheld.append(held)\ndef answer(x): return held",
    "shared data": "held = 'x'\nfor _ in range(60): held = [held, held]\ndef answer(x): return "
    "held",
    "deep data": "held = []\nfor _ in range(10000): held = [held]\ndef answer(x): return held",
    "deep source": "answer = lambda x: " + "(" * 5000 + "1" + ")" * 5000,
    "null bytes": "def answer(x): return 1\0",
    "lone surrogate in the source": "def answer(x): return '\ud800'",
    "huge message": "def answer(x): raise ValueError('x' * 200000)",
    "huge message on import": "raise ValueError('x' * 200000)",
    "message that loops": "class E(Exception):\n    def __str__(self):\n        while True: "
    "pass\ndef answer(x): raise E",
    "message that raises": "class E(Exception):\n    def __str__(self): raise self\ndef "
    "answer(x): raise E",
    "loops when deleted": "class D:\n    def __del__(self):\n        while True: pass\ndef "
    "answer(x): return D()",
    "atexit": """
        import atexit, os
        @atexit.register
        def last():
            for fd in range(64):
                try: os.write(fd, b"=true\\n")
                except OSError: pass
        def answer(x): raise SystemExit
    """,
    "threads left behind": """
        import threading, os
        def scribble():
            while True:
                for fd in range(3, 9):
                    try: os.write(fd, b"=true\\n")
                    except OSError: pass
        for _ in range(8): threading.Thread(target=scribble).start()
        def answer(x): return 1
    """,
    "alarms": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\ndef answer(x): "
    "return 1",
    "tracing": "import sys\nsys.settrace(lambda *a: 1 / 0)\nsys.setprofile(lambda *a: None)\ndef "
    "answer(x): return 1",
    "surrogates": "def answer(x): return '\\ud800' + chr(0x10ffff)",
    "nan": "def answer(x): return float('nan')",
    "inf": "def answer(x): return float('-inf')",
    "generator": "def answer(x): yield 'passed'",
    "coroutine": "async def answer(x): return 'passed'",
    "function": "def answer(x): return lambda: 1",
    "module": "import os\ndef answer(x): return os",
    "class": "def answer(x): return str",
    "exception": "def answer(x): return AssertionError()",
    "not implemented": "def answer(x): return NotImplemented",
    "ellipsis": "def answer(x): return ...",
    "members of one hash": "def answer(x): return {i * ((1 << 61) - 1) for i in range(20000)}",
    "imports the tests": "import test_sandbox\ndef answer(x): return test_sandbox.SECRET",
    "imports the package": "import ccpo.grade.sandbox.programs as s\ndef answer(x): return s",
    "waits for input": "def answer(x): return input()",
    "no answer": "",
    "not Python": "This is no program.",
}


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("name", FORGERIES)
def test_no_forgery_passes(name: str) -> None:
    tests = checks(["answer(1)", "answer(2)"], [SECRET, SECRET])
    with leaves_nothing():
        graded = programs.grade(textwrap.dedent(FORGERIES[name]), tests)
    assert not graded.passed
    assert graded.fraction == 0.0
    assert graded.reason
    assert len(graded.reason) < 1000
    assert SECRET not in graded.reason


def test_the_search_finds_what_is_there() -> None:
    """So that it finds nothing above means that there is nothing: here a call names the secret."""
    program = textwrap.dedent(FORGERIES["searches frames and objects"])
    assert programs.grade(program, checks([f"answer({SECRET!r})"], [SECRET])).passed


# Each gives REACHED if, and only if, it got through. Braces in capitals are filled in by the test.
REACHES = {
    "fork": "import os\ndef answer():\n    pid = os.fork()\n    if pid: os.waitpid(pid, 0)\n    "
    "return 42",
    "fork bomb": """
        import os
        def answer():
            for _ in range(100000):
                try: os.fork()
                except OSError: pass
                else: return 42
    """,
    "forkpty": "import os\ndef answer():\n    os.forkpty()\n    return 42",
    "daemon": """
        import os, time
        def answer():
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0: time.sleep(1000)
                os._exit(0)
            return 42
    """,
    "subprocess": "import subprocess, sys\ndef answer():\n    subprocess.run([sys.executable, "
    "'-c', ''], check=True)\n    return 42",
    "shell": "import os\ndef answer():\n    return 42 if os.system('true') == 0 else 0",
    "random._os": "import random\ndef answer():\n    return 42 if random._os.popen('echo "
    "42').read() == '42\\n' else 0",
    "__import__": "def answer():\n    return 42 if __import__('os').spawnlp(0, 'true', 'true') "
    "== 0 else 0",
    "posix_spawn": "import os, sys\ndef answer():\n    os.posix_spawn(sys.executable, "
    "[sys.executable, '-c', ''], {})\n    return 42",
    "shell instead": "import os\ndef answer():\n    os.execv('/bin/sh', ['sh', '-c', 'sleep "
    "1000'])",
    "multiprocessing": """
        import multiprocessing
        def answer():
            process = multiprocessing.get_context("fork").Process(target=print)
            process.start(); process.join()
            return 42
    """,
    "raw clone": "import ctypes\ndef answer():\n    return 42 if ctypes.CDLL(None).syscall(56, "
    "17, 0, 0, 0, 0) >= 0 else 0",
    "passwords": "def answer():\n    return 42 if 'root' in open('/etc/passwd').read() else 0",
    "a private file": "def answer():\n    return 42 if open({PRIVATE!r}).read() else 0",
    "a private file through a link": """
        import os
        def answer():
            os.symlink({PRIVATE!r}, "/tmp/link")
            return 42 if open("/tmp/link").read() else 0
    """,
    "a private file through a hard link": "import os\ndef answer():\n    os.link({PRIVATE!r}, "
    "'/tmp/link')\n    return 42",
    "an open file of the parent": """
        import os
        def answer():
            for fd in range(64):
                try:
                    if os.pread(fd, 100, 0) == b"private": return 42
                except OSError: pass
    """,
    "the project": "import os\ndef answer():\n    return 42 if os.listdir({ROOT!r}) else 0",
    # at most the way to an interpreter that is installed there
    "home": "import os\ndef answer():\n    return 42 if len(os.listdir({HOME!r})) > 1 else 0",
    "programs": "import os\ndef answer():\n    return 42 if os.listdir('/bin') or "
    "os.listdir('/usr/bin') else 0",
    "environment of the parent": """
        import os
        def answer():
            return 42 if open("/proc/" + str(os.getppid()) + "/environ", "rb").read() else 0
    """,
    "environment of process 1": "def answer():\n    return 42 if open('/proc/1/environ', "
    "'rb').read() is not None else 0",
    "memory of the parent": "import os\ndef answer():\n    open(f'/proc/{{os.getppid()}}/mem', "
    "'rb')\n    return 42",
    "kernel settings": "import os\ndef answer():\n    return 42 if os.listdir('/sys') else 0",
    "environment": "import os\ndef answer():\n    return 42 if 'CCPO_TEST_TOKEN' in os.environ "
    "else 0",
    "other processes": """
        import os
        def answer():
            for pid in range(2, 100000):
                if pid != os.getpid():
                    try: os.kill(pid, 0)
                    except ProcessLookupError: continue
                    return 42
    """,
    "writes beside a private file": "def answer():\n    open({PRIVATE!r} + '.new', "
    "'w').write('x')\n    return 42",
    "writes into the system": "def answer():\n    open('/usr/lib/x', 'w')\n    return 42",
    "writes into Python": "import json\ndef answer():\n    open(json.__file__, 'a').write(' "
    "')\n    return 42",
    "writes into the root": "def answer():\n    open('/x', 'w')\n    return 42",
    "unlinks Python": "import os, json\ndef answer():\n    os.unlink(json.__file__)\n    return 42",
    "chmod": "import os, json\ndef answer():\n    os.chmod(json.__file__, 0o777)\n    return 42",
    "shared memory": "def answer():\n    open('/dev/shm/x', 'w').write('x')\n    return 42",
    "devices": """
        import os
        def answer():
            os.mknod("/tmp/disk", 0o60666, os.makedev(254, 0))
            open("/tmp/disk", "rb")
            return 42
    """,
    "fills the scratch folder": """
        def answer():
            for i in range(64):
                open(f"/tmp/{{i}}", "wb").write(bytes(1 << 20))
            return 42
    """,
    "large file": "def answer():\n    f = open('/tmp/x', 'wb')\n    f.truncate(1 << 30)\n    "
    "return 42",
    "memory outside limits": "import os\ndef answer():\n    os.memfd_create('x')\n    return 42",
    "much memory": "def answer():\n    return 42 if bytearray(3 << 29) else 0",
    "many files": "def answer():\n    return 42 if [open('/dev/null') for _ in range(1000)] else 0",
    "socket here": """
        import socket
        def answer():
            socket.create_connection(("127.0.0.1", {PORT}), 1)
            return 42
    """,
    "socket outside": "import socket\ndef answer():\n    socket.create_connection(('1.1.1.1', "
    "53), 1)\n    return 42",
    "datagram outside": """
        import socket
        def answer():
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("1.1.1.1", 53))
            return 42
    """,
    "urllib": "import urllib.request\ndef answer():\n    "
    "urllib.request.urlopen('http://127.0.0.1:{PORT}', timeout=1)\n    return 42",
    "names": "import socket\ndef answer():\n    return 42 if socket.getaddrinfo('example.com', "
    "80) else 0",
    "abstract socket": """
        import socket
        def answer():
            socket.socket(socket.AF_UNIX).connect("\\0{ABSTRACT}")
            return 42
    """,
    "interfaces": "import socket\ndef answer():\n    return 42 if len(socket.if_nameindex()) > 1 "
    "else 0",
    "ptrace": "import ctypes\ndef answer():\n    return 42 if ctypes.CDLL(None).ptrace(16, 1, 0, "
    "0) == 0 else 0",
    "ptrace of itself": "import ctypes\ndef answer():\n    return 42 if "
    "ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0 else 0",
    "namespaces": "import ctypes\ndef answer():\n    return 42 if "
    "ctypes.CDLL(None).unshare(0x10000000) == 0 else 0",
    "mounts": "import ctypes\ndef answer():\n    return 42 if ctypes.CDLL(None).mount(b'x', "
    "b'/tmp', b'proc', 0, None) == 0 else 0",
    "chroot": "import os\ndef answer():\n    os.chroot('/tmp')\n    return 42",
    "becomes root": "import os\ndef answer():\n    os.setuid(0)\n    return 42",
    "raises limits": """
        import resource
        def answer():
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            return 42
    """,
    "host name": "import socket\ndef answer():\n    socket.sethostname('x')\n    return 42",
    "priority": "import os\ndef answer():\n    os.nice(-5)\n    return 42",
    "kernel keys": "import ctypes\ndef answer():\n    return 42 if "
    "ctypes.CDLL(None).syscall(250, 0, -3, 0, 0, 0) >= 0 else 0",
    "shared segments": "import ctypes\ndef answer():\n    return 42 if "
    "ctypes.CDLL(None).shmget(0, 1 << 30, 0o1600) >= 0 else 0",
    "io_uring": "import ctypes\ndef answer():\n    return 42 if ctypes.CDLL(None).syscall(425, "
    "1, bytes(120)) >= 0 else 0",
}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """What lies outside: a private file, open too, a port and an abstract socket that answer, a
    variable.
    """
    private = tmp_path / "private"
    private.write_text("private")
    monkeypatch.setenv("CCPO_TEST_TOKEN", "x")
    name = f"ccpo-test-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.socket(socket.AF_UNIX) as abstract,
        private.open() as held,
    ):
        abstract.bind("\0" + name)
        abstract.listen()
        os.set_inheritable(held.fileno(), True)
        yield {
            "PRIVATE": str(private),
            "ROOT": str(ROOT),
            "HOME": str(Path.home()),
            "PORT": port.getsockname()[1],
            "ABSTRACT": name,
        }
    assert not Path(str(private) + ".new").exists()


def reach(name: str, outside: dict[str, object]) -> str:
    """The text of a program, its capitals filled in."""
    text = textwrap.dedent(REACHES[name])
    return text.format(**outside) if re.search(r"\{[A-Z]+(!r)?\}", text) or "{{" in text else text


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("name", REACHES)
def test_nothing_outside_is_reached(name: str, outside: dict[str, object]) -> None:
    needs_walls()
    with leaves_nothing():
        graded = programs.grade(reach(name, outside), checks(["answer()"], [REACHED]))
    assert not graded.passed, graded
    assert "SyntaxError" not in graded.reason
    assert "NameError" not in graded.reason


@pytest.mark.parametrize(
    "name",
    [
        *(
            "fork",
            "subprocess",
            "shell",
            "random._os",
            "__import__",
            "posix_spawn",
            "passwords",
            "a private file",
            "the project",
            "programs",
        ),
        *(
            "environment of the parent",
            "kernel settings",
            "environment",
            "socket here",
            "abstract socket",
            "much memory",
            "many files",
        ),
        *("other processes", "ptrace of itself"),
    ],
)
def test_what_is_refused_works_outside(name: str, outside: dict[str, object]) -> None:
    """So the refusals above are the sandbox's doing."""
    program = f"{reach(name, outside)}\nassert answer() == {REACHED}\n"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def without_bubblewrap() -> isolation._Isolation:
    found = isolation._choose(None)
    if found.refusal:
        pytest.skip(f"no Landlock on this machine: {found.refusal}")
    return found


# What Landlock and plain limits do not hold off: a file made by hand may stay on disk until the
# scratch folder is deleted, and names can be seen.
SEEN = {
    "other processes",  # kill(pid, 0) is refused for all alike, so that it "reaches" nothing
    "fills the scratch folder",
    "interfaces",
    "becomes root",  # as whoever is root already
    "priority",
    "host name",
    "devices",
}


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("name", sorted(set(REACHES) - SEEN))
def test_without_bubblewrap_nothing_outside_is_reached_either(
    name: str, outside: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_chosen", [without_bubblewrap()])
    with leaves_nothing():
        assert not programs.grade(reach(name, outside), checks(["answer()"], [REACHED])).passed


READERS = {
    "memory of the one who runs it": """
        import os, re
        def answer(x):
            parent = os.getppid()
            with open(f"/proc/{parent}/maps") as maps, open(f"/proc/{parent}/mem", "rb") as memory:
                for line in maps:
                    found = re.match("([0-9a-f]+)-([0-9a-f]+) rw", line)
                    if not found: continue
                    start, end = (int(x, 16) for x in found.groups())
                    for at in range(start, end, 1 << 20):  # two pieces share 64 bytes
                        memory.seek(at)
                        try: data = memory.read(min(end - at, (1 << 20) + 64))
                        except OSError: continue
                        found = re.search(b"secret-[0-9a-f]{16}", data)
                        if found: return found[0].decode()
    """,
    "task table on disk": """
        def answer(x):
            return open("TABLE").read()
    """,
    "memory of other processes by a call": """
        import ctypes, os
        def answer(x):
            libc = ctypes.CDLL(None, use_errno=True)
            here = ctypes.create_string_buffer(4096)
            local = (ctypes.c_void_p * 2)(ctypes.addressof(here), 4096)
            far = (ctypes.c_void_p * 2)(0x400000, 4096)
            if libc.process_vm_readv(os.getppid(), local, 1, far, 1, 0) >= 0: return "SECRET"
    """,
}


@pytest.mark.parametrize("walls", [True, False], ids=["bubblewrap", "Landlock"])
@pytest.mark.parametrize("name", READERS)
def test_a_program_cannot_read_the_expected_values(
    name: str, walls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader works where nothing holds it off."""
    if walls:
        needs_walls()
        found = isolation._isolation()
    else:
        found = without_bubblewrap()
    table = tmp_path / "tasks"
    table.write_text(SECRET)
    program = textwrap.dedent(READERS[name]).replace("TABLE", str(table)).replace("SECRET", SECRET)
    tests = checks(["answer(1)"], [SECRET])
    monkeypatch.setattr(isolation, "_chosen", [found])
    assert not programs.grade(program, tests).passed
    if not walls and name != "memory of other processes by a call":
        open_one = dataclasses.replace(found, landlock=False)
        monkeypatch.setattr(isolation, "_chosen", [open_one])
        assert programs.grade(program, tests).passed


def test_where_expected_values_cannot_be_hidden_nothing_is_graded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolation.platform, "machine", lambda: "riscv64")
    found = isolation._choose(None)
    assert found.name.startswith("none: ")
    monkeypatch.setattr(isolation, "_chosen", [found])
    with pytest.raises(RuntimeError, match=r"expected values.*Remedy: install bubblewrap"):
        programs.grade("def f(): return 1", checks(["f()"], [1]))


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    "name",
    [
        "always equal",
        "kills its parent",
        "kills all",
        "sleeps",
        "memory",
        "forged replies on every descriptor",
    ],
)
def test_without_bubblewrap_verdicts_are_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_bubblewrap()
    monkeypatch.setattr(isolation, "_chosen", [])
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with caplog.at_level("WARNING", logger="ccpo"), leaves_nothing():
        for _ in range(2):
            assert not programs.grade(
                textwrap.dedent(FORGERIES[name]), checks(["answer(1)"], [SECRET])
            ).passed
    assert isolation.describe().startswith("Landlock and plain limits")
    messages = [record.message for record in caplog.records]
    assert [m.startswith("programs run under: Landlock") for m in messages] == [True]  # once


# Ordinary programs: every call must give what stands beside it.
ORDINARY: dict[str, tuple[str, dict[str, object]]] = {
    "class": (
        """
        class Shape:
            sides = 0
            def __init__(self, name): self.name = name
            @property
            def title(self): return self.name.title()
        class Square(Shape):
            sides = 4
            def __init__(self): super().__init__("square")
        """,
        {
            "(Square().title, Square().sides)": ("Square", 4),
            "[isinstance(Square(), Shape)]": [True],
        },
    ),
    "dataclass": (
        """
        from __future__ import annotations
        from dataclasses import dataclass, field, asdict
        @dataclass(order=True, kw_only=True)
        class P:
            x: int
            y: list[P] = field(default_factory=list)
        """,
        {"asdict(P(x=1, y=[P(x=2)]))": {"x": 1, "y": [{"x": 2, "y": []}]}, "P(x=1) < P(x=2)": True},
    ),
    "enum and named tuple": (
        """
        import enum, typing
        class Colour(enum.IntEnum):
            RED = 1
        class Point(typing.NamedTuple):
            x: int
            y: int = 2
        """,
        {"Colour.RED": 1, "Point(1)": (1, 2), "[Colour(1).name]": ["RED"]},
    ),
    "generator": (
        "def squares(n):\n    for i in range(n):\n        got = yield i * i\ndef total(n): "
        "return sum(squares(n))",
        {"list(squares(4))": [0, 1, 4, 9], "total(4)": 14, "{i for i in squares(3)}": {0, 1, 4}},
    ),
    "recursion": (
        "import sys\nsys.setrecursionlimit(20000)\ndef depth(n): return 0 if n == 0 else 1 + "
        "depth(n - 1)",
        {"depth(10000)": 10000},
    ),
    "prints": (
        "import sys\ndef f(x):\n    print('x' * 100000, '\\ud800', file=sys.stderr)\n    "
        "print(x)\n    return x",
        {"f(3)": 3, "f('a')": "a"},
    ),
    "threads": (
        """
        import threading, queue
        from concurrent.futures import ThreadPoolExecutor
        def many(n):
            with ThreadPoolExecutor(8) as pool: return list(pool.map(lambda x: x * x, range(n)))
        def passed(n):
            q = queue.Queue()
            threads = [threading.Thread(target=q.put, args=(i,)) for i in range(n)]
            for t in threads: t.start()
            for t in threads: t.join()
            return sorted(q.queue)
        """,
        {"many(5)": [0, 1, 4, 9, 16], "passed(20)": list(range(20))},
    ),
    "asyncio": (
        "import asyncio\nasync def g(): await asyncio.sleep(0.01); return 5\ndef f(): return "
        "asyncio.run(g())",
        {"f()": 5},
    ),
    "datetime": (
        "import datetime, calendar, time\ndef f(y): return (datetime.date(y, 12, "
        "31).timetuple().tm_yday, calendar.isleap(y))",
        {"f(2024)": (366, True), "f(2023)": (365, False), "time.tzname[0]": "UTC"},
    ),
    "zones": (
        "import zoneinfo, datetime\ndef f(): return str(datetime.datetime(2024, 7, 1, "
        "tzinfo=zoneinfo.ZoneInfo('UTC')))",
        {"f()": "2024-07-01 00:00:00+00:00"},
    ),
    "text": (
        "import re, string, textwrap, unicodedata\ndef f(s): return re.sub(r'(\\w+)@', lambda m: "
        "m[1].upper(), s)",
        {
            "f('ab@c')": "ABc",
            "string.ascii_lowercase[:3]": "abc",
            "unicodedata.name('é')": "LATIN SMALL LETTER E WITH ACUTE",
            "'\\ud800'": "\ud800",
        },
    ),
    "containers": (
        """
        import heapq, bisect, array, copy
        from collections import Counter, defaultdict, OrderedDict, deque
        from itertools import groupby, product
        """,
        {
            "Counter('aab')": {"a": 2, "b": 1},
            "heapq.nsmallest(2, [3, 1, 2])": [1, 2],
            "bisect.bisect([1, 3], 2)": 1,
            "array.array('i', [1, 2]).tolist()": [1, 2],
            "defaultdict(list, a=[1])": {"a": [1]},
            "OrderedDict(b=1, a=2)": {"a": 2, "b": 1},
            "list(deque([1, 2], 1))": [2],
            "copy.deepcopy({'a': {1}})": {"a": {1}},
            "[(k, len(list(g))) for k, g in groupby('aab')]": [("a", 2), ("b", 1)],
        },
    ),
    "numbers": (
        "import math, cmath, operator, functools, random, statistics, sys\nfrom decimal import "
        "Decimal\nfrom fractions import Fraction",
        {
            "math.comb(100, 50)": math.comb(100, 50),
            "cmath.sqrt(-4)": 2j,
            "str(Decimal('0.1') + Decimal('0.2'))": "0.3",
            "(Fraction(1, 3) + Fraction(1, 6)).denominator": 2,
            "functools.reduce(operator.mul, range(1, 30))": math.factorial(29),
            "statistics.median([3, 1, 2])": 2,
            "random.Random(1).randint(1, 10)": 3,
            "1 << 20000": 1 << 20000,
            "0.1 + 0.2": 0.1 + 0.2,
            "float('inf')": math.inf,
            "sys.maxsize": sys.maxsize,
        },
    ),
    "data of all kinds": (
        "",
        {
            "None": None,
            "b'\\x00\\xff'": b"\x00\xff",
            "frozenset({(1, None)})": frozenset({(1, None)}),
            "{1: {2: [3, (4,), {5}]}, 'k': -0.0, (1, 2): 1.5e300}": {
                1: {2: [3, (4,), {5}]},
                "k": -0.0,
                (1, 2): 1.5e300,
            },
            "()": (),
            "set()": set(),
            "-5": -5,
        },
    ),
    "files": (
        """
        import json, tempfile, pathlib, csv, io, os
        def f(x):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "x"
                path.write_text(json.dumps(x))
                return json.loads(path.read_text())
        """,
        {
            "f({'a': [1, None]})": {"a": [1, None]},
            "open('here', 'w').write('abc')": 3,
            "os.path.getsize('here')": 3,
        },
    ),
    "modules": (
        "import "
        + ", ".join(
            sorted(
                {
                    "sqlite3",
                    "hashlib",
                    "zlib",
                    "bz2",
                    "lzma",
                    "ssl",
                    "ctypes",
                    "struct",
                    "typing",
                    "abc",
                    "logging",
                }
            )
        ),
        {
            "hashlib.sha256(b'').hexdigest()[:8]": "e3b0c442",
            "struct.pack('<I', 1)": b"\x01\0\0\0",
            "sqlite3.connect(':memory:').execute('select 1').fetchone()": (1,),
        },
    ),
    "main block": (
        "def f(): return __name__\nif __name__ == '__main__': raise SystemExit(f())",
        {"f()": "solution"},
    ),
    "names of the worker": (
        "write = job = plain = _serve = reply = 1\ndef f(): return write\ndef eval(x): return 2",
        {"f()": 1, "eval(1)": 2},
    ),
    "state": (
        "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)",
        {"f(1)": 1, "f(2) ": 2, "f(3)": 3},
    ),
    "patterns and walrus": (
        """
        def f(x):
            match x:
                case {"a": [first, *_]}: return first
                case _ if (n := len(x)) > 1: return n
        """,
        {"f({'a': [7, 8]})": 7, "f('abc')": 3, "f('')": None},
    ),
}


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("walls", [True, False], ids=["bubblewrap", "Landlock"])
def test_ordinary_programs_pass(name: str, walls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if walls:
        needs_walls()
    else:
        monkeypatch.setattr(isolation, "_chosen", [without_bubblewrap()])
    program, answers = ORDINARY[name]
    graded = programs.grade(textwrap.dedent(program), checks(list(answers), list(answers.values())))
    assert (graded.passed, graded.fraction, graded.reason) == (True, 1.0, "passed")


def test_every_module_of_the_standard_library_imports() -> None:
    """Those that this interpreter itself can import, less what opens a browser or prints."""
    names = sorted(
        n
        for n in sys.stdlib_module_names
        if not n.startswith("_") and n not in ("antigravity", "this", "idlelib", "turtledemo")
    )
    program = (
        "import importlib\ndef works(name):\n    try: importlib.import_module(name)\n    "
        "except ImportError: return False\n    return True"
    )
    call = f"[name for name in {names!r} if works(name)]"
    space: dict[str, object] = {}
    exec(program, space)
    with contextlib.redirect_stdout(io.StringIO()):
        here = [n for n in names if subprocess_free(n) and space["works"](n)]  # type: ignore[operator]
    replies = isolation.run([program], [call])
    inside = plain.read(replies.lines[0][1:])
    assert isinstance(inside, list)
    assert set(here) - set(inside) == set()
    assert len(inside) > 150


def subprocess_free(name: str) -> bool:
    """Modules that change the importing process are left alone in this one."""
    return name not in ("readline", "rlcompleter", "tkinter", "turtle", "test", "lib2to3")


def test_a_share_of_the_tests() -> None:
    program = (
        "def f(x):\n    if x == 3: raise ValueError('no threes')\n    return x * x if x < 5 else -1"
    )
    graded = programs.grade(program, checks([f"f({i})" for i in range(1, 6)], [1, 4, 9, 16, 25]))
    assert graded == programs.Graded(False, 0.6, "f(3): ValueError: no threes")
    wrong = programs.grade("def f(x): return 7", checks(["f(1)", "f(2)"], [7, 8]))
    assert wrong == programs.Graded(False, 0.5, "f(2): gives 7")


@pytest.mark.usefixtures("brief")
def test_what_was_right_before_the_end_counts() -> None:
    tests = checks([f"f({i})" for i in range(4)], [0, 1, 2, 3])
    slow = programs.grade("def f(x):\n    while x == 2: pass\n    return x", tests)
    assert slow == programs.Graded(False, 0.5, "f(2): time limit of 1 s")
    dead = programs.grade("import os\ndef f(x):\n    if x == 3: os._exit(0)\n    return x", tests)
    assert dead == programs.Graded(False, 0.75, "f(3): the program's process died")


@pytest.mark.parametrize(
    ("answer", "expected", "options", "right"),
    [
        ("1.0", 1, {}, True),
        ("True", 1, {}, True),
        ("[1, 2]", (1, 2), {}, False),
        ("(1, 2)", [1, 2], {"atol": 1.0}, False),
        ("0.1 + 0.2", 0.3, {}, False),
        ("0.1 + 0.2", 0.3, {"float_atol": 1e-6}, True),
        ("3", 3.0000001, {"float_atol": 1e-6}, False),  # an int where a float is expected
        ("[0.1 + 0.2, 1.0]", [0.3, 1.0], {"float_atol": 1e-6}, True),
        ("[0.1 + 0.2]", [0.3, 1.0], {"float_atol": 1e-6}, False),
        ("[0.1 + 0.2, 1]", [0.3, 1], {"float_atol": 1e-6}, False),  # not floats alone
        ("[0.1 + 0.2, 1]", [0.3, 1], {"atol": 1e-6}, True),
        ("1000001.0", 1e6, {"atol": 1e-9, "rtol": 1e-5}, True),
        ("float('nan')", math.nan, {"atol": 1.0}, False),
        ("float('inf')", math.inf, {"atol": 1.0}, True),
        ("float('-inf')", math.inf, {"atol": 1.0}, False),
        ("10 ** 400", 10**400 + 1, {"atol": 0.5}, False),
        ("float('inf')", 10**400, {"atol": 0.5}, False),
        ("'a'", "b", {"atol": 1.0}, False),
        ("0", 7, {"also": {0: [5, 0]}}, True),
        ("6", 7, {"also": {0: [5, 0]}}, False),
        ("2.0", [-6, 11, -6, 1], {"compare": "root", "atol": 1e-4}, True),
        ("2.1", [-6, 11, -6, 1], {"compare": "root", "atol": 1e-4}, False),
        ("float('nan')", [-6, 11, -6, 1], {"compare": "root", "atol": 1e-4}, False),
        ("1e300", [-6, 11, -6, 1], {"compare": "root", "atol": 1e-4}, False),
        ("'2'", [-6, 11, -6, 1], {"compare": "root", "atol": 1e-4}, False),
    ],
)
def test_comparison(answer: str, expected: object, options: dict[str, object], right: bool) -> None:
    close = {name: value for name, value in options.items() if name != "also"}
    compared = Comparison(**close)  # type: ignore[arg-type]
    truth = checks([answer], [expected], also=options.get("also"), compared=compared)  # type: ignore[arg-type]
    tests = programs._parse(truth)
    assert tests.right is not None
    assert (
        programs._verdict("=" + plain.write(eval(answer)), tests.right[0], tests) == ""
    ) == right


@pytest.mark.parametrize(
    "tests",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        "1",
        checks([], []),
        checks(["f()"], [1, 2]),
        checks(["f()"], [1], compared=Comparison("approximately")),
        checks(["f()"], [1], also={3: [1]}),
        checks(["f()"], [1]).replace('"f()"', "7"),
        checks(["f()"], [1]).replace('"1"', '"{}"'),
        checks(["f()"], [1]).replace('"atol": 0.0', '"atol": "x"'),
        checks(["f()"]),  # nothing expected yet
    ],
)
def test_tests_that_are_none_are_refused(tests: str) -> None:
    with pytest.raises(ValueError, match=r"sandbox: .*Remedy"):
        programs.grade("def f(): return 1", tests)


def test_expected_values_come_from_the_gold_program() -> None:
    open_ended = checks(["f(1)", "f(2)"], setup="k = 10")
    filled = programs.complete(open_ended, "def f(x): return [x * k]")
    assert programs.grade("def f(x): return [10 * x]", filled).passed
    assert not programs.grade("def f(x): return [x]", filled).passed
    assert programs.complete(filled, "nonsense") == filled
    for gold, why in {
        "def f(x): return 1 / (2 - x)": r"f\(2\): ZeroDivisionError",
        "nonsense": "answers 0 of 2 calls: the program fails: NameError",
        "def f(x): return f": "is not plain data",
        "import os\ndef f(x): os._exit(x - 1) if x == 2 else 0\n": "answers 1 of 2 calls: the "
        "program's process died",
    }.items():
        with pytest.raises(ValueError, match=why):
            programs.complete(open_ended, gold)


def test_the_program_in_a_completion() -> None:
    assert programs.program("a\n```python\nx = 1\n```\nb\n```python\ny = 2\n```\nc") == "y = 2\n"
    assert (
        programs.program("a\n```Python\ndef f():\n    return '''\n  x```'''\n")
        == "def f():\n    return '''\n  x```'''\n"
    )
    assert programs.program("```py\r\nx = 1\r\n```") == "x = 1\r\n"
    assert programs.program("def f(x):\n    return x") == "def f(x):\n    return x"
    assert programs.program("```text\nx\n```") is None
    assert programs.program("The answer is 4.") is None
    assert programs.program("Yes") is None
    assert programs.program("") is None
    assert programs.program("x = '\0'") is None
    assert programs.program("(" * 100000) is None
    assert programs.program("```python\n```") == ""


GOOD = "def f(x):\n    return x + 1\n"
ASKED = checks(["f(1)", "(lambda answer: answer)(f(2))"], [2, 3])
RIGHT = {
    "example usage after it": f"```python\n{GOOD}```\nSo:\n```python\nanswer = f(3)\n1 / 0\n```",
    "a wrong assertion after it": f"```python\n{GOOD}```\n```python\nassert f(1) == 5\n```",
    "its output after it": f"```python\n{GOOD}```\nIt gives\n```\nf = 2\n```",
    "no tag": f"```\n{GOOD}```",
    "another tag before it": f"```bash\npip install f\n```\n```Python3\n{GOOD}```",
    "indented in a list": f"1. Add one:\n\n   ```python\n{textwrap.indent(GOOD, '   ')}   ```\n",
    "indented below an indented fence": f"  ```python\n{textwrap.indent(GOOD, '      ')}  ```\n",
    "the prompt opened the fence": f"{GOOD}```\nIt adds one.\n```python\nprint(f(1))\n```",
    "cut off": f"First\n```python\n{GOOD}",
    "tildes": f"~~~py\n{GOOD}~~~",
    "four backticks": f"````python\n{GOOD}````",
    "no fence": GOOD,
    "a docstring that holds a fence": (
        '```python\ndef f(x):\n    """One more.\n\n    ```\n    f(1)\n    ```\n    """\n'
        "    return x + 1\n```\nUse it:\n```python\nprint(f(1))\n```"
    ),
    "a docstring that holds a tagged fence": (
        '```python\ndef f(x):\n    """One more.\n```python\nf(1)\n```\n"""\n'
        "    return x + 1\n```\nDone."
    ),
    "helpers in another block": (
        "```python\nONE = 1\ndef more(x): return x + ONE\n```\nand\n"
        "```python\ndef f(x): return more(x)\n```\n```python\nmore = None\n```"
    ),
    "revised": f"```python\ndef f(x): return 7\n```\nNo, better:\n```python\n{GOOD}```",
    "a session after it": f"```python\n{GOOD}```\n```python\n>>> f(1)\n2\n```",
    "a block of main after it": f"```python\n{GOOD}```\n```python\ndef main():\n    1/0\nmain()```",
    "a future import": f"```python\nfrom __future__ import annotations\n{GOOD}```",
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_solution_is_run_and_nothing_else(name: str) -> None:
    verdict = verifier.verify(RIGHT[name], ASKED, "code")
    assert (verdict.correct, verdict.reason) == (True, "passed")


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n{GOOD}```\nNo:\n```python\ndef f(x): return 7\n```",  # the last counts
        f"```text\n{GOOD}```",
        "```python\ndef g(x): return x + 1\n```",
        "f adds one",
        "",
        "```python\n```",
        "```\n" * 20000,
        "```python\n(" * 5000,
        "```python\nx = '" * 5000 + "'\n```" * 5000,
    ],
    ids=lambda text: repr(text[:30]),
)
def test_what_is_no_solution_is_none(text: str) -> None:
    start = time.process_time()
    assert not verifier.verify(text, ASKED, "code").correct
    assert time.process_time() - start < 2


def test_names_that_a_test_binds_are_not_asked_of_the_program() -> None:
    assert programs.called(ASKED) == {"f"}
    calls = ["set(f([y for y in (1, 2)]))", "g(Node(1))"]
    assert programs.called(checks(calls, [1, 2], setup="class Node: pass")) == {"f", "g"}


def test_what_the_question_gives_need_not_be_repeated_and_may_be_replaced() -> None:
    preamble = "from typing import List\ndef twice(x: int) -> int: return 2 * x\n"
    tests = checks(["f(2)"], [5], preamble=preamble)
    body = "def f(x: int) -> List[int]: return twice(x) + 1"
    assert programs.grade(body, tests).passed
    assert programs.grade(f"from __future__ import annotations\n{body}", tests).passed
    assert not programs.grade(f"def twice(x): return 0\n{body}", tests).passed
    assert not programs.grade(body, checks(["f(2)"], [5])).passed


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("Fraction(1, 2)", True),
        ("Decimal('0.5')", True),
        ("[Fraction(1, 2)][0]", True),
        ("Fraction(1, 3)", False),
        ("Decimal('0.25')", False),
        ("Decimal('NaN')", False),
        ("Decimal('sNaN')", False),
        ("Decimal('1e999999999')", False),
        ("Fraction(10 ** 20000, 3)", False),
    ],
)
def test_exact_numbers_are_compared_as_python_compares_them(value: str, right: bool) -> None:
    program = (
        f"from fractions import Fraction\nfrom decimal import Decimal\ndef f(): return {value}"
    )
    assert programs.grade(program, checks(["f()"], [0.5])).passed is right


def test_lone_surrogates_are_said_as_escapes() -> None:
    """In whatever crosses a pipe, a file or JSON."""
    for program in (
        "def f(x): raise ValueError('\\ud800')",
        "raise ValueError('\\udfff')",
        "def f(x): return '\\ud800'",
        "def f(x): return '\ud800'",
    ):
        verdict = verifier.verify(f"```python\n{program}\n```", ASKED, "code")
        assert not verdict.correct
        verdict.reason.encode()
        lines = verifier.explain(f"```python\n{program}\n```", ASKED, "code")
        "\n".join(lines).encode()
    assert not verifier.verify("\\boxed{\ud800}", "1", "number").correct
    "\n".join(verifier.explain("\\boxed{\ud800+\\sqrt{2}}", "1", "expression")).encode()


def test_lone_surrogates_reach_files_and_terminals_as_escapes(tmp_path: Path) -> None:
    schema.write_json(tmp_path / "a.json", {"a": "x\ud800"})
    assert schema.read_json(tmp_path / "a.json") == {"a": "x\ud800"}
    schema.write_text(tmp_path / "a.txt", "x\ud800")
    assert (tmp_path / "a.txt").read_text() == "x\\ud800"
    rows = [{"step": 1, "part": "x\ud800", "seconds": 1.0}]
    schema.write_table(tmp_path / "a.parquet", schema.rows_to_table("seconds", rows))
    [back] = schema.read_table(tmp_path / "a.parquet", "seconds").to_pylist()
    assert back["part"] == "x\\ud800"
    for kind, text in (
        ("code", "def f(x): raise ValueError('\\ud800')"),
        ("code", b"def f(x): return '\xed\xa0\x80'"),
        ("number", b"\\boxed{\xed\xa0\x80}"),
    ):
        command = [sys.executable, "-m", "ccpo", "verify", "--kind", kind, text]
        truth = ASKED if kind == "code" else "1"
        done = subprocess.run([*command, truth], capture_output=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert done.stdout.rstrip().endswith(b"verdict: wrong")


def test_a_sandbox_that_does_not_start_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no permission >&2\nexit 1\n")
    broken.chmod(0o755)
    for command in (str(broken), str(tmp_path / "absent")):
        monkeypatch.setattr(isolation, "_chosen", [isolation._Isolation("bubblewrap", (command,))])
        with pytest.raises(
            RuntimeError, match=r"under bubblewrap: .*(no permission|absent).*Remedy"
        ):
            programs.grade("def f(): return 1", checks(["f()"], [1]))
    assert re.match(r"(Landlock|none).*no permission", isolation._choose(str(broken)).name)


def test_many_at_once() -> None:
    """Eight threads, each verdict its own."""

    def one(i: int) -> bool:
        return programs.grade(f"def f(): return {i}", checks(["f()"], [i - i % 2])).passed

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == [i % 2 == 0 for i in range(24)]


@pytest.mark.parametrize("walls", [True, False], ids=["bubblewrap", "Landlock"])
def test_a_program_dies_with_whoever_runs_it(walls: bool) -> None:
    if walls:
        needs_walls()
    else:
        without_bubblewrap()
    choose = "" if walls else "isolation._chosen.append(isolation._choose(None)); "
    mark = f"isolation._START += ' # {MARK}'; "
    text = (
        f"from ccpo.grade.sandbox import isolation; {choose}{mark}isolation.run(['import time; "
        "time.sleep(1000)'], ['1'])"
    )
    process = subprocess.Popen([sys.executable, "-c", text], cwd=ROOT)
    wait_for(lambda: len(remains()) > 1)  # itself, and what it runs
    time.sleep(0.5)  # until the program itself runs
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: remains() == [])


def wait_for(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Plain data

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
)
KEYS = st.recursive(
    ATOMS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4), max_leaves=6
)
DATA = st.recursive(
    KEYS | st.complex_numbers(allow_nan=False) | st.integers(-(1 << 5000), 1 << 5000),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(KEYS, max_size=5)
        | st.dictionaries(KEYS, inner, max_size=5)
    ),
    max_leaves=30,
)


@settings(max_examples=200, deadline=None)
@given(DATA)
def test_plain_data_comes_back_as_it_was(value: object) -> None:
    def exact(x: object) -> object:
        """repr tells 1 from True and 0.0 from -0.0, which == does not; sets and dicts by their
        members in order.
        """
        if isinstance(x, list | tuple):
            return type(x), [exact(i) for i in x]
        if isinstance(x, set | frozenset):
            return type(x), sorted(repr(exact(i)) for i in x)
        if isinstance(x, dict):
            return dict, [(exact(k), exact(v)) for k, v in x.items()]
        return type(x), hex(x) if isinstance(x, int) else repr(x)

    back = plain.read(plain.write(value))
    assert back == value
    assert exact(back) == exact(value)


def test_the_text_of_a_set_does_not_depend_on_hashes() -> None:
    """Else a task table that holds one would have other bytes in each process."""
    code = "from ccpo.grade.sandbox import plain; print(plain.write([{*'abcdef', (1, 'x')}, 1]))"
    texts = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code]
        texts.add(subprocess.check_output(command, env=environment, cwd=ROOT))
    assert len(texts) == 1
    assert plain.read(texts.pop().decode()) == [{*"abcdef", (1, "x")}, 1]


def test_what_derives_from_plain_data_is_that_data() -> None:
    class Number(IntEnum):
        ONE = 1

    class Loud(str):
        def __str__(self) -> str:
            return "LOUD"

    pair = namedtuple("pair", "a b")
    values = [
        pair(1, 2),
        Counter("aab"),
        OrderedDict(a=1),
        defaultdict(int, a=1),
        Number.ONE,
        Loud("quiet"),
    ]
    back = plain.read(plain.write(values))
    assert back == [(1, 2), {"a": 2, "b": 1}, {"a": 1}, {"a": 1}, 1, "quiet"]
    assert isinstance(back, list)
    assert [type(x) for x in back] == [tuple, dict, dict, dict, int, str]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"a": 1}',
        "NaN",
        "Infinity",
        "[]",
        '["q", 1]',
        "[1, 2]",
        '["s", ["l"]]',
        '["d", 1]',
        '["d", ["l"], 1]',
        '["b", "zz"]',
        '["b", 1]',
        '["i", "0y"]',
        '["c", "1"]',
        '["f"]',
        '[["l"]]',
        "1" * 5000,
        "[" * 100000,
        '["l",' * 5000 + "1" + "]" * 5000,
        '["l",' * 102 + "1" + "]" * 102,
        '["s",' + ",".join(str(i * ((1 << 61) - 1)) for i in range(1000)) + "]",
        '["d",' + ",".join(f"{i * ((1 << 61) - 1)},0" for i in range(1000)) + "]",
        '"' + "x" * plain.LONGEST + '"',
    ],
    ids=lambda text: text[:20] or "empty",
)
def test_texts_that_are_no_plain_data_are_refused(text: str) -> None:
    start = time.process_time()
    with pytest.raises(
        ValueError,
        match=r"not plain|nested|hash|characters|Expecting|hexadecimal|digits|base 16|zip",
    ):
        plain.read(text)
    assert time.process_time() - start < 2


def test_a_set_of_numbers_with_one_hash_would_take_long() -> None:
    """The reason for the refusal: 20,000 such members take over a hundred times as long as 20,000
    others.
    """

    def seconds(members: list[int]) -> float:
        start = time.process_time()
        set(members)
        return time.process_time() - start

    assert seconds([i * sys.hash_info.modulus for i in range(4000)]) > 20 * seconds(
        list(range(4000))
    )


@pytest.mark.parametrize(
    "value",
    [
        object(),
        print,
        (i for i in "a"),
        [lambda: 1],
        {"a": {1: type}},
        range(3),
        bytearray(b"x"),
        memoryview(b"x"),
    ],
)
def test_what_is_not_plain_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match="is not plain data"):
        plain.write(value)
