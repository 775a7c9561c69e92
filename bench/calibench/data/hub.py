"""What models and data sets share on their way in: local path or hub id, quiet libraries, hub failures."""

from __future__ import annotations

import difflib
import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from calibench.errors import CalibenchError, UsageError

Kind = Literal["model", "dataset"]
#: A name that ends so is meant for a file, and no repository.
DATA_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow")


class UnreachableError(CalibenchError):
    """The hub could not be reached, and what was asked for is not cached."""


def local_path(name: str, kind: Kind) -> Path | None:
    """The path that `name` stands for, or None where it can only be a hub id.

    Raises:
        UsageError: `name` is written as a path, and nothing is there.
    """
    path = Path(name).expanduser()
    if path.exists():
        # Absolute, so that "." has a name, but not resolved: a cached file may be a link named for its hash.
        return Path(os.path.abspath(path))
    if kind == "dataset" and any(suffix.lower() in DATA_SUFFIXES for suffix in path.suffixes[-2:]):
        there = [file.name for file in path.parent.glob("*")] if path.parent.is_dir() else []
        if path.is_symlink():
            raise UsageError(
                f"{name!r} is a link to {os.readlink(path)!r}, which is not there: mend the link."
            )
        near = difflib.get_close_matches(path.name, there, n=1)
        hint = f"did you mean {str(path.with_name(near[0]))!r}?" if near else "check the path."
        raise UsageError(f"There is no file {name!r}: {hint}")
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith("/") or "\\" in name:
        raise UsageError(f"There is no {kind} at {name!r}: pass an existing folder or a hub id.")
    return None


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".:")


@contextmanager
def quiet(library: Literal["transformers", "datasets"]) -> Iterator[None]:
    """Keep a library and the hub client from printing or warning, and put their settings back."""
    package: Any = importlib.import_module(library)
    hub: Any = importlib.import_module("huggingface_hub.utils")
    with warnings.catch_warnings(), ExitStack() as restore:
        warnings.simplefilter("ignore")
        for log in (package.utils.logging, hub.logging):
            restore.callback(log.set_verbosity, log.get_verbosity())
            log.set_verbosity_error()
        # First in, last out: switching the bars of `transformers` switches these too.
        shown = not hub.are_progress_bars_disabled()
        restore.callback(hub.enable_progress_bars if shown else hub.disable_progress_bars)
        hub.disable_progress_bars()
        if library == "datasets" and not package.are_progress_bars_disabled():
            restore.callback(package.enable_progress_bars)
            package.disable_progress_bars()
        if library == "transformers" and package.utils.logging.is_progress_bar_enabled():
            restore.callback(package.utils.logging.enable_progress_bar)
            package.utils.logging.disable_progress_bar()
        yield


def find_commit(name: str, revision: str | None, kind: Kind) -> str:
    """The commit that a branch, a tag or a commit stands for on the hub; None is the default branch.

    One request without retries: the client's loaders would go on trying for half a minute.

    Raises:
        UsageError, UnreachableError: as `hub_errors`.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    look_up = api.model_info if kind == "model" else api.dataset_info
    with hub_errors(name, revision, kind):
        return str(look_up(name, revision=revision).sha)


@contextmanager
def hub_errors(name: str, revision: str | None, kind: Kind) -> Iterator[None]:
    """Turn what the hub client raises into a sentence that says what to do.

    Raises:
        UsageError: no such repository, or no such revision of it, or an id the hub cannot have.
        UnreachableError: the hub could not be reached, or did not answer as it should.
    """
    from huggingface_hub import errors

    # The hub client has changed its HTTP library between versions: name the base through its own error.
    transport_error: type[Exception] = errors.HfHubHTTPError.__mro__[1]
    folder = f"pass --{kind} FOLDER"
    try:
        yield
    except errors.HFValidationError as error:
        raise UsageError(
            f"{name!r} is neither a folder nor a hub id such as 'org/name': {folder}."
        ) from error
    except errors.GatedRepoError as error:
        raise UsageError(
            f"The {kind} {name!r} is gated: accept its terms on the hub and log in, or {folder}."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"{name!r} is neither a folder nor a {kind} on the hub that you may read:"
            f" check the name, or {folder}."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"The {kind} {name!r} has no revision {revision!r} on the hub.") from error
    except (transport_error, errors.LocalEntryNotFoundError, ConnectionError) as error:
        copy = "no copy of it" if revision is None else f"no copy of its revision {revision}"
        raise UnreachableError(
            f"The hub could not be reached for the {kind} {name!r}, and {copy} is cached:"
            f" check the network, or {folder}."
        ) from error
