# Credit measured on trained runs: what is drawn (a GPU's work), what is made of it (none), and the
# weights that a training keeps for it. At 0 and 1 of the training nothing need be kept.


# Kept weights change nothing in a run: what trains is the rule `train`, told what to keep in a
# resource, as it is told how to compute.
use rule train as train_kept with:
    output:
        model=directory("results/runs/{run}/model"),
        manifest="results/runs/{run}/model.manifest.json",
        tables=expand(
            "results/runs/{{run}}/{table}.parquet",
            table=["train", "credit", "ledger", "seconds", "canary"],
        ),
        kept=directory(expand("results/runs/{{run}}/kept-{at}", at=SHARES_KEPT)),
        manifests=expand("results/runs/{{run}}/kept-{at}.manifest.json", at=SHARES_KEPT),
        provenance="results/runs/{run}/provenance.json",
    wildcard_constraints:
        run=any_of(KEPT),
    resources:
        mem_mb=memory_of_run,
        runtime=240,
        python=lambda wildcards: python_of([wildcards.run]),
        sharding=f"--zero {SHARDING.stage}{' --offload' * SHARDING.offload} --keep {' '.join(SHARES_KEPT)}",


ruleorder: train_kept > train


rule probe_config:
    output:
        "results/probes/{probe}.json",
    log:
        "logs/probe_config/{probe}.log",
    conda:
        "../../envs/main.yaml"
    params:
        # the shares are no part of it: each has a table of its own
        probe=lambda wildcards: canonical(
            PROBES[wildcards.probe].model_dump(mode="json", exclude={"at"})
        ),
    shell:
        "printf '%s\\n' {params.probe:q} > {output:q} 2> {log:q}"


rule probe:
    input:
        config="results/runs/{run}/config.json",
        probe="results/probes/{probe}.json",
        tasks=probed_tasks,
        model=probed_model,
        manifests=manifests_of_probed,
    output:
        messages="results/runs/{run}/probe/{at}-{probe}.messages.parquet",
        passport="results/runs/{run}/probe/{at}-{probe}.messages.parquet.passport.json",
    log:
        "logs/probe/{run}/{at}-{probe}.log",
    benchmark:
        "logs/benchmarks/probe/{run}/{at}-{probe}.tsv"
    conda:
        "../../envs/main.yaml"
    resources:
        mem_mb=memory_of_run,
        runtime=120,
        python=lambda wildcards: python_of([wildcards.run]),  # a resource, as in train
    params:
        scratch=scratch_of_probe,
    shell:
        "export OMP_NUM_THREADS={threads}; "
        'if [ -n "${{SLURM_JOB_ID:-}}" ] && command -v srun > /dev/null; then step="srun --overlap -n1 -c $OMP_NUM_THREADS"; else step=; fi; '
        "$step {resources.python:q} -m ccpo probe --config {input.config:q} --probe {input.probe:q} --tasks {input.tasks:q}"
        " --model {input.model:q} --scratch {params.scratch:q} --out {output.messages:q} &>> {log:q}"


rule probe_credit:
    input:
        config="results/runs/{run}/config.json",
        tasks=probed_tasks,
        messages="results/runs/{run}/probe/{at}-{probe}.messages.parquet",
    output:
        table="results/runs/{run}/probe/{at}-{probe}.parquet",
        diagnostics="results/runs/{run}/probe/{at}-{probe}.diagnostics.json",
        passports=expand(
            "results/runs/{{run}}/probe/{{at}}-{{probe}}.{kind}.passport.json",
            kind=["parquet", "diagnostics.json"],
        ),
    log:
        "logs/probe_credit/{run}/{at}-{probe}.log",
    benchmark:
        "logs/benchmarks/probe_credit/{run}/{at}-{probe}.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        scratch=scratch_of_probe,
        stage=STAGE_VERSIONS["probe_credit"],
    shell:
        "python -m ccpo probe-credit --config {input.config:q} --tasks {input.tasks:q} --messages {input.messages:q}"
        " --scratch {params.scratch:q} --table {output.table:q} --diagnostics {output.diagnostics:q} &> {log:q}"
