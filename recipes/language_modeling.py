r"""Train a causal language model with MoMo, from scratch on your text or from a checkpoint.

From scratch, with a tokenizer learned from the text:

    python recipes/language_modeling.py --config recipes/configs/tiny_lm.yaml --train_file data/tinyshakespeare.txt \
        --output_dir runs/tiny_lm

Fine-tuning a checkpoint on a dataset of the Hub:

    python recipes/language_modeling.py --model_name_or_path gpt2 --dataset_name wikitext \
        --dataset_config_name wikitext-2-raw-v1 --do_train --do_eval --block_size 512 --num_train_epochs 1 \
        --learning_rate 1e-4 --lr_scheduler_type cosine --warmup_steps 100 --max_grad_norm 0 --output_dir runs/gpt2

On several GPUs, or on several CPU processes:

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/language_modeling.py \
        --config recipes/configs/tiny_lm.yaml --train_file data/tinyshakespeare.txt --output_dir runs/two

Every setting of the YAML file can also be given on the command line, where it wins. The names are those of
``TrainingArguments`` and of Hugging Face's run_clm.py. ``--optim`` takes momo_adam, momo and every optimizer of the
Trainer; for the first two ``--learning_rate`` is the cap on the step size.

A run writes to ``--output_dir``: the model with its tokenizer, for ``pipeline("text-generation", model=folder)``;
all_results.json with ``eval_loss``, ``eval_perplexity`` (per token) and ``eval_bits_per_byte`` (comparable between
tokenizers); loss.png and step_size.png; trainer_state.json; record.json with all results and a sample; and README.md,
the model card made from it. ``--push_to_hub`` pushes the folder.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase, default_data_collator, set_seed

from common.config import parse_settings
from common.pictures import draw_run
from common.processes import agree, check_processes, leave_processes, on_main_process, use_cpu_without_gpu
from common.publishing import push_results, write_results
from common.records import RECORD_NAME
from hf_momo import MomoTrainer, MomoTrainingArguments
from hf_momo.hub.record import training_record
from hf_momo.utils.errors import UsageError, run_command
from language_models.arguments import DataArguments, ModelArguments
from language_models.card import LANGUAGE_MODELING
from language_models.corpus import Blocks, cut_into_blocks, describe, load_texts
from language_models.model import load_tokenizer, prepare_model, train_tokenizer


@dataclass
class Settings:
    """All settings of a run, in the order in which they are parsed."""

    model: ModelArguments
    data: DataArguments
    training: MomoTrainingArguments

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        return Path(str(self.training.output_dir))


def main() -> None:
    """Read the settings, check the input, train, evaluate and write the record."""
    use_cpu_without_gpu()
    types = (ModelArguments, DataArguments, MomoTrainingArguments)
    settings = Settings(*parse_settings(types, "Train a causal language model and measure its perplexity."))
    check_processes(settings.training.world_size)
    agree(lambda: check_settings(settings))
    given = agree(lambda: load_tokenizer(settings.model))
    texts = agree(lambda: load_texts(settings.data))
    tokenizer = given or on_main_process(lambda: train_tokenizer(texts["train"]["text"], settings.model.vocab_size))
    blocks = agree(lambda: prepare_blocks(settings.data, texts, tokenizer))
    set_seed(settings.training.seed)
    model: Any = agree(lambda: prepare_model(settings.model, tokenizer, settings.data.block_size))
    trainer = MomoTrainer(
        model=model,
        args=settings.training,
        train_dataset=blocks["train"].dataset,
        eval_dataset=blocks["validation"].dataset,
        data_collator=default_data_collator,
        processing_class=tokenizer,
    )
    if settings.training.do_train:
        train(trainer, settings)
    metrics = evaluate(trainer, blocks["validation"]) if settings.training.do_eval else {}
    record = None
    if trainer.is_world_process_zero():
        samples = generate(trainer, tokenizer, settings.data, texts["validation"]["text"])
        if settings.training.do_train:
            record = training_record(trainer, {"model": settings.model, "data": settings.data})
            record |= {"data": describe(settings.data, blocks), "samples": samples}
            record["metrics"] = {"validation": metrics} if metrics else {}
            write_results(record, settings.folder, LANGUAGE_MODELING)
            print(f"model, scores and record are in {settings.folder}")
    if settings.training.do_train:
        push_results(trainer, record)
    leave_processes()


def prepare_blocks(data: DataArguments, texts: DatasetDict, tokenizer: PreTrainedTokenizerBase) -> dict[str, Blocks]:
    """Return the blocks of both splits."""
    limits = {"train": data.max_train_samples, "validation": data.max_eval_samples}
    return {
        split: cut_into_blocks(texts[split], tokenizer, data.block_size, limit, split)
        for split, limit in limits.items()
    }


def check_settings(settings: Settings) -> None:
    """Check the settings that would fail only later, and protect a finished run.

    Raises:
        UsageError: If a setting is invalid; the message names it, its value and what to do.
    """
    training, data, folder = settings.training, settings.data, settings.folder
    if not (training.do_train or training.do_eval):
        raise UsageError("nothing to do: give --do_train or --do_eval, or a --config that does")
    if not training.do_train and settings.model.model_name_or_path is None:
        raise UsageError("a model from scratch needs --do_train; to evaluate a trained one give --model_name_or_path")
    if data.block_size < 2:
        raise UsageError(f"--block_size {data.block_size}: must be 2 or more; the first token is not predicted")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output_dir {folder} is a file; give a folder")
    if training.do_train and (folder / RECORD_NAME).exists() and not data.overwrite:
        raise UsageError(f"--output_dir {folder} holds a finished run; give another, or --overwrite")
    # The logits of a whole text would fill the memory, and only the loss is needed.
    training.prediction_loss_only = True
    # Without a GPU torch warns about pinned memory.
    training.dataloader_pin_memory = training.dataloader_pin_memory and training.device.type == "cuda"
    if training.ddp_find_unused_parameters is None:
        training.ddp_find_unused_parameters = False


def train(trainer: MomoTrainer, settings: Settings) -> None:
    """Train, and save all results of training before anything else can fail."""
    checkpoint: Any = settings.training.resume_from_checkpoint
    if str(checkpoint).lower() in ("true", "false"):
        checkpoint = str(checkpoint).lower() == "true"
    result = trainer.train(resume_from_checkpoint=checkpoint)
    model: Any = trainer.model
    # The Trainer switches the cache off for training and leaves it off.
    model.config.use_cache = True
    if trainer.is_world_process_zero():
        # Results of an overwritten run are deleted only now; the Trainer merges new ones into all_results.json.
        for name in ("all_results.json", "eval_results.json", RECORD_NAME):
            (settings.folder / name).unlink(missing_ok=True)
    trainer.save_model()
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    if settings.data.draw_pictures and trainer.is_world_process_zero():
        title = f"{settings.training.optim}, learning rate {settings.training.learning_rate:g}"
        draw_run(trainer.state.log_history, settings.folder, LANGUAGE_MODELING, title)


def evaluate(trainer: MomoTrainer, blocks: Blocks) -> dict[str, float]:
    """Return the loss and the perplexity per token, and the bits per byte of the text."""
    # Unlike evaluate, predict does not add to the log, which holds the losses during training.
    dataset: Any = blocks.dataset
    metrics: Any = trainer.predict(dataset, metric_key_prefix="eval").metrics
    loss = metrics["eval_loss"]
    metrics["eval_perplexity"] = math.exp(loss) if loss < 700 else math.inf
    metrics["eval_bits_per_byte"] = loss / math.log(2) * blocks.num_tokens / blocks.num_bytes
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
    return {name: metrics[f"eval_{name}"] for name in ("loss", "perplexity", "bits_per_byte")}


def generate(
    trainer: MomoTrainer, tokenizer: PreTrainedTokenizerBase, data: DataArguments, texts: list[str]
) -> list[dict[str, str]]:
    """Return a sampled continuation of the prompt, or nothing with ``--max_new_tokens 0``."""
    if data.max_new_tokens <= 0:
        return []
    lines = (line for text in texts for line in text.splitlines() if line.strip())
    prompt = data.prompt if data.prompt is not None else next(lines)
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    tokens: Any = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    longest = getattr(model.config, "max_position_embeddings", None) or tokens.shape[1] + data.max_new_tokens
    new_tokens = min(data.max_new_tokens, longest - 1)
    tokens = tokens[:, -(longest - new_tokens) :].to(model.device)
    set_seed(trainer.args.seed)
    model.eval()
    output = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=True,
        max_new_tokens=new_tokens,
        pad_token_id=tokenizer.eos_token_id,
    )
    text = str(tokenizer.decode(output[0, tokens.shape[1] :], skip_special_tokens=True))
    print(f"{prompt}[...]{text}\n")
    return [{"prompt": prompt, "text": text}]


if __name__ == "__main__":
    sys.exit(run_command(main))
