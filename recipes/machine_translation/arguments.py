"""The settings of the translation recipe beside the Trainer's; names as in Hugging Face's run_translation.py."""

from dataclasses import dataclass, field


@dataclass
class ModelArguments:
    """Which model is trained: a pretrained one, or one from scratch with the sizes given here."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint folder or Hub id to fine-tune. Left out: train from scratch."}
    )
    model_type: str = field(
        default="marian",
        metadata={"help": "From scratch: the architecture, e.g. marian (post-norm) or m2m_100 (pre-norm)."},
    )
    tokenizer_name: str | None = field(
        default=None,
        metadata={
            "help": "From scratch: folder or Hub id of a tokenizer, e.g. the one that prepare_iwslt14.py leaves. Left "
            "out: a joint BPE vocabulary of --vocab_size pieces is learned from the training sentences."
        },
    )
    vocab_size: int = field(default=8000, metadata={"help": "From scratch: pieces of the joint BPE vocabulary."})
    d_model: int | None = field(default=None, metadata={"help": "From scratch: width of the model."})
    encoder_layers: int | None = field(default=None, metadata={"help": "From scratch: layers of the encoder."})
    decoder_layers: int | None = field(default=None, metadata={"help": "From scratch: layers of the decoder."})
    encoder_attention_heads: int | None = field(default=None, metadata={"help": "From scratch: heads a layer."})
    decoder_attention_heads: int | None = field(default=None, metadata={"help": "From scratch: heads a layer."})
    encoder_ffn_dim: int | None = field(default=None, metadata={"help": "From scratch: feed-forward width."})
    decoder_ffn_dim: int | None = field(default=None, metadata={"help": "From scratch: feed-forward width."})
    activation_function: str | None = field(default=None, metadata={"help": "From scratch: relu, gelu, swish, ..."})
    dropout: float | None = field(default=None, metadata={"help": "Dropout on embeddings and layer outputs."})
    attention_dropout: float | None = field(default=None, metadata={"help": "Dropout on attention weights."})
    activation_dropout: float | None = field(default=None, metadata={"help": "Dropout inside the feed-forward."})
    max_position_embeddings: int | None = field(
        default=None, metadata={"help": "From scratch: longest sequence, in pieces."}
    )
    scale_embedding: bool | None = field(
        default=None,
        metadata={"help": "From scratch: multiply embeddings by sqrt(d_model). Post-norm models learn badly without."},
    )
    average_checkpoints: int | None = field(
        default=None,
        metadata={"help": "The model that is saved and scored is the mean of the last N checkpoints of the training."},
    )


@dataclass
class DataArguments:
    """What is translated, how it is cut into batches, and how it is scored."""

    source_lang: str | None = field(
        default=None,
        metadata={
            "help": "Language to translate from, as the data names it: key of `translation`, column, or ending of the "
            "text file, e.g. de. As in run_translation.py, de_DE finds de, too."
        },
    )
    target_lang: str | None = field(
        default=None, metadata={"help": "Language to translate to, as the data names it, e.g. en."}
    )
    source_lang_code: str | None = field(
        default=None,
        metadata={
            "help": "Language to translate from, as a multilingual tokenizer names it, e.g. de_DE (mBART) or deu_Latn "
            "(NLLB). Default: --source_lang."
        },
    )
    target_lang_code: str | None = field(
        default=None,
        metadata={"help": "Language to translate to, as a multilingual tokenizer names it. Default: --target_lang."},
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "`embedded` for the built-in German-English set, or a Hub dataset id."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of the Hub dataset."})
    dataset_revision: str | None = field(
        default=None,
        metadata={"help": "Branch or commit of the Hub dataset, e.g. refs/convert/parquet for one with a script."},
    )
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Training data: a text file (train.de; train.en is found beside it), JSON lines or CSV; each may "
            "end in .gz, .bz2 or .xz."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "Validation data, as --train_file."})
    test_file: str | None = field(default=None, metadata={"help": "Test data, as --train_file."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Use only the first N training pairs."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use only the first N validation pairs."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use only the first N test pairs."})
    max_source_length: int = field(default=128, metadata={"help": "Sources are cut to this many pieces."})
    max_target_length: int = field(
        default=128, metadata={"help": "Training targets are cut to this many pieces; translations end there."}
    )
    source_prefix: str | None = field(default=None, metadata={"help": "Put before every source (T5 models)."})
    forced_bos_token: str | None = field(
        default=None,
        metadata={
            "help": "First token of every translation, in training and generation. For multilingual tokenizers it is "
            "the target language and need not be given."
        },
    )
    moses_tokenized: bool = field(
        default=False,
        metadata={
            "help": "The sentences are Moses tokens apart by spaces, as prepare_iwslt14.py leaves them: BLEU and chrF "
            "are of the detokenized text, and bleu_tokenized_lowercased is of the tokens."
        },
    )
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Batches of at most N padded tokens on each process, counted on the longer side, in place of "
            "--per_device_train_batch_size sentences."
        },
    )
    num_beams: int | None = field(
        default=None, metadata={"help": "Beams of the evaluation after training; default --generation_num_beams."}
    )
    length_penalty: float | None = field(
        default=None,
        metadata={
            "help": "Beams are ranked by log-likelihood / length**N; default 1. Above 1 long translations gain, below "
            "1 short ones."
        },
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations in a row without a better score."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Train although --output_dir holds a finished run."})
