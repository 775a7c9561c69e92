"""One cell of the table: a method with its parameters and seed, and the key that names its measurement."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from calibench.errors import CalibenchError, UsageError
from calibench.method import Method, bind, parameters
from calibench.registry import METHODS, POSTHOC, RUNTIMES, distribution
from calibench.store.paths import without_paths
from calibench.suites.spec import TORCH, MethodSpec, Suite, on_runtime, parts_of
from calibench.types import Member


@dataclass(frozen=True, eq=False)
class Cell:
    """What is to be measured.

    Attributes:
        name: the method's registered name, and after " @ " the runtime's; see `MethodSpec`.
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
    def method(self) -> str:
        """The registered name of the method."""
        return parts_of(self.name)[0]

    @property
    def runtime(self) -> str:
        """What runs the model, by its registered name."""
        return parts_of(self.name)[1]

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
        if self.runtime != TORCH:
            content["runtime"] = distribution(RUNTIMES.entry_point(self.runtime))
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
        for key, item in parameters(METHODS.load(spec.method)).items()
        if item.default is inspect.Parameter.empty and key not in spec.params
    ]


def left_out(suite: Suite, device: str = "auto") -> list[str]:
    """A sentence for what of the suite cannot be run here, or as it stands, or not on each runtime."""
    found = [sentence for spec in suite.method if (sentence := _obstacle(spec, device)) is not None]
    other = [runtime for runtime in suite.runtimes if runtime != TORCH]
    bound = [spec for spec in suite.method if other and not _obstacle(spec, device) and not _moves(spec)]
    names = list(dict.fromkeys(spec.name for spec in bound if spec.runtime == TORCH))
    if names:
        stays = "stays" if len(names) == 1 else "stay"
        which = f"{', '.join(names)} {stays} on PyTorch" if TORCH in suite.runtimes else ""
        found.append(
            f"{which or ', '.join(names) + ' left out'}: more is asked of the model than its forward pass, "
            f"which is all that {', '.join(other)} can give."
        )
    return found


def _moves(spec: MethodSpec) -> bool:
    """Whether a method can be run on other runtimes than PyTorch."""
    return _factory(spec.method).portable


def _on_runtimes(suite: Suite, spec: MethodSpec) -> list[MethodSpec]:
    """A method on each runtime of the suite, or on the one that it names itself."""
    if spec.runtime != TORCH or not suite.runtimes:
        return [spec]
    wanted = list(dict.fromkeys(suite.runtimes))
    if not _moves(spec):
        return [spec] if TORCH in wanted else []
    return [replace(spec, name=on_runtime(spec.method, runtime)) for runtime in wanted]


def _obstacle(spec: MethodSpec, device: str) -> str | None:
    """Why a method of a suite is left out; None where it can be run, or has to be.

    A method whose packages are absent is left out, optional or not: whoever asks for it by name is refused
    before there are cells.
    """
    lacking_packages = METHODS.lacks(spec.method)
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
    for runtime in [*suite.runtimes, *(spec.runtime for spec in suite.method)]:
        _require_runtime(runtime)
    own = [spec for spec in suite.method if _obstacle(spec, device) is None]
    methods = [found for spec in own for found in _on_runtimes(suite, spec)]
    if all(spec.name != suite.reference for spec in methods):
        methods.insert(0, MethodSpec(suite.reference))
    cells: list[Cell] = []
    for seed in suite.seeds:
        has_reference = False
        for spec in methods:
            factory = _factory(spec.method)
            if spec.runtime != TORCH and not factory.portable:
                raise UsageError(
                    f"{spec.method} cannot be run on {spec.runtime}: it asks for more of a model than its "
                    "forward pass, such as layers to draw at; leave the runtime out for it."
                )
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
                distribution=distribution(METHODS.entry_point(spec.method)),
            )
            cells += [cell, *_calibrated(cell, suite.posthoc)]
    return cells


def _require_runtime(name: str) -> None:
    """Refuse a runtime that is not known, or whose packages are absent."""
    if name != TORCH:
        lacking_packages = RUNTIMES.lacks(name)
        if lacking_packages is not None:
            raise UsageError(f"The runtime {name!r} {lacking_packages}.")


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
