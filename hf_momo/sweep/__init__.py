"""``hf-momo sweep``: a script over optimizers, learning rates and seeds, and what came of it."""

from hf_momo.sweep.cli import add_sweep_parser

__all__ = ["add_sweep_parser"]
