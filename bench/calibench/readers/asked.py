"""What to read of a file of predictions: which column is what, as somebody said it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from calibench.errors import UsageError

QUOTING = ("double", "none")
NORMALISATIONS = ("none", "characters", "bytes")


@dataclass(frozen=True)
class Asked:
    """Which column is what; None for what was not said, and nothing of it is guessed.

    Attributes:
        label: column of the label.
        probs: columns of the probabilities, one per class: names or patterns, with commas between them; or
            one column of lists. What `*` stands for is the name of the class.
        prob: column of the probability of the second of two classes.
        logits: these columns hold logits, or log-probabilities.
        confidence, correct: columns of how sure the answer is and of whether it is right: all there is where
            there are no classes.
        classes: the names of the classes, in the order of the columns, or of the numbers that are labels.
        id: column by which the rows of several files are matched.
        group: column of a subgroup.
        calibration_split: `COLUMN=VALUE`, the rows on which steps and sets are fitted and nothing is scored.
        price: column of what the row's answer cost.
        renormalise: divide each row by its sum, for probabilities that were rounded.
        skip_nulls: leave out rows that lack a value.
        delimiter: between the cells of a csv or tsv file.
        quoting: "double" where the cells of such a file may stand in double quotes, "none" where a quote is a
            character; None for what its suffix says.
        normalise: of log-likelihoods of choices, by what they are divided: see `calibench.readers.lm_eval`.
    """

    label: str | None = None
    probs: str | None = None
    prob: str | None = None
    logits: bool = False
    confidence: str | None = None
    correct: str | None = None
    classes: tuple[str, ...] = ()
    id: str | None = None
    group: str | None = None
    calibration_split: str | None = None
    price: str | None = None
    renormalise: bool = False
    skip_nulls: bool = False
    delimiter: str | None = None
    quoting: str | None = None
    normalise: str = "none"

    def __post_init__(self) -> None:
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '\r\n"'):
            raise UsageError(
                f"The delimiter is {self.delimiter!r}; expected one character, such as ';', and no quote or "
                "line end."
            )
        if self.quoting is not None and self.quoting not in QUOTING:
            raise UsageError(f"The quoting is {self.quoting!r}; choose from {', '.join(QUOTING)}.")
        if self.normalise not in NORMALISATIONS:
            raise UsageError(
                f"The normalisation is {self.normalise!r}; choose from {', '.join(NORMALISATIONS)}."
            )
        if self.calibration_split is not None and not all(self.held_out):
            raise UsageError(
                f"--calibration-split is {self.calibration_split!r}; expected COLUMN=VALUE, such as "
                "split=calibration, which says on which rows of the file steps and sets are fitted."
            )
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if twice:
            raise UsageError(f"--classes says {twice[0]!r} twice; expected each class once.")
        if self.renormalise and self.logits:
            raise UsageError("--renormalise is about probabilities, and --logits says there are none.")

    @property
    def by_confidence(self) -> bool:
        """Whether confidence and correctness are all there is."""
        return self.confidence is not None or self.correct is not None

    @property
    def held_out(self) -> tuple[str, str]:
        """Column and value of the rows that are not scored; empty words where nothing was said."""
        column, _, value = (self.calibration_split or "").partition("=")
        return column, value

    def refuse_others(self, reader: str, known: Collection[str]) -> None:
        """Refuse what a reader has no use for, so that nobody takes it for heeded.

        Args:
            reader: its name.
            known: fields that it heeds; those that every reader heeds need not be named.

        Raises:
            UsageError: naming the first option that it does not.
        """
        for name in self.as_options():
            if name not in known and name != "skip_nulls":
                option = "--prices COLUMN" if name == "price" else f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} has no meaning with --from {reader}; leave it out.")

    def checked_columns(self) -> Asked:
        """Itself, if it says what a table of columns needs.

        Raises:
            UsageError: columns that were not named, or that exclude each other.
        """
        ways = [name for name in ("probs", "prob", "confidence") if getattr(self, name) is not None]
        if self.by_confidence and None in (self.confidence, self.correct):
            lacking = "--correct" if self.correct is None else "--confidence"
            raise UsageError(f"{lacking} is missing: --confidence and --correct name a column each.")
        if len(ways) != 1:
            said = " and ".join(f"--{name}" for name in ways) or "none of them was given"
            raise UsageError(
                "Say where the probabilities are: --probs 'p_*' for a column per class or one of lists, "
                f"--prob COLUMN for two classes, or --confidence and --correct ({said})."
            )
        if self.by_confidence:
            extra = [
                f"--{name}"
                for name in ("label", "logits", "classes", "calibration-split")
                if getattr(self, name.replace("-", "_"))
            ]
            if extra:
                raise UsageError(
                    f"{extra[0]} has no meaning beside --confidence, which is about the answer alone; leave "
                    "one of them out."
                )
        elif self.label is None:
            raise UsageError("Say which column holds the label, with --label COLUMN.")
        return self

    def as_options(self) -> dict[str, Any]:
        """What was said, by field: what a record holds of it."""
        default = Asked()
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if (value := getattr(self, field.name)) != getattr(default, field.name)
        }
