#!/usr/bin/env bash
# mlflow 3.17.2: where ./mlruns holds an experiment, that folder is the default store, and it refuses every run.
#
# Without MLFLOW_TRACKING_URI runs go to sqlite:///mlflow.db, but to ./mlruns where an older version has left an
# experiment, so that what worked goes on. The store of folders has been closed since: it raises unless
# MLFLOW_ALLOW_FILE_STORE is true, so that the first run in such a folder fails. One guessed that the old store goes on, or
# that the new one is taken.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet mlflow-skinny==3.17.2 sqlalchemy==2.1.9 alembic==1.20.1
cat > seen.py <<'PY'
import os
import sys

os.makedirs(sys.argv[1], exist_ok=True)
os.chdir(sys.argv[1])
import mlflow

print("default:", mlflow.get_tracking_uri().partition(":")[0], end="; ")
try:
    with mlflow.start_run():
        mlflow.log_metric("accuracy", 0.9)
    print("the run is logged")
except mlflow.MlflowException as error:
    print("the run fails:", " ".join(str(error).split()[:9]), "...")
PY
mkdir -p old/mlruns/0
printf 'artifact_location: mlruns/0\nexperiment_id: "0"\nlifecycle_stage: active\nname: Default\n' > old/mlruns/0/meta.yaml
{
  echo "in an empty folder, $(env/bin/python seen.py empty)"
  echo "beside an old mlruns, $(env/bin/python seen.py old)"
  echo "the same with MLFLOW_ALLOW_FILE_STORE=true, $(MLFLOW_ALLOW_FILE_STORE=true env/bin/python seen.py old)"
  echo "the same with MLFLOW_TRACKING_URI=sqlite:///mlflow.db, $(MLFLOW_TRACKING_URI=sqlite:///mlflow.db env/bin/python seen.py old)"
} 2>/dev/null | tee seen
diff - seen <<'TXT'
in an empty folder, default: sqlite; the run is logged
beside an old mlruns, default: file; the run fails: The filesystem tracking backend (e.g., './mlruns') is in maintenance ...
the same with MLFLOW_ALLOW_FILE_STORE=true, default: file; the run is logged
the same with MLFLOW_TRACKING_URI=sqlite:///mlflow.db, default: sqlite; the run is logged
TXT
