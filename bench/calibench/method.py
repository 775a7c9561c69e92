"""The contract of an uncertainty method, and which of its parameters suites and the command line may set."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from calibench.errors import UsageError

if TYPE_CHECKING:
    import torch

    from calibench.models.checkpoint import Checkpoint
    from calibench.models.encoder import Encoder
    from calibench.posthoc.conformal import Recipe
    from calibench.types import Coverage, LabelledPlan, Plan, Predictive


class Method(ABC):
    """An uncertainty method bound to one checkpoint: subclass, and register the class as an entry point.

    The constructor takes the checkpoint and keyword-only parameters with defaults and annotations
    (`int`, `float`, `bool`, `str`, or a tuple of one of these); these are the parameters that suites and
    `--method-arg` set. It raises `calibench.errors.RefusedError` where the method does not apply.

    The checkpoint is shared with other methods: whatever a method changes on a module it changes on a
    `checkpoint.twin()`, or restores before `predict` returns.
    """

    #: Forward passes per example the method was asked for.
    passes: int = 1
    #: Which dropout sites are live; None for methods that have nothing to do with dropout.
    coverage: Coverage | None = None
    #: What makes the deterministic pass that the method reads, where it reads one that others may share.
    encoder: Encoder | None = None
    #: Of a method that makes prediction sets, which.
    conformal: Recipe | None = None
    #: True for a peer that takes raw texts and does its own tokenising and batching.
    tokenises: bool = False
    #: True where one draw serves every text, as a draw of weights does: the harness then passes one seed to
    #: all predictions of a cell, and what it draws from it is drawn before the clock starts.
    draws_once: ClassVar[bool] = False
    #: A registered post-hoc step that the harness fits and applies to what `predict` returns.
    posthoc: ClassVar[str | None] = None
    #: True where `fit` must see labelled training data before `predict`.
    needs_train: ClassVar[bool] = False
    #: The score of `predict` by which the method ranks texts; None for the largest probability.
    score: ClassVar[str | None] = None
    #: True where the probabilities are those of the plain softmax, and the scores alone are the method's own.
    score_only: ClassVar[bool] = False
    #: True where it asks of the model only its forward pass, logits and through an `Encoder` features: it can
    #: then be run on every runtime, and not on PyTorch alone.
    portable: ClassVar[bool] = False
    #: True for a method whose prediction sets the harness makes of what `predict` returns; see `conformal`.
    makes_sets: ClassVar[bool] = False

    #: Modules whose forward time counts as model time.
    modules: Sequence[torch.nn.Module] = ()

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.modules = (checkpoint.module,)

    @classmethod
    def members(cls, params: Mapping[str, Any]) -> Sequence[str]:  # noqa: ARG003 - for those that override it
        """The checkpoints that these parameters name, each a hub id or a folder.

        The harness records them by name and weights, and a cell with other weights is another cell.

        Raises:
            UsageError: the parameters name none, or too few.
        """
        return ()

    def fit(self, train: LabelledPlan) -> None:  # noqa: B027 - optional
        """Learn from labelled texts of the training split, all in scope; called once, where `needs_train`."""

    @property
    def learnt(self) -> Mapping[str, Any]:
        """What `fit` has found, by name: numbers, or lists of numbers, for the record."""
        return {}

    @abstractmethod
    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        """Return the predictive distribution of every example of `plan`, drawing only from `seed`."""


def parameters(factory: type[Method]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters that suites and `--method-arg` may set."""
    found = inspect.signature(factory).parameters.values()
    return {item.name: item for item in found if item.kind is inspect.Parameter.KEYWORD_ONLY}


def bind(name: str, factory: type[Method], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults overridden by `given`, strings turned into what the annotation says.

    Raises:
        UsageError: a parameter the method does not have, or a value of another type.
    """
    known = parameters(factory)
    for key in given:
        if key not in known:
            choices = f"choose from {', '.join(known)}" if known else "it takes none"
            raise UsageError(f"The method {name!r} has no parameter {key!r}; {choices}.")
    values: dict[str, Any] = {}
    for key, item in known.items():
        if key in given:
            values[key] = _coerce(given[key], _spelt(item.annotation), f"{name}.{key}")
        elif item.default is inspect.Parameter.empty:
            raise UsageError(f"The method {name!r} needs {key!r}; pass -a {name}.{key}=VALUE.")
        else:
            values[key] = item.default
    return values


def _spelt(annotation: Any) -> str:
    """An annotation as its module has it, whether or not that postpones their evaluation."""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


def _coerce(value: Any, annotation: str, where: str) -> Any:
    if annotation.startswith("tuple["):
        items = value.split(",") if isinstance(value, str) else value
        element = annotation.removeprefix("tuple[").partition(",")[0].rstrip("]")
        if isinstance(items, (list, tuple)):
            return tuple(_coerce(item, element, where) for item in items)
        raise UsageError(f"{where} is {value!r}; expected a list, such as A,B,C.")
    kinds = [kind.strip() for kind in annotation.split("|")]
    if "None" in kinds and (value is None or value == "none"):
        return None
    kind = kinds[0]
    text = str(value)
    try:
        if kind == "bool" and text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        if kind == "int" and not isinstance(value, bool):
            return int(text)
        if kind == "float" and not isinstance(value, bool):
            return float(text)
        if kind == "str":
            return text
    except ValueError:
        pass
    noun = {"int": "a whole number", "float": "a number", "bool": "true or false"}.get(kind, annotation)
    raise UsageError(f"{where} is {value!r}; expected {noun}.")
