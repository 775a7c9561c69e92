#!/usr/bin/env bash
# torch 2.13.0: `torch.__version__` is of a class of torch's own, so that a pickle which holds it needs torch to be read.
#
# It prints as a string, is an instance of str, and json writes it as one. In a pickle it stands as its class: whoever
# reads a record with it, in another process or from a cache, imports all of torch first, and cannot read it where there
# is none. `yaml.safe_dump` and msgspec refuse it. It compares as a version: 2.13 is after 2.9, of strings it is not.
# One guessed that it is a string, as `__version__` of other packages is, and sent it along with results. `str()` of it is.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet torch==2.13.0 numpy==2.4.6 pyyaml==6.0.3 msgspec==0.22.0
python3 -m venv without
cat > write.py <<'PY'
import json
import pickle

import msgspec
import torch
import yaml

version = torch.__version__
print("is a str:", isinstance(version, str), "and a", type(version).__name__)
print("json:", json.loads(json.dumps(version)) == str(version))
for name, write in (("yaml.safe_dump", yaml.safe_dump), ("msgspec.json.encode", msgspec.json.encode)):
    try:
        write({"torch": version})
        print(name + ":", "written")
    except Exception as error:
        print(name + ":", type(error).__name__)
print("after 2.9:", version > "2.9", "as a string:", str(version) > "2.9")
for file, value in (("as-it-is", version), ("as-a-string", str(version))):
    with open(file, "wb") as stream:
        pickle.dump({"torch": value}, stream)
PY
cat > read.py <<'PY'
import pickle
import sys

for file in ("as-it-is", "as-a-string"):
    sys.modules.pop("torch", None)
    try:
        pickle.load(open(file, "rb"))
        print(file + ": read,", "torch imported" if "torch" in sys.modules else "torch not imported")
    except ModuleNotFoundError as error:
        print(file + ":", error)
    if "torch" in sys.modules:
        break  # what is imported stays so
PY
{
  env/bin/python write.py
  env/bin/python read.py
  without/bin/python read.py
} | tee seen
diff - seen <<'TXT'
is a str: True and a TorchVersion
json: True
yaml.safe_dump: RepresenterError
msgspec.json.encode: TypeError
after 2.9: True as a string: False
as-it-is: read, torch imported
as-it-is: No module named 'torch'
as-a-string: read, torch not imported
TXT
