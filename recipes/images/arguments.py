"""Settings of the image classification recipe in addition to those of the Trainer."""

from dataclasses import dataclass, field

from hf_momo import MomoTrainingArguments


@dataclass
class ModelArguments:
    """Settings of the model: a pretrained one, or one from scratch."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint folder or Hub id to fine-tune. Default: train from scratch."}
    )
    model_type: str = field(
        default="cifar_resnet",
        metadata={
            "help": "From scratch: image_mlp, cifar_resnet, cifar_vgg, or an image classifier of transformers "
            "(vit, ...)."
        },
    )
    model_config: str | None = field(
        default=None,
        metadata={"help": "From scratch: settings of the model as JSON, e.g. '{\"hidden_sizes\": [100, 100]}'."},
    )
    init_seed: int | None = field(
        default=None,
        metadata={"help": "From scratch: seed of the initial weights, so that runs can share them. Default: --seed."},
    )


@dataclass
class DataArguments:
    """Settings of the data and of its augmentation."""

    data_dir: str | None = field(
        default=None,
        metadata={
            "help": "MNIST's idx files, the Python batches of CIFAR or ImageNet32, folders train and test (or "
            "validation) with one folder of images per class, or an .npz file with x_train, y_train, x_test, y_test."
        },
    )
    dataset_name: str | None = field(default=None, metadata={"help": "Hub data set id, instead of --data_dir."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of the Hub data set."})
    image_column_name: str | None = field(
        default=None, metadata={"help": "Column of the images. Default: the only one."}
    )
    label_column_name: str | None = field(
        default=None, metadata={"help": "Column of the classes. Default: the only one."}
    )
    eval_split_name: str | None = field(
        default=None,
        metadata={"help": "Split, or folder of --data_dir, to evaluate on. Default: test, or else validation."},
    )
    image_size: int | None = field(
        default=None,
        metadata={"help": "Resize images of folders and of the Hub to this height and width. Default: no resizing."},
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Use only the first N training images."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use only the first N test images."})
    image_mean: list[float] | None = field(
        default=None,
        metadata={"help": "Mean of each channel, for pixel values from 0 to 1. Default: that of the training images."},
    )
    image_std: list[float] | None = field(
        default=None,
        metadata={"help": "Standard deviation of each channel. Default: that of the training images."},
    )
    crop_padding: int = field(
        default=0,
        metadata={
            "help": "Random crops: pad training images by N black pixels on each side and crop them to their size."
        },
    )
    horizontal_flip: bool = field(
        default=False, metadata={"help": "Mirror training images at random, with probability 1/2."}
    )
    draw_pictures: bool = field(
        default=True,
        metadata={"help": "Draw loss, accuracy and step size; false makes short runs faster."},
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace a finished run in --output_dir."})


@dataclass
class ImageTrainingArguments(MomoTrainingArguments):
    """``MomoTrainingArguments`` with the momentum of ``--optim sgd``, for which the Trainer has no argument."""

    sgd_momentum: float = field(default=0.0, metadata={"help": "Momentum of --optim sgd, from 0 to 1."})
    sgd_dampening: float = field(
        default=0.0,
        metadata={"help": "Dampening of --optim sgd. If equal to the momentum, gradients are averaged as by Momo."},
    )
