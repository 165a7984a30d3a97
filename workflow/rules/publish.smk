rule figure:
    input:
        "results/experiments/{experiment}/stats.json",
    output:
        svg=report(
            "results/experiments/{experiment}/figures/{figure}.svg",
            caption="../report/figure.rst",
            category="{experiment}",
            labels={"figure": "{figure}"},
        ),
        csv="results/experiments/{experiment}/figures/{figure}.csv",
        passports=expand(
            "results/experiments/{{experiment}}/figures/{{figure}}.{kind}.passport.json",
            kind=["svg", "csv"],
        ),
    log:
        "logs/figure/{experiment}.{figure}.log",
    benchmark:
        "logs/benchmarks/figure/{experiment}.{figure}.tsv"
    conda:
        "../../envs/main.yaml"
    shell:
        "python -m ccpo figure {wildcards.figure:q} --stats {input:q} --svg {output.svg:q} --csv {output.csv:q} &> {log:q}"


rule table:
    input:
        "results/experiments/{experiment}/stats.json",
    output:
        csv="results/experiments/{experiment}/tables/main.csv",
        json="results/experiments/{experiment}/tables/main.json",
        passports=expand(
            "results/experiments/{{experiment}}/tables/main.{kind}.passport.json",
            kind=["csv", "json"],
        ),
    log:
        "logs/table/{experiment}.log",
    benchmark:
        "logs/benchmarks/table/{experiment}.tsv"
    conda:
        "../../envs/main.yaml"
    shell:
        "python -m ccpo table --stats {input:q} --out {output.csv:q} &> {log:q}"


rule beside_paper:
    input:
        stats="results/experiments/{training}/stats.json",
        experiment="results/experiments/{training}/experiment.json",
        published=[str(path) for path in published.files()],
    output:
        tables=expand(
            "results/experiments/{{training}}/tables/{table}.{kind}",
            table=["published", "deviations"],
            kind=["csv", "md", "tex"],
        ),
        passports=expand(
            "results/experiments/{{training}}/tables/{table}.{kind}.passport.json",
            table=["published", "deviations"],
            kind=["csv", "md", "tex"],
        ),
    log:
        "logs/beside_paper/{training}.log",
    benchmark:
        "logs/benchmarks/beside_paper/{training}.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        out="results/experiments/{training}/tables",
    shell:
        "python -m ccpo beside-paper --stats {input.stats:q} --experiment {input.experiment:q} --out {params.out:q} &> {log:q}"


rule report:
    input:
        stats="results/experiments/{training}/stats.json",
        experiment="results/experiments/{training}/experiment.json",
        figures=lambda wildcards: expand(
            "results/experiments/{training}/figures/{figure}.svg",
            training=wildcards.training,
            figure=figures_of(wildcards.training),
        ),
        table="results/experiments/{training}/tables/main.csv",
        runs=files_of_runs("credit.parquet", "ledger.parquet", "seconds.parquet"),
        evaluations=evaluations("rollouts.parquet", "scores.parquet"),
        plan=plan_of_training,
        published=beside_paper_of_training,
    output:
        html="results/experiments/{training}/report.html",
        passport="results/experiments/{training}/report.html.passport.json",
    log:
        "logs/report/{training}.log",
    benchmark:
        "logs/benchmarks/report/{training}.tsv"
    conda:
        "../../envs/main.yaml"
    params:
        runs="results/runs",
        plan=lambda wildcards, input: (
            f"--plan {shlex.quote(str(input.plan))}" if input.plan else ""
        ),
        published=lambda wildcards, input: (
            f"--published {shlex.quote(str(input.published))}"
            if input.published
            else ""
        ),
    shell:
        "python -m ccpo report --stats {input.stats:q} --experiment {input.experiment:q} --figures {input.figures:q}"
        " --table {input.table:q} --runs {params.runs:q} {params.plan} {params.published}"
        " --out {output.html:q} &> {log:q}"


rule track:
    input:
        stats="results/experiments/{training}/stats.json",
        experiment="results/experiments/{training}/experiment.json",
    output:
        "results/experiments/{training}/mlflow.json",
    log:
        "logs/track/{training}.log",
    benchmark:
        "logs/benchmarks/track/{training}.tsv"
    conda:
        "../../envs/main.yaml"
    resources:
        mlflow=1,  # one importer at a time writes to the store
    params:
        runs="results/runs",
        uri=config["mlflow_uri"],
    shell:
        "python -m ccpo track --experiment {input.experiment:q} --runs {params.runs:q} --stats {input.stats:q}"
        " --uri {params.uri:q} --out {output:q} &> {log:q} && {{ grep '^warning:' {log:q} >&2 || true; }}"
