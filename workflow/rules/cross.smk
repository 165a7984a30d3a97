# Teams whose agents come from several conditions, one job a topology and training seed. A plan of its
# own, so that nothing else in an experiment's file plays it again.
rule cross_plan:
    output:
        "results/experiments/{training}/cross/{crossed}.json",
    log:
        "logs/cross_plan/{training}.{crossed}.log",
    conda:
        "../../envs/main.yaml"
    params:
        plan=lambda wildcards: canonical(cross_of(wildcards).model_dump(mode="json")),
    shell:
        "printf '%s\\n' {params.plan:q} > {output:q} 2> {log:q}"


rule cross:
    input:
        plan="results/experiments/{training}/cross/{crossed}.json",
        runs=runs_of_cross,
        models=models_of_cross,
        manifests=manifests_of_cross,
        trained_on=lambda wildcards: f"results/tasks/{cross_of(wildcards).trained_on}.parquet",
        tasks=lambda wildcards: f"results/tasks/{cross_of(wildcards).tasks}.parquet",
    output:
        "results/experiments/{training}/cross/{crossed}.s{seed}.rollouts.parquet",
    log:
        "logs/cross/{training}/{crossed}.s{seed}.log",
    benchmark:
        "logs/benchmarks/cross/{training}/{crossed}.s{seed}.tsv"
    conda:
        "../../envs/main.yaml"
    resources:
        mem_mb=memory_of_cross,
        runtime=240,
        python=lambda wildcards: python_of(ids_of_cross(wildcards)),  # a resource, as in train
    params:
        runs="results/runs",
        models="results/models",
        scratch=scratch_of_cross,
    shell:
        "export OMP_NUM_THREADS={threads}; "
        'if [ -n "${{SLURM_JOB_ID:-}}" ] && command -v srun > /dev/null; then step="srun --overlap -n1 -c $OMP_NUM_THREADS"; else step=; fi; '
        "$step {resources.python:q} -m ccpo cross --plan {input.plan:q} --seed {wildcards.seed:q} --runs {params.runs:q}"
        " --models {params.models:q} --trained-on {input.trained_on:q} --tasks {input.tasks:q}"
        " --scratch {params.scratch:q} --out {output:q} &>> {log:q}"


rule cross_score:
    input:
        plan="results/experiments/{training}/cross/{crossed}.json",
        config=lambda wildcards: f"results/runs/{ids_of_cross(wildcards)[0]}/config.json",
        tasks=lambda wildcards: f"results/tasks/{cross_of(wildcards).tasks}.parquet",
        rollouts="results/experiments/{training}/cross/{crossed}.s{seed}.rollouts.parquet",
    output:
        "results/experiments/{training}/cross/{crossed}.s{seed}.parquet",
    log:
        "logs/cross_score/{training}/{crossed}.s{seed}.log",
    benchmark:
        "logs/benchmarks/cross_score/{training}/{crossed}.s{seed}.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        scratch=scratch_of_cross,
        stage=STAGE_VERSIONS["score"],
    shell:
        "python -m ccpo cross-score --plan {input.plan:q} --config {input.config:q} --tasks {input.tasks:q}"
        " --rollouts {input.rollouts:q} --scratch {params.scratch:q} --out {output:q} &> {log:q}"
