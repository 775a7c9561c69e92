"""Weights & Biases: a run per row, in a group of the folder's name; the report is an artifact."""

from __future__ import annotations

from calibench.sinks.logged import LoggedRun, project


def log(run: LoggedRun) -> str:
    """Log to the project of WANDB_PROJECT, as WANDB_MODE says: `offline` writes below WANDB_DIR.

    Rows are runs of their own because a workspace compares runs: a line of its table and a bar each.
    """
    import wandb

    where = project("WANDB_PROJECT")
    for number, row in enumerate(run.rows):
        made = wandb.init(
            project=where, name=row.name, group=run.name, config=dict(row.config), reinit="create_new"
        )
        made.log({**row.values, **row.ends})
        if number == 0:
            report = wandb.Artifact(run.artifact, type="report")
            for file, name in run.named_files:
                report.add_file(file, name=name)
            made.log_artifact(report)
        made.finish(exit_code=0 if row.failure is None else 1)
    return f"project {where!r}, group {run.name!r}"
