"""Who is told how far a run has come: the command line shows it, tests ignore it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Who is told how far a run has come."""

    def stage(self, name: str, steps: int) -> None: ...

    def step(self, detail: str) -> None: ...

    def say(self, sentence: str) -> None: ...


class Silent:
    """Tells nobody."""

    def stage(self, name: str, steps: int) -> None:
        """Ignored."""

    def step(self, detail: str) -> None:
        """Ignored."""

    def say(self, sentence: str) -> None:
        """Ignored."""
