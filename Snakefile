# Entry: `snakemake` here builds every experiment named in config/config.yaml. The rules are in workflow/.
include: "workflow/Snakefile"


rule everything:
    input:
        rules.all.input,
    default_target: True
