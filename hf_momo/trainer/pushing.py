"""Pushing from a Trainer: a run that has trained does not lose its result because the Hub failed.

``--push_to_hub`` of the stock Trainer creates the repository in the constructor, pushes saves in the background and
the model at the end. What it does when the Hub fails is changed here:

- before training, a Hub that refuses (no token, a wrong one, no right to write) stops the run on all processes; one
  that is out of reach does not;
- a save that could not be pushed is reported, which the Trainer does not, and training goes on;
- a tracker that cannot bring its charts to the Hub, as trackio does at every push, is reported, and the model pushed;
- where the last push fails too, it is tried again for a minute, and then reported with the command that pushes the
  folder later. The run ends as it would have. Without ``push_to_hub`` in the arguments, a call of ``push_to_hub()``
  raises.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from huggingface_hub import HfApi
from transformers import Trainer
from transformers.trainer_utils import HubStrategy

from hf_momo.hub.requests import PATIENCE, UnsavedToken, describe, is_transient, retrying
from hf_momo.hub.run_folder import TRAINER_IGNORES
from hf_momo.utils.errors import PushError

if TYPE_CHECKING:
    _TrainerBase = Trainer
else:
    _TrainerBase = object

logger = logging.getLogger(__name__)

# Before training nothing is lost yet, and all processes wait.
_PATIENCE_AT_START = 10.0
_SAY_EVERY = 60.0


class HubMixin(_TrainerBase):
    """What a Trainer does when a push fails."""

    _hub_is_set_up = False
    _problem_at_start: Exception | None = None
    _creation: Future[None] | None = None
    _saved = False

    def set_up_hub(self) -> None:
        """What the constructor adds to that of the Trainer; all processes must call it.

        Raises:
            PushError: If the Hub refuses what ``push_to_hub`` asks for. On every process.
        """
        self._hub_is_set_up = True
        self._hide_token()
        handler: Any = self.callback_handler
        if hasattr(handler, "on_push_begin"):  # not in transformers 4
            handler.on_push_begin = partial(self._tell_trackers, handler.on_push_begin)
        if not self.args.push_to_hub:
            return
        problem = self._problem_at_start
        refusal = None
        if problem is not None and not is_transient(problem):
            refusal = (
                f"push_to_hub: {self._describe(problem)}. Nothing has been trained yet. To train without the Hub leave"
                f" push_to_hub out, and push the finished run with: {self._command()}"
            )
        if refusal := _of_main_process(refusal):
            raise PushError(refusal) from problem
        if problem is not None:
            logger.warning(
                "push_to_hub: %s. Training starts all the same; the repository is created once the Hub answers, at the"
                " end of training at the latest",
                self._describe(problem),
            )

    def _tell_trackers(self, tell: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # Raised on the main process alone, before anything is saved, it would leave the others waiting.
        try:
            return tell(*args, **kwargs)
        except Exception as problem:
            logger.error(
                "A tracker could not do its part of a push: %s. The push of the model goes on. What was logged stays"
                " on this machine; trackio_static_space_id=False keeps trackio from the Hub",
                self._describe(problem),
            )

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """Create the repository as the Trainer does; in the constructor a failure waits for ``set_up_hub``."""
        if not self.is_world_process_zero():
            return
        create = super().init_hf_repo
        patience = PATIENCE if self._hub_is_set_up else _PATIENCE_AT_START
        try:
            retrying(lambda: create(*args, **kwargs), "creating the repository", patience=patience)
        except Exception as problem:
            if self._hub_is_set_up:
                raise
            self._problem_at_start = problem
            self.push_in_progress = None

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Save the model and push it with its card, as the Trainer does. To be called on all processes.

        Args:
            commit_message: Of the commit.
            blocking: Wait until it is done.
            token: Instead of that of the arguments or the login.
            revision: Branch, instead of that of the arguments.
            private: Whether to make the repository private where it is created, instead of what the arguments say.
            **kwargs: For ``create_model_card``.

        Returns:
            The commit, or a future of it if not ``blocking``; ``None`` on other processes than the main one, and where
            the push failed and ``push_to_hub`` is in the arguments. The error is logged then.

        Raises:
            PushError: If the push failed and ``push_to_hub`` is not in the arguments.
        """
        if private is not None:  # transformers 4 does not know it
            kwargs["private"] = private
        self._saved = False
        try:
            pushed = super().push_to_hub(commit_message, blocking, token, revision, **kwargs)
        except Exception as problem:
            if self.is_world_process_zero() and self._saved:
                return self._push_again(problem, commit_message, token, revision)
            if self.is_world_process_zero() and self.hub_model_id is None:
                # The other processes are saving the model, which may take all of them.
                self.save_model(_internal_call=True)
                self._write_card(kwargs)
                return self._not_pushed(problem)
            raise
        if isinstance(pushed, Future):
            pushed.add_done_callback(self._report)
        return pushed

    def _write_card(self, options: dict[str, Any]) -> None:
        try:
            self.create_model_card(**{name: value for name, value in options.items() if name != "private"})
        except Exception:
            logger.exception("No model card could be written")

    def _push_again(
        self, problem: Exception, commit_message: str | None, token: str | None, revision: str | None
    ) -> Any:
        """All that the Trainer's push does after the model is saved and the card is written."""
        try:
            return retrying(
                lambda: HfApi().upload_folder(
                    repo_id=str(self.hub_model_id),
                    folder_path=str(self.args.output_dir),
                    commit_message=commit_message,
                    token=token or self.args.hub_token,
                    revision=revision or self.args.hub_revision,
                    ignore_patterns=list(TRAINER_IGNORES),
                ),
                "pushing the model",
                failed=problem,
            )
        except Exception as last_problem:
            return self._not_pushed(last_problem)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as the Trainer does."""
        super().save_model(output_dir, _internal_call)
        self._saved = True

    def _save(self, *args: Any, **kwargs: Any) -> None:
        self._hide_token()
        super()._save(*args, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        if self.args.hub_always_push:
            # The files that it is still reading are about to be replaced.
            self._finish_current_push()
        self._report_failed_pushes()
        if not self._repository_is_there():
            return
        try:
            super()._push_from_checkpoint(checkpoint_folder)
        except Exception as problem:
            # Raised on one process, it would leave the others waiting.
            self._report(problem)

    def _repository_is_there(self) -> bool:
        """Whether this save can be pushed. Where the Hub was out of reach at the start it is asked again behind."""
        if self.hub_model_id is None and (self._creation is None or self._creation.done()):
            self._creation = HfApi().run_as_future(super().init_hf_repo)
        return self.hub_model_id is not None

    def _finish_current_push(self) -> None:
        push: Any = getattr(self, "push_in_progress", None)
        while push is not None and not push.is_done():
            # huggingface_hub has no time limit of its own, and a run that does not end must say what it waits for.
            if futures.wait(push.jobs, timeout=_SAY_EVERY).not_done:
                logger.warning("waiting for a push to %s to end", self.hub_model_id)
        super()._finish_current_push()
        self._report_failed_pushes()

    def _report_failed_pushes(self) -> None:
        """The Trainer itself looks at no push in the background again."""
        push: Any = getattr(self, "push_in_progress", None)
        for job in [] if push is None else [job for job in push.jobs if job.done()]:
            push.jobs.remove(job)
            self._report(job)

    def _report(self, failure: Exception | Future[Any]) -> None:
        problem = failure.exception() if isinstance(failure, Future) else failure
        if problem is not None:
            logger.error(
                "A push to the Hub failed: %s. The run goes on, and what it saves is in %s. The next push brings it to"
                " the Hub, or this command: %s",
                self._describe(problem),
                self.args.output_dir,
                self._command(),
            )

    def _not_pushed(self, problem: Exception) -> None:
        message = (
            f"{self._describe(problem)}. Nothing is lost: the model is in {self.args.output_dir}. Push it later with:"
            f" {self._command()}"
        )
        if not self.args.push_to_hub:
            raise PushError(message) from problem
        logger.error("The push to the Hub failed: %s", message)

    def _describe(self, problem: BaseException) -> str:
        return describe(problem, self.args.hub_token)

    def _command(self) -> str:
        folder = Path(str(self.args.output_dir))
        words = ["hf-momo", "push", str(folder), "--hub_model_id", self.args.hub_model_id or folder.absolute().name]
        words += ["--private"] if self.args.hub_private_repo else []
        words += ["--revision", self.args.hub_revision] if self.args.hub_revision else []
        return shlex.join(words)

    def _hide_token(self) -> None:
        if self.args.hub_token is not None:
            self.args.hub_token = UnsavedToken(self.args.hub_token)


def _of_main_process(value: str | None) -> str | None:
    if not (dist.is_available() and dist.is_initialized()):
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]
