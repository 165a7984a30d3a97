# Entry: `snakemake` here builds every experiment named in config/config.yaml. The rules are in workflow/.
include: "workflow/Snakefile"


rule everything:
    default_target: True
    input:
        rules.all.input,
