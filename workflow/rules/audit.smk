# Audits: credit methods in oracle worlds. One job for each kind of world; then statistics, figures, table and report as for any experiment.


rule diagnose:
    input:
        experiment="results/experiments/{audit}/experiment.json",
        model=model_of_worlds,
    output:
        table="results/experiments/{audit}/diagnostics/{family}.{shape}.parquet",
        skipped="results/experiments/{audit}/diagnostics/{family}.{shape}.skipped.json",
        passports=expand(
            "results/experiments/{{audit}}/diagnostics/{{family}}.{{shape}}.{kind}.passport.json",
            kind=["parquet", "skipped.json"],
        ),
    log:
        "logs/diagnose/{audit}.{family}.{shape}.log",
    benchmark:
        "logs/benchmarks/diagnose/{audit}.{family}.{shape}.tsv"
    conda:
        "../../envs/main.yaml"
    resources:
        mem_mb=4000,  # an enumeration of 600,000 messages and its copies
        runtime=60,
    params:
        stage=STAGE_VERSIONS["diagnose"],
        model=lambda wildcards, input: f"--model {input.model}" if input.model else "",
    shell:
        "OMP_NUM_THREADS={threads} python -m ccpo diagnose --experiment {input.experiment} --family {wildcards.family}"
        " --shape {wildcards.shape} {params.model} --out {output.table} &> {log}"


rule compare:
    input:
        experiment="results/experiments/{audit}/experiment.json",
        worlds=worlds_of_audit,
    output:
        stats="results/experiments/{audit}/stats.json",
        passport="results/experiments/{audit}/stats.json.passport.json",
    log:
        "logs/compare/{audit}.log",
    benchmark:
        "logs/benchmarks/compare/{audit}.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        stage=STAGE_VERSIONS["analyse"],
    shell:
        "python -m ccpo compare --experiment {input.experiment} --diagnostics {input.worlds} --out {output.stats} &> {log}"


rule audit_report:
    input:
        stats="results/experiments/{audit}/stats.json",
        experiment="results/experiments/{audit}/experiment.json",
        figures=expand(
            "results/experiments/{{audit}}/figures/{figure}.svg",
            figure=figure.of_study(figure.Study("oracle")),
        ),
        table="results/experiments/{audit}/tables/main.csv",
    output:
        html="results/experiments/{audit}/report.html",
        passport="results/experiments/{audit}/report.html.passport.json",
    log:
        "logs/audit_report/{audit}.log",
    benchmark:
        "logs/benchmarks/audit_report/{audit}.tsv"
    conda:
        "../../envs/main.yaml"
    shell:
        "python -m ccpo report --stats {input.stats} --experiment {input.experiment} --figures {input.figures}"
        " --table {input.table} --out {output.html} &> {log}"
