"""A checkpoint as an ONNX graph on disk, made once for its content and kept in the user's cache."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from calibench.data.hub import one_line
from calibench.errors import RefusedError
from calibench.models.checkpoint import Checkpoint, example_inputs
from calibench.models.identity import config_sha256
from calibench.models.train_features import cache_folder
from calibench.runtimes.tapped import Tapped

#: Changes when another graph is made of the same checkpoint.
_VERSION = 1
#: Weights of more bytes are kept beside the graph, which as one message may have 2 GiB.
_ONE_FILE = 2**30


@dataclass(frozen=True)
class Exported:
    """A graph on disk.

    Attributes:
        file: the graph; `inputs` [B, L] int64 in, "logits" and, where the model has them, "features" out.
        inputs: names of its inputs.
        features: whether it gives features.
        seconds: that making it took, when it was made.
        bytes: of the graph and its weights.
    """

    file: Path
    inputs: tuple[str, ...]
    features: bool
    seconds: float
    bytes: int


def exported(checkpoint: Checkpoint) -> Exported:
    """The checkpoint's graph in float32, with any number of texts of any length.

    Raises:
        RefusedError: the exporter has no graph of it.
    """
    return kept(_folder(checkpoint), "float32", lambda file: _export(checkpoint, file))


def kept(folder: Path, name: str, make: Callable[[Path], dict[str, Any]]) -> Exported:
    """What an earlier run has made, or what `make` writes to a file, whose facts it returns."""
    home = folder / name
    facts = _facts(home)
    if facts is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=folder, prefix=f".{name}-"))
        except OSError:  # without a cache it is made for this run alone
            home = partial = Path(tempfile.mkdtemp(prefix="calibench-onnx-"))
            atexit.register(shutil.rmtree, home, ignore_errors=True)
        try:
            start = time.perf_counter()
            facts = make(partial / "model.onnx")
            facts["seconds"] = time.perf_counter() - start
            (partial / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
            with contextlib.suppress(OSError):  # another run was as quick, and made the same
                os.replace(partial, home)
        finally:
            if partial != home:
                shutil.rmtree(partial, ignore_errors=True)
    size = sum(file.stat().st_size for file in home.iterdir() if file.name != "facts.json")
    return Exported(
        home / "model.onnx", tuple(facts["inputs"]), facts["features"], float(facts["seconds"]), size
    )


def _facts(home: Path) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] = json.loads((home / "facts.json").read_bytes())
    except (OSError, ValueError):
        return None
    return facts


def _folder(checkpoint: Checkpoint) -> Path:
    content = {
        "version": _VERSION,
        "model": checkpoint.sha256,
        "config": config_sha256(checkpoint.module.config),
        "class": type(checkpoint.module).__name__,
        "attention": checkpoint.attention,
        "inputs": sorted(example_inputs(checkpoint)),
        "pad": checkpoint.padding.pad_id,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "onnxscript": version("onnxscript"),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    return cache_folder() / "onnx" / digest


def _export(checkpoint: Checkpoint, file: Path) -> dict[str, Any]:
    inputs = example_inputs(checkpoint)
    module = Tapped(checkpoint, tuple(inputs)).eval()
    outputs = ["logits"] + ["features"] * (module.head is not None)
    sizes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    try:
        with quiet_log("torch.onnx"), torch.inference_mode():
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=outputs,
                dynamic_shapes=((sizes,) * len(inputs),),
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.save(file, external_data=_size(checkpoint) > _ONE_FILE)
            _require_dynamic(file)
    except Exception as error:  # the exporter's own, and whatever a model's code raises while it is traced
        cause = error.__cause__ or error
        raise RefusedError(
            f"{checkpoint.name} cannot be exported to ONNX ({type(cause).__name__}: "
            f"{one_line(cause)[:200]}); use another runtime."
        ) from error
    return {"inputs": list(inputs), "features": module.head is not None}


def _require_dynamic(file: Path) -> None:
    """See that the graph takes texts of any number and length: where it cannot, the exporter fixes them."""
    import onnx

    for given in onnx.load(file, load_external_data=False).graph.input:
        fixed = [dim.dim_value for dim in given.type.tensor_type.shape.dim if not dim.dim_param]
        if fixed:
            raise ValueError(f"its graph takes {given.name} of size {fixed[0]} only")


@contextlib.contextmanager
def quiet_log(name: str) -> Iterator[None]:
    """Keep a library from telling what it is at, and what it could do better."""
    said = io.StringIO()
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _size(checkpoint: Checkpoint) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in checkpoint.module.parameters())
