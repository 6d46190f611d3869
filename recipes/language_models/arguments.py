"""The settings of the language modelling recipe beside the Trainer's; names as in Hugging Face's run_clm.py."""

from dataclasses import dataclass, field


@dataclass
class ModelArguments:
    """Which model is trained: a pretrained one, or one from scratch, with a tokenizer of its own or a given one."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint folder or Hub id to fine-tune. Left out: train from scratch."}
    )
    model_type: str = field(
        default="llama", metadata={"help": "From scratch: a causal model of transformers, e.g. llama or gpt2."}
    )
    model_config: str | None = field(
        default=None,
        metadata={"help": "From scratch: settings of the model as JSON, e.g. '{\"hidden_size\": 128}'."},
    )
    tokenizer_name: str | None = field(
        default=None,
        metadata={"help": "From scratch: folder or Hub id of a tokenizer. Left out: one is learned from the text."},
    )
    vocab_size: int = field(
        default=1024,
        metadata={"help": "Pieces of the tokenizer that is learned; 257 are bytes alone."},
    )


@dataclass
class DataArguments:
    """Which text, and what is made of it."""

    dataset_name: str | None = field(default=None, metadata={"help": "Hub dataset id, in place of --train_file."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of the Hub dataset."})
    text_column_name: str = field(default="text", metadata={"help": "Column of the text, in JSON, CSV and Hub data."})
    train_file: str | None = field(
        default=None,
        metadata={"help": "Text to train on: .txt, or .jsonl and .csv with a text a row; each may end in .gz."},
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "Text to evaluate on. Left out: the end of the training text."}
    )
    validation_split_percentage: float = field(
        default=5.0, metadata={"help": "Share of the training text that is held out where no other is given."}
    )
    block_size: int = field(
        default=128, metadata={"help": "Pieces of a sequence: the text is cut into blocks with nothing between them."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Use only the first N training blocks."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use only the first N blocks to evaluate."})
    prompt: str | None = field(
        default=None, metadata={"help": "What the sample goes on from. Left out: the first line that is evaluated."}
    )
    max_new_tokens: int = field(default=100, metadata={"help": "Length of the sample, in pieces; 0 for none."})
    draw_pictures: bool = field(default=True, metadata={"help": "Draw loss.png and step_size.png."})
    overwrite: bool = field(default=False, metadata={"help": "Train although --output_dir holds a finished run."})
