"""The sentences behind stored predictions, for reports that may show them."""

from __future__ import annotations

from calibench.errors import UsageError
from calibench.report.sections import Section
from calibench.suites.loader import load_suite, suite_names
from calibench.types import Text


def texts_of(section: Section, dataset: str | None) -> dict[str, str]:
    """Sentences by the hash that stored predictions know them by.

    Args:
        section: whose data to load again; a record holds no sentence.
        dataset: folder or hub id to load instead of what the records name. Data that came from a folder
            cannot do without, since records keep no path.

    Raises:
        UsageError: the data are not to be found, or a folder is needed and was not named.
        CalibenchError: the hub could not be reached, or the files cannot be read.
    """
    from calibench.hashing import text_sha256
    from calibench.registry import DATASETS

    data = section.common("data")
    if section.from_files:
        raise UsageError(
            "Predictions that were scored from a file come without texts: leave --include-text out."
        )
    if data.get("source") in ("folder", "plugin") and dataset is None:
        whence = "a folder, whose path records do not keep" if data["source"] == "folder" else "a plugin"
        raise UsageError(
            f"The data set {data['name']!r} came from {whence}; pass it with --dataset to show its sentences."
        )
    suite = str(section.entries[0].record["suite"])
    # Another data set has columns of its own.
    columns = load_suite(suite).data.text if dataset is None and suite in suite_names() else ()
    ours = data.get("source") in ("embedded", "generated") and dataset is None
    loaded = DATASETS.load(data["source"] if ours else "huggingface")(
        dataset or data.get("name"),
        config=data.get("config"),
        split=data.get("split"),
        revision=None if dataset else data.get("revision"),
        text_columns=list(columns) or None,
        label_column=None,
    )
    return {text_sha256(text): _line(text) for text in loaded.texts}


def _line(text: Text) -> str:
    return text if isinstance(text, str) else " / ".join(text)
