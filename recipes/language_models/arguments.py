"""The settings of the language modelling recipe, named as in Hugging Face's run_clm.py."""

from dataclasses import dataclass, field


@dataclass
class ModelArguments:
    """The model and the tokenizer: pretrained, or from scratch."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint folder or Hub id to fine-tune. Default: train from scratch."}
    )
    model_type: str = field(
        default="llama", metadata={"help": "From scratch: type of a causal model of transformers, e.g. llama or gpt2."}
    )
    model_config: str | None = field(
        default=None,
        metadata={"help": "From scratch: settings of the model configuration as JSON, e.g. '{\"hidden_size\": 128}'."},
    )
    tokenizer_name: str | None = field(
        default=None,
        metadata={"help": "From scratch: folder or Hub id of a tokenizer. Default: learn one from the text."},
    )
    vocab_size: int = field(
        default=1024,
        metadata={"help": "Vocabulary size of a learned tokenizer; 257 means bytes only."},
    )


@dataclass
class DataArguments:
    """The text, its blocks and the sample."""

    dataset_name: str | None = field(default=None, metadata={"help": "Hub dataset id, instead of --train_file."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of the Hub dataset."})
    text_column_name: str = field(default="text", metadata={"help": "Column of the text in JSON, CSV and Hub data."})
    train_file: str | None = field(
        default=None,
        metadata={"help": "Text to train on: .txt, or .jsonl, .json and .csv with a document a row; .gz too."},
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "Text to evaluate on. Default: the end of the training text."}
    )
    validation_split_percentage: float = field(
        default=5.0, metadata={"help": "Share of the training text held out without --validation_file."}
    )
    block_size: int = field(
        default=128, metadata={"help": "Tokens of a sequence; the text is cut into blocks of this size."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Use only the first N training blocks."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use only the first N evaluation blocks."})
    prompt: str | None = field(
        default=None,
        metadata={"help": "Prompt of the generated sample. Default: the first line of the evaluation text."},
    )
    max_new_tokens: int = field(default=100, metadata={"help": "Tokens of the generated sample; 0 for none."})
    draw_pictures: bool = field(default=True, metadata={"help": "Draw loss.png and step_size.png."})
    overwrite: bool = field(default=False, metadata={"help": "Overwrite a finished run in --output_dir."})
