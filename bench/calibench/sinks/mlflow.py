"""MLflow: a run per row, below a run of the folder that holds the report."""

from __future__ import annotations

from calibench.sinks.logged import LoggedRow, LoggedRun, project


def log(run: LoggedRun) -> str:
    """Log to where MLFLOW_TRACKING_URI says, in the experiment of MLFLOW_EXPERIMENT_NAME.

    Rows are runs of their own because MLflow compares runs: columns to sort by, and one bar or point each.
    """
    import mlflow

    experiment = project("MLFLOW_EXPERIMENT_NAME")
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=run.name):
        for row in run.rows:
            _log(row)
        for file, name in run.named_files:
            mlflow.log_artifact(file, name.rpartition("/")[0] or None)
    return f"experiment {experiment!r} of {mlflow.get_tracking_uri()}"


def _log(row: LoggedRow) -> None:
    import mlflow

    with mlflow.start_run(run_name=row.name, nested=True) as made:
        mlflow.log_params(dict(row.config))
        mlflow.log_metrics({**row.values, **row.ends})
    if row.failure is not None:
        mlflow.MlflowClient().set_terminated(made.info.run_id, "FAILED")
