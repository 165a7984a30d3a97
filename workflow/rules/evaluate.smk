# How a team is evaluated is no part of its training: a protocol has a file of its own, and its
# tables a folder of its own in each run's.
rule protocol:
    output:
        "results/protocols/{protocol}.json",
    log:
        "logs/protocol/{protocol}.log",
    conda:
        "../../envs/main.yaml"
    params:
        protocol=lambda wildcards: canonical(
            PROTOCOLS[wildcards.protocol].model_dump(mode="json")
        ),
    shell:
        "printf '%s\\n' {params.protocol:q} > {output:q} 2> {log:q}"


rule rollout:
    input:
        config="results/runs/{run}/config.json",
        provenance="results/runs/{run}/provenance.json",
        protocol="results/protocols/{protocol}.json",
        trained_on=table_of_run,  # a run that was trained on a test item is not evaluated on it
        tasks=evaluated_of_run,
        model=ancient("results/runs/{run}/model"),  # judged by its manifest
        manifest="results/runs/{run}/model.manifest.json",
        untrained=models_of_run,
        manifests=manifests_of_run,
    output:
        "results/runs/{run}/eval/{protocol}/rollouts.parquet",
    log:
        "logs/rollout/{run}/{protocol}.log",
    benchmark:
        "logs/benchmarks/rollout/{run}/{protocol}.tsv"
    priority: 1  # before the next training: results of whole runs first
    conda:
        "../../envs/main.yaml"
    resources:
        mem_mb=memory_of_run,  # trained and untrained weights, and the key-value cache of a batch
        runtime=120,
        python=lambda wildcards: python_of([wildcards.run]),  # a resource, as in train
    params:
        scratch=scratch_of_evaluation,
    shell:
        "export OMP_NUM_THREADS={threads}; "
        'if [ -n "${{SLURM_JOB_ID:-}}" ] && command -v srun > /dev/null; then step="srun --overlap -n1 -c $OMP_NUM_THREADS"; else step=; fi; '
        "$step {resources.python:q} -m ccpo rollout --config {input.config:q}"
        " --provenance {input.provenance:q} --protocol {input.protocol:q} --trained-on {input.trained_on:q} --tasks {input.tasks:q}"
        " --model {input.model:q} --untrained {input.untrained:q} --scratch {params.scratch:q} --out {output:q} &>> {log:q}"


rule score:
    input:
        config="results/runs/{run}/config.json",
        protocol="results/protocols/{protocol}.json",
        tasks=evaluated_of_run,
        rollouts="results/runs/{run}/eval/{protocol}/rollouts.parquet",
    output:
        scores="results/runs/{run}/eval/{protocol}/scores.parquet",
        graders="results/runs/{run}/eval/{protocol}/graders.parquet",
    log:
        "logs/score/{run}/{protocol}.log",
    benchmark:
        "logs/benchmarks/score/{run}/{protocol}.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        # of the training, whose outputs are there, and of this evaluation
        scratch=lambda wildcards: [
            f"scratch/{wildcards.run}",
            scratch_of_evaluation(wildcards),
        ],
        stage=STAGE_VERSIONS["score"],
    shell:
        "python -m ccpo score --config {input.config:q} --protocol {input.protocol:q} --tasks {input.tasks:q} --rollouts {input.rollouts:q}"
        " --scratch {params.scratch:q} --out {output.scores:q} --graders {output.graders:q} &> {log:q}"
