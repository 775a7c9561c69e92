"""Which uncertainty method to put on a text classifier: calibration and cost, measured side by side.

Importing this package has no side effects and imports nothing but its errors: neither numpy nor torch.
"""

from typing import TYPE_CHECKING, Any

from calibench.errors import CalibenchError, Undecided, UsageError

if TYPE_CHECKING:
    from calibench.flows.assertions import assert_calibrated, assert_no_worse
    from calibench.flows.library import compare, load, run, score
    from calibench.flows.results import Results
    from calibench.method import Method
    from calibench.types import (
        Batch,
        Coverage,
        Dataset,
        DropoutSite,
        Evaluation,
        Metric,
        Moments,
        Plan,
        Predictive,
    )

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "CalibenchError",
    "Coverage",
    "Dataset",
    "DropoutSite",
    "Evaluation",
    "Method",
    "Metric",
    "Moments",
    "Plan",
    "Predictive",
    "Results",
    "Undecided",
    "UsageError",
    "__version__",
    "assert_calibrated",
    "assert_no_worse",
    "compare",
    "load",
    "run",
    "score",
]

_HOME = {
    **dict.fromkeys(("Batch", "Coverage", "Dataset", "DropoutSite", "Evaluation"), "types"),
    **dict.fromkeys(("Metric", "Moments", "Plan", "Predictive"), "types"),
    "Method": "method",
    "Results": "flows.results",
    "load": "flows.library",
    "assert_calibrated": "flows.assertions",
    "assert_no_worse": "flows.assertions",
}
#: Modules of these names can be called; see `calibench.callables`.
_CALLED = ("compare", "run", "score")


def __getattr__(name: str) -> Any:
    # pytest loads a plugin of this package in every project, which must not pay for numpy and its kin.
    from importlib import import_module

    if name in _CALLED:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
