r"""Train an image classifier with MoMo: the paper's experiments, or your own images.

The paper's perceptron on MNIST (a folder with the four idx files):

    python recipes/image_classification.py --config recipes/configs/mnist_mlp.yaml --data_dir data/mnist \
        --output_dir runs/mnist

Your own images in folders train/CLASS/*.png and test/CLASS/*.png, or a data set of the Hub:

    python recipes/image_classification.py --config recipes/configs/cifar10_resnet20.yaml --data_dir data/mine \
        --image_size 32 --output_dir runs/mine
    python recipes/image_classification.py --config recipes/configs/cifar10_resnet20.yaml --dataset_name cifar10 \
        --output_dir runs/cifar10

The folder at the top decides the split (train; test, or else validation, valid, val or dev), the folder in it the
class. On several GPUs, or in several processes on a CPU, each of which takes --per_device_train_batch_size images:

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/image_classification.py \
        --config recipes/configs/cifar10_resnet20.yaml --per_device_train_batch_size 64 --output_dir runs/two

Every setting of the YAML file can be given on the command line, which takes precedence; ``--help`` lists the settings.
``--optim`` takes ``momo``, ``momo_adam`` and every optimizer of the Trainer. For MoMo, ``--learning_rate`` is the
upper limit of the step size. ``sgd`` has ``--sgd_momentum`` and ``--sgd_dampening``. Images are held in memory as
bytes; batches are indexed, augmented and normalised as tensors, so no data loader workers are needed.

A run writes to ``--output_dir``: the model with its image processor, which
``AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)`` loads, and for colour images
``pipeline("image-classification", model=folder, trust_remote_code=True)``; all_results.json with ``eval_accuracy``
(the share of test images that are classified correctly, after the last epoch) and ``eval_loss``; pictures;
record.json, which holds all results; and README.md, the model card. ``--push_to_hub`` pushes the folder.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainerCallback, set_seed

from common.config import parse_settings
from common.pictures import draw_run
from common.processes import agree, check_processes, leave_processes, use_cpu_without_gpu
from common.publishing import push_results, write_results
from common.runs import check_output_dir, checkpoint_to_resume
from hf_momo.hub.record import training_record
from hf_momo.utils.errors import UsageError, run_command
from images.arguments import DataArguments, ImageTrainingArguments, ModelArguments
from images.augmentation import Augmentation
from images.card import IMAGE_CLASSIFICATION
from images.corpus import describe, load_corpus
from images.data import ImageCorpus, ImageDataset, Normalization, collate
from images.model import create_model, image_processor, load_pretrained, saved_normalization
from images.trainer import EpochCallback, ImageTrainer, accuracy, predicted_classes


@dataclass
class Settings:
    """All settings of a run, in the order in which ``parse_settings`` returns them."""

    model: ModelArguments
    data: DataArguments
    training: ImageTrainingArguments

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(str(self.training.output_dir))


def main() -> None:
    """Read the settings, check the input, train, evaluate and write the record."""
    types = (ModelArguments, DataArguments, ImageTrainingArguments)
    use_cpu_without_gpu()
    settings = Settings(*parse_settings(types, __doc__))
    check_processes(settings.training.world_size)
    agree(lambda: check_settings(settings))
    corpus = agree(lambda: load_corpus(settings.data, needed_splits(settings)))
    set_seed(settings.training.seed)
    model = agree(lambda: prepare_model(settings, corpus))
    if settings.model.init_seed is not None:
        set_seed(settings.training.seed)
    normalization = agree(lambda: choose_normalization(settings, corpus))
    trainer = prepare_trainer(settings, corpus, model, normalization)
    if settings.training.do_train:
        train(trainer, settings)
    metrics = evaluate(trainer, settings) if settings.training.do_eval else {}
    if settings.training.do_train:
        record = training_record(trainer, {"model": settings.model, "data": settings.data})
        record |= {"data": describe(corpus, settings.data), "metrics": metrics}
        if trainer.is_world_process_zero():
            write_results(record, settings.folder, IMAGE_CLASSIFICATION)
            print(f"model, scores and record are in {settings.folder}")
        push_results(trainer, record)
    leave_processes()


def needed_splits(settings: Settings) -> list[str]:
    """Return the splits that the run uses."""
    training = settings.training
    during = training.do_train and training.eval_strategy != "no"
    wanted = {"train": training.do_train, "test": training.do_eval or during}
    return [split for split, needed in wanted.items() if needed]


def check_settings(settings: Settings) -> None:
    """Check what would otherwise fail late, and set what the recipe needs."""
    training = settings.training
    if not (training.do_train or training.do_eval):
        raise UsageError("nothing to do: give --do_train or --do_eval, or a --config that does")
    check_output_dir(training, settings.data.overwrite)
    training.resume_from_checkpoint = checkpoint_to_resume(training)
    for name, value in (("sgd_momentum", training.sgd_momentum), ("sgd_dampening", training.sgd_dampening)):
        if not 0 <= value <= 1:
            raise UsageError(f"--{name} {value:g} must be from 0 to 1")
    if settings.data.crop_padding < 0:
        raise UsageError(f"--crop_padding {settings.data.crop_padding} must be 0 (no crops) or more")
    if (settings.data.image_mean is None) != (settings.data.image_std is None):
        raise UsageError("--image_mean and --image_std go together; give both, or neither")
    # The data set returns whole batches, which have no columns to remove.
    training.remove_unused_columns = False
    # Pinned memory speeds up copies to a GPU; without a GPU torch warns.
    training.dataloader_pin_memory = training.dataloader_pin_memory and training.device.type == "cuda"
    if training.ddp_find_unused_parameters is None:
        training.ddp_find_unused_parameters = False


def prepare_model(settings: Settings, corpus: ImageCorpus) -> PreTrainedModel:
    """Return the pretrained model, or a new one for these images."""
    height, width, channels = next(iter(corpus.splits.values())).images.shape[1:]
    if settings.model.model_name_or_path is not None:
        return load_pretrained(settings.model, (height, width, channels), corpus.classes)
    if "train" not in needed_splits(settings):
        raise UsageError("a model from scratch needs --do_train; to evaluate a trained one give --model_name_or_path")
    return create_model(settings.model, (height, width, channels), corpus.classes)


def prepare_trainer(
    settings: Settings, corpus: ImageCorpus, model: PreTrainedModel, normalization: Normalization
) -> ImageTrainer:
    """Return the Trainer with its data sets and callbacks."""
    data, training = settings.data, settings.training
    callbacks: list[TrainerCallback] = []
    augmentation = None
    if training.do_train and (data.crop_padding or data.horizontal_flip):
        count = len(corpus.splits["train"].labels)
        augmentation = Augmentation(count, data.crop_padding, data.horizontal_flip, training.seed)
        callbacks.append(EpochCallback(augmentation))
    train, test = corpus.splits.get("train"), corpus.splits.get("test")
    height = next(iter(corpus.splits.values())).images.shape[1]
    return ImageTrainer(
        model=model,
        args=training,
        train_dataset=None if train is None else ImageDataset(train, normalization, augmentation),
        eval_dataset=None if test is None else ImageDataset(test, normalization),
        data_collator=collate,
        processing_class=image_processor(normalization, height),
        compute_metrics=accuracy,
        preprocess_logits_for_metrics=predicted_classes,
        callbacks=callbacks,
    )


def choose_normalization(settings: Settings, corpus: ImageCorpus) -> Normalization:
    """Return the normalization of the settings, or else of the checkpoint, or else of the training images."""
    data = settings.data
    channels = next(iter(corpus.splits.values())).images.shape[3]
    if data.image_mean is not None and data.image_std is not None:
        if not len(data.image_mean) == len(data.image_std) == channels:
            raise UsageError(
                f"--image_mean and --image_std have {len(data.image_mean)} and {len(data.image_std)} values, but the "
                f"images {channels} channels"
            )
        return Normalization(tuple(data.image_mean), tuple(data.image_std))
    name = settings.model.model_name_or_path
    saved = None if name is None else saved_normalization(name)
    if saved is not None and len(saved.mean) == channels:
        return saved
    if "train" not in corpus.splits:
        raise UsageError(f"{name} has no image processor with mean and deviation; give --image_mean and --image_std")
    return Normalization.of(corpus.splits["train"].images)


def train(trainer: ImageTrainer, settings: Settings) -> None:
    """Train, and save the model and the log before anything else can fail."""
    result = trainer.train(resume_from_checkpoint=settings.training.resume_from_checkpoint)
    trainer.save_model()
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    if settings.data.draw_pictures and trainer.is_world_process_zero():
        title = f"{settings.training.optim}, learning rate {settings.training.learning_rate:g}"
        draw_run(trainer.state.log_history, settings.folder, IMAGE_CLASSIFICATION, title)


def evaluate(trainer: ImageTrainer, settings: Settings) -> dict[str, Any]:
    """Classify the test images, and return accuracy and loss."""
    # `predict`, because `evaluate` would add these scores to the log of the training.
    dataset: Any = trainer.eval_dataset
    output: Any = trainer.predict(dataset, metric_key_prefix="eval")
    trainer.log_metrics("eval", output.metrics)
    trainer.save_metrics("eval", output.metrics)
    return {"test": {"accuracy": output.metrics["eval_accuracy"], "loss": output.metrics["eval_loss"]}}


if __name__ == "__main__":
    sys.exit(run_command(main))
