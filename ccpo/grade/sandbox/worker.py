# mypy: ignore-errors
# Runs inside the sandbox, after the text of plain.py; nothing imports it. It runs a program,
# evaluates calls, and writes what they give as plain data. It is told no expected value and its
# word decides nothing: the program may do to it what it likes. Reply, one line each: "R" when the
# limits are in force; "X" and a reason if the program fails; then for each call "=" and data, or
# "!" and a reason.


def _install(filter_bytes):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(filter_bytes, len(filter_bytes))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    program = Program(len(filter_bytes) // 8, ctypes.cast(code, ctypes.c_void_p))
    one = ctypes.c_ulong(1)
    none = ctypes.c_ulong(0)
    # PR_SET_PDEATHSIG: killed when the parent is
    libc.prctl(1, ctypes.c_ulong(9), none, none, none)
    # PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP to SECCOMP_MODE_FILTER
    if libc.prctl(38, one, none, none, none) or libc.prctl(
        22, ctypes.c_ulong(2), ctypes.byref(program), none, none
    ):
        raise OSError(ctypes.get_errno(), "the system call filter was refused")


def _enclose(libraries, devices, scratch):
    """Landlock: of all files, only these can be opened from now on."""
    import ctypes
    import os
    import struct

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    def call(number, *arguments):
        result = libc.syscall(ctypes.c_long(number), *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), "Landlock is not to be had")
        return result

    version = call(444, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    # LANDLOCK_ACCESS_FS_*: 13 kinds, then REFER, TRUNCATE, IOCTL_DEV
    every = (1 << (13 + (version > 1) + (version > 2) + (version > 4))) - 1
    network = 3 if version > 3 else 0  # TCP bind and connect
    scoped = 3 if version > 5 else 0  # abstract sockets, signals
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = call(444, struct.pack("<QQQ", every, network, scoped)[:size], ctypes.c_size_t(size), 0)
    reading = 4  # READ_FILE; READ_DIR is 8, and means something for folders only
    granted = [(p, reading | 8 * os.path.isdir(p)) for p in libraries if os.path.exists(p)]
    granted += [(path, reading | 2) for path in devices]
    granted += [(scratch, every)]
    for path, rights in granted:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        call(445, rules, 1, struct.pack("<Qi", rights, place), 0)
        os.close(place)
    if libc.prctl(38, *map(ctypes.c_ulong, (1, 0, 0, 0))):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "no_new_privs was refused")
    call(446, rules, 0)
    os.close(rules)


def _serve(parts, calls, limits, files, filter_bytes):
    import os
    import resource
    import sys

    send_bytes = os.write
    leave = os._exit
    show = write  # noqa: F821
    reply = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for name, soft, hard in limits:
        resource.setrlimit(getattr(resource, name), (soft, hard))
    if files:
        _enclose(*files)
    if filter_bytes:
        _install(filter_bytes)
    for standard in (
        0,
        1,
        2,
    ):  # prints go nowhere: no output can fill anything, input is at its end
        os.dup2(null, standard)
    os.close(null)

    def send(text):
        data = text.encode("ascii", "backslashreplace") + b"\n"
        while data:
            data = data[send_bytes(reply, data) :]

    def why(error):
        try:
            return show(f"{type(error).__name__}: {error}"[:200])
        except BaseException:
            return show("an exception that cannot be shown")

    send("R")
    sys.argv = [""]
    # not "__main__": what a program does when it is run as a script is not what is asked of it
    module = type(sys)("solution")
    space = module.__dict__
    sys.modules["solution"] = module
    try:
        for part in parts:
            exec(compile(part, "<program>", "exec", dont_inherit=True), space)
    except BaseException as error:
        send("X" + why(error))
        leave(0)
    for call in calls:
        try:
            line = "=" + show(eval(compile(call, "<call>", "eval", dont_inherit=True), space))
        except BaseException as error:
            line = "!" + why(error)
        send(line)
    leave(0)


_serve(*job)  # noqa: F821 # set by _START in isolation.py
