"""Pushing from a Trainer: a failure of the Hub does not cost the result of a training.

With ``push_to_hub`` the stock Trainer creates the repository in its constructor, pushes saves in the background and
pushes the model at the end. ``PushMixin`` changes what happens when the Hub fails:

- before training, a refusal of the Hub (no token, a wrong token, no permission to write) stops the run on all
  processes, while an unreachable Hub does not;
- a save that could not be pushed is logged as an error, and training continues;
- a tracker that cannot upload its charts (trackio does so at every push) is logged as an error, and the model is
  pushed;
- the last push is retried for a minute. If it still fails, the error names the command that pushes the folder later,
  and the run ends normally. ``push_to_hub()`` called without ``push_to_hub`` in the arguments raises instead.
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

from huggingface_hub import HfApi
from transformers import Trainer
from transformers.trainer_utils import HubStrategy

from hf_momo.hub.requests import PATIENCE, UnsavedToken, describe, is_transient, retrying
from hf_momo.hub.run_folder import TRAINER_IGNORES
from hf_momo.sharding import first_rank_value
from hf_momo.utils.errors import PushError

if TYPE_CHECKING:
    _TrainerBase = Trainer
else:
    _TrainerBase = object

logger = logging.getLogger(__name__)

# Short, because all processes wait, and before training there is nothing to lose.
_PATIENCE_AT_START = 10.0
_SECONDS_BETWEEN_WARNINGS = 60.0


class PushMixin(_TrainerBase):
    """Mixin that keeps a run alive when a push fails.

    Raises:
        PushError: If the Hub refuses what ``push_to_hub`` in the arguments asks for. On every process.
    """

    _hub_is_set_up = False
    _problem_at_start: Exception | None = None
    _creation: Future[None] | None = None
    _saved = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hub_is_set_up = True
        self._hide_token()
        handler: Any = self.callback_handler
        if hasattr(handler, "on_push_begin"):  # not in transformers 4
            handler.on_push_begin = partial(self._tell_trackers, handler.on_push_begin)
        if self.args.push_to_hub:
            self._report_problem_at_start()

    def _report_problem_at_start(self) -> None:
        problem = self._problem_at_start
        refusal = None
        if problem is not None and not is_transient(problem):
            refusal = (
                f"push_to_hub: {self._describe(problem)}. Nothing has been trained yet. To train without the Hub,"
                f" remove push_to_hub, and push the finished run with: {self._command()}"
            )
        if refusal := first_rank_value(refusal):
            raise PushError(refusal) from problem
        if problem is not None:
            logger.warning(
                "push_to_hub: %s. Training starts anyway. The repository is created as soon as the Hub answers, at the"
                " latest at the end of training",
                self._describe(problem),
            )

    def _tell_trackers(self, tell: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # An error on the main process alone, before anything is saved, would leave the other processes waiting.
        try:
            return tell(*args, **kwargs)
        except Exception as problem:
            logger.error(
                "A tracker failed to upload to the Hub: %s. The model is pushed anyway. The logs stay on this machine."
                " trackio_static_space_id=False keeps trackio from uploading",
                self._describe(problem),
            )

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """Create the repository as the Trainer does. The constructor of this mixin reports a failure in its turn."""
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
        """Save the model and push it with its card, as the Trainer does. All processes must call this method.

        Args:
            commit_message: Message of the commit.
            blocking: Whether to wait until the push has ended.
            token: Token to use instead of the one in the arguments or of the login.
            revision: Branch to push to instead of the one in the arguments.
            private: Whether a new repository is private, instead of what the arguments say.
            **kwargs: Passed on to ``create_model_card``.

        Returns:
            The commit, or a future of it if not ``blocking``. ``None`` on processes other than the main one, and if
            the push failed while ``push_to_hub`` is in the arguments; the error is logged in this case.

        Raises:
            PushError: If the push failed and ``push_to_hub`` is not in the arguments.
        """
        if private is not None:  # transformers 4 has no such argument
            kwargs["private"] = private
        self._saved = False
        try:
            pushed = super().push_to_hub(commit_message, blocking, token, revision, **kwargs)
        except Exception as problem:
            if self.is_world_process_zero() and self._saved:
                return self._push_again(problem, commit_message, token, revision)
            if self.is_world_process_zero() and self.hub_model_id is None:
                # The other processes are saving the model, which may need this one too.
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
        # The Trainer's push from where the model is saved and the card is written.
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
            # It still reads the files that this save replaces.
            self._finish_current_push()
        self._report_failed_pushes()
        if not self._has_repository():
            return
        try:
            super()._push_from_checkpoint(checkpoint_folder)
        except Exception as problem:
            # An error on one process would leave the others waiting.
            self._report(problem)

    def _has_repository(self) -> bool:
        """Return whether this save can be pushed; if the Hub was unreachable, ask it again in the background."""
        known = self.hub_model_id is not None
        if not known and (self._creation is None or self._creation.done()):
            self._creation = HfApi().run_as_future(super().init_hf_repo)
        return known

    def _finish_current_push(self) -> None:
        push: Any = getattr(self, "push_in_progress", None)
        while push is not None and not push.is_done():
            # huggingface_hub has no time limit, and a run that does not end must say what it waits for.
            if futures.wait(push.jobs, timeout=_SECONDS_BETWEEN_WARNINGS).not_done:
                logger.warning("waiting for a push to %s to end", self.hub_model_id)
        super()._finish_current_push()
        self._report_failed_pushes()

    def _report_failed_pushes(self) -> None:
        # The Trainer itself never looks at the outcome of a push in the background.
        push: Any = getattr(self, "push_in_progress", None)
        for job in [] if push is None else [job for job in push.jobs if job.done()]:
            push.jobs.remove(job)
            self._report(job)

    def _report(self, failure: Exception | Future[Any]) -> None:
        problem = failure.exception() if isinstance(failure, Future) else failure
        if problem is not None:
            logger.error(
                "A push to the Hub failed: %s. The run continues and saves to %s. The next push uploads these files"
                " too. Or push them with: %s",
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
