"""``hf-momo push``: bring the folder of a finished run to the Hub."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_momo.utils.errors import PushError, UsageError

_HELP = "push the folder of a finished run to the Hugging Face Hub"
_DESCRIPTION = """\
Push the folder of a finished run to the Hub: the model with all that lies beside it, and a model card, which is made
where there is none. Checkpoints, optimizer states, logs, hidden files and what begins with "_" stay here.

  hf-momo push runs/demo --hub_model_id me/my-model --private

The token is that of `hf auth login` or of HF_TOKEN. Doing it again pushes what has changed, or nothing. The exit
status is 0 when the folder is on the Hub, 1 when the Hub did not take it, 2 when the folder cannot be pushed."""


def add_push_parser(commands: Any) -> None:
    """Add the sub-command ``push``.

    Args:
        commands: What ``add_subparsers`` gave.
    """
    parser = commands.add_parser(
        "push", help=_HELP, description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="RUN_FOLDER", type=Path, help="what was the run's --output_dir")
    parser.add_argument("--hub_model_id", metavar="OWNER/NAME", help="repository; RUN_FOLDER's name if left out")
    parser.add_argument("--private", action="store_true", help="make the repository private, where it is created")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to, created if need be (default: main)")
    parser.add_argument("--commit_message", default="Push a finished run", help="of the commit (%(default)s)")
    parser.set_defaults(func=push)


def push(options: argparse.Namespace) -> int:
    """Run ``hf-momo push``.

    Args:
        options: What the parser made.

    Returns:
        The exit status.
    """
    # Only now: `hf-momo list` needs torch alone.
    from hf_momo.hub.requests import describe

    files = _prepare(options.folder, options.hub_model_id)
    try:
        _upload(options, files)
    except Exception as problem:
        raise PushError(f"{describe(problem)}. The same command goes on where it stopped") from problem
    return 0


def _prepare(folder: Path, repo_id: str | None) -> list[Path]:
    """Check the folder, and make a card where there is none."""
    from hf_momo.hub.run_folder import ARGUMENTS_FILE, check_model, files_to_push, without_tokens

    if not folder.is_dir():
        raise UsageError(f"RUN_FOLDER: got {str(folder)!r}, must be the folder that a run was written to")
    check_model(folder, files_to_push(folder))
    _ensure_card(folder, repo_id)
    found = files_to_push(folder)
    files = without_tokens(folder, found)
    if len(files) < len(found):
        print(f"{ARGUMENTS_FILE} stays here: it holds a token")
    return files


def _ensure_card(folder: Path, repo_id: str | None) -> None:
    """Make the card from record.json, or without one a plain card; one that somebody has written stays as it is."""
    from hf_momo.hub.cards import CARD_FILE, card_from_folder, is_generated
    from hf_momo.utils.files import write_whole

    path = folder / CARD_FILE
    there = path.read_text(encoding="utf-8") if path.exists() else None
    if there is not None and not is_generated(there):
        _check_card(path)
        return
    try:
        card = card_from_folder(folder, repo_id=repo_id if repo_id and "/" in repo_id else None)
        reason = "there is no record of the run"
    except ValueError as problem:
        card, reason = None, str(problem)
    if card is None and there is not None:
        return
    write_whole(path, card or _plain_card(folder))
    print(f"{CARD_FILE}: {'made from record.json' if card else f'a plain one, for {reason}'}")


def _check_card(path: Path) -> None:
    from huggingface_hub import ModelCard

    try:
        ModelCard.load(path)
    except Exception as problem:
        raise UsageError(f"RUN_FOLDER: {path} is no model card: {' '.join(str(problem).split())}") from problem


def _plain_card(folder: Path) -> str:
    from huggingface_hub import ModelCardData

    name = folder.absolute().name
    library = "transformers" if (folder / "config.json").exists() else "peft"
    data = ModelCardData(library_name=library, tags=["hf_momo"], model_name=name)
    return f"---\n{data.to_yaml()}\n---\n\n# {name}\n\nThere is no record of how this model was trained.\n"


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
    before = retrying(lambda: api.model_info(repository, revision=revision).sha, "looking at the repository")
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
        print("nothing has changed since the last push: no commit was made")
    else:
        print(f"committed {commit.oid}")
    print(f"{api.endpoint}/{repository}{f'/tree/{revision}' if revision else ''}")
