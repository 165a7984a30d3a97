"""What the workflow costs beside its jobs: parsing, a dry run of 1,000 runs, and each job on a
cluster.

python benchmarks/workflow.py            parsing and dry runs, here
python benchmarks/workflow.py --jobs 200 and as many trivial jobs through the SLURM cluster that
answers
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRIVIAL = """
rule all:
    input: expand("out/{i}", i=range(%d))
rule trivial:
    output: "out/{i}"
    resources: mem_mb=300, runtime=2
    shell: "date +%%s.%%N > {output}"
"""


def checkout(folder: Path, seeds: int) -> Path:
    """The workflow in a folder of its own, with the experiment `large`: ten conditions of
    `quickstart`'s first two, with many seeds.
    """
    for name in ("workflow", "config", "ccpo", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder / "Snakefile")
    (folder / "profiles").symlink_to("workflow/profiles")
    text = (ROOT / "config/experiments/quickstart.yaml").read_text()
    text = re.sub(r"seed: \[.*\]", f"seed: {list(range(seeds))}", text)
    (folder / "config/experiments/large.yaml").write_text(text)
    return folder


def seconds(command: list[str], folder: Path) -> tuple[float, str]:
    """Wall seconds of a command that must succeed, and what it said."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start, done.stdout + done.stderr


def planned(text: str) -> str:
    """The total of a dry run's table."""
    return re.findall(r"^total +(\d+)", text, re.MULTILINE)[-1]


def local(base: Path) -> None:
    bare, _ = seconds(["snakemake", "--version"], base)
    print(
        "| study | runs | jobs | seconds | above a bare `snakemake --version` "
        "|\n|---|---|---|---|---|"
    )
    for seeds in (8, 200):
        folder = checkout(base / str(seeds), seeds)
        listed, _ = seconds(["snakemake", "--list", "--config", "experiments=[large]"], folder)
        print(f"| parsing (`--list`) | {5 * seeds} | | {listed:.2f} | {listed - bare:.2f} |")
        dry, said = seconds(
            ["snakemake", "-n", "--quiet", "rules", "--config", "experiments=[large]"], folder
        )
        print(
            f"| dry run | {5 * seeds} | {planned(said)} | {dry:.2f} | {dry - bare:.2f} |",
            flush=True,
        )


def cluster(base: Path, n: int) -> None:
    """Trivial jobs one by one and grouped, 16 in the queue at a time: the wall time is all
    overhead.
    """
    print(
        "\n| trivial jobs | SLURM jobs | seconds | seconds a trivial job | of it CPU seconds "
        "|\n|---|---|---|---|---|"
    )
    quick = [
        "--executor",
        "slurm",
        "--jobs",
        "16",
        "--slurm-status-command",
        "squeue",
        "--slurm-init-seconds-before-status-checks",
        "5",
    ]
    quick += [
        "--default-resources",
        "slurm_account=test",
        "slurm_partition=cpu",
        "--latency-wait",
        "10",
        "--quiet",
        "rules",
        "progress",
    ]
    for grouped in (1, 4):  # a group's jobs run side by side: a node here has 4 CPUs
        folder = base / f"jobs{grouped}"
        folder.mkdir()
        (folder / "Snakefile").write_text(TRIVIAL % n)
        more = (
            ["--groups", "trivial=few", "--group-components", f"few={grouped}"]
            if grouped > 1
            else []
        )
        busy = cpu()
        took, _ = seconds(["snakemake", *quick, *more], folder)
        spent = cpu() - busy
        print(
            f"| {n} | {-(-n // grouped)} | {took:.0f} | {took / n:.2f} | {spent / n:.2f} |",
            flush=True,
        )


def cpu() -> float:
    """CPU seconds that this machine has spent."""
    fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:7])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--jobs", type=int, default=0, help="trivial jobs to send through SLURM (0: none)"
    )
    a = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        local(Path(folder))
        if a.jobs:
            cluster(Path(folder), a.jobs)


if __name__ == "__main__":
    main()
