rule rollout:
    input:
        config="results/runs/{run}/config.json",
        tasks=evaluated_of_run,
        model=ancient("results/runs/{run}/model"),  # judged by its manifest
        manifest="results/runs/{run}/model.manifest.json",
        untrained=models_of_run,
        manifests=manifests_of_run,
    output:
        "results/runs/{run}/rollouts.parquet",
    log:
        "logs/rollout/{run}.log",
    benchmark:
        "logs/benchmarks/rollout/{run}.tsv"
    priority: 1  # before the next training: results of whole runs first
    conda:
        "../../envs/main.yaml"
    resources:
        mem_mb=memory_of_run,  # trained and untrained weights, and the key-value cache of a batch
        runtime=120,
        python=lambda wildcards: python_of([wildcards.run]),  # a resource, as in train
    params:
        scratch="scratch/{run}",
        stage=STAGE_VERSIONS["rollout"],
    shell:
        "export OMP_NUM_THREADS={threads}; {STEP} $step {resources.python:q} -m ccpo rollout --config {input.config:q}"
        " --tasks {input.tasks:q} --model {input.model:q} --untrained {input.untrained:q} --scratch {params.scratch:q} --out {output:q} &>> {log:q}"


rule score:
    input:
        config="results/runs/{run}/config.json",
        tasks=evaluated_of_run,
        rollouts="results/runs/{run}/rollouts.parquet",
    output:
        scores="results/runs/{run}/scores.parquet",
        graders="results/runs/{run}/graders.parquet",
    log:
        "logs/score/{run}.log",
    benchmark:
        "logs/benchmarks/score/{run}.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        scratch="scratch/{run}",
        stage=STAGE_VERSIONS["score"],
    shell:
        "python -m ccpo score --config {input.config:q} --tasks {input.tasks:q} --rollouts {input.rollouts:q} --scratch {params.scratch:q}"
        " --out {output.scores:q} --graders {output.graders:q} &> {log:q}"
