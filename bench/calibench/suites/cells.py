"""One cell of the table: a method with its parameters and seed, and the key that names its measurement."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from calibench.errors import CalibenchError
from calibench.method import Method, bind, parameters
from calibench.registry import METHODS, POSTHOC, distribution
from calibench.store.paths import without_paths
from calibench.suites.spec import MethodSpec, Suite
from calibench.types import Member


@dataclass(frozen=True, eq=False)
class Cell:
    """What is to be measured.

    Attributes:
        name: the method's registered name.
        factory: its class.
        params: every parameter with its value.
        seed: what its randomness is drawn from.
        reference: True for the cell that cost ratios are against.
        posthoc: a post-hoc step added to the method, whose measurement the cell then shares; or None.
        replicates: of a suite with a yardstick, those the cell takes part in; None for all.
        members: what `Method.members` names, identified; see `identified`.
        distribution: name and version of what registers the method.
    """

    name: str
    factory: type[Method]
    params: Mapping[str, Any]
    seed: int
    reference: bool
    posthoc: str | None = None
    replicates: int | None = None
    members: tuple[Member, ...] = ()
    distribution: str = ""

    @property
    def label(self) -> str:
        """How messages and progress name the cell."""
        name = self.name if self.seed == 0 else f"{self.name} (seed {self.seed})"
        return name if self.posthoc is None else f"{name} + {self.posthoc}"

    @property
    def step(self) -> str | None:
        """The post-hoc step between the method and the scores, whether added to it or its own."""
        return self.posthoc or self.factory.posthoc

    @property
    def fits(self) -> bool:
        """Whether anything of it is fitted on labelled examples: a post-hoc step, or prediction sets."""
        return self.step is not None or self.factory.makes_sets

    def key(self, context: Mapping[str, Any]) -> str:
        """Twelve hex digits that change when the measurement would: `context` is data, model and plan."""
        params = without_paths(self.params)
        content = {
            "method": self.name,
            "distribution": self.distribution,
            "params": params,
            "seed": self.seed,
            **context,
        }
        if self.members:
            content["members"] = [(member.sha256, member.config_sha256) for member in self.members]
        if self.replicates is not None:
            content["replicates"] = self.replicates
        if not self.factory.needs_train:
            content.pop("train", None)
        if not self.fits:
            content.pop("calibration", None)
        else:
            content["posthoc"] = self.posthoc
        if self.step is not None:
            content["step"] = distribution(POSTHOC.entry_point(self.step))
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def lacking(spec: MethodSpec) -> list[str]:
    """The required parameters that were not given."""
    return [
        key
        for key, item in parameters(METHODS.load(spec.name)).items()
        if item.default is inspect.Parameter.empty and key not in spec.params
    ]


def left_out(suite: Suite, device: str = "auto") -> list[str]:
    """A sentence for each method of the suite that cannot be run here, or as it stands."""
    return [sentence for spec in suite.method if (sentence := _obstacle(spec, device)) is not None]


def _obstacle(spec: MethodSpec, device: str) -> str | None:
    """Why a method of a suite is left out; None where it can be run, or has to be.

    A method whose packages are absent is left out, optional or not: whoever asks for it by name is refused
    before there are cells.
    """
    lacking_packages = METHODS.lacks(spec.name)
    if lacking_packages is not None:
        return f"{spec.name} is left out: it {lacking_packages}."
    if not spec.optional:
        return None
    missing = lacking(spec)
    if missing:
        needed = " ".join(f"-a {spec.name}.{key}=VALUE" for key in missing)
        return f"{spec.name} is left out: it needs {' and '.join(missing)}; pass {needed}."
    if spec.params.get("dtype") == "bfloat16":
        from calibench.models.devices import find_device, has_bfloat16_instructions

        if find_device(device).type == "cpu" and not has_bfloat16_instructions():
            return f"{spec.name} in bfloat16 is left out: this CPU has no instructions for it."
    return None


def identified(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, each with the identity of the checkpoints that its parameters name.

    Raises:
        UsageError: no such checkpoint, or a folder without any.
        CalibenchError: its files cannot be read.
    """
    known: dict[str, Member] = {}
    found: list[Cell] = []
    for cell in cells:
        names = cell.factory.members(cell.params)
        for name in names:
            if name not in known:
                from calibench.models.loading import identify  # here, because most runs name none

                known[name] = identify(name)
        found.append(replace(cell, members=tuple(known[name] for name in names)))
    return found


def cells_of(suite: Suite, device: str = "auto") -> list[Cell]:
    """The cells of a suite in table order, the reference among them even where it was not asked for.

    A method comes before the same with each post-hoc step. Methods that cannot be run are left out; see
    `left_out`.
    """
    methods = [spec for spec in suite.method if _obstacle(spec, device) is None]
    if all(spec.name != suite.reference for spec in methods):
        methods.insert(0, MethodSpec(suite.reference))
    cells: list[Cell] = []
    for seed in suite.seeds:
        has_reference = False
        for spec in methods:
            factory = _factory(spec.name)
            given = dict(spec.params)
            if "passes" in parameters(factory):
                given.setdefault("passes", suite.passes)
            reference = spec.name == suite.reference and not has_reference
            has_reference |= reference
            bound = bind(spec.name, factory, given)
            cell = Cell(
                spec.name,
                factory,
                bound,
                seed,
                reference,
                replicates=spec.replicates,
                distribution=distribution(METHODS.entry_point(spec.name)),
            )
            cells += [cell, *_calibrated(cell, suite.posthoc)]
    return cells


def _factory(name: str) -> type[Method]:
    found = METHODS.load(name)
    if isinstance(found, type) and issubclass(found, Method):
        return found
    raise CalibenchError(
        f"The method {name!r} from {distribution(METHODS.entry_point(name))} is a {type(found).__name__}; "
        "expected a subclass of calibench.Method: repair or uninstall that package."
    )


def _calibrated(cell: Cell, steps: Sequence[str]) -> list[Cell]:
    """The cell with each post-hoc step.

    None where the method has one of its own, or adds a score alone: a step maps probabilities, and those of
    such a method are the plain softmax's.
    """
    for step in steps if cell.step is None else (cell.step,):
        POSTHOC.load(step)
    if cell.step or cell.factory.score_only:
        return []
    return [replace(cell, reference=False, posthoc=step) for step in steps]
