"""``hf-momo push``: push the folder of a finished run to the Hub."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_momo.utils.errors import PushError, UsageError

_HELP = "push the folder of a finished run to the Hugging Face Hub"
_DESCRIPTION = """\
Push the folder of a finished run to the Hub: the model, the files beside it, and a model card, which is generated if
there is none. Checkpoints, optimizer states, logs, hidden files and names that begin with "_" are not pushed.

  hf-momo push runs/demo --hub_model_id me/my-model --private

The token is that of `hf auth login` or HF_TOKEN. The same command again pushes what has changed. The exit status is 0
if the folder is on the Hub, 1 if the Hub failed or refused, and 2 if the folder cannot be pushed."""


def add_push_parser(commands: Any) -> None:
    """Add the sub-command ``push``.

    Args:
        commands: Return value of ``add_subparsers``.
    """
    parser = commands.add_parser(
        "push", help=_HELP, description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="RUN_FOLDER", type=Path, help="--output_dir of the run")
    parser.add_argument("--hub_model_id", metavar="OWNER/NAME", help="repository (default: the name of RUN_FOLDER)")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch, created if necessary (default: main)")
    parser.add_argument("--commit_message", default="Push a finished run", help="commit message (%(default)s)")
    parser.set_defaults(func=push)


def push(options: argparse.Namespace) -> int:
    """Run ``hf-momo push`` and return its exit status.

    Args:
        options: The parsed command line.

    Raises:
        UsageError: If the folder cannot be pushed.
        PushError: If the Hub failed or refused.
    """
    # Imported late: `hf-momo list` needs torch alone.
    from hf_momo.hub.requests import describe

    files = _prepare(options.folder, options.hub_model_id)
    try:
        _upload(options, files)
    except Exception as problem:
        raise PushError(f"{describe(problem)}. The same command continues the push") from problem
    return 0


def _prepare(folder: Path, repo_id: str | None) -> list[Path]:
    """Check the folder, write a card if necessary, and return the files to push."""
    from hf_momo.hub.run_folder import ARGUMENTS_FILE, check_model, files_to_push, without_tokens

    if not folder.is_dir():
        raise UsageError(f"RUN_FOLDER: got {str(folder)!r}, must be the --output_dir of a run")
    check_model(folder, files_to_push(folder))
    _ensure_card(folder, repo_id)
    found = files_to_push(folder)
    files = without_tokens(folder, found)
    if len(files) < len(found):
        print(f"{ARGUMENTS_FILE} is not pushed: it holds a token")
    return files


def _ensure_card(folder: Path, repo_id: str | None) -> None:
    """Generate the card, from ``record.json`` if possible; a card that somebody wrote stays as it is."""
    from hf_momo.hub.cards import CARD_FILE, card_from_folder, is_generated
    from hf_momo.utils.files import write_whole

    path = folder / CARD_FILE
    existing = path.read_text(encoding="utf-8") if path.exists() else None
    if existing is not None and not is_generated(existing):
        _check_card(path)
        return
    try:
        card = card_from_folder(folder, repo_id=repo_id if repo_id and "/" in repo_id else None)
        reason = "there is no record of the run"
    except ValueError as problem:
        card, reason = None, str(problem)
    if card is None and existing is not None:
        return
    write_whole(path, card or _plain_card(folder))
    print(f"{CARD_FILE}: {'generated from record.json' if card else f'generated without a record: {reason}'}")


def _check_card(path: Path) -> None:
    from huggingface_hub import ModelCard

    try:
        ModelCard.load(path)
    except Exception as problem:
        raise UsageError(f"RUN_FOLDER: {path} is not a model card: {' '.join(str(problem).split())}") from problem


def _plain_card(folder: Path) -> str:
    from huggingface_hub import ModelCardData

    name = folder.absolute().name
    library = "transformers" if (folder / "config.json").exists() else "peft"
    data = ModelCardData(library_name=library, tags=["hf_momo"], model_name=name)
    return f"---\n{data.to_yaml()}\n---\n\n# {name}\n\nIt is not recorded how this model was trained.\n"


def _upload(options: argparse.Namespace, files: Sequence[Path]) -> None:
    from huggingface_hub import HfApi

    from hf_momo.hub.requests import retrying

    api, folder, revision = HfApi(), options.folder, options.revision
    name = options.hub_model_id or folder.absolute().name
    repository = retrying(
        lambda: api.create_repo(name, private=options.private or None, exist_ok=True).repo_id,
        "creating the repository",
    )
    if revision is not None:
        retrying(lambda: api.create_branch(repository, branch=revision, exist_ok=True), "creating the branch")
    before = retrying(lambda: api.model_info(repository, revision=revision).sha, "reading the repository")
    print(f"pushing {folder} to {api.endpoint}/{repository}")
    for file in files:
        print(f"  {file.as_posix()}  {(folder / file).stat().st_size:,} bytes")
    commit = retrying(
        lambda: api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=[glob.escape(file.as_posix()) for file in files],
            commit_message=options.commit_message,
            revision=revision,
        ),
        "pushing the folder",
    )
    if commit.oid == before:
        print("nothing has changed since the last push; no commit was made")
    else:
        print(f"committed {commit.oid}")
    print(f"{api.endpoint}/{repository}{f'/tree/{revision}' if revision else ''}")
