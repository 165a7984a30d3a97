rule train:
    input:
        config="results/runs/{run}/config.json",
        tasks=table_of_run,
        held_out=held_out_of_run,  # no test item is trained on
        model=prepared_of_run,
        manifests=manifests_of_prepared,
    output:
        model=directory("results/runs/{run}/model"),
        manifest="results/runs/{run}/model.manifest.json",
        tables=expand(
            "results/runs/{{run}}/{table}.parquet",
            table=["train", "credit", "ledger", "seconds", "canary"],
        ),
        provenance="results/runs/{run}/provenance.json",
    log:
        "logs/train/{run}.log",
    benchmark:
        "logs/benchmarks/train/{run}.tsv"
    conda:
        "../../envs/main.yaml"
    threads: 1  # one thread a run, as many runs side by side as there are cores: faster than two threads a run
    resources:
        mem_mb=memory_of_run,  # weights, gradients, two moments, and the activations of one micro-batch
        runtime=240,
        # resources, since what a parameter says is part of what was made: by which
        # program, and how it is computed, is not
        python=lambda wildcards: python_of([wildcards.run]),
        sharding=f"--zero {SHARDING.stage}{' --offload' * SHARDING.offload}",
    params:
        scratch="scratch/{run}",  # checkpoints: no output, since declared outputs of a failed job are deleted
        out=lambda wildcards, output: os.path.dirname(output.provenance),
        held_out=lambda wildcards, input: (
            f"--held-out {shlex.quote(input.held_out[0])}" if input.held_out else ""
        ),
    # On SLURM the training is a step of its own, so that the signals of time limit, pre-
    # emption and scancel reach it and not the shell around it
    # (a job's id without srun is inherited, as a container inherits its environment: then
    # there is no step to make). It saves; over the time
    # limit it queues its job again, else the cluster or the profile's retries do.
    shell:
        "export OMP_NUM_THREADS={threads}; "
        'if [ -n "${{SLURM_JOB_ID:-}}" ] && command -v srun > /dev/null; then step="srun --overlap -n1 -c $OMP_NUM_THREADS"; else step=; fi; '
        "$step {resources.python:q} -m ccpo train --config {input.config:q} --tasks {input.tasks:q}"
        " --model {input.model:q} --scratch {params.scratch:q} --out {params.out:q} {params.held_out} {resources.sharding} &>> {log:q}"


rule plan:
    input:
        models=models_of_training,
        manifests=manifests_of_training,
        tasks=tasks_of_training,
    output:
        "results/plans/{training}.json",
    log:
        "logs/plan/{training}.log",
    benchmark:
        "logs/benchmarks/plan/{training}.tsv"
    conda:
        "../../envs/main.yaml"
    resources:
        mem_mb=8000,
        runtime=60,
        python=lambda wildcards: python_of(run_ids(wildcards)),
    shell:
        "OMP_NUM_THREADS={threads} {resources.python:q} -m ccpo plan {wildcards.training:q} --pilot --out {output:q} &> {log:q}"
