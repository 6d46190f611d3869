"""The settings of the click-through rate recipe, named as in ``TrainingArguments`` where it has them."""

from dataclasses import dataclass, field

from click_through.criteo import CATEGORIES


@dataclass
class ModelArguments:
    """The model: a saved one, or one from scratch with the sizes given here."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of a saved DLRM. Default: train from scratch."}
    )
    hash_sizes: list[int] = field(
        default_factory=lambda: [100_000],
        metadata={
            "help": f"Rows of the embedding table of each category: one number for all, or {CATEGORIES} numbers."
        },
    )
    embedding_size: int = field(default=16, metadata={"help": "Width of the embeddings."})
    bottom_hidden_sizes: list[int] = field(
        default_factory=lambda: [512, 256, 64],
        metadata={"help": "Hidden widths of the network that reads the counts."},
    )
    top_hidden_sizes: list[int] = field(
        default_factory=lambda: [512, 256], metadata={"help": "Hidden widths of the network that computes the logit."}
    )


@dataclass
class DataArguments:
    """The log, and how it is read."""

    train_files: list[str] = field(
        default_factory=list,
        metadata={
            "help": "The log to train on, in the raw format of Criteo: paths or addresses (hf://datasets/..., "
            "https://...), also compressed; several are read one after the other."
        },
    )
    validation_files: list[str] = field(default_factory=list, metadata={"help": "The log to evaluate on."})
    test_files: list[str] = field(default_factory=list, metadata={"help": "The log to test on after training."})
    data_name: str | None = field(
        default=None, metadata={"help": "Name of the data in the record, e.g. 'Criteo Kaggle, subset of 8,000 rows'."}
    )
    max_train_rows: int | None = field(default=None, metadata={"help": "Use only the first N rows to train."})
    max_eval_rows: int | None = field(default=None, metadata={"help": "Use only the first N rows of each evaluation."})
    shuffle_buffer: int = field(
        default=100_000,
        metadata={"help": "Size of the shuffle buffer in rows, 160 bytes each; 0 keeps the order of the log."},
    )


@dataclass
class LoopArguments:
    """The optimizer, the schedule and the output of the loop."""

    output_dir: str = field(default="", metadata={"help": "Folder of the results."})
    do_train: bool = field(default=False, metadata={"help": "Train."})
    do_eval: bool = field(default=False, metadata={"help": "Evaluate on --validation_files after training."})
    do_predict: bool = field(default=False, metadata={"help": "Evaluate on --test_files after training."})
    overwrite: bool = field(default=False, metadata={"help": "Overwrite a finished run in --output_dir."})
    optim: str = field(default="momo_adam", metadata={"help": "An optimizer of hf_momo, adamw_torch, sgd or adagrad."})
    optim_args: str | None = field(
        default=None, metadata={"help": "Further options of an optimizer of hf_momo, e.g. adapt_lower_bound=true."}
    )
    learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Learning rate; for optimizers of hf_momo the cap on the step size. Default: the optimizer's own, "
            "0.01 for momo_adam, 1.0 for momo, torch's for those of torch."
        },
    )
    weight_decay: float = field(default=0.0, metadata={"help": "Weight decay; not applied to biases."})
    adam_beta1: float = field(default=0.9, metadata={"help": "First beta of momo_adam and adamw_torch."})
    adam_beta2: float = field(default=0.999, metadata={"help": "Second beta of momo_adam and adamw_torch."})
    adam_epsilon: float = field(default=1e-8, metadata={"help": "Epsilon of momo_adam and adamw_torch."})
    sgd_momentum: float = field(default=0.0, metadata={"help": "Momentum of --optim sgd, from 0 to below 1."})
    sgd_dampening: float = field(
        default=0.0,
        metadata={
            "help": "Dampening of --optim sgd; with the value of the momentum, SGD averages gradients as Momo does."
        },
    )
    max_grad_norm: float = field(default=0.0, metadata={"help": "Clip gradients at this norm; 0: no clipping."})
    lr_scheduler_type: str = field(
        default="constant",
        metadata={"help": "constant, constant_with_warmup or inverse_sqrt; with --max_steps also linear or cosine."},
    )
    warmup_steps: int = field(default=0, metadata={"help": "Steps of linear warm-up from 0."})
    num_train_epochs: int = field(default=1, metadata={"help": "Passes over the log."})
    max_steps: int = field(default=-1, metadata={"help": "Stop after this many steps; -1: at the end of the epochs."})
    per_device_train_batch_size: int = field(default=128, metadata={"help": "Rows of a batch on one process."})
    per_device_eval_batch_size: int = field(
        default=4096, metadata={"help": "Rows of an evaluation batch on one process."}
    )
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches of a step on one process."})
    bf16: bool = field(default=False, metadata={"help": "Mixed precision with bfloat16."})
    seed: int = field(default=42, metadata={"help": "Seed of the initialisation and of the order of the rows."})
    logging_steps: int = field(default=100, metadata={"help": "Log every N steps."})
    eval_steps: int = field(default=0, metadata={"help": "Evaluate every N steps; 0: only after training."})
    save_steps: int = field(default=0, metadata={"help": "Save a checkpoint every N steps; 0: never."})
    save_total_limit: int = field(default=1, metadata={"help": "Number of checkpoints to keep."})
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint folder to resume from. Default: resume an unfinished run in --output_dir from its "
            "last complete checkpoint; 'false' starts anew."
        },
    )
    dataloader_num_workers: int = field(default=0, metadata={"help": "1 reads the log in a separate process."})
    use_cpu: bool = field(default=False, metadata={"help": "Train on the CPU even where there is a GPU."})
    draw_pictures: bool = field(default=True, metadata={"help": "Draw loss.png, step_size.png and auc.png."})
    disable_tqdm: bool = field(default=False, metadata={"help": "Show no progress bar."})
