"""Trackio: a run per row, in a group of the folder's name; the report is an artifact."""

from __future__ import annotations

from calibench.sinks.logged import LoggedRun, project

#: What the machine does while numbers are copied says nothing of the run.
_NO_MACHINE = {"auto_log_cpu": False, "auto_log_gpu": False}


def log(run: LoggedRun) -> str:
    """Log to the project of TRACKIO_PROJECT, in TRACKIO_DIR or where Trackio's other variables say.

    Rows are runs of their own because the dashboard compares runs.
    """
    import trackio

    where = project("TRACKIO_PROJECT")
    for number, row in enumerate(run.rows):
        trackio.init(project=where, name=row.name, group=run.name, config=dict(row.config), **_NO_MACHINE)
        trackio.log({**row.values, **row.ends})
        if number == 0:
            report = trackio.Artifact(run.artifact, type="report")
            for file, name in run.named_files:
                report.add_file(file, name=name)
            trackio.log_artifact(report)
        trackio.finish()
    return f"project {where!r}, group {run.name!r}"
