"""What the rules need to know: experiments, their runs, and the paths that follow from them."""

import os
import re
import shlex
import shutil
import time
from pathlib import Path

from ccpo import STAGE_VERSIONS
from ccpo import benchmark as benchmarks
from ccpo.operate import seconds, slurm
from ccpo import files, lineage
from ccpo.config import (
    OracleExperiment,
    canonical,
    read_experiment,
    read_yaml,
    share_name,
    tasks_slug,
)
from ccpo.data.overlap import test_sets
from ccpo.publish import figure, published
from ccpo.ranks import Sharding

try:
    # Snakemake's own loader keeps the last of two equal keys
    for file in [
        *workflow.configfiles,
        *Path("workflow/profiles").glob("*/config.yaml"),
    ]:
        read_yaml(Path(file))
except ValueError as error:
    raise WorkflowError(str(error))
KNOWN = {"experiments", "mlflow_uri", "vllm_python", "zero", "offload"}
if unknown := set(config) - KNOWN:
    raise WorkflowError(
        f"config/config.yaml: unknown key(s) {sorted(unknown)}. Known: {sorted(KNOWN)}."
    )
try:
    SHARDING = Sharding(config.get("zero", 0), config.get("offload", False))
except ValueError as error:
    raise WorkflowError(f"config/config.yaml: {error}")
EXPERIMENTS = (
    config["experiments"]
    if isinstance(config["experiments"], list)
    else [config["experiments"]]
)
try:
    READ = {name: read_experiment(name) for name in EXPERIMENTS}
except ValueError as error:
    raise WorkflowError(str(error))
ORACLES = {
    name: experiment
    for name, experiment in READ.items()
    if isinstance(experiment, OracleExperiment)
}
TRAININGS = {
    name: experiment for name, experiment in READ.items() if name not in ORACLES
}
IDS = {
    name: {run.id: run for runs in training.runs.values() for run in runs.values()}
    for name, training in TRAININGS.items()
}
RUNS = {key: run for runs in IDS.values() for key, run in runs.items()}
SPOKEN = [asked.model for asked in ORACLES.values() if asked.model]
MODELS = {
    m.slug: m for m in [*SPOKEN, *(m for run in RUNS.values() for m in run.prepared)]
}
PROTOCOLS = {p.id: p for training in TRAININGS.values() for p in training.protocols}
EVALUATED = {
    name: [protocol.id for protocol in training.protocols]
    for name, training in TRAININGS.items()
}


PROBES = {t.probes.id: t.probes for t in TRAININGS.values() if t.probes}


def shares_of(run, probe):
    # of a run that trains nothing there is its start alone
    return probe.at if run.train.steps else (0.0,)


# what a training keeps, over all experiments that ask for probes of it
KEPT = {}
for name, training in TRAININGS.items():
    for key, run in IDS[name].items() if training.probes else []:
        shares = [s for s in shares_of(run, training.probes) if 0 < s < 1]
        if shares:
            KEPT.setdefault(key, set()).update(map(share_name, shares))
SHARES_KEPT = sorted(set().union(*KEPT.values()))
CROSSED = {
    name: {plan.id: plan for plan in training.crossed()}
    for name, training in TRAININGS.items()
}


def benchmarks_of(training):
    # trained on, held out of the training, evaluated
    for run in IDS[training].values():
        yield run.benchmark
        if run.train.steps:
            yield from test_sets(run.benchmark)
        for protocol in TRAININGS[training].protocols:
            yield from protocol.benchmarks(run)
        if probe := TRAININGS[training].probes:
            yield probe.benchmark_of(run)


TASKS = {
    tasks_slug(choice): choice for name in TRAININGS for choice in benchmarks_of(name)
}
FOLDERS = [
    *(Path("results/models", slug) for slug in MODELS),
    *(Path("results/runs", key, "model") for key in RUNS),
]
try:
    # What Snakemake does not see: a folder that was changed and its manifest was not. Once, not in
    # the process of each job, since all that was copied is hashed.
    for folder in FOLDERS if workflow.is_main_process else []:
        files.check_touched_manifest(folder)
except ValueError as error:
    raise WorkflowError(str(error))
BENCHMARKS = {name: benchmarks.load(name).VERSION for name in benchmarks.names()}


def figures_of(training):
    # those that an experiment has something to draw in
    return figure.of_contents(figure.contents_of(TRAININGS[training].manifest()))


def any_of(names):
    return (
        "|".join(map(re.escape, names)) or "(?!)"
    )  # of nothing: a pattern that matches nothing


wildcard_constraints:
    # of the thousand names of a large experiment the pattern would be so long that matching
    # takes most of a dry run; `run_of` refuses others
    run="[^/]+",
    protocol="[^/]+",
    probe="[0-9a-f]{8}",
    at=r"[01]\.[0-9]{2}",
    model=any_of(MODELS),
    tasks=any_of(TASKS),
    experiment=any_of(EXPERIMENTS),
    training=any_of(TRAININGS),
    oracle=any_of(ORACLES),
    figure=any_of(figure.names()),
    crossed=any_of(key for plans in CROSSED.values() for key in plans),
    seed="[0-9]+",
    family="[a-z_]+",
    shape="[a-z_]+",


def run_of(wildcards):
    if wildcards.run not in RUNS:
        raise WorkflowError(
            f"run {wildcards.run} belongs to none of the experiments {EXPERIMENTS}. Remedy: name its experiment, as --config 'experiments=[...]'."
        )
    return RUNS[wildcards.run]


def tables(choices):
    return [f"results/tasks/{tasks_slug(choice)}.parquet" for choice in choices]


def table_of_run(wildcards):
    return tables([run_of(wildcards).benchmark])


def held_out_of_run(wildcards):
    # Where a new test set holds none of the items trained on, the document is made again, and
    # nothing else: for a run that read this table and
    # this document it is ancient. Not for others, since Snakemake looks for no other reason
    # to make what is made from something ancient that
    # is made anew.
    run = run_of(wildcards)
    if not run.train.steps:
        return []
    folder = Path("results/runs", wildcards.run)
    table = Path(*table_of_run(wildcards))
    document = table.with_suffix(".held_out.json")
    same = all(lineage.is_input_of(path, folder) for path in (table, document))
    return [ancient(str(document)) if same else str(document)]


def protocol_of(wildcards):
    if wildcards.protocol not in PROTOCOLS:
        raise WorkflowError(
            f"protocol {wildcards.protocol} belongs to none of the experiments {EXPERIMENTS}. Remedy: name its experiment, as --config 'experiments=[...]'."
        )
    return PROTOCOLS[wildcards.protocol]


def evaluated_of_run(wildcards):
    return tables(protocol_of(wildcards).benchmarks(run_of(wildcards)))


def scratch_of_evaluation(wildcards):
    # beside the run's own; a protocol's whole name may be too long for a file system
    return f"scratch/{wildcards.run}.{wildcards.protocol[-8:]}"


def folders(models):
    # Snakemake knows folders by their time alone, which a copy changes: so it shall ignore
    # it, and judge the manifest beside each instead
    return [ancient(f"results/models/{model.slug}") for model in models]


def manifests(models):
    # of one model for several agents there is one
    return [
        f"results/models/{slug}.manifest.json"
        for slug in dict.fromkeys(model.slug for model in models)
    ]


def models_of_run(wildcards):
    # one for all agents, or one for each
    return folders(run_of(wildcards).models)


def manifests_of_run(wildcards):
    return manifests(run_of(wildcards).models)


def prepared_of_run(wildcards):
    # and the critic's own, if it has one
    return folders(run_of(wildcards).prepared)


def manifests_of_prepared(wildcards):
    return manifests(run_of(wildcards).prepared)


def models_of(training):
    found = {m.slug: m for run in IDS[training].values() for m in run.prepared}
    return [found[slug] for slug in sorted(found)]


def models_of_training(wildcards):
    return folders(models_of(wildcards.training))


def manifests_of_training(wildcards):
    return manifests(models_of(wildcards.training))


def tasks_of_training(wildcards):
    return sorted(set(tables(benchmarks_of(wildcards.training))))


def cross_of(wildcards):
    if wildcards.crossed not in CROSSED[wildcards.training]:
        raise WorkflowError(
            f"experiment {wildcards.training} asks for no cross-play {wildcards.crossed}."
        )
    return CROSSED[wildcards.training][wildcards.crossed]


def ids_of_cross(wildcards):
    # whose policies are mixed: of one seed, or, where none is named, of the first
    plan = cross_of(wildcards)
    seed = int(getattr(wildcards, "seed", plan.seeds[0]))
    return list(dict.fromkeys(player.runs[seed] for player in plan.players.values()))


def runs_of_cross(wildcards):
    # a run's folder by its manifest, as in rollout
    return [
        path
        for run in ids_of_cross(wildcards)
        for path in (
            f"results/runs/{run}/config.json",
            f"results/runs/{run}/provenance.json",
            ancient(f"results/runs/{run}/model"),
            f"results/runs/{run}/model.manifest.json",
        )
    ]


def starts_of_cross(wildcards):
    # of the untrained players' runs
    untrained = [p for p in cross_of(wildcards).players.values() if not p.trained]
    found = {
        model.slug: model
        for player in untrained
        for model in RUNS[player.runs[int(wildcards.seed)]].models
    }
    return list(found.values())


def models_of_cross(wildcards):
    return folders(starts_of_cross(wildcards))


def manifests_of_cross(wildcards):
    return manifests(starts_of_cross(wildcards))


def memory_of_cross(wildcards, attempt):
    # one policy at a time: no more than the evaluation of the largest run
    sizes = [
        model.parameters or 500e6
        for run in ids_of_cross(wildcards)
        for model in RUNS[run].models
    ]
    return attempt * int(4500 + 24 * max(sizes) / 1e6)


def scratch_of_cross(wildcards):
    return f"scratch/{wildcards.training}.{wildcards.crossed}.s{wildcards.seed}"


def tables_of_cross(wildcards):
    return [
        f"results/experiments/{wildcards.training}/cross/{plan.id}.s{seed}.parquet"
        for plan in CROSSED[wildcards.training].values()
        for seed in plan.seeds
    ]


SPEAKS_VLLM = {key for key, run in RUNS.items() if run.sampling.engine == "vllm"}
if SPEAKS_VLLM and not shutil.which(config["vllm_python"]):
    raise WorkflowError(
        f"{len(SPEAKS_VLLM)} run(s) have sampling.engine vllm, and vllm_python of config/config.yaml, {config['vllm_python']!r}, is no program. "
        "Remedy: make .venv-vllm/.ready, or name the Python of an environment with vLLM (envs/README.md)."
    )


def python_of(runs):
    # that of vLLM's environment, whose pins differ, where one of these runs speaks with it
    return config["vllm_python"] if SPEAKS_VLLM.intersection(runs) else "python"


def memory_of_run(wildcards, attempt):
    # MB: what Python and torch take, and for each parameter weights, gradient and two moments
    # in float32, twice over (measured: 965 for
    # models built here, 3,654 for SmolLM2-135M); half of it for adapters, whose base is there
    # once. A model whose size nobody knows gets
    # 16 GB. A job that was killed for it gets more. vLLM has its weights a second time, and
    # its cache (measured: 1,821 and 3,493 before any
    # training).
    run = run_of(wildcards)
    sizes = [model.parameters or 500e6 for model in run.models]
    vllm = run.sampling.engine == "vllm"
    each = (16 if run.lora else 32) + 8 * vllm
    return attempt * int(2000 + 2500 * vllm + each * sum(sizes) / len(sizes) / 1e6)


def run_ids(wildcards):
    return list(IDS[wildcards.training])


def files_of_runs(*names):
    return lambda wildcards: [
        f"results/runs/{run}/{name}" for run in run_ids(wildcards) for name in names
    ]


def evaluations(*names, every=False):
    # of the protocol that claims are made under, or of all
    return lambda wildcards: [
        f"results/runs/{run}/eval/{protocol}/{name}"
        for run in run_ids(wildcards)
        for protocol in EVALUATED[wildcards.training][: None if every else 1]
        for name in names
    ]


def probe_of(wildcards):
    if wildcards.probe not in PROBES:
        raise WorkflowError(
            f"probe {wildcards.probe} belongs to none of the experiments {EXPERIMENTS}. Remedy: name its experiment, as --config 'experiments=[...]'."
        )
    return PROBES[wildcards.probe]


def probed_tasks(wildcards):
    return tables([probe_of(wildcards).benchmark_of(run_of(wildcards))])


def probed_folder(wildcards):
    # what training left, or kept; judged by its manifest
    name = "model" if float(wildcards.at) == 1 else f"kept-{wildcards.at}"
    return f"results/runs/{wildcards.run}/{name}"


def probed_model(wildcards):
    if float(wildcards.at) == 0:
        return models_of_run(wildcards)
    return [ancient(probed_folder(wildcards))]


def manifests_of_probed(wildcards):
    if float(wildcards.at) == 0:
        return manifests_of_run(wildcards)
    return [f"{probed_folder(wildcards)}.manifest.json"]


def scratch_of_probe(wildcards):
    return f"scratch/{wildcards.run}.probe-{wildcards.at}-{wildcards.probe}"


def probes_of_training(wildcards):
    probe = TRAININGS[wildcards.training].probes
    return [
        f"results/runs/{key}/probe/{share_name(at)}-{probe.id}.diagnostics.json"
        for key, run in IDS[wildcards.training].items()
        for at in (shares_of(run, probe) if probe else [])
    ]


def plan_of_training(wildcards):
    # a forecast that was made stands beside the actual in the report; none is made for it
    plan = Path(f"results/plans/{wildcards.training}.json")
    return [str(plan)] if plan.is_file() else []


def beside_paper_of_training(wildcards):
    # of an experiment that follows a paper
    if TRAININGS[wildcards.training].paper is None:
        return []
    return [f"results/experiments/{wildcards.training}/tables/published.csv"]


def worlds_of_oracle(wildcards):
    asked = ORACLES[wildcards.oracle]
    return [
        f"results/experiments/{wildcards.oracle}/diagnostics/{family}.{shape}.parquet"
        for family in asked.families
        for shape in asked.shapes
    ]


def speakers_of(wildcards):
    return [ORACLES[wildcards.oracle].model] if wildcards.shape == "language" else []


def model_of_worlds(wildcards):
    return folders(speakers_of(wildcards))


def manifest_of_worlds(wildcards):
    return manifests(speakers_of(wildcards))


STARTED = time.time()
HELD = []
