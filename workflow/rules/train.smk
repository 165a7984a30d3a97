rule train:
    input:
        config="results/runs/{run}/config.json",
        tasks=train_tasks_of_run,
        model=model_of_run,
    output:
        model=directory("results/runs/{run}/model"),
        tables=expand(
            "results/runs/{{run}}/{table}.parquet",
            table=["train", "credit", "ledger", "seconds"],
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
        mem_mb=8000,  # weights, two moments and the logits of one micro-batch
        runtime=240,
    params:
        launch=config["launch"],
        scratch="scratch/{run}",  # checkpoints: no output, since declared outputs of a failed job are deleted
        out=lambda wildcards, output: os.path.dirname(output.provenance),
    shell:
        "OMP_NUM_THREADS={threads} {params.launch} python -m ccpo train --config {input.config} --tasks {input.tasks}"
        " --model {input.model} --scratch {params.scratch} --out {params.out} &>> {log}"
