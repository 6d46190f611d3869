"""The repositories of the test's Hub, with branches, files and commits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

# A new repository on the Hub has a .gitattributes that says which files are large.
LARGE = (".safetensors", ".bin", ".pt", ".pth", ".png")
Files = dict[str, bytes]


class Commit(NamedTuple):
    """One commit of a branch."""

    oid: str
    message: str
    author: str
    changed: tuple[str, ...]
    files: Files


@dataclass
class Repository:
    """A repository of a model."""

    name: str
    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE)
        self.commit("main", "initial commit", "hub", {".gitattributes": attributes.encode()})

    def commit(self, branch: str, message: str, author: str, changes: dict[str, bytes | None]) -> Commit:
        """Commit new contents of files to a branch; ``None`` deletes a file."""
        commits = self.branches.setdefault(branch, [])
        files = {**(commits[-1].files if commits else {}), **changes}
        files = {name: content for name, content in files.items() if content is not None}
        seed = f"{self.name} {branch} {len(commits)} {message}".encode()
        commits.append(Commit(hashlib.sha1(seed).hexdigest(), message, author, tuple(sorted(changes)), files))
        return commits[-1]

    def at(self, revision: str) -> Commit | None:
        """Return the last commit of a branch, or the commit with this id."""
        if revision in self.branches:
            return self.branches[revision][-1]
        return next((each for commits in self.branches.values() for each in commits if each.oid == revision), None)

    @property
    def files(self) -> Files:
        """Files on the main branch that a user pushed."""
        return {name: content for name, content in self.branches["main"][-1].files.items() if name != ".gitattributes"}

    @property
    def messages(self) -> list[str]:
        """Messages of the commits on the main branch, without the first."""
        return [commit.message for commit in self.branches["main"][1:]]


def is_large(name: str) -> bool:
    """Return whether a file is uploaded separately from the commit."""
    return name.endswith(LARGE)


def object_id(name: str, content: bytes) -> str:
    """Return the id that changes with a file: that of git, or for a large file the hash of its content."""
    if is_large(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
