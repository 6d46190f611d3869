"""The answers of the test's Hub to its requests."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import yaml
from hub.repositories import Commit, Repository, is_large, object_id
from hub.server import Hub, Request, cut

_NAME = r"(?P<name>[^/]+/[^/]+)"
_ROUTES = [
    # A request of huggingface_hub for its User-Agent, which needs no answer.
    ("harnesses", "GET", r"/api/agent-harnesses"),
    ("create", "POST", r"/api/repos/create"),
    ("yaml", "POST", r"/api/validate-yaml"),
    ("preupload", "POST", rf"/api/models/{_NAME}/preupload/(?P<revision>[^/]+)"),
    ("branch", "POST", rf"/api/models/{_NAME}/branch/(?P<revision>[^/]+)"),
    ("commit", "POST", rf"/api/models/{_NAME}/commit/(?P<revision>[^/]+)"),
    ("batch", "POST", rf"/{_NAME}\.git/info/lfs/objects/batch"),
    ("put", "PUT", r"/large/(?P<oid>[0-9a-f]{64})"),
    ("verify", "POST", r"/large/(?P<oid>[0-9a-f]{64})"),
    ("info", "GET", rf"/api/models/{_NAME}(/revision/(?P<revision>[^/]+))?"),
    ("tree", "GET", rf"/api/models/{_NAME}/tree/(?P<revision>[^/]+)(/(?P<path>.+))?"),
    ("read", "GET|HEAD", rf"/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"),
]


class Refusal(Exception):
    """An error answer."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def log_message(self, *args: Any) -> None:
        """Write nothing to stderr."""

    def handle(self) -> None:
        with self.hub.lock:
            self.hub.connections.add(self.connection)
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True
        finally:
            with self.hub.lock:
                self.hub.connections.discard(self.connection)

    def _do(self) -> None:
        path = unquote(urlsplit(self.path).path)
        quoted = urlsplit(self.path).path
        for kind, methods, pattern in _ROUTES:
            match = re.fullmatch(pattern, quoted)
            if match is not None and self.command in methods.split("|"):
                self._answer(kind, {name: unquote(value) for name, value in match.groupdict().items() if value})
                return
        self._read_body()
        self.hub.requests.append(Request("unknown", self.command, path))
        self._send(404, {"error": f"no such endpoint: {self.command} {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = _do

    def _answer(self, kind: str, groups: dict[str, str]) -> None:
        self.hub.requests.append(Request(kind, self.command, self.path))
        fault = self.hub.fault_of(kind, self.path)
        if fault is not None and fault.cut:
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            self.close_connection = True
            cut(self.connection)
            return
        body = self._read_body()
        if fault is not None and fault.delay:
            time.sleep(fault.delay)
        elif fault is not None:
            self._send(fault.status, {"error": "out of order"}, fault.headers)
            return
        try:
            with self.hub.lock:
                getattr(self, f"_{kind}")(body, **groups)
        except Refusal as refusal:
            self._send(refusal.status, {"error": str(refusal)}, refusal.headers)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _user(self) -> str | None:
        """Return the user of the request; an unknown token is refused even if none is needed, as on the Hub."""
        given = self.headers.get("Authorization")
        if given is None:
            return None
        user = self.hub.tokens.get(given.removeprefix("Bearer "))
        if user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return user

    def _writer(self, owner: str) -> str:
        user = self._user()
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        if user != owner:
            raise Refusal(403, f"You don't have the rights to create a model under the namespace {owner!r}")
        return user

    def _repository(self, name: str, *, write: bool = False) -> Repository:
        user = self._writer(name.split("/")[0]) if write else self._user()
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and user != name.split("/")[0]):
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        return repository

    def _commit_of(self, name: str, revision: str) -> Commit:
        commit = self._repository(name).at(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def _harnesses(self, body: bytes) -> None:
        raise Refusal(404, "there is no list")

    def _create(self, body: bytes) -> None:
        wanted = json.loads(body)
        user = self._user()
        owner = wanted.get("organization") or user
        name = f"{owner}/{wanted['name']}"
        self._writer(str(owner))
        answer = {"url": f"{self.hub.url}/{name}", "name": name}
        if name in self.hub.repositories:
            self._send(409, answer | {"error": "You already created this model repo"})
            return
        private = wanted.get("private", wanted.get("visibility") == "private")
        self.hub.repositories[name] = Repository(name, bool(private))
        self._send(200, answer)

    def _branch(self, body: bytes, name: str, revision: str) -> None:
        repository = self._repository(name, write=True)
        if revision in repository.branches:
            raise Refusal(409, f"Reference already exists: {revision}")
        repository.branches[revision] = list(repository.branches["main"])
        self._send(200, {})

    def _yaml(self, body: bytes) -> None:
        """Check, as the Hub does, that the metadata are YAML and that the base model is not a path."""
        content = json.loads(body)["content"]
        match = re.match(r"---\r?\n(.*?)\r?\n---", content, re.DOTALL)
        try:
            metadata = yaml.safe_load(match[1]) if match else {}
            errors = [] if isinstance(metadata, dict) else ["the metadata are no mapping"]
        except yaml.YAMLError as error:
            metadata, errors = {}, [str(error)]
        bases = metadata.get("base_model", []) if not errors else []
        for base in [bases] if isinstance(bases, str) else bases:
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base):
                errors.append(f'"base_model" with value "{base}" is not valid. Use a model id')
        answer = {"errors": [{"message": each} for each in errors], "warnings": []}
        self._send(400 if errors else 200, answer)

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        commit = self._repository(name, write=True).at(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files = []
        for file in json.loads(body)["files"]:
            there = commit.files.get(file["path"])
            mode = "lfs" if is_large(file["path"]) else "regular"
            oid = None if there is None else object_id(file["path"], there)
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._send(200, {"files": files})

    def _batch(self, body: bytes, name: str) -> None:
        self._repository(name, write=True)
        objects = []
        for wanted in json.loads(body)["objects"]:
            href = f"{self.hub.url}/large/{wanted['oid']}"
            actions = {"actions": {"upload": {"href": href}, "verify": {"href": href}}}
            objects.append(wanted | ({} if wanted["oid"] in self.hub.large else actions))
        self._send(200, {"transfer": "basic", "objects": objects})

    def _put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refusal(400, "the content is not what its hash says")
        self.hub.large[oid] = body
        self._send(200, b"")

    def _verify(self, body: bytes, oid: str) -> None:
        if len(self.hub.large.get(oid, b"")) != json.loads(body)["size"]:
            raise Refusal(422, "the size is not what was announced")
        self._send(200, {})

    def _commit(self, body: bytes, name: str, revision: str) -> None:
        repository = self._repository(name, write=True)
        if revision not in repository.branches:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        lines = [json.loads(line) for line in body.splitlines()]
        changes: dict[str, bytes | None] = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    raise Refusal(400, f"{value['path']}: the content was not uploaded")
                changes[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                changes[value["path"]] = None
        summary = next(line["value"]["summary"] for line in lines if line["key"] == "header")
        commit = repository.commit(revision, summary, str(self._user()), changes)
        url = f"{self.hub.url}/{name}/commit/{commit.oid}"
        self._send(200, {"commitUrl": url, "commitOid": commit.oid, "success": True})

    def _info(self, body: bytes, name: str, revision: str = "main") -> None:
        commit = self._commit_of(name, revision)
        siblings = [{"rfilename": file} for file in sorted(commit.files)]
        private = self.hub.repositories[name].private
        self._send(200, {"id": name, "modelId": name, "sha": commit.oid, "private": private, "siblings": siblings})

    def _tree(self, body: bytes, name: str, revision: str, path: str = "") -> None:
        files = self._commit_of(name, revision).files
        inside = {file: content for file, content in files.items() if file.startswith(f"{path}/" if path else "")}
        if not inside:
            raise Refusal(404, f"{path} does not exist", "EntryNotFound")
        self._send(
            200,
            [
                {"type": "file", "path": file, "size": len(content), "oid": object_id(file, content)}
                for file, content in sorted(inside.items())
            ],
        )

    def _read(self, body: bytes, name: str, revision: str, path: str) -> None:
        commit = self._commit_of(name, revision)
        content = commit.files.get(path)
        if content is None:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{object_id(path, content)}"', "Accept-Ranges": "bytes"}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start is None:
            self._send(200, content, headers)
            return
        first = int(start[1])
        span = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        self._send(206, content[first:], headers | span)
