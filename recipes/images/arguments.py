"""The settings of the image classification recipe beside the Trainer's."""

from dataclasses import dataclass, field

from hf_momo import MomoTrainingArguments


@dataclass
class ModelArguments:
    """Which model is trained: a pretrained one, or one from scratch."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint folder or Hub id to fine-tune. Left out: train from scratch."}
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
        metadata={"help": "From scratch: seed of the first weights, to share them among runs. Left out: --seed."},
    )


@dataclass
class DataArguments:
    """What is classified, and how the images are prepared."""

    data_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the images: MNIST's idx files (.gz too), the CIFAR or ImageNet32 batches for Python, "
            "or folders train and test (or validation) with one folder of images a class; or an .npz file with "
            "x_train, y_train, x_test, y_test."
        },
    )
    dataset_name: str | None = field(default=None, metadata={"help": "Hub dataset id, in place of --data_dir."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of the Hub dataset."})
    image_column_name: str | None = field(
        default=None, metadata={"help": "Column of the Hub dataset with the images. Left out: the one that is there."}
    )
    label_column_name: str | None = field(
        default=None, metadata={"help": "Column of the Hub dataset with the classes. Left out: the one that is there."}
    )
    eval_split_name: str | None = field(
        default=None,
        metadata={"help": "Split of the Hub dataset to evaluate on. Left out: test, or else validation."},
    )
    image_size: int | None = field(
        default=None,
        metadata={"help": "Resize images of folders and of the Hub to this height and width. Left out: as they are."},
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Use only the first N training images."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use only the first N test images."})
    image_mean: list[float] | None = field(
        default=None,
        metadata={"help": "Mean of each channel, of values from 0 to 1. Left out: that of the training images."},
    )
    image_std: list[float] | None = field(
        default=None,
        metadata={"help": "Standard deviation of each channel. Left out: that of the training images."},
    )
    crop_padding: int = field(
        default=0,
        metadata={"help": "Pad training images by N black pixels on each side and crop them back at random."},
    )
    horizontal_flip: bool = field(default=False, metadata={"help": "Mirror every other training image, at random."})
    draw_pictures: bool = field(
        default=True,
        metadata={"help": "Draw loss, accuracy and step size; false saves a sweep of short runs seconds."},
    )
    overwrite: bool = field(default=False, metadata={"help": "Train although --output_dir holds a finished run."})


@dataclass
class ImageTrainingArguments(MomoTrainingArguments):
    """`MomoTrainingArguments`, with the momentum of `--optim sgd`, for which transformers 4 has no argument."""

    sgd_momentum: float = field(default=0.0, metadata={"help": "Momentum of --optim sgd, from 0 to below 1."})
    sgd_dampening: float = field(
        default=0.0,
        metadata={"help": "Dampening of --optim sgd; equal to the momentum it averages the gradients as Momo does."},
    )
