r"""Train a translation model with MoMo and score it with BLEU.

From scratch on the built-in German-English sentences, which needs no data and no network:

    python recipes/translation.py --config recipes/configs/demo.yaml --output_dir runs/demo/momo_adam

From scratch on text files of your own, one sentence a line (train.en is found beside train.de; .gz, JSON lines and CSV
work too):

    python recipes/translation.py --config recipes/configs/multi30k.yaml --output_dir runs/multi30k \
        --train_file data/train.de.gz --validation_file data/val.de.gz --test_file data/test_2016_flickr.de.gz

On Moses-tokenized text, such as `prepare_iwslt14.py` leaves (`--moses_tokenized`, recipes/configs/iwslt14_de_en.yaml),
BLEU and chrF are of the detokenized text; `bleu_tokenized_lowercased` is the score of the tokens, as the literature
reports it for IWSLT14, and not to be set beside the other.

Fine-tuning a checkpoint on a data set of the Hub:

    python recipes/translation.py --model_name_or_path Helsinki-NLP/opus-mt-de-en --dataset_name bentrevett/multi30k \
        --source_lang de --target_lang en --do_train --do_eval --do_predict --learning_rate 1e-4 --max_grad_norm 0 \
        --num_train_epochs 1 --output_dir runs/opus

On several GPUs, or several processes on a CPU; each takes batches of --per_device_train_batch_size:

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/translation.py \
        --config recipes/configs/demo.yaml --per_device_train_batch_size 16 --output_dir runs/demo/two_processes

Every setting of the YAML file can be given on the command line, where it wins; the names are those of
`Seq2SeqTrainingArguments` and of Hugging Face's own run_translation.py. `--optim` takes `momo_adam`, `momo` and every
optimizer of the Trainer; for the first two `--learning_rate` is the cap of the step size. What differs from Hugging
Face's defaults: `optim` is `momo_adam`, `learning_rate` is the default of the chosen optimizer, the evaluation after
training always generates text and scores it, and a folder with a finished run is refused unless
`--overwrite` is given.

A run leaves in `--output_dir`: the model with its tokenizer, loaded by
`pipeline("translation", model=folder, trust_remote_code=True)`; all_results.json; generated_predictions.txt, and for
tokenized text generated_predictions.tokenized.txt; loss.png, bleu.png and step_size.png; trainer_state.json;
record.json, all of the above in numbers; and README.md, the model card made of it. `--push_to_hub` pushes the folder.
"""

import copy
import sys
from typing import Any

from datasets import Dataset, DatasetDict, disable_progress_bars
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)

from common.config import parse_settings
from common.pictures import draw_run
from common.processes import (
    agree,
    check_processes,
    leave_processes,
    on_main_process,
    print_once,
    use_cpu_without_gpu,
)
from common.publishing import push_results, write_results
from common.records import RECORD_NAME
from hf_momo import MomoSeq2SeqTrainingArguments
from hf_momo.hub.record import training_record
from hf_momo.utils.errors import UsageError, run_command
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

# Split to the prefix of its numbers in all_results.json, as in run_translation.py.
_PREFIXES = {"validation": "eval", "test": "predict"}
# What only a finished run leaves.
OLD_RESULTS = (
    "all_results.json",
    "eval_results.json",
    "predict_results.json",
    PREDICTIONS_NAME,
    TOKENIZED_PREDICTIONS_NAME,
    RECORD_NAME,
)


def main() -> None:
    """Read the settings, check the input, train, evaluate, record."""
    types = (ModelArguments, DataArguments, MomoSeq2SeqTrainingArguments)
    use_cpu_without_gpu()
    settings = Settings(*parse_settings(types, "Train a translation model and score it with BLEU."))
    check_processes(settings.training.world_size)
    if settings.training.process_index > 0:
        disable_progress_bars()
    agree(lambda: check_settings(settings))
    corpus = agree(lambda: load_corpus(settings.data, needed_splits(settings)))
    set_seed(settings.training.seed)
    model, tokenizer = prepare_model(settings, corpus)
    encoded = DatasetDict(
        {
            name: tokenize(pairs, tokenizer, settings.data, cut_targets=name == "train")
            for name, pairs in corpus.items()
        }
    )
    scorer = TranslationScorer(tokenizer, corpus, settings.data)
    trainer = prepare_trainer(settings, encoded, model, tokenizer, scorer)
    averaged = train(trainer, settings) if settings.training.do_train else []
    results = evaluate(trainer, scorer, settings, encoded)
    if settings.training.do_train:
        record = training_record(trainer, {"model": settings.model, "data": settings.data})
        record |= {"data": describe_corpus(corpus, settings.data), **results}
        if settings.data.dataset_name == EMBEDDED:  # the one name that is not of the Hub
            record["datasets"] = []
        if averaged:
            record["averaged_checkpoints"] = averaged
        if trainer.is_world_process_zero():
            write_results(record, settings.folder, TRANSLATION)
            print(f"model, scores and pictures are in {settings.folder}")
        push_results(trainer, record)
    leave_processes()


def prepare_model(settings: Settings, corpus: DatasetDict) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A pretrained model, or a new one with a vocabulary learned from the training sentences of both languages."""
    if settings.model.model_name_or_path is not None:
        return agree(lambda: load_pretrained(settings.model, settings.data))
    if "train" not in corpus:
        raise UsageError("a model from scratch needs --do_train; to evaluate a trained one give --model_name_or_path")
    tokenizer = scratch_tokenizer(settings, corpus)
    return agree(lambda: create_model(settings.model, settings.data, tokenizer)), tokenizer


def scratch_tokenizer(settings: Settings, corpus: DatasetDict) -> PreTrainedTokenizerBase:
    """The tokenizer that was given, or one learned from the training sentences of both languages."""
    if (name := settings.model.tokenizer_name) is not None:
        return agree(lambda: load_tokenizer(name))
    sentences = [sentence for pair in corpus["train"]["translation"] for sentence in pair.values()]
    size = settings.model.vocab_size
    if settings.data.moses_tokenized:
        return on_main_process(lambda: train_token_tokenizer(sentences, vocab_size=size))
    return on_main_process(lambda: train_tokenizer(sentences, size))


def prepare_trainer(
    settings: Settings,
    encoded: DatasetDict,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    scorer: TranslationScorer,
) -> TranslationTrainer:
    """The Trainer, with the callbacks that were asked for."""
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
    """Train, and save all that training gave before anything else can fail.

    Returns:
        The steps of the checkpoints whose mean the model is; none where it is not one.
    """
    model: Any = trainer.model
    checkpoint: Any = settings.training.resume_from_checkpoint
    if str(checkpoint).lower() in ("true", "false"):
        checkpoint = str(checkpoint).lower() == "true"
    generation_config = copy.deepcopy(model.generation_config)
    result = trainer.train(resume_from_checkpoint=checkpoint)
    averaged: list[int] = []
    if (count := settings.model.average_checkpoints) is not None:
        averaged = average_checkpoints(trainer, count)
        print_once(f"averaged {len(averaged)} checkpoints, of the steps {', '.join(map(str, averaged))}")
    if trainer.is_world_process_zero():
        # The results of an overwritten run stay until here, and no longer: all_results.json is added to, not replaced.
        for name in OLD_RESULTS:
            (settings.folder / name).unlink(missing_ok=True)
    trainer.save_for_pipeline(generation_config)
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    if trainer.is_world_process_zero():
        title = f"{settings.training.optim}, learning rate {settings.training.learning_rate:g}"
        draw_run(trainer.state.log_history, settings.folder, TRANSLATION, title)
    return averaged


def evaluate(
    trainer: TranslationTrainer, scorer: TranslationScorer, settings: Settings, encoded: DatasetDict
) -> dict[str, Any]:
    """Translate validation and test with beam search, score them, and show a few.

    Returns:
        `metrics` by split, and `samples` of the last split.
    """
    settings.training.predict_with_generate = True
    trainer.compute_metrics = scorer
    wanted = {"validation": settings.training.do_eval, "test": settings.training.do_predict}
    results: dict[str, Any] = {"metrics": {}}
    for split in (split for split, needed in wanted.items() if needed):
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
    """The translations of a split and its loss."""
    scorer.split, prefix = split, _PREFIXES[split]
    beams = settings.data.num_beams or settings.training.generation_num_beams or 1
    # predict and not evaluate: it stays out of the log, whose scores are those while training.
    penalty = settings.data.length_penalty
    options = {"num_beams": beams} | ({} if penalty is None else {"length_penalty": penalty})
    output: Any = trainer.predict(dataset, None, prefix, **options)
    trainer.log_metrics(prefix, output.metrics)
    trainer.save_metrics(prefix, output.metrics)
    return scorer.decode(output.predictions, split), output.metrics[f"{prefix}_loss"]


if __name__ == "__main__":
    sys.exit(run_command(main))
