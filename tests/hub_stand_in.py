"""A model hub in this process: the part of its HTTP interface that huggingface_hub uses to send and fetch files."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_tests"
LARGE = (
    ".safetensors",
    ".bin",
)  # what goes to the store for large files; the rest is part of the commit
Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """Repositories: id -> branch or commit -> path -> content. Whoever has the token may write, everybody read."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.store_address = (
            f"http://localhost:{self.server_port}/store"  # large files lie with another host
        )
        self.repositories: dict[str, dict[str, Files]] = {}
        self.heads: dict[tuple[str, str], str] = {}
        self.store: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.sizes: dict[
            tuple[str, str], int
        ] = {}  # what is said of a repository's file, where that is not true

    def commit(self, repository: str, branch: str, files: Files) -> str:
        """Put a commit on top of a branch, and return its name."""
        name = hashlib.sha1(repr((repository, branch, sorted(files.items()))).encode()).hexdigest()
        self.repositories.setdefault(repository, {})[name] = files
        self.heads[repository, branch] = name
        return name

    def tree(self, repository: str, revision: str) -> tuple[str, Files] | None:
        """The commit that a branch or a commit's own name means, and its files."""
        name = self.heads.get((repository, revision), revision)
        files = self.repositories.get(repository, {}).get(name)
        return None if files is None else (name, files)


class Visit(BaseHTTPRequestHandler):
    """One request."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _answer(self, status: int, content: object = b"", **headers: str) -> None:
        """Send JSON, or bytes as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _visit(self) -> None:
        """Find who answers for this address."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        writes = self.command in ("POST", "PUT") and not path.startswith("/store/")
        if writes and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "Invalid username or password."})
        for method, pattern, answer in ROUTES:
            if method == self.command.replace("HEAD", "GET") and (
                found := re.fullmatch(pattern, path)
            ):
                return answer(self, body, *found.groups())
        return self._answer(404, {"error": f"the stand-in knows no {self.command} {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = _visit

    def _create(self, body: bytes) -> None:
        """Make a repository with an empty first commit."""
        asked = json.loads(body)
        repository = f"{asked['organization'] or 'me'}/{asked['name']}"
        known = repository in self.server.repositories
        if not known:
            self.server.commit(repository, "main", {})
        self._answer(409 if known else 200, {"url": f"{self.server.address}/{repository}"})

    def _branch(self, _: bytes, repository: str, branch: str) -> None:
        """Make a branch where "main" stands."""
        if (repository, branch) in self.server.heads:
            return self._answer(409, {"error": "there is one"})
        self.server.heads[repository, branch] = self.server.heads[repository, "main"]
        return self._answer(200, {})

    def _check_card(self, body: bytes) -> None:
        """Refuse a card whose base model cannot be one of the hub's, as the hub does."""
        named = re.search(r'^base_model: "?([^"\n]*)', json.loads(body)["content"], re.MULTILINE)
        if named and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", named[1]):
            message = f'"base_model" with value "{named[1]}" is not valid.'
            return self._answer(400, {"errors": [{"message": message}], "warnings": []})
        return self._answer(200, {"errors": [], "warnings": []})

    def _modes(self, body: bytes, repository: str, _revision: str) -> None:
        """Say which files go to the store."""
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in paths}
        self._answer(
            200,
            {
                "files": [
                    {"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()
                ]
            },
        )

    def _batch(self, body: bytes, _repository: str) -> None:
        """Say where large files go to."""
        objects = json.loads(body)["objects"]
        for each in objects:
            each["actions"] = {"upload": {"href": f"{self.server.store_address}/{each['oid']}"}}
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _keep(self, body: bytes, name: str) -> None:
        """Take a large file, if it is the one that was announced."""
        fits = hashlib.sha256(body).hexdigest() == name
        self.server.store[name] = body
        self._answer(200 if fits else 400)

    def _commit(self, body: bytes, repository: str, branch: str) -> None:
        """A new commit: the last one's files and those that came."""
        _, files = self.server.tree(repository, branch)
        files = dict(files)
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.store[value["oid"]]
        name = self.server.commit(repository, branch, files)
        self._answer(
            200,
            {"commitUrl": f"{self.server.address}/{repository}/commit/{name}", "commitOid": name},
        )

    def _info(self, _: bytes, repository: str, revision: str | None = None) -> None:
        """A commit's name, its files and their sizes."""
        if repository not in self.server.repositories:
            return self._answer(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        found = self.server.tree(repository, revision or "main")
        if found is None:
            return self._answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        name, files = found
        sizes = {
            path: self.server.sizes.get((repository, path), len(content))
            for path, content in files.items()
        }
        siblings = [{"rfilename": path, "size": size} for path, size in sizes.items()]
        return self._answer(200, {"id": repository, "sha": name, "siblings": siblings})

    def _resolve(self, _: bytes, repository: str, revision: str, path: str) -> None:
        """A file of a commit; a large one lies elsewhere."""
        found = self.server.tree(repository, revision)
        if found is None or path not in found[1]:
            return self._answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        name, content = found[0], found[1][path]
        tag = hashlib.sha256(content).hexdigest()
        if not path.endswith(LARGE):
            return self._answer(200, content, ETag=f'"{tag}"', X_Repo_Commit=name)
        self.server.store[tag] = content
        headers = {
            "X_Linked_Etag": f'"{tag}"',
            "X_Linked_Size": str(len(content)),
            "X_Repo_Commit": name,
        }
        return self._answer(302, Location=f"{self.server.store_address}/{tag}", **headers)

    def _give(self, _: bytes, name: str) -> None:
        """A large file."""
        self._answer(200, self.server.store[name], ETag=f'"{name}"')


REPOSITORY = r"([\w.-]+/[\w.-]+)"
ROUTES = [
    ("POST", "/api/repos/create", Visit._create),
    ("POST", f"/api/models/{REPOSITORY}/branch/(.+)", Visit._branch),
    ("POST", "/api/validate-yaml", Visit._check_card),
    ("POST", f"/api/models/{REPOSITORY}/preupload/(.+)", Visit._modes),
    ("POST", f"/{REPOSITORY}[.]git/info/lfs/objects/batch", Visit._batch),
    ("PUT", r"/store/(\w+)", Visit._keep),
    ("POST", f"/api/models/{REPOSITORY}/commit/(.+)", Visit._commit),
    ("GET", f"/api/models/{REPOSITORY}", Visit._info),
    ("GET", f"/api/models/{REPOSITORY}/revision/(.+)", Visit._info),
    ("GET", f"/{REPOSITORY}/resolve/([^/]+)/(.+)", Visit._resolve),
    ("GET", r"/store/(\w+)", Visit._give),
]


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub on a free port of this machine, until the end of the block."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
