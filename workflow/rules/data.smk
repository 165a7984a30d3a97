rule tasks:
    output:
        table="results/tasks/{tasks}.parquet",
        dropped="results/tasks/{tasks}.dropped.json",
    log:
        "logs/tasks/{tasks}.log",
    benchmark:
        "logs/benchmarks/tasks/{tasks}.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        choice=lambda wildcards: TASKS[wildcards.tasks].model_dump_json(),
        stage=STAGE_VERSIONS["tasks"],
    shell:
        "python -m ccpo tasks --choice {params.choice:q} --out {output.table:q} &> {log:q}"


rule held_out:
    # What was compared stands in the passport, so that a new test set that holds no training
    # item changes nothing here, and no training.
    input:
        tasks="results/tasks/{tasks}.parquet",
        tests=lambda wildcards: tables(test_sets(TASKS[wildcards.tasks])),
    output:
        document="results/tasks/{tasks}.held_out.json",
        passport="results/tasks/{tasks}.held_out.json.passport.json",
    log:
        "logs/held_out/{tasks}.log",
    benchmark:
        "logs/benchmarks/held_out/{tasks}.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        stage=STAGE_VERSIONS["overlap"],
    shell:
        "python -m ccpo held-out --tasks {input.tasks:q} --tests {input.tests:q} --out {output.document:q} &> {log:q}"


rule overlap:
    output:
        table="results/overlap.csv",
        passport="results/overlap.csv.passport.json",
    log:
        "logs/overlap.log",
    benchmark:
        "logs/benchmarks/overlap/all.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        benchmarks=BENCHMARKS,
        stage=STAGE_VERSIONS["overlap"],
    shell:
        "python -m ccpo overlap --out {output.table:q} &> {log:q}"


rule model:
    output:
        folder=directory("results/models/{model}"),
        manifest="results/models/{model}.manifest.json",  # stands for the folder's content
    log:
        "logs/model/{model}.log",
    benchmark:
        "logs/benchmarks/model/{model}.tsv"
    conda:
        "../../envs/main.yaml"
    resources:
        mem_mb=4000,  # the largest model here, twice in float32
        runtime=30,
    params:
        model=lambda wildcards: MODELS[wildcards.model].model_dump_json(),
        stage=STAGE_VERSIONS["model"],
    shell:
        "OMP_NUM_THREADS={threads} python -m ccpo model --model {params.model:q} --out {output.folder:q} &> {log:q}"


rule run_config:
    output:
        "results/runs/{run}/config.json",
    log:
        "logs/run_config/{run}.log",
    conda:
        "../../envs/main.yaml"
    params:
        config=lambda wildcards: canonical(run_of(wildcards).model_dump(mode="json")),
    shell:
        "printf '%s\\n' {params.config:q} > {output:q} 2> {log:q}"


rule experiment_config:
    output:
        "results/experiments/{experiment}/experiment.json",
    log:
        "logs/experiment_config/{experiment}.log",
    conda:
        "../../envs/main.yaml"
    params:
        manifest=lambda wildcards: canonical(
            READ[wildcards.experiment].manifest().model_dump(mode="json")
        ),
    shell:
        "printf '%s\\n' {params.manifest:q} > {output:q} 2> {log:q}"
