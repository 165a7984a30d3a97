# Credit methods in oracle worlds. One job for each kind of world; then statistics, figures, table
# and report as for any experiment.


rule diagnose:
    input:
        experiment="results/experiments/{oracle}/experiment.json",
        model=model_of_worlds,
        manifest=manifest_of_worlds,
    output:
        table="results/experiments/{oracle}/diagnostics/{family}.{shape}.parquet",
        skipped="results/experiments/{oracle}/diagnostics/{family}.{shape}.skipped.json",
        passports=expand(
            "results/experiments/{{oracle}}/diagnostics/{{family}}.{{shape}}.{kind}.passport.json",
            kind=["parquet", "skipped.json"],
        ),
    log:
        "logs/diagnose/{oracle}.{family}.{shape}.log",
    benchmark:
        "logs/benchmarks/diagnose/{oracle}.{family}.{shape}.tsv"
    conda:
        "../../envs/main.yaml"
    resources:
        mem_mb=4000,  # an enumeration of 600,000 messages and its copies
        runtime=60,
    params:
        stage=STAGE_VERSIONS["diagnose"],
        model=lambda wildcards, input: (
            f"--model {shlex.quote(str(input.model))}" if input.model else ""
        ),
    shell:
        "OMP_NUM_THREADS={threads} python -m ccpo diagnose --experiment {input.experiment:q} --family {wildcards.family:q}"
        " --shape {wildcards.shape:q} {params.model} --out {output.table:q} &> {log:q}"


rule compare:
    input:
        experiment="results/experiments/{oracle}/experiment.json",
        worlds=worlds_of_oracle,
    output:
        stats="results/experiments/{oracle}/stats.json",
        passport="results/experiments/{oracle}/stats.json.passport.json",
    log:
        "logs/compare/{oracle}.log",
    benchmark:
        "logs/benchmarks/compare/{oracle}.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        stage=STAGE_VERSIONS["analyse"],
    shell:
        "python -m ccpo compare --experiment {input.experiment:q} --diagnostics {input.worlds:q} --out {output.stats:q} &> {log:q}"


rule oracle_report:
    input:
        stats="results/experiments/{oracle}/stats.json",
        experiment="results/experiments/{oracle}/experiment.json",
        figures=expand(
            "results/experiments/{{oracle}}/figures/{figure}.svg",
            figure=figure.of_contents(figure.Contents("oracle")),
        ),
        table="results/experiments/{oracle}/tables/main.csv",
    output:
        html="results/experiments/{oracle}/report.html",
        passport="results/experiments/{oracle}/report.html.passport.json",
    log:
        "logs/oracle_report/{oracle}.log",
    benchmark:
        "logs/benchmarks/oracle_report/{oracle}.tsv"
    conda:
        "../../envs/main.yaml"
    shell:
        "python -m ccpo report --stats {input.stats:q} --experiment {input.experiment:q} --figures {input.figures:q}"
        " --table {input.table:q} --out {output.html:q} &> {log:q}"
