"""Which uncertainty method to put on a text classifier: calibration and cost, measured side by side.

Importing this package has no side effects and imports neither torch nor transformers.
"""

from calibench.errors import CalibenchError, UsageError
from calibench.method import Method
from calibench.types import Batch, Coverage, DropoutSite, Evaluation, Metric, Moments, Plan, Predictive

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "CalibenchError",
    "Coverage",
    "DropoutSite",
    "Evaluation",
    "Method",
    "Metric",
    "Moments",
    "Plan",
    "Predictive",
    "UsageError",
    "__version__",
]
