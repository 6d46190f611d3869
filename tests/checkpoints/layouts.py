"""Checkpoint folders in every layout that the Trainer writes and loads."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from trainer.tiny import Classifier, arguments, class_examples, gpt2, text_examples
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback

from hf_momo import MomoTrainer

SAVED = (2, 4)


class _FirstStep(TrainerCallback):
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step = state.global_step


def train(
    folder: Path, cls: type[Trainer] = MomoTrainer, *, text: Any = None, resume: Any = None, **options: Any
) -> Any:
    """Train four steps in random order with dropout, and a checkpoint at every second step.

    Returns:
        The trainer, with the step that it resumed from as ``resumed_from``.
    """
    torch.manual_seed(0)
    defaults = {"save_strategy": "steps", "save_steps": 2, "learning_rate": 0.05}
    model = Classifier(dropout=0.3) if text is None else text
    trainer = cls(
        model=model,
        args=arguments(folder, **(defaults | options)),
        train_dataset=class_examples() if text is None else text_examples(),
        callbacks=[first := _FirstStep()],
    )
    trainer.train(resume_from_checkpoint=resume)
    trainer.resumed_from = first.step or None
    return trainer


def plain(folder: Path) -> None:
    train(folder)


def stock(folder: Path) -> None:
    train(folder, Trainer, optim="adamw_torch")


def weights_alone(folder: Path) -> None:
    train(folder, save_only_model=True)


def sharded(folder: Path) -> None:
    """Save a model of ``transformers`` in several files, with a tokenizer."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a")))
    trainer = train(folder, text=gpt2())
    for step in SAVED:
        checkpoint = folder / f"checkpoint-{step}"
        (checkpoint / "model.safetensors").unlink()
        trainer.model.save_pretrained(checkpoint, max_shard_size="8KB")
        tokenizer.save_pretrained(checkpoint)


def adapters(folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        # peft reads an attribute of the model that transformers has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        train(folder, text=get_peft_model(gpt2(), LoraConfig(r=2, target_modules=["c_fc"], fan_in_fan_out=True)))


def torch_weights(folder: Path) -> None:
    """Save weights in the older format, which the Trainer still loads."""
    trainer = train(folder)
    for step in SAVED:
        checkpoint = folder / f"checkpoint-{step}"
        (checkpoint / "model.safetensors").unlink()
        torch.save(trainer.model.state_dict(), checkpoint / "pytorch_model.bin")


def two_ranks(folder: Path) -> None:
    """Write the files that only a checkpoint of two processes has."""
    train(folder)
    for step in SAVED:
        checkpoint = folder / f"checkpoint-{step}"
        (checkpoint / "rng_state.pth").rename(checkpoint / "rng_state_0.pth")
        shutil.copy(checkpoint / "rng_state_0.pth", checkpoint / "rng_state_1.pth")


def fsdp(folder: Path) -> None:
    """Write what FSDP with sharded state dicts writes: two distributed checkpoints, by torch itself."""
    train(folder)
    for step in SAVED:
        checkpoint = folder / f"checkpoint-{step}"
        model = {"model": Classifier().state_dict()}
        (checkpoint / "model.safetensors").unlink()
        (checkpoint / "optimizer.pt").unlink()
        optimizer = {"optimizer": {"exp_avg": torch.ones(300)}}
        with warnings.catch_warnings():
            # torch warns that it saves from a single process.
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            dcp.save(model, checkpoint_id=checkpoint / "pytorch_model_fsdp_0", no_dist=True)
            dcp.save(optimizer, checkpoint_id=checkpoint / "optimizer_0", no_dist=True)


def deepspeed(folder: Path) -> None:
    """Write the files of ZeRO with two processes and DeepSpeed's own scheduler."""
    two_ranks(folder)
    for step in SAVED:
        checkpoint = folder / f"checkpoint-{step}"
        for name in ("model.safetensors", "optimizer.pt", "scheduler.pt"):
            (checkpoint / name).unlink()
        (checkpoint / "latest").write_text(f"global_step{step}")
        inside = checkpoint / f"global_step{step}"
        inside.mkdir()
        for name in ("mp_rank_00_model_states", *(f"zero_pp_rank_{r}_mp_rank_00_optim_states" for r in range(2))):
            torch.save({"state": torch.ones(30)}, inside / f"{name}.pt")


LAYOUTS: dict[str, Callable[[Path], None]] = {
    function.__name__: function
    for function in (plain, stock, weights_alone, sharded, adapters, torch_weights, two_ranks, fsdp, deepspeed)
}

# Every file of checkpoint-4. The files of the second list make no difference to the Trainer.
_RUN = ["optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json"]
_RANKS = ["rng_state_0.pth", "rng_state_1.pth", "trainer_state.json"]
NEEDED = {
    "plain": ["model.safetensors", *_RUN],
    "stock": ["model.safetensors", *_RUN],
    "weights_alone": ["model.safetensors", "trainer_state.json"],
    "sharded": [
        *(f"model-0000{shard}-of-00003.safetensors" for shard in (1, 2, 3)),
        "model.safetensors.index.json",
        *_RUN,
    ],
    "adapters": ["adapter_model.safetensors", *_RUN],
    "torch_weights": ["pytorch_model.bin", *_RUN],
    "two_ranks": ["model.safetensors", "optimizer.pt", "scheduler.pt", *_RANKS],
    "fsdp": [
        *(
            f"{part}/{name}"
            for part in ("pytorch_model_fsdp_0", "optimizer_0")
            for name in (".metadata", "__0_0.distcp")
        ),
        "rng_state.pth",
        "scheduler.pt",
        "trainer_state.json",
    ],
    "deepspeed": [
        "latest",
        "global_step4/mp_rank_00_model_states.pt",
        *(f"global_step4/zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(2)),
        *_RANKS,
    ],
}
UNNEEDED = {
    "sharded": ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"],
    "adapters": ["adapter_config.json"],
}
WITHOUT_END = {"adapters": ["README.md"]}
"""Files of which nothing tells whether they are whole; a resume does not read them."""
