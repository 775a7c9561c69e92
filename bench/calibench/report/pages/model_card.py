"""A run folder -> what a model's repository on the Hugging Face hub says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from calibench.errors import UsageError
from calibench.registry import require
from calibench.report.pages.markdown import fenced, render
from calibench.report.parts.headline import HEADS, Judgement, headline, judge
from calibench.report.sections import Entry, Section, sections
from calibench.report.stored import loaded_once, records_of
from calibench.report.writing import reproduce, tables, words
from calibench.report.writing.numbers import interval
from calibench.store.records import dig, records_file

#: Rows of a table, at most.
_ROWS = 8
#: What the metadata have of the model as it is, by the hub's name.
_INDEXED = {"accuracy": "accuracy", "ece": "ece", "nll": "nll", "brier": "brier_score"}


def model_card_text(folder: Path) -> str:
    """`model-card.md`: what was measured, the main metrics, what to use, and how to measure it again.

    Its metadata are a model index with the metrics of the reference, the model as it is; valid by
    `huggingface_hub.ModelCard`. All other numbers are in the report, `report.csv` and `report.json`.

    Raises:
        UsageError: the records are of several models or of files, or no cell was measured.
    """
    name, found = _of_one_model(folder)
    target = records_file(folder).parent
    lines = [f"---\n{_metadata(name, found)}\n---"]
    with loaded_once():
        for section in found:
            lines += _section(section.once(), target, several=len(found) > 1)
    lines += ["### How to reproduce", _commands(found)]
    return "\n\n".join(lines) + "\n"


def eval_results_text(folder: Path) -> str:
    """`eval-results.yaml`: the reference's accuracy, for `.eval_results/` in a model's repository.

    The hub shows such results of data sets that are benchmarks there, a number for each task; the task is the
    configuration of the data set, or `default`.

    Raises:
        UsageError: as of `model_card_text`; or data that are not on the hub or not a whole split, or two
            results of one task.
    """
    _, found = _of_one_model(folder)
    import yaml
    from huggingface_hub import eval_result_entries_to_yaml

    entries = [_result(section) for section in found]
    tasks = {(entry.dataset_id, entry.task_id) for entry in entries}
    if len(tasks) < len(entries):
        raise UsageError(
            "The hub has one result for each task of a benchmark, and these records hold several of one; "
            "export a run folder with one split, seed and precision."
        )
    return str(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True))


def _of_one_model(folder: Path) -> tuple[str, list[Section]]:
    """The model's name, and the sections in which something was measured."""
    require("run", "A model card")
    found = [section for section in sections(records_of(folder)) if section.measured]
    if any(section.from_files for section in found):
        raise UsageError(
            "A model card is about one model, and these predictions were scored from a file that names none; "
            "write csv or json."
        )
    names = list(dict.fromkeys(str(section.common("model").get("name")) for section in found))
    if len(names) != 1:
        raise UsageError(
            f"A model card is about one model, and these records hold results of {len(names)}"
            f"{': ' + ', '.join(names) if names else ''}; export a run folder with one."
        )
    return names[0], found


def _metadata(name: str, found: Sequence[Section]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(**_dataset(section), metric_type=theirs, metric_value=value)
        for section in found
        for theirs, value in _indexed(section.reference)
    ]
    card = ModelCardData(model_name=name if results else None, eval_results=results or None)
    return card.to_yaml()


def _indexed(reference: Entry | None) -> Iterator[tuple[str, float]]:
    for ours, theirs in _INDEXED.items():
        value = None if reference is None else dig(reference.record, "metrics", ours, "value")
        if value is not None:
            yield theirs, value


def _dataset(section: Section) -> dict[str, Any]:
    data = section.common("data")
    limit = data.get("limit")
    return {
        "task_type": "text-classification",
        "dataset_type": str(data.get("name")),
        "dataset_name": str(data.get("name")),
        "dataset_config": data.get("config"),
        "dataset_split": data.get("split"),
        "dataset_revision": data.get("revision"),
        "dataset_args": None if limit is None else {"limit": limit},
    }


def _section(section: Section, folder: Path, *, several: bool) -> list[str]:
    judged = judge(section, folder)
    entries = section.distinct().entries
    shown = _shown(entries, judged)
    text = f"{words.heading(section)} Brackets are 95% intervals; rows share their examples."
    if len(shown) < len(entries):
        text += f" {len(entries) - len(shown)} more rows are in the report."
    title = f"## Calibration: {words.title(section)}" if several else "## Calibration"
    lines = zip(HEADS, headline(section, judged), strict=True)
    return [
        title,
        text,
        render(tables.main(section, shown)),
        "\n".join(f"- **{head}:** {text}" for head, text in lines),
    ]


def _shown(entries: Sequence[Entry], judged: Judgement) -> list[Entry]:
    """The rows that the recommendation is about, then the first of the others, in the order of the report."""
    decision = judged.decision
    chosen = set()
    if not isinstance(decision, str):
        chosen = {item.row.order for item in (decision.pick, decision.more) if item is not None}
    ranked = sorted(entries, key=lambda entry: entry.order != 0 and entry.order not in chosen)
    return sorted(ranked[:_ROWS], key=lambda entry: entry.order)


def _commands(found: Sequence[Section]) -> str:
    records = [entry.record for section in found for entry in section.entries]
    commands = [reproduce.install(records), *(reproduce.command(section) for section in found)]
    return fenced("\n".join(dict.fromkeys(commands)))


def _result(section: Section) -> Any:
    """The `huggingface_hub.EvalResultEntry` of a section."""
    from huggingface_hub import EvalResultEntry

    data, reference = section.common("data"), section.reference
    if data.get("source") != "hub":
        raise UsageError(
            f"The hub has results of its own data sets, and {data.get('name')!r} did not come from there; "
            "run on a data set by its hub id, or write model-card."
        )
    if data.get("limit") is not None:
        raise UsageError(
            f"A result on the hub is of a whole split, and these are {data.get('n'):,} of its examples; run "
            "without --limit."
        )
    accuracy = dig(reference.record, "metrics", "accuracy") if reference is not None else None
    if reference is None or accuracy is None or accuracy.get("value") is None:
        raise UsageError(
            "A result on the hub is the accuracy of the model as it is, and the reference has none; run the "
            "reference with the metric accuracy."
        )
    ece = dig(reference.record, "metrics", "ece")
    calibration = f", ECE {interval(ece)}" if ece and ece.get("value") is not None else ""
    return EvalResultEntry(
        dataset_id=str(data["name"]),
        task_id=str(data.get("config") or "default"),
        value=accuracy["value"],
        dataset_revision=data.get("revision"),
        date=reference.record.get("created"),
        notes=f"split {data.get('split')}: accuracy {interval(accuracy)}{calibration}",
    )
