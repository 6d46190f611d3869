"""What the Hub in the tests stores: repositories with branches of files, and commits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

# As on the Hub, where a repository begins with a .gitattributes that says which files are large.
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
        """Put new contents of files on a branch; None deletes a file."""
        commits = self.branches.setdefault(branch, [])
        files = {**(commits[-1].files if commits else {}), **changes}
        files = {name: content for name, content in files.items() if content is not None}
        seed = f"{self.name} {branch} {len(commits)} {message}".encode()
        commits.append(Commit(hashlib.sha1(seed).hexdigest(), message, author, tuple(sorted(changes)), files))
        return commits[-1]

    def at(self, revision: str) -> Commit | None:
        """The newest commit of a branch, or the commit of that id."""
        if revision in self.branches:
            return self.branches[revision][-1]
        return next((each for commits in self.branches.values() for each in commits if each.oid == revision), None)

    @property
    def files(self) -> Files:
        """Those of the main branch that a user has brought."""
        return {name: content for name, content in self.branches["main"][-1].files.items() if name != ".gitattributes"}

    @property
    def messages(self) -> list[str]:
        """Of the commits on the main branch, without the first."""
        return [commit.message for commit in self.branches["main"][1:]]


def is_large(name: str) -> bool:
    """Whether a file is uploaded by itself rather than within the commit."""
    return name.endswith(LARGE)


def object_id(name: str, content: bytes) -> str:
    """The id by which a client tells whether a file has changed: that of git, or for large files of their content."""
    if is_large(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
