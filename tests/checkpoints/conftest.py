"""Trainers leave here what they leave in their own tests."""

from trainer.conftest import _fresh_process_state, _imports_out_of_the_collectors_sight

__all__ = ["_fresh_process_state", "_imports_out_of_the_collectors_sight"]
