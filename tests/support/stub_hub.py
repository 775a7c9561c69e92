"""A Hugging Face hub on the loopback interface, for code that downloads.

    with StubHub(tmp_path, models={"org/tiny": Repository(folder)}) as hub:
        subprocess.run([...], env={**os.environ, **hub.env})

    with suite_hub(tmp_path, "sst2") as hub:
        subprocess.run(["calibench", "run", "sst2"], env={**os.environ, **hub.env})

It answers what `huggingface_hub` and `datasets` ask in order to load a model or a data set: repository
information, the tree, paths in it, and files with their commit and ETag. Everything else is 404.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from datasets import ClassLabel, Features, Value
from datasets import Dataset as Table

from tiny_models import sentences, tiny_model, tiny_tokenizer

_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?$")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


@dataclass(frozen=True)
class Repository:
    """A folder served as one commit, which `main` points to."""

    folder: Path
    #: 40 hexadecimal digits; made from the content where none is given.
    pinned: str | None = None

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Content by path inside the repository."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}

    @cached_property
    def commit(self) -> str:
        """The one commit there is."""
        digest = hashlib.sha1(usedforsecurity=False)
        for path, content in self.files.items():
            digest.update(path.encode() + b"\0" + content)
        return self.pinned or digest.hexdigest()

    def entries(self) -> dict[str, dict[str, Any]]:
        """Files and folders as the hub's tree lists them, by path."""
        listed: dict[str, dict[str, Any]] = {}
        for path, content in self.files.items():
            for parent in list(Path(path).parents)[:-1]:
                name = parent.as_posix()
                listed[name] = {"type": "directory", "path": name, "oid": _oid(name.encode()), "size": 0}
            listed[path] = {"type": "file", "path": path, "oid": _oid(content), "size": len(content)}
        return listed


def _oid(content: bytes) -> str:
    """The id that git gives to a blob of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass
class StubHub:
    """Serves repositories while entered; `env` stays valid afterwards, for a hub that has gone away.

    Attributes:
        home: an empty or new folder for the caches of the client (HF_HOME).
        models, datasets: what there is, by id.
        requests: method and path of every request so far.
    """

    home: Path
    models: Mapping[str, Repository] = field(default_factory=dict)
    datasets: Mapping[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            stub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that point a process at this hub, and keep its caches to itself."""
        return {
            "HF_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "HF_HOME": str(self.home),
            "HF_DATASETS_CACHE": str(self.home / "datasets"),
            "HF_HUB_CACHE": str(self.home / "hub"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


def suite_hub(home: Path, suite: str, examples: int = 40) -> StubHub:
    """A hub with what a suite asks for, at the commits it pins: a tiny classifier and a few sentences.

    The data have the columns and the config of GLUE's SST-2; training and validation split are the same.
    """
    from calibench.suites.loader import load_suite

    wanted = load_suite(suite)
    model, data = home / "repositories" / "model", home / "repositories" / "data"
    write_model(model)
    write_data(data, wanted.data.config or "default", examples)
    return StubHub(
        home,
        models={str(wanted.model.name): Repository(model, wanted.model.revision)},
        datasets={str(wanted.data.name): Repository(data, wanted.data.revision)},
    )


def write_model(folder: Path) -> None:
    """A random DistilBERT that says NEGATIVE or POSITIVE, and another format of it in a folder inside."""
    tiny_model("distilbert", id2label={0: "NEGATIVE", 1: "POSITIVE"}).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")


def write_data(folder: Path, config: str, examples: int) -> None:
    """GLUE as it is filed: several configs declared by the card, a folder of parquet files each."""
    kinds = {
        "sentence": Value("string"),
        "label": ClassLabel(names=["negative", "positive"]),
        "idx": Value("int32"),
    }
    splits = ("train", "validation")
    (folder / config).mkdir(parents=True)
    for seed, split in enumerate(reversed(splits)):
        content = {
            "sentence": sentences(examples, seed),
            "label": [i % 2 for i in range(examples)],
            "idx": list(range(examples)),
        }
        Table.from_dict(content, features=Features(kinds)).to_parquet(folder / config / f"{split}-0.parquet")
    files = "".join(f"  - split: {split}\n    path: {config}/{split}-*\n" for split in splits)
    declared = "".join(f"- config_name: {name}\n  data_files:\n{files}" for name in (config, "another"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{declared}---\n")


class _Handler(BaseHTTPRequestHandler):
    """One request; the class is bound to its hub by `StubHub`."""

    stub: StubHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Requests are kept in `requests` and not printed."""

    def _answer(self) -> None:
        self.stub.requests.append(f"{self.command} {self.path}")
        # Read even when unused: what is left in a kept-alive connection would be the next request.
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        path = urlsplit(self.path).path
        if match := _API.match(path):
            kind, name, action, revision, inside = match.groups()
            self._api(
                kind, name, action or "revision", unquote(revision or "main"), unquote(inside or ""), body
            )
        elif match := _FILE.match(path):
            kind, name, revision, inside = match.groups()
            self._file("datasets" if kind else "models", name, unquote(revision), unquote(inside))
        else:
            self._refuse("EntryNotFound")

    def _find(self, kind: str, name: str, revision: str) -> Repository | None:
        repository: Repository | None = getattr(self.stub, kind).get(name)
        if repository is None:
            self._refuse("RepoNotFound")
        elif revision not in {"main", repository.commit}:
            self._refuse("RevisionNotFound")
        else:
            return repository
        return None

    def _api(self, kind: str, name: str, action: str, revision: str, inside: str, body: str) -> None:
        repository = self._find(kind, name, revision)
        if repository is None:
            return
        entries = repository.entries()
        if action == "revision":
            siblings = [{"rfilename": path} for path in repository.files]
            self._json({"id": name, "sha": repository.commit, "siblings": siblings, "private": False})
        elif action == "paths-info":
            form = parse_qs(body)
            wanted = form["paths"] if form else json.loads(body)["paths"]
            self._json([entries[path.strip("/")] for path in wanted if path.strip("/") in entries])
        elif inside and inside not in entries:
            self._refuse("EntryNotFound")
        else:
            prefix = f"{inside}/" if inside else ""
            below = [path for path in entries if path.startswith(prefix)]
            if "recursive=true" not in urlsplit(self.path).query.lower():
                below = [path for path in below if "/" not in path.removeprefix(prefix)]
            self._json([entries[path] for path in below])

    def _file(self, kind: str, name: str, revision: str, inside: str) -> None:
        repository = self._find(kind, name, revision)
        if repository is None:
            return
        content = repository.files.get(inside)
        headers = {"X-Repo-Commit": repository.commit}
        if content is None:
            self._refuse("EntryNotFound", **headers)
        else:
            self._send(200, content, ETag=f'"{_oid(content)}"', **headers)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def _refuse(self, code: str, **headers: str) -> None:
        # The hub answers 401 for what does not exist, so that private names cannot be probed.
        status = 401 if code == "RepoNotFound" else 404
        self._send(status, b"", **{"X-Error-Code": code, "X-Error-Message": code}, **headers)

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
