"""What jobs took, from the benchmark files that Snakemake leaves in logs/benchmarks/{rule}/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("logs/benchmarks")


def seconds_of(path: Path) -> float | None:
    """Seconds of one job; None if the file is not a benchmark's, as what a file manager leaves, or
    one that a job which was killed left empty.
    """
    try:
        head, row = path.read_text().splitlines()[:2]
        return float(row.split("\t")[0]) if head.startswith("s\t") else None
    except (OSError, ValueError):
        return None


def job_seconds(folder: Path, rule: str, name: str = "*") -> list[float]:
    """Seconds of a rule's jobs (of one, by its name); `folder` is where Snakemake runs."""
    files = sorted((folder / FOLDER / rule).glob(f"{name}.tsv"))
    return [seconds for path in files if (seconds := seconds_of(path)) is not None]


def by_rule(since: float, folder: Path = Path()) -> Iterator[str]:
    """Lines that say what the jobs took that ended after `since` (Unix seconds): rule, jobs,
    seconds summed over jobs, the slowest.
    """
    for rule in sorted((folder / FOLDER).glob("*/")):
        ended = [path for path in sorted(rule.rglob("*.tsv")) if path.stat().st_mtime >= since]
        seconds = [each for path in ended if (each := seconds_of(path)) is not None]
        if seconds:
            yield (
                f"{rule.name:>10}: {len(seconds):4d} jobs {sum(seconds):9.1f} s of work, slowest "
                f"{max(seconds):.1f} s"
            )
