"""Reports: records and predictions of a run folder -> tables, figures and pages; never a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

__all__ = [
    "TEXTS",
    "text_of",
    "write",
    "write_csv",
    "write_eval_results",
    "write_html",
    "write_json",
    "write_model_card",
    "write_report",
]


def write(
    folder: Path, formats: Iterable[str], *, include_text: bool = False, dataset: str | None = None
) -> Iterator[Path]:
    """Write several forms of one run folder; what they share is made once.

    Args:
        folder: a run folder, or a records file; all lie beside the records.
        formats: some of "markdown", "html", "model-card", "eval-results", "csv" and "json".
        include_text, dataset: as those of `write_html`.

    Yields:
        the path of each form, when it is written.

    Raises:
        UsageError: no records there, records this version does not read, or sentences that cannot be found.
    """
    # Drawing libraries take half a second to import, which those who only print a table should not wait for.
    report = None
    for name in formats:
        if name in TEXTS:
            yield _written(folder, name)
            continue
        from calibench.report import content
        from calibench.report.pages import html, markdown

        report = report or content.read(folder)
        yield (
            markdown.write_markdown(report)
            if name == "markdown"
            else html.write_page(report, include_text, dataset)
        )


def write_report(folder: Path) -> Path:
    """Write `report.md` and `figures/`; see `calibench.report.pages.markdown.write_markdown`.

    Raises:
        UsageError: no records there, or records this version does not read.
    """
    (path,) = write(folder, ["markdown"])
    return path


def write_html(folder: Path, include_text: bool = False, dataset: str | None = None) -> Path:
    """Write `report.html`, one self-contained page; see `calibench.report.pages.html.write_page`.

    Raises:
        UsageError: no records there, records this version does not read, or sentences that cannot be found.
    """
    (path,) = write(folder, ["html"], include_text=include_text, dataset=dataset)
    return path


def write_csv(folder: Path) -> Path:
    """Write `report.csv`, one row per cell and metric; see `calibench.report.pages.exports.csv_text`."""
    return _written(folder, "csv")


def write_json(folder: Path) -> Path:
    """Write `report.json`, one flat object per cell; see `calibench.report.pages.exports.json_text`."""
    return _written(folder, "json")


def write_model_card(folder: Path) -> Path:
    """Write `model-card.md`, a page for a model's repository; see `calibench.report.pages.model_card`."""
    return _written(folder, "model-card")


def write_eval_results(folder: Path) -> Path:
    """Write `eval-results.yaml`, for a benchmark of the hub; see `calibench.report.pages.model_card`."""
    return _written(folder, "eval-results")


#: Forms that are one text and need nothing beside: its file, the module that makes it and the function.
TEXTS = {
    "csv": ("report.csv", "exports", "csv_text"),
    "json": ("report.json", "exports", "json_text"),
    "model-card": ("model-card.md", "model_card", "model_card_text"),
    "eval-results": ("eval-results.yaml", "model_card", "eval_results_text"),
}


def text_of(folder: Path, form: str) -> str:
    """One of `TEXTS`, unwritten.

    Raises:
        UsageError: as of `write`.
    """
    _, module, function = TEXTS[form]
    found: str = getattr(import_module(f"calibench.report.pages.{module}"), function)(folder)
    return found


def _written(folder: Path, form: str) -> Path:
    from calibench.store.files import write_whole
    from calibench.store.records import records_file

    path = records_file(folder).parent / TEXTS[form][0]
    write_whole(path, text_of(folder, form).encode())
    return path
