"""How to measure a section again: versions, command, and what identifies data and model."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from typing import Any

from calibench.report.sections import Section
from calibench.report.writing.words import code
from calibench.store.records import Record, dig, is_of_arrays, is_scored
from calibench.suites.loader import load_suite, suite_names
from calibench.suites.spec import ShiftSpec, Suite


def provenance(section: Section) -> list[str]:
    """Sentences that identify data, model and batch plan by revision and content hash."""
    data, model, plan = (section.common(block) for block in ("data", "model", "plan"))
    sentences = []
    for noun, block in (("Data", data), ("Model", model)):
        if block:
            sentences.append(
                f"{noun}: {code(block.get('name'))} ({block.get('source')}{_revision(block)}), "
                f"content sha256 {code(block.get('sha256'))}."
            )
    for entry in section.entries:
        members = dig(entry.record, "method", "members") or []
        if members:
            named = "; ".join(
                f"{code(item['name'])}{_revision(item)}, content sha256 {code(item['sha256'])}"
                for item in members
            )
            sentences.append(f"Members of {code(entry.label)}: {named}.")
    if plan:
        budget = f", at most {plan['token_budget']:,} padded tokens each" if plan.get("token_budget") else ""
        sentences.append(
            f"Batch plan: {plan.get('batches'):,} batches{budget}; {plan.get('tokens'):,} tokens, "
            f"{100 * plan.get('padding_ratio', 0):.1f}% padding, {plan.get('truncated')} texts truncated."
        )
    return sentences


def _revision(block: Record) -> str:
    return f", revision {code(block['revision'])}" if block.get("revision") else ""


def command(section: Section) -> str:
    """The command that measures the section again; folders and suites of one's own are to be filled in."""
    first = section.entries[0].record
    if is_scored(first):
        in_memory = is_of_arrays(first)
        return _of_arrays(section) if in_memory else _of_files(section)
    suite = str(first["suite"])
    known = suite in suite_names()
    parts = ["calibench", "run", suite if known else f"PATH/TO/{suite}.toml"]
    spec = load_suite(suite) if known else None
    parts += _sources(section, spec)
    parts += _methods(section)
    parts += _conformal(section)
    parts += _calibration(section, spec)
    parts += _shift(section, spec)
    data, model, plan = (section.common(block) for block in ("data", "model", "plan"))
    for option, value in (
        ("--seed", first.get("seed")),
        ("--device", model.get("device")),
        ("--dtype", model.get("dtype")),
        ("--attention", model.get("attention")),
        ("--token-budget", plan.get("token_budget")),
        ("--batch-size", plan.get("batch_size")),
        ("--limit", data.get("limit")),
        *((f"--{name}", value) for name, value in (data.get("reading") or {}).items()),
        *(("--label-map", f"{value}={output}") for value, output in (data.get("label_map") or {}).items()),
    ):
        if value is not None:
            parts += [option, str(value)]
    return shlex.join(parts)


def _of_files(section: Section) -> str:
    """The same where predictions came in files, all read alike."""
    first = section.entries[0].record
    own = [entry.record for entry in section.entries if not entry.record["method"].get("posthoc")]
    parts = ["calibench", "score", *(f"{r['method']['name']}=PATH/TO/{r['scored']['file']}" for r in own)]
    for name, value in first["scored"]["options"].items():
        option = "--prices" if name == "price" else f"--{name.replace('_', '-')}"
        text = ",".join(value) if isinstance(value, list) else str(value)
        parts += [option] if value is True else [option, text]
    prices = {r["method"]["name"]: r["scored"]["price_per_row"] for r in own}
    if "price" not in first["scored"]["options"] and None not in prices.values():
        parts += ["--prices", ",".join(f"{name}={price:g}" for name, price in prices.items())]
    every = [entry.record["method"] for entry in section.entries]
    for step in dict.fromkeys(method["posthoc"] for method in every if method.get("posthoc")):
        parts += ["--posthoc", step]
    for metric in first["scored"].get("metrics") or []:
        parts += ["--metric", metric]
    parts += [*_conformal(section), "--seed", str(first.get("seed")), "--suite", str(first["suite"])]
    return shlex.join(parts)


def _of_arrays(section: Section) -> str:
    """The call, where predictions came in arrays, as a comment among commands."""
    first = section.entries[0].record
    own = [entry.record for entry in section.entries if not entry.record["method"].get("posthoc")]
    names = [str(record["method"]["name"]) for record in own]
    arguments = [f"{{{', '.join(f'{name!r}: ...' for name in names)}}}", "labels"]
    for name, value in first["scored"]["options"].items():
        if name != "from":
            arguments.append("groups=..." if name == "group" else f"{name}={value!r}")
    prices = {name: record["scored"]["price_per_row"] for name, record in zip(names, own, strict=True)}
    if None not in prices.values():
        arguments.append(f"prices={prices!r}")
    steps = dict.fromkeys(entry.record["method"].get("posthoc") for entry in section.entries)
    if any(steps):
        arguments.append(f"posthoc={[step for step in steps if step]!r}")
    sets: list[dict[str, Any]] = first.get("conformal") or []
    if sets:
        arguments.append(f"conformal={[one['kind'] for one in sets]!r}, conformal_level={sets[0]['level']:g}")
        arguments += ["class_conditional=True"] if sets[0]["class_conditional"] else []
    return f"# in Python: calibench.compare({', '.join(arguments)}, seed={first.get('seed')})"


def _sources(section: Section, suite: Suite | None) -> list[str]:
    """Data and model, where they are not what the suite names."""
    data, model = section.common("data"), section.common("model")
    options: list[str] = []
    if data.get("source") == "folder":
        options += ["--dataset", f"PATH/TO/{data['name']}"]
    elif data.get("source") == "plugin" and (suite is None or suite.data.loader != data["loader"]):
        options += ["--loader", data["loader"]]
    elif data.get("source") == "hub" and (suite is None or suite.data.name != data["name"]):
        options += ["--dataset", data["name"]]
        for option, key in (("--dataset-config", "config"), ("--dataset-revision", "revision")):
            options += [option, data[key]] if data.get(key) else []
    if data.get("split") and (suite is None or suite.data.split != data["split"]):
        options += ["--split", data["split"]]
    if model.get("source") == "folder":
        options += ["--model", f"PATH/TO/{model['name']}"]
    elif model.get("source") == "hub" and (suite is None or suite.model.name != model["name"]):
        options += ["--model", model["name"]]
        options += ["--model-revision", model["revision"]] if model.get("revision") else []
    return options


def _methods(section: Section) -> list[str]:
    """The methods with their parameters, but for those in which cells of one method differ.

    These are the suite's to say: asked for by name, a method has all the settings that it has there.
    """
    every = [entry.record["method"] for entry in section.entries]
    cells: dict[str, list[dict[str, Any]]] = {}
    for method in every:
        if not method.get("posthoc"):
            params = method.get("params") or {}
            placed = {key: _placed(value, method.get("folders") or ()) for key, value in params.items()}
            cells.setdefault(method["name"], []).append(placed)
    options: list[str] = []
    for name in cells:
        options += ["-m", name]
    for step in dict.fromkeys(method["posthoc"] for method in every if method.get("posthoc")):
        options += ["--posthoc", step]
    given = [
        (name, key, value)
        for name, settings in cells.items()
        for key, value in settings[0].items()
        if all(other.get(key) == value for other in settings)
    ]
    asked = {params["passes"] for settings in cells.values() for params in settings if "passes" in params}
    shared = len(asked) == 1
    if shared:
        options += ["--passes", str(asked.pop())]
    for name, key, value in given:
        if key != "passes" or not shared:
            options += ["-a", f"{name}.{key}={_argument(value)}"]
    return options


def _placed(value: Any, folders: Collection[str]) -> Any:
    """A parameter's value with folders of one's own to be filled in."""
    if isinstance(value, list):
        return [_placed(item, folders) for item in value]
    return f"PATH/TO/{value}" if isinstance(value, str) and value in folders else value


def _conformal(section: Section) -> list[str]:
    """The prediction sets that every row has."""
    asked: list[dict[str, Any]] = []
    for entry in section.measured:
        asked = asked or [sets for sets in entry.record.get("conformal") or [] if sets["column"] != "set"]
    if not asked:
        return []
    options = [part for sets in asked for part in ("--conformal", sets["kind"])]
    options += ["--conformal-level", f"{asked[0]['level']:g}"]
    return [*options, *(["--class-conditional"] if asked[0]["class_conditional"] else [])]


def _calibration(section: Section, suite: Suite | None) -> list[str]:
    """The splits that post-hoc steps and sets, where they were not cross-fitted, and methods learnt from."""
    fits = [entry.record["fit"] for entry in section.measured if entry.record.get("fit")]
    fits += [sets for entry in section.measured for sets in entry.record.get("conformal") or []]
    whole = [fit for fit in fits if fit.get("split") and fit.get("folds") is None]
    # Whether the model has seen it is said of a calibration split; what a method learns from, it has.
    held = next((fit for fit in whole if fit.get("unseen") is not None), None)
    train = next((fit for fit in whole if fit.get("unseen") is None), None)
    options: list[str] = []
    if held is not None:
        options += ["--calibration-split", held["split"], *(["--unseen"] if held["unseen"] else [])]
    if train is not None and (suite is None or suite.train.split != train["split"]):
        options += ["--train-split", train["split"]]
    return options


def _shift(section: Section, suite: Suite | None) -> list[str]:
    """The shifted evaluations, where they are not the suite's."""
    found = [shift for entry in section.measured for shift in entry.record.get("shifts") or []]
    spec = ShiftSpec() if suite is None else suite.shift
    options: list[str] = []
    corruptions = tuple(dict.fromkeys(s["kind"] for s in found if s["strength"] is not None))
    strengths = tuple(sorted({s["strength"] for s in found if s["strength"] is not None}))
    if corruptions and (corruptions != spec.corruptions or strengths != spec.strengths):
        for corruption in corruptions:
            options += ["--shift", corruption]
        options += ["--shift-strengths", ",".join(f"{strength:g}" for strength in strengths)]
    if not spec.also:
        for name in dict.fromkeys(s["name"] for s in found if s["strength"] is None):
            options += ["--also", f"PATH/TO/{name}"]
    return options


def _argument(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def install(records: Sequence[Record]) -> str:
    """The pip command for the versions that what was measured depends on."""
    wanted: dict[str, None] = {}
    for record in records:
        distribution = str(record["method"].get("distribution") or "")
        if " " in distribution:
            wanted["==".join(distribution.split(" ", 1))] = None
        for name in ("torch", "transformers", "baal"):
            version = dig(record, "environment", name)
            if version:
                # The part after "+" names a build, which the package index does not know.
                wanted[f"{name}=={str(version).partition('+')[0]}"] = None
    return shlex.join(["pip", "install", *wanted])
