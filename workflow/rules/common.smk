"""What the rules need to know: experiments, their runs, and the paths that follow from them."""

import os
import re
import time
from pathlib import Path

from ccpo import STAGE_VERSIONS
from ccpo import benchmark as benchmarks
from ccpo.config import Audit, canonical, read_experiment, tasks_slug

KNOWN = {"experiments", "mlflow_uri"}
if unknown := set(config) - KNOWN:
    raise WorkflowError(
        f"config/config.yaml: unknown key(s) {sorted(unknown)}. Known: {sorted(KNOWN)}."
    )
EXPERIMENTS = (
    config["experiments"]
    if isinstance(config["experiments"], list)
    else [config["experiments"]]
)
try:
    FOUND = {name: read_experiment(name) for name in EXPERIMENTS}
except ValueError as error:
    raise WorkflowError(str(error))
AUDITS = {name: found for name, found in FOUND.items() if isinstance(found, Audit)}
STUDIES = {name: found for name, found in FOUND.items() if name not in AUDITS}
RUNS = {
    run.id: run
    for study in STUDIES.values()
    for runs in study.runs.values()
    for run in runs.values()
}
SPOKEN = [audit.model for audit in AUDITS.values() if audit.model]
MODELS = {m.slug: m for m in [*SPOKEN, *(run.model for run in RUNS.values())]}
TASKS = {
    tasks_slug(choice): choice
    for run in RUNS.values()
    for choice in [run.benchmark, *run.evaluate.also]
}
BENCHMARKS = {name: benchmarks.load(name).VERSION for name in benchmarks.names()}
FIGURES = [
    "learning_curves",
    "accuracy",
    "solo",
    "agents",
    "tokens",
    "role_information",
]
AUDIT_FIGURES = [
    "audit_gradient",
    "audit_worlds",
    "audit_error",
    "audit_bias",
    "audit_riders",
]


def any_of(names):
    return (
        "|".join(map(re.escape, names)) or "(?!)"
    )  # of nothing: a pattern that matches nothing


wildcard_constraints:
    run=any_of(RUNS),
    model=any_of(MODELS),
    tasks=any_of(TASKS),
    experiment=any_of(EXPERIMENTS),
    study=any_of(STUDIES),
    audit=any_of(AUDITS),
    figure=any_of([*FIGURES, *AUDIT_FIGURES]),
    family="[a-z_]+",
    shape="[a-z_]+",


def tables(choices):
    return [f"results/tasks/{tasks_slug(choice)}.parquet" for choice in choices]


def tables_of_run(wildcards):
    run = RUNS[wildcards.run]
    return tables([run.benchmark, *run.evaluate.also])


def evaluated_of_run(wildcards):
    return tables(RUNS[wildcards.run].evaluated)


def model_of_run(wildcards):
    return f"results/models/{RUNS[wildcards.run].model.slug}"


def memory_of_run(wildcards):
    # MB, about twice what was measured: 965 for models built here, 3,654 for SmolLM2-135M
    return 2000 if RUNS[wildcards.run].model.spec.source == "warm_start" else 8000


def run_ids(wildcards):
    return [
        run.id
        for runs in STUDIES[wildcards.study].runs.values()
        for run in runs.values()
    ]


def files_of_runs(*names):
    return lambda wildcards: [
        f"results/runs/{run}/{name}" for run in run_ids(wildcards) for name in names
    ]


def worlds_of_audit(wildcards):
    audit = AUDITS[wildcards.audit]
    return [
        f"results/experiments/{wildcards.audit}/diagnostics/{family}.{shape}.parquet"
        for family in audit.families
        for shape in audit.shapes
    ]


def model_of_worlds(wildcards):
    spoken = wildcards.shape == "language"
    return [f"results/models/{AUDITS[wildcards.audit].model.slug}"] if spoken else []


STARTED = time.time()


def seconds_by_rule():
    """Lines that say what this invocation's jobs took, from their benchmark files: rule, jobs, seconds summed over jobs."""
    lines = []
    for folder in sorted(Path("logs/benchmarks").glob("*")):
        made = [p for p in folder.iterdir() if p.stat().st_mtime >= STARTED]
        seconds = [float(p.read_text().splitlines()[1].split("\t")[0]) for p in made]
        if seconds:
            lines.append(
                f"{folder.name:>10}: {len(made):4d} jobs {sum(seconds):9.1f} s of work, slowest {max(seconds):.1f} s"
            )
    return [*lines, f"{'whole':>10}: {time.time() - STARTED:19.1f} s by the clock"]
