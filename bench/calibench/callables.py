"""Modules that can be called, such as `calibench.score(...)`, where `calibench.score` is a package too.

Scripts import from `calibench.score`, `calibench.compare` and `calibench.run`, and importing a module puts it
where the package has an attribute of that name. A function there would be overwritten by the first of these
imports, so that what `calibench.score(...)` does would depend on what was imported before. So the module is
itself what is called.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

#: Where the functions are that modules of the same name stand for. By name, as plugins are: it is imported
#: when one is called, and not by whoever imports a module of that package.
LIBRARY = "calibench.flows.library"


class CallableModule(ModuleType):
    """A module that does, when called, what the function of its name in the library does."""

    @property
    def _function(self) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(import_module(LIBRARY), self.__name__.rpartition(".")[2])
        return function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """What a notebook shows of the call."""
        return inspect.signature(self._function)


def make_callable(name: str) -> None:
    """Make the module of this name, which is being imported, one that can be called."""
    sys.modules[name].__class__ = CallableModule
