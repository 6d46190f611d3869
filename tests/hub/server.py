"""A Hub on the loopback interface: the endpoints that huggingface_hub pushes to and loads from, with faults.

It answers as the Hub does, as far as the client looks: statuses, headers and bodies. What it stores is in
`repositories`, what it was asked in `requests`. A fault is put in by `fail`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import NamedTuple

from hub.repositories import Repository


@dataclass
class Fault:
    """A fault of requests of one kind."""

    kind: str
    left: float
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    repository: str = ""
    delay: float = 0.0


class Request(NamedTuple):
    """One request."""

    kind: str
    method: str
    path: str


class Hub:
    """The server and its repositories."""

    def __init__(self, tokens: dict[str, str]) -> None:
        self.tokens = tokens
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.connections: set[socket.socket] = set()
        self.lock = threading.RLock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen on the same port as before."""
        from hub.answers import Handler

        handler = type("HandlerOfThisHub", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Refuse new connections and close the others; the repositories stay."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            with self.lock:
                for connection in self.connections:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)

    def fail(self, kind: str, times: float = float("inf"), **what: object) -> None:
        """Let the next requests of a kind fail: ``status`` with ``headers``, or ``cut`` off in the middle of the body.

        With `delay`, in seconds, it is only late.

        Kinds: create, branch, info, yaml, preupload, batch, put, verify, commit, read; any. With `repository`, only
        those that name it in their path.
        """
        self.faults.append(Fault(kind, times, **what))  # type: ignore[arg-type]

    def fault_of(self, kind: str, path: str) -> Fault | None:
        """Return the fault of this request, and count it down."""
        with self.lock:
            here = (each for each in self.faults if each.left > 0 and each.repository in path)
            fault = next((each for each in here if each.kind in (kind, "any")), None)
            if fault is not None:
                fault.left -= 1
            return fault

    def count(self, kind: str) -> int:
        """Return the number of requests of a kind."""
        return sum(request.kind == kind for request in self.requests)

    def holds(self, text: str) -> list[str]:
        """Return the names of all files, in all commits, that contain a text."""
        commits = [each for repo in self.repositories.values() for branch in repo.branches.values() for each in branch]
        found = {name for commit in commits for name, content in commit.files.items() if text.encode() in content}
        found |= {f"message {commit.message!r}" for commit in commits if text in commit.message}
        return sorted(found)

    def wait_for_commits(self, repository: str, count: int, seconds: float = 20.0) -> None:
        """Wait until this many commits were pushed."""
        end = time.monotonic() + seconds
        while len(self.repositories[repository].messages) < count:
            assert time.monotonic() < end, self.repositories[repository].messages
            time.sleep(0.01)


def cut(connection: socket.socket) -> None:
    """Reset a connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
