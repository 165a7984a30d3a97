rule analyse:
    input:
        experiment="results/experiments/{training}/experiment.json",
        runs=files_of_runs(
            "train.parquet", "credit.parquet", "ledger.parquet", "seconds.parquet"
        ),
        evaluations=evaluations("scores.parquet", "graders.parquet", every=True),
        probes=probes_of_training,
        cross=tables_of_cross,
    output:
        stats="results/experiments/{training}/stats.json",
        passport="results/experiments/{training}/stats.json.passport.json",
    log:
        "logs/analyse/{training}.log",
    benchmark:
        "logs/benchmarks/analyse/{training}.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        runs="results/runs",
        stage=STAGE_VERSIONS["analyse"],
    shell:
        "python -m ccpo analyse --experiment {input.experiment:q} --runs {params.runs:q} --out {output.stats:q} &> {log:q}"
