"""Reports: records and predictions of a run folder -> tables, figures and pages; never a model."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_csv", "write_html", "write_json", "write_model_card", "write_report"]


def write_report(folder: Path) -> Path:
    """Write `report.md` and `figures/`; see `calibench.report.pages.markdown.write_report`."""
    # Drawing libraries take half a second to import, which those who only print a table should not wait for.
    from calibench.report.pages.markdown import write_report as write

    return write(folder)


def write_html(folder: Path, include_text: bool = False, dataset: str | None = None) -> Path:
    """Write `report.html`, one self-contained page; see `calibench.report.pages.html.write_html`."""
    from calibench.report.pages.html import write_html as write

    return write(folder, include_text, dataset)


def write_csv(folder: Path) -> Path:
    """Write `report.csv`, one row per cell and metric; see `calibench.report.pages.exports.write_csv`."""
    from calibench.report.pages.exports import write_csv as write

    return write(folder)


def write_json(folder: Path) -> Path:
    """Write `report.json`, one flat object per cell; see `calibench.report.pages.exports.write_json`."""
    from calibench.report.pages.exports import write_json as write

    return write(folder)


def write_model_card(folder: Path) -> Path:
    """Write `model-card.md`, evaluation metadata; see `calibench.report.pages.exports.write_model_card`."""
    from calibench.report.pages.exports import write_model_card as write

    return write(folder)
