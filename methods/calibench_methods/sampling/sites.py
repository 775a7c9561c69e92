"""Which places of a model draw random numbers in training.

A site is a module that draws random numbers in its own `forward`, not through a child. Since transformers 5
computes attention dropout as a function gated on the attention module's `training` flag, looking for
`nn.Dropout` children misses it; here the generators are watched while the model runs, so that a site is
whatever draws, however it does so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from calibench.data.hub import one_line
from calibench.errors import RefusedError
from calibench.models.checkpoint import Checkpoint
from calibench.types import Coverage, DropoutSite
from calibench_methods.sampling.live import forked_generators, host_states, torch_states

Inputs = Mapping[str, Tensor]


#: What a single number that a model draws is answered with while it is watched. LayerDrop skips a layer if
#: the number is below its rate: the first runs every layer, and the second what is only run where one is not.
RUNS_ALL, SKIPS = 1 - 2.0**-24, 0.0
LAYERDROP = "layerdrop"


@dataclass(frozen=True)
class _Draw:
    """One use of a generator: which module, on a tensor of what shape, with what drop probability.

    `single` says that it was one number, which decides what is run.
    """

    site: str
    shape: tuple[int, ...] | None = None
    p: float | None = None
    single: bool = False


class _DrawRecorder(TorchFunctionMode):
    """Records which module is running whenever the state of a generator moves.

    The state is compared after every torch function, which tells the probability and the tensor, and
    whenever a module is entered or left, which catches draws that no torch function shows.
    """

    def __init__(self, module: nn.Module, device: torch.device, answer: float) -> None:
        super().__init__()
        self.draws: list[_Draw] = []
        #: The module that gave torch's generator another seed.
        self.reseeding: str | None = None
        self._module = module
        self._device = device
        self._answer = answer
        self._running: list[str] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> _DrawRecorder:
        for name, child in self._module.named_modules():
            # First in and last out, so that draws of the caller's own hooks count as the module's.
            self._handles.append(child.register_forward_pre_hook(self._entering(name), prepend=True))
            self._handles.append(child.register_forward_hook(self._leaving, always_call=True))
        self._states, self._seed = self._generator_states(), torch.initial_seed()
        super().__enter__()  # type: ignore[no-untyped-call] # torch leaves its modes untyped
        return self

    def __exit__(self, *exc_info: Any) -> None:
        super().__exit__(*exc_info)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self._moved(host=False):
            return result
        tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        shape = next((tuple(tensor.shape) for tensor in tensors), None)
        p = _drop_probability(func, args, kwargs)
        single = p is None and isinstance(result, Tensor) and result.numel() == 1
        self._add(shape, p, single)
        return result.fill_(self._answer) if single and result.is_floating_point() else result

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if self._moved():
                self._add()
            self._running.append(name)

        return hook

    def _leaving(self, *_: Any) -> None:
        if self._moved():
            self._add()
        self._running.pop()

    def _moved(self, *, host: bool = True) -> bool:
        """Whether a generator has moved; no torch function moves those of the host, which are slow to ask."""
        before, self._states = self._states, self._generator_states(host=host)
        return self._states != before

    def _generator_states(self, *, host: bool = True) -> tuple[object, object]:
        return torch_states(self._device), host_states() if host else self._states[1]

    def _add(
        self, shape: tuple[int, ...] | None = None, p: float | None = None, single: bool = False
    ) -> None:
        if not self._running:
            return
        self.draws.append(_Draw(self._running[-1], shape, p, single))
        if torch.initial_seed() != self._seed:
            self.reseeding = self.reseeding or self._running[-1]


def _drop_probability(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> float | None:
    """The drop probability a torch function was called with, or None where it has none."""
    name = getattr(func, "__name__", "")
    if "dropout" in name:
        keyword, position = "p", 1
    elif name == "scaled_dot_product_attention":
        keyword, position = "dropout_p", 4
    else:
        return None
    value = kwargs.get(keyword, args[position] if len(args) > position else None)
    return None if value is None else float(value)


@dataclass(frozen=True, eq=False)
class _Watched:
    """What was seen of a pass: the copy of the model that made it, and its draws."""

    module: nn.Module
    draws: list[_Draw]
    reseeding: str | None = None


def _watch(module: nn.Module, inputs: Inputs, *, train: bool | None = None) -> _Watched:
    """Run a copy of `module`, and list the draws of a pass, of layers too that LayerDrop might skip.

    The copy shares the parameters; buffers (such as BatchNorm's), flags and hooks are its own, so that
    nothing of the caller's is disturbed, even if the forward pass fails.
    """
    probe = copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})
    if train is not None:
        probe.train(train)
    watched = _run(probe, inputs, RUNS_ALL)
    if any(draw.single for draw in watched.draws):
        watched.draws.extend(_run(probe, inputs, SKIPS).draws)
    return watched


def _run(probe: nn.Module, inputs: Inputs, answer: float) -> _Watched:
    device = next(iter(inputs.values())).device
    parts = [*probe.modules()]
    with torch.no_grad(), forked_generators(device), _DrawRecorder(probe, device, answer) as recorder:
        probe(**inputs)
    if parts != [*probe.modules()]:
        # A pass that replaces parts of the model (BigBird's first short one) is no pass like those to come.
        return _run(probe, inputs, answer)
    return _Watched(probe, recorder.draws, recorder.reseeding)


def find_sites(module: nn.Module, example_inputs: Inputs) -> tuple[DropoutSite, ...]:
    """The places at which a training pass of `module` draws random numbers, in the order they first do.

    A module that skips layers at random (LayerDrop) is a site of kind "layerdrop", beside the one that it is
    where it drops units as well; sites of layers that one pass may skip are found whatever it draws.

    Args:
        module: the model; it is not changed, and neither are the caller's generators.
        example_inputs: keyword arguments of a forward pass, tensors [B, ...].

    Returns:
        One site per module and kind of draw, all active.
    """
    return _sites(_watch(module, example_inputs, train=True))


def _sites(watched: _Watched) -> tuple[DropoutSite, ...]:
    modules = dict(watched.module.named_modules())
    first: dict[tuple[str, bool], _Draw] = {}
    for draw in watched.draws:
        first.setdefault((draw.site, _skips_layers(modules[draw.site], draw)), draw)
    return tuple(_site(modules[name], draw) for (name, _), draw in first.items())


def _skips_layers(module: nn.Module, draw: _Draw) -> bool:
    return draw.single and bool(getattr(module, LAYERDROP, 0))


def _site(module: nn.Module, draw: _Draw) -> DropoutSite:
    kind = type(module).__name__
    if _skips_layers(module, draw):
        return DropoutSite(draw.site, LAYERDROP, float(getattr(module, LAYERDROP)), active=True)
    if isinstance(module, _DropoutNd):
        kind = "hidden"
    elif "attention" in kind.lower() and draw.p is not None:
        kind = "attention"
    p = getattr(module, "p", None) if draw.p is None else draw.p
    return DropoutSite(draw.site, kind, p, active=True)


def measure_coverage(module: nn.Module, expected: Iterable[DropoutSite], example_inputs: Inputs) -> Coverage:
    """Which of the `expected` sites draw random numbers when `module` runs as it is.

    Args:
        module: the model as a method made it: patched, hooked, in whatever mode.
        expected: what `find_sites` found on the unchanged model; matched by name, and LayerDrop by itself.
        example_inputs: keyword arguments of a forward pass, tensors [B, ...].
    """
    watched = _watch(module, example_inputs)
    modules = dict(watched.module.named_modules())
    drawing = {(draw.site, _skips_layers(modules[draw.site], draw)) for draw in watched.draws}
    return Coverage(
        tuple(
            DropoutSite(s.name, s.kind, s.p, active=(s.name, s.kind == LAYERDROP) in drawing)
            for s in expected
        )
    )


def sites_without_batch_axis(module: nn.Module, example_inputs: Inputs) -> tuple[str, ...]:
    """Names of the sites whose mask all examples of a batch share, such as DeBERTa-v2's `pos_dropout`.

    A draw has a batch axis when the tensor it acts on grows with the batch, which running the examples
    once and twice over tells; a draw whose tensor cannot be seen counts as having none.

    Args:
        module: the model; it is not changed.
        example_inputs: keyword arguments of a forward pass, tensors [B, ...].
    """
    return batch_axes(module, example_inputs).none


@dataclass(frozen=True)
class BatchAxes:
    """Which sites draw on tensors of which the batch is not the first axis.

    Attributes:
        none: names of the sites that draw on a tensor without a batch axis.
        elsewhere: the shape of a tensor of which the batch is another axis, or shares one, by site.
    """

    none: tuple[str, ...]
    elsewhere: Mapping[str, tuple[int, ...]]


def batch_axes(module: nn.Module, example_inputs: Inputs) -> BatchAxes:
    """Where the batch is in what each site draws on; arguments as of `sites_without_batch_axis`."""
    batch = len(next(iter(example_inputs.values())))
    none: dict[str, None] = {}
    elsewhere: dict[str, tuple[int, ...]] = {}
    for site, pairs in _shapes(module, example_inputs).items():
        for once, twice in pairs:
            if once is None or once == twice:
                none.setdefault(site)
            elif once[0] != batch or twice != (2 * batch, *once[1:]):
                elsewhere.setdefault(site, once)
    return BatchAxes(tuple(none), elsewhere)


def _shapes(
    module: nn.Module, inputs: Inputs
) -> dict[str, list[tuple[tuple[int, ...] | None, tuple[int, ...] | None]]]:
    """The shapes each site draws on in a training pass: of the inputs, and of the inputs twice over."""
    doubled = {name: torch.cat([value, value]) for name, value in inputs.items()}
    once, twice = (_shapes_of(_watch(module, given, train=True)) for given in (inputs, doubled))
    return {site: [*zip_longest(shapes, twice.get(site, []))] for site, shapes in once.items()}


def _shapes_of(watched: _Watched) -> dict[str, list[tuple[int, ...] | None]]:
    shapes: dict[str, list[tuple[int, ...] | None]] = {}
    for draw in watched.draws:
        shapes.setdefault(draw.site, []).append(draw.shape)
    return shapes


def require_sites(
    checkpoint: Checkpoint, inputs: Inputs, *, method: str = "MC-Dropout"
) -> tuple[DropoutSite, ...]:
    """`find_sites` of a checkpoint that has some, for a method that is named where it is refused.

    Raises:
        RefusedError: a training pass draws no random numbers, so that all passes would be equal; or no seed
            decides what it draws; or it fails on these inputs.
    """
    model = f"{checkpoint.name} ({type(checkpoint.module).__name__})"
    try:
        watched = _watch(checkpoint.module, inputs, train=True)
    except Exception as error:  # whatever the model raises
        raise RefusedError(
            f"{method} needs training passes, but one of {model} fails on a short text "
            f"({one_line(error)}); use a method without dropout, such as temperature."
        ) from error
    if watched.reseeding is not None:
        raise RefusedError(
            f"{method} draws from one seed, but a training pass of {model} gives torch's generator another "
            f"one (in {watched.reseeding}); use a method without dropout, such as temperature."
        )
    sites = _sites(watched)
    if not sites:
        raise RefusedError(
            f"{method} is deterministic on {model}: a training pass draws no random numbers, as where "
            "dropout probabilities are all 0 (ModernBERT's default), so every pass would be the same; "
            "use a model trained with dropout."
        )
    return sites
