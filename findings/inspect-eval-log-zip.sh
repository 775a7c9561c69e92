#!/usr/bin/env bash
# inspect-ai 0.3.285: an `.eval` log is a zip file that Python's `zipfile` reads where inspect_ai was imported before.
#
# Its members are compressed with Zstandard, zip method 93, which `zipfile` knows from Python 3.14 on. Importing inspect_ai
# teaches it to the `zipfile` of the process; elsewhere `namelist` works and `read` raises NotImplementedError. One guessed
# deflate, as the format is called a zip file. And a sample that ran in two epochs is two members and two rows, so that a
# count of rows is not a count of questions.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet inspect-ai==0.3.285
cat > made.py <<'PY'
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import read_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match

answer = ModelOutput.from_content("mockllm/model", "blue")
answer.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
model = get_model("mockllm/model", custom_outputs=[answer] * 6)
questions = MemoryDataset([Sample(input="Which colour?", target="blue", id=number) for number in (1, 2, 3)])
(log,) = eval(Task(dataset=questions, scorer=match()), model=model, epochs=2, log_dir="logs", log_format="eval", display="none")
found = read_eval_log(log.location).samples
print("questions", len({sample.id for sample in found}), "rows", len(found), "epochs", sorted({sample.epoch for sample in found}))
PY
cat > read.py <<'PY'
import sys
import zipfile
from pathlib import Path

if sys.argv[1] == "after":
    import inspect_ai
(path,) = Path("logs").glob("*.eval")
with zipfile.ZipFile(path) as log:
    samples = [member for member in log.infolist() if member.filename.startswith("samples/")]
    try:
        log.read(samples[0])
        read = True
    except NotImplementedError:
        read = False
told = "as Python 3.14 does" if sys.version_info >= (3, 14) and sys.argv[1] == "before" and read else read
print(sys.argv[1], "import inspect_ai: members of samples", len(samples), "by method", {member.compress_type for member in samples}, "read", told)
PY
{ env/bin/python made.py; env/bin/python read.py before; env/bin/python read.py after; } 2>/dev/null | tee seen
diff <(sed "s/read as Python 3.14 does/read False/" seen) - <<'TXT'
questions 3 rows 6 epochs [1, 2]
before import inspect_ai: members of samples 6 by method {93} read False
after import inspect_ai: members of samples 6 by method {93} read True
TXT
