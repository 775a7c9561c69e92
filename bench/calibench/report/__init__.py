"""Reports: records and predictions of a run folder -> tables, figures and pages; never a model."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_html", "write_report"]


def write_report(folder: Path) -> Path:
    """Write `report.md` and `figures/`; see `calibench.report.markdown.write_report`."""
    # Drawing libraries take half a second to import, which those who only print a table should not wait for.
    from calibench.report.markdown import write_report as write

    return write(folder)


def write_html(folder: Path, include_text: bool = False, dataset: str | None = None) -> Path:
    """Write `report.html`, one self-contained page; see `calibench.report.html.write_html`."""
    from calibench.report.html import write_html as write

    return write(folder, include_text, dataset)
