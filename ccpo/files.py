"""Files: hashed, read, and written whole or not at all.

Everything is written under a temporary name, flushed to disk and renamed, so that a file or folder
that exists is whole. No library is imported here that takes time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def sha256(path: str | Path) -> str:
    """Hex sha256 of a file, or of a folder (its sorted relative names and their hashes).

    Snakemake's time stamp in a folder is not counted: it is written after the job that made the
    folder has hashed it.
    """
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for item in members(path):
            digest.update(f"{item.relative_to(path).as_posix()}\0{sha256(item)}\n".encode())
        return digest.hexdigest()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def manifest_of(folder: Path) -> Path:
    """Where the manifest of a folder lies: beside it, so that it is none of its files."""
    return folder.with_name(folder.name + ".manifest.json")


def write_manifest(folder: Path) -> None:
    """Writes the sha256 of each file of a folder beside it. Folders have times and no content that
    Snakemake could judge; this file stands for the content."""
    write_json(manifest_of(folder), _files(folder))


def check_manifest(folder: Path) -> None:
    """Compares a folder with its manifest, or with its part of the manifest of the folder above.
    Without either there is nothing to compare with.

    Raises:
        ValueError: a file was changed, removed or added since; names the first.
    """
    for whole, part in ((folder, ""), (folder.parent, f"{folder.name}/")):
        path = manifest_of(whole)
        if not path.is_file():
            continue
        recorded = {k: v for k, v in read_json(path).items() if k.startswith(part)}
        now = {part + name: digest for name, digest in _files(folder).items()}
        for name in sorted({*recorded, *now}):
            if recorded.get(name) != now.get(name):
                raise ValueError(
                    f"{whole / name} has sha256 {now.get(name, 'none (missing)')}, {path} "
                    f"recorded {recorded.get(name, 'none (no such file)')}. Remedy: restore the "
                    f"file; or delete {whole} and {path}, and run snakemake again to make them "
                    "anew."
                )


def check_touched_manifest(folder: Path) -> None:
    """As `check_manifest`, of a folder in which something is newer than its manifest: cheap enough
    for all folders of an experiment.

    Raises:
        ValueError: as `check_manifest`.
    """
    path = manifest_of(folder)
    if path.is_file() and folder.is_dir():
        made = path.stat().st_mtime_ns
        if any(item.stat().st_mtime_ns > made for item in members(folder)):
            check_manifest(folder)


def members(folder: Path) -> list[Path]:
    """Files of a folder but Snakemake's time stamp."""
    items = sorted(folder.rglob("*"))
    return [p for p in items if p.is_file() and p.name != ".snakemake_timestamp"]


def _files(folder: Path) -> dict[str, str]:
    return {item.relative_to(folder).as_posix(): sha256(item) for item in members(folder)}


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes `data` under a temporary name beside `path`, flushes it to disk and renames it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(path, data)


def replace_bytes(path: Path, data: bytes, flush: bool = True) -> None:
    """`write_bytes` into a folder that is there (FileNotFoundError if it is not). Not flushed, it
    is whole for other processes, and may be lost when the machine stops.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which takes its place when the block ends well, and goes
    when it does not.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    os.replace(temporary, path)


def write_text(path: str | Path, text: str) -> None:
    """`write_bytes` in UTF-8; lone surrogates, which it cannot hold, as escapes (in JSON the same
    text when it is read).
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def canonical(value: object) -> str:
    """Canonical JSON: sorted keys, no spaces; anything but plain JSON values raises TypeError,
    infinities ValueError.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True
    )


def write_json(path: str | Path, value: object) -> None:
    """Readable JSON, keys in the order given; a value that is not finite raises ValueError, since
    JSON has no word for it.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads JSON; a missing or cut-off file raises ValueError with its name and a remedy."""
    try:
        return json.loads(Path(path).read_text())
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder. Remedy: name the JSON file in it.") from None
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist. Remedy: run the rule that makes it (snakemake {path})."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not JSON ({error}). Remedy: delete it and run snakemake again."
        ) from None
