"""Fixtures that the tests of the tap share with those of the Trainer."""

from trainer.conftest import _fresh_process_state, _imports_out_of_the_collectors_sight

__all__ = ["_fresh_process_state", "_imports_out_of_the_collectors_sight"]
