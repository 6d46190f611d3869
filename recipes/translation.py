r"""Train a translation model with MoMo and score it with BLEU.

From scratch on the built-in German-English sentences, without data and without a network:

    python recipes/translation.py --config recipes/configs/demo.yaml --output_dir runs/demo/momo_adam

From scratch on your own text files with one sentence per line (train.en is found beside train.de):

    python recipes/translation.py --config recipes/configs/multi30k.yaml --output_dir runs/multi30k \
        --train_file data/train.de.gz --validation_file data/val.de.gz --test_file data/test_2016_flickr.de.gz

Files may also be JSON lines or CSV, and end in .gz, .bz2 or .xz. For Moses-tokenized text, such as prepare_iwslt14.py
writes, give ``--moses_tokenized`` (recipes/configs/iwslt14_de_en.yaml): BLEU and chrF are computed on the detokenized
text, and ``bleu_tokenized_lowercased`` on the tokens, as the literature does for IWSLT14. The two kinds of BLEU must
not be compared with each other.

Fine-tuning a checkpoint, here on a data set of the Hub (recipes/configs/finetune_*.yaml has a file for each family):

    python recipes/translation.py --config recipes/configs/finetune_marian.yaml --dataset_name bentrevett/multi30k \
        --output_dir runs/opus

``--source_lang`` and ``--target_lang`` name the languages in the data. A multilingual checkpoint has codes of its own
for them: for NLLB, ``--source_lang_code deu_Latn --target_lang_code eng_Latn``. ``--use_peft`` trains LoRA adapters
instead of the whole checkpoint and saves them alone; ``--merge_adapters`` saves a whole model.

On several GPUs, or in several processes on a CPU, each of which takes --per_device_train_batch_size sentences:

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/translation.py \
        --config recipes/configs/demo.yaml --per_device_train_batch_size 16 --output_dir runs/demo/two_processes

Every setting of the YAML file can be given on the command line, which takes precedence. Settings are called as in
``Seq2SeqTrainingArguments`` and in Hugging Face's run_translation.py. ``--optim`` takes ``momo_adam``, ``momo`` and
every optimizer of the Trainer. For MoMo, ``--learning_rate`` is the upper limit of the step size. Differences from
Hugging Face's defaults: ``optim`` is ``momo_adam``; ``learning_rate`` is the default of the chosen optimizer; the
evaluation after training always generates translations and scores them; a folder with a finished run is refused
without ``--overwrite``.

A run writes to ``--output_dir``: the model with its tokenizer, which ``pipeline("translation", model=folder,
trust_remote_code=True)`` loads; all_results.json; generated_predictions.txt, and generated_predictions.tokenized.txt
for tokenized text; loss.png, bleu.png and step_size.png; trainer_state.json; record.json, which holds all results; and
README.md, the model card. ``--push_to_hub`` pushes the folder.
"""

import copy
import sys
from typing import Any

from datasets import Dataset, DatasetDict, disable_progress_bars
from transformers import EarlyStoppingCallback, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from common.config import parse_settings
from common.processes import agree, check_processes, leave_processes, on_main_process, print_once, use_cpu_without_gpu
from common.publishing import publish_run
from common.runs import save_training
from hf_momo import MomoSeq2SeqTrainingArguments
from hf_momo.utils.errors import UsageError, run_command
from machine_translation.adapters import has_adapters, merge_adapters
from machine_translation.arguments import DataArguments, ModelArguments
from machine_translation.averaging import average_checkpoints
from machine_translation.batching import TranslationCollator, tokenize
from machine_translation.card import TOKENIZED_BLEU, TRANSLATION
from machine_translation.corpus import EMBEDDED, load_corpus
from machine_translation.evaluation import (
    PREDICTIONS_NAME,
    TOKENIZED_PREDICTIONS_NAME,
    TranslationScorer,
    describe_corpus,
    sample_translations,
    write_predictions,
)
from machine_translation.model import create_model, load_pretrained, load_tokenizer
from machine_translation.settings import Settings, check_settings, needed_splits
from machine_translation.tokenizer import train_token_tokenizer, train_tokenizer
from machine_translation.trainer import TranslationTrainer

# Prefixes of the metrics in all_results.json, as in run_translation.py.
_PREFIXES = {"validation": "eval", "test": "predict"}


def main() -> None:
    """Read the settings, check the input, train, evaluate and write the record."""
    types = (ModelArguments, DataArguments, MomoSeq2SeqTrainingArguments)
    use_cpu_without_gpu()
    settings = Settings(*parse_settings(types, __doc__))
    check_processes(settings.training.world_size)
    if settings.training.process_index > 0:
        disable_progress_bars()
    agree(lambda: check_settings(settings))
    corpus = agree(lambda: load_corpus(settings.data, needed_splits(settings)))
    set_seed(settings.training.seed)
    model, tokenizer = prepare_model(settings, corpus)
    encoded = encode(settings, corpus, model, tokenizer)
    scorer = TranslationScorer(tokenizer, corpus, settings.data)
    trainer = prepare_trainer(settings, encoded, model, tokenizer, scorer)
    averaged = train(trainer, settings) if settings.training.do_train else []
    results = evaluate(trainer, scorer, settings, encoded)
    if settings.training.do_train:
        results = {"data": describe_corpus(corpus, settings.data), **results}
        if settings.data.dataset_name == EMBEDDED:  # not a data set of the Hub
            results["datasets"] = []
        if averaged:
            results["averaged_checkpoints"] = averaged
        if has_adapters(trainer.model):
            results["library_name"] = "peft"
        publish_run(trainer, settings, TRANSLATION, results)
    leave_processes()


def prepare_model(settings: Settings, corpus: DatasetDict) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the pretrained model with its tokenizer, or a new model with the tokenizer for it."""
    if settings.model.model_name_or_path is not None:
        return agree(lambda: load_pretrained(settings.model, settings.data))
    if "train" not in corpus:
        raise UsageError("a model from scratch needs --do_train; to evaluate a trained one give --model_name_or_path")
    tokenizer = scratch_tokenizer(settings, corpus)
    return agree(lambda: create_model(settings.model, settings.data, tokenizer)), tokenizer


def scratch_tokenizer(settings: Settings, corpus: DatasetDict) -> PreTrainedTokenizerBase:
    """Return ``--tokenizer_name``, or a tokenizer trained on the training sentences of both languages."""
    if (name := settings.model.tokenizer_name) is not None:
        return agree(lambda: load_tokenizer(name))
    sentences = [sentence for pair in corpus["train"]["translation"] for sentence in pair.values()]
    size = settings.model.vocab_size
    if settings.data.moses_tokenized:
        return on_main_process(lambda: train_token_tokenizer(sentences, vocab_size=size))
    return on_main_process(lambda: train_tokenizer(sentences, size))


def encode(
    settings: Settings, corpus: DatasetDict, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> DatasetDict:
    """Return the token ids of all splits; targets begin with the token with which generation is forced to begin."""
    generation: Any = model.generation_config
    options = {"forced_bos": generation.forced_bos_token_id}
    return DatasetDict(
        {
            name: tokenize(pairs, tokenizer, settings.data, cut_targets=name == "train", **options)
            for name, pairs in corpus.items()
        }
    )


def prepare_trainer(
    settings: Settings,
    encoded: DatasetDict,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    scorer: TranslationScorer,
) -> TranslationTrainer:
    """Return the Trainer with its data sets and callbacks."""
    callbacks: list[TrainerCallback] = []
    if settings.data.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=settings.data.early_stopping_patience))
    return TranslationTrainer(
        model=model,
        args=settings.training,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        data_collator=TranslationCollator(tokenizer, model=model),
        processing_class=tokenizer,
        compute_metrics=scorer if settings.training.predict_with_generate else None,
        callbacks=callbacks,
        max_tokens_per_batch=settings.data.max_tokens_per_batch,
    )


def train(trainer: TranslationTrainer, settings: Settings) -> list[int]:
    """Train, and save the model and the log before anything else can fail.

    Returns:
        The steps of the checkpoints that were averaged; empty without ``--average_checkpoints``.
    """
    model: Any = trainer.model
    generation_config = copy.deepcopy(model.generation_config)
    result = trainer.train(resume_from_checkpoint=settings.training.resume_from_checkpoint)
    averaged: list[int] = []
    if (count := settings.model.average_checkpoints) is not None:
        averaged = average_checkpoints(trainer, count)
        print_once(f"averaged {len(averaged)} checkpoints, of the steps {', '.join(map(str, averaged))}")
    if settings.model.merge_adapters:
        merge_adapters(trainer)
    trainer.enable_pipeline(generation_config)
    predictions = (PREDICTIONS_NAME, TOKENIZED_PREDICTIONS_NAME)
    save_training(trainer, result.metrics, settings, TRANSLATION, other_results=predictions)
    return averaged


def evaluate(
    trainer: TranslationTrainer, scorer: TranslationScorer, settings: Settings, encoded: DatasetDict
) -> dict[str, Any]:
    """Translate validation and test with beam search, score the translations and print some.

    With ``--prediction_loss_only`` the loss alone is measured, in a fraction of the time.

    Returns:
        ``metrics`` of each split, and ``samples`` of the last split.
    """
    translates = not settings.training.prediction_loss_only
    settings.training.predict_with_generate = translates
    trainer.compute_metrics = scorer if translates else None
    wanted = {"validation": settings.training.do_eval, "test": settings.training.do_predict}
    results: dict[str, Any] = {"metrics": {}}
    for split in (split for split, needed in wanted.items() if needed):
        if not translates:
            prefix = _PREFIXES[split]
            measured: Any = trainer.predict(encoded[split], None, prefix).metrics
            trainer.log_metrics(prefix, measured)
            trainer.save_metrics(prefix, measured)
            results["metrics"][split] = {"loss": measured[f"{prefix}_loss"]}
            continue
        translations, loss = translate(trainer, scorer, settings, encoded[split], split)
        scores = scorer.score(translations, split)
        results["metrics"][split] = {"bleu": scores.pop("score"), "loss": loss, **scores}
        results["samples"] = sample_translations(scorer.sources[split], scorer.references[split], translations)
        if trainer.is_world_process_zero():
            write_predictions(settings.folder, scorer.detokenize(translations))
            if settings.data.moses_tokenized:
                write_predictions(settings.folder, translations, TOKENIZED_PREDICTIONS_NAME)
            for sample in results["samples"]:
                print("\n".join(f"{name:12}{sentence}" for name, sentence in sample.items()) + "\n")
            final = results["metrics"][split]
            print(f"{split}: BLEU {final['bleu']:.2f}  {final['signature']}")
            print(f"{split}: chrF {final['chrf']:.2f}  {final['chrf_signature']}")
            if TOKENIZED_BLEU in final:
                print(f"{split}: {TOKENIZED_BLEU} {final[TOKENIZED_BLEU]:.2f}  {final[f'{TOKENIZED_BLEU}_signature']}")
    return results


def translate(
    trainer: TranslationTrainer, scorer: TranslationScorer, settings: Settings, dataset: Dataset, split: str
) -> tuple[list[str], float]:
    """Return the translations of a split and its loss."""
    scorer.split, prefix = split, _PREFIXES[split]
    beams = settings.data.num_beams or settings.training.generation_num_beams or 1
    # `predict`, because `evaluate` would add these scores to the log of the training.
    penalty = settings.data.length_penalty
    options = {"num_beams": beams} | ({} if penalty is None else {"length_penalty": penalty})
    output: Any = trainer.predict(dataset, None, prefix, **options)
    trainer.log_metrics(prefix, output.metrics)
    trainer.save_metrics(prefix, output.metrics)
    return scorer.decode(output.predictions, split), output.metrics[f"{prefix}_loss"]


if __name__ == "__main__":
    sys.exit(run_command(main))
