"""Does a SLURM cluster fit workflow/profiles/slurm? Each thing that does not is said in words, with
its remedy.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ccpo.config import read_profile
from ccpo.operate.slurm import ask

PATIENCE = 120.0  # seconds that a probe may wait in the queue
NETWORK = (
    "nfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "cifs",
    "smb",
    "fuse.sshfs",
    "panfs",
    "wekafs",
)
# What a probe says of its node, as JSON; it imports what the rules import.
PROBE = """
import json, os, sys
seen = {"python": sys.executable}
seen["gpus"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")
seen["node"] = os.environ.get("SLURMD_NODENAME", "")
try:
    import ccpo, snakemake, torch, transformers
    seen["cuda"] = torch.cuda.device_count()
except Exception as error:
    seen["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(seen))
"""


@dataclass(frozen=True)
class Partition:
    """A partition as sinfo tells it. `limit` in minutes, `memory` in MB; of its largest node."""

    name: str
    up: bool
    limit: float
    gres: str
    cpus: int
    memory: int


def minutes(text: str) -> float:
    """SLURM's times (D-HH:MM:SS, HH:MM:SS, MM:SS, MM; infinite) in minutes."""
    if text in ("infinite", "UNLIMITED"):
        return float("inf")
    days, _, rest = text.rpartition("-")
    parts = [int(x) for x in rest.split(":")]
    if days:
        parts += [0] * (3 - len(parts))
        return int(days) * 1440 + parts[0] * 60 + parts[1] + parts[2] / 60
    hours, mins, secs = ([0] * (3 - len(parts)) + parts) if len(parts) > 1 else (0, parts[0], 0)
    return hours * 60 + mins + secs / 60


def asked(value: Any) -> float:
    """A profile's runtime in minutes: a number, or "30m", "4h", "2d"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\w*\s*", str(value))
    if not match:
        return 0.0
    return float(match[1]) * {"s": 1 / 60, "": 1, "m": 1, "h": 60, "d": 1440}[match[2]]


def partitions() -> dict[str, Partition]:
    """The cluster's partitions by name."""
    by_name: dict[str, Partition] = {}
    for line in ask("sinfo", "-h", "-o", "%R|%a|%l|%G|%c|%m").splitlines():
        name, up, limit, gres, cpus, memory = line.split("|")
        before = by_name.get(name)
        number = [int(re.sub(r"\D.*", "", x) or 0) for x in (cpus, memory)]
        both = gres if not before else f"{before.gres},{gres}"
        largest = [
            max(a, b)
            for a, b in zip(number, (before.cpus, before.memory) if before else (0, 0), strict=True)
        ]
        by_name[name] = Partition(name, up == "up", minutes(limit), both, *largest)
    return by_name


def jobs(profile: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is asked for by kind of job: the default, and each rule that asks for something else."""
    default = dict(profile.get("default-resources", {}))
    return {
        "default": default,
        **{rule: {**default, **own} for rule, own in profile.get("set-resources", {}).items()},
    }


def report() -> None:
    """Checks, and says all that does not fit.

    Raises:
        ValueError: something does not fit.
    """
    wrong = check()
    if wrong:
        lines = "\n".join(f"- {line}" for line in wrong)
        raise ValueError(f"{len(wrong)} thing(s) do not fit:\n{lines}")


def check() -> list[str]:
    """Everything that does not fit; prints what it looks at."""
    profile = read_profile()
    print(f"SLURM: {ask('sinfo', '--version')}")
    ask("scontrol", "ping")
    settings = dict(
        re.findall(r"^(\S+)\s+= (.*)$", ask("scontrol", "show", "config"), re.MULTILINE)
    )
    wrong = [*_settings(settings, profile), *_files(profile)]
    there = partitions()
    for name, wanted in jobs(profile).items():
        wrong += _partition(name, wanted, there)
    wrong += _account(profile, settings)
    if not wrong:
        wrong += _probes(profile)
    if not wrong:
        print("nothing wrong found")
    return wrong


def _settings(settings: Mapping[str, str], profile: Mapping[str, Any]) -> Iterator[str]:
    accounting = settings.get("AccountingStorageType", "")
    status = profile.get("slurm-status-command")
    if "none" in accounting or accounting in ("", "(null)"):
        print("accounting: none")
        if status != "squeue":
            yield (
                "the cluster keeps no accounting, and the profile asks sacct. Remedy: "
                "slurm-status-command: squeue"
            )
        age = int(re.sub(r"\D.*", "", settings.get("MinJobAge", "300")) or 300)
        if age < 120:
            yield (
                f"without accounting, ended jobs are forgotten after MinJobAge = {age} s, sooner "
                "than Snakemake looks twice. Remedy: "
                f"slurm-init-seconds-before-status-checks: {max(1, age // 3)}"
            )
    elif status != "squeue":
        yield (
            "with sacct a cancelled job is never noticed and Snakemake waits for ever. Remedy: "
            "slurm-status-command: squeue"
        )
    if not profile.get("slurm-requeue"):
        yield (
            "jobs may not be queued again after node failure or pre-emption. Remedy: "
            "slurm-requeue: true"
        )
    wait = int(re.sub(r"\D.*", "", settings.get("KillWait", "30")) or 30)
    print(f"a pre-empted or cancelled job has KillWait = {wait} s to save")


def _files(profile: Mapping[str, Any]) -> Iterator[str]:
    kind = _file_system(Path.cwd())
    print(f"file system of this folder: {kind}")
    uri = str(profile["workflow"].get("mlflow_uri", ""))
    if uri.startswith("sqlite:") and kind.startswith(NETWORK):
        yield (
            f"mlflow_uri is {uri}, and SQLite breaks on network file systems ({kind}). Remedy: "
            "in config/config.yaml name a server "
            "(mlflow_uri: http://host:5000) or a file on a local disk of the login node, with "
            "`track` among the profile's localrules"
        )
    if kind in ("tmpfs", "overlay"):
        print(f"  {kind} is this machine's own on most clusters: the nodes must see this folder")


def _file_system(path: Path) -> str:
    """Type of the file system a path lies on."""
    over = [p for p in psutil.disk_partitions(all=True) if path.is_relative_to(p.mountpoint)]
    return max(over, key=lambda p: len(p.mountpoint)).fstype if over else "unknown"


def _partition(
    name: str, wanted: Mapping[str, Any], there: Mapping[str, Partition]
) -> Iterator[str]:
    who = "default-resources" if name == "default" else f"rule {name}"
    partition = there.get(str(wanted.get("slurm_partition")))
    if partition is None:
        yield (
            f"{who}: there is no partition {wanted.get('slurm_partition')!r}. Remedy: name one "
            f"of {', '.join(sorted(there))}"
        )
        return
    if not partition.up:
        yield f"{who}: partition {partition.name} is down. Remedy: another one, or ask the site"
    runtime = asked(wanted.get("runtime", 0))
    if runtime > partition.limit:
        yield (
            f"{who}: {runtime:.0f} minutes are asked for, partition {partition.name} allows "
            f"{partition.limit:.0f}. Remedy: "
            f"set-resources: {name}: runtime: {partition.limit:.0f} (a training goes on in "
            "another job)"
        )
    memory = float(wanted.get("mem_mb", 0) if str(wanted.get("mem_mb", 0)).isdigit() else 0)
    if memory > partition.memory:
        yield (
            f"{who}: {memory:.0f} MB are asked for, the largest node of partition "
            f"{partition.name} has {partition.memory}"
        )
    gres = str(wanted.get("gres", ""))
    if gres.startswith("gpu"):
        kinds = re.findall(r"gpu(?::([A-Za-z][\w.-]*))?(?::(\d+))?", partition.gres)
        kind, n = _gpus(gres)
        fits = [int(count or 1) for model, count in kinds if kind in ("", model)]
        if not kinds:
            yield (
                f"{who}: {gres} is asked for, but partition {partition.name} has no GPU gres "
                f"({partition.gres}). Remedy: another "
                "partition, or `gpu: 1` in place of gres where the site counts GPUs that way"
            )
        elif max(fits, default=0) < n:
            yield (
                f"{who}: {gres} is asked for, the nodes of partition {partition.name} have "
                f"{partition.gres}"
            )


def _gpus(gres: str) -> tuple[str, int]:
    """gpu, gpu:2, gpu:a100, gpu:a100:2: model and number."""
    parts = gres.split(":")[1:]
    number = int(parts[-1]) if parts and parts[-1].isdigit() else 1
    return next((p for p in parts if not p.isdigit()), ""), number


def _account(profile: Mapping[str, Any], settings: Mapping[str, str]) -> Iterator[str]:
    account = profile.get("default-resources", {}).get("slurm_account")
    if "slurmdbd" not in settings.get("AccountingStorageType", "") or not account:
        return
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or "root"
    try:
        allowed = set(
            ask("sacctmgr", "-nP", "show", "assoc", f"user={user}", "format=account").split()
        )
    except ValueError as error:
        print(f"accounts could not be asked for: {error}")
        return
    if allowed and account not in allowed:
        yield (
            f"{user} may not use account {account!r}. Remedy: slurm_account: one of "
            f"{', '.join(sorted(allowed))}"
        )


def _probes(profile: Mapping[str, Any]) -> Iterator[str]:
    """Submits one small job for each kind of job, and reads what its node has."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".site-") as folder:
        sent = {}
        for name, wanted in jobs(profile).items():
            out = Path(folder) / name
            command = [
                "sbatch",
                "--parsable",
                "-J",
                "ccpo-site",
                "-o",
                str(out),
                "-t",
                "2",
                "--mem",
                "1000",
                "-p",
                str(wanted["slurm_partition"]),
            ]
            command += ["-A", str(wanted["slurm_account"])] if wanted.get("slurm_account") else []
            command += [f"--gres={wanted['gres']}"] if wanted.get("gres") else []
            try:
                job = ask(
                    *command, "--wrap", f"{shlex.quote(sys.executable)} -c {shlex.quote(PROBE)}"
                ).split(";")[0]
                sent[name] = (job, out)
            except ValueError as error:
                yield f"a job as those of {name} is refused: {error}"
        for name, (job, out) in sent.items():
            yield from _probed(name, job, out, dict(jobs(profile)[name]))


def _probed(name: str, job: str, out: Path, wanted: Mapping[str, Any]) -> Iterator[str]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        state, _, reason = ask("squeue", "-h", "-j", job, "--states=all", "-o", "%T|%r").partition(
            "|"
        )
        if state not in ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING"):
            break
        time.sleep(1)
    else:
        ask("scancel", job)
        why = f"a job as those of {name} was {state} after {PATIENCE:.0f} s ({reason})"
        yield f"{why}. Remedy: is the partition busy, or the request too large?"
        return
    for _ in range(30):  # a network file system shows a file late
        if out.is_file() and out.read_text().strip():
            break
        time.sleep(1)
    else:
        yield (
            f"the job of {name} ended ({state}), and this machine sees nothing that it wrote "
            f"to {out}. Remedy: a folder all nodes share"
        )
        return
    last = out.read_text().strip().splitlines()[-1]
    try:
        seen = json.loads(last)
    except json.JSONDecodeError:
        yield (
            f"the job of {name} failed ({state}): {last}. Remedy: the nodes need this "
            f"environment ({sys.executable}), on a shared folder"
        )
        return
    print(
        f"{name}: node {seen['node']}, CUDA_VISIBLE_DEVICES={seen['gpus'] or '(none)'}, torch "
        f"sees {seen.get('cuda', '?')} GPU(s)"
    )
    if "error" in seen:
        yield (
            f"on node {seen['node']} the environment does not work: {seen['error']}. Remedy: "
            "install it where all nodes see it"
        )
    elif str(wanted.get("gres", "")).startswith("gpu") and not seen["gpus"]:
        yield (
            f"{name} asked for {wanted['gres']}, its job saw no GPU (no CUDA_VISIBLE_DEVICES). "
            "Remedy: ask the site for its GPU gres"
        )
