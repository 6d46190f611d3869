"""Names that ``training_args.bin`` files saved by earlier versions refer to."""

from hf_momo.trainer.stock import integrate, optimizer_name

__all__ = ["integrate", "optimizer_name"]
