"""Settings of the translation recipe in addition to the Trainer's, named as in Hugging Face's run_translation.py."""

from dataclasses import dataclass, field


@dataclass
class ModelArguments:
    """Settings of the model: a pretrained one, or one from scratch."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint folder or Hub id to fine-tune. Default: train from scratch."}
    )
    model_type: str = field(
        default="marian",
        metadata={"help": "From scratch: the architecture, e.g. marian (post-norm) or m2m_100 (pre-norm)."},
    )
    tokenizer_name: str | None = field(
        default=None,
        metadata={
            "help": "From scratch: folder or Hub id of a tokenizer, e.g. the one that prepare_iwslt14.py writes. "
            "Default: a joint BPE vocabulary of --vocab_size tokens, trained on the training sentences."
        },
    )
    vocab_size: int = field(default=8000, metadata={"help": "From scratch: size of the joint BPE vocabulary."})
    d_model: int | None = field(default=None, metadata={"help": "From scratch: width of the model."})
    encoder_layers: int | None = field(default=None, metadata={"help": "From scratch: number of encoder layers."})
    decoder_layers: int | None = field(default=None, metadata={"help": "From scratch: number of decoder layers."})
    encoder_attention_heads: int | None = field(
        default=None, metadata={"help": "From scratch: attention heads per layer."}
    )
    decoder_attention_heads: int | None = field(
        default=None, metadata={"help": "From scratch: attention heads per layer."}
    )
    encoder_ffn_dim: int | None = field(default=None, metadata={"help": "From scratch: feed-forward width."})
    decoder_ffn_dim: int | None = field(default=None, metadata={"help": "From scratch: feed-forward width."})
    activation_function: str | None = field(default=None, metadata={"help": "From scratch: relu, gelu, swish, ..."})
    dropout: float | None = field(default=None, metadata={"help": "Dropout on embeddings and layer outputs."})
    attention_dropout: float | None = field(default=None, metadata={"help": "Dropout on attention weights."})
    activation_dropout: float | None = field(default=None, metadata={"help": "Dropout inside the feed-forward."})
    max_position_embeddings: int | None = field(
        default=None, metadata={"help": "From scratch: length of the longest sequence in tokens."}
    )
    scale_embedding: bool | None = field(
        default=None,
        metadata={
            "help": "From scratch: multiply embeddings by sqrt(d_model). Post-norm models learn poorly without it."
        },
    )
    average_checkpoints: int | None = field(
        default=None,
        metadata={"help": "Save and score the mean of the last N checkpoints instead of the last weights."},
    )
    use_peft: bool = field(
        default=False,
        metadata={"help": "Freeze the checkpoint and train LoRA adapters (PEFT), which alone are saved."},
    )
    lora_r: int = field(default=16, metadata={"help": "Rank of the adapters."})
    lora_alpha: int = field(default=32, metadata={"help": "The adapters are scaled by lora_alpha / lora_r."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout on the input of the adapters."})
    lora_target_modules: list[str] = field(
        default_factory=lambda: ["all-linear"],
        metadata={
            "help": "Names of the layers with an adapter, e.g. q_proj v_proj (T5: q v), or all-linear for all but the "
            "output layer."
        },
    )
    merge_adapters: bool = field(
        default=False,
        metadata={"help": "Add the trained adapters to the weights of the checkpoint, and save and score that model."},
    )


@dataclass
class DataArguments:
    """Settings of the data, the batches and the evaluation."""

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
        default=None, metadata={"help": "`embedded` for the built-in German-English set, or a Hub data set id."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of the Hub data set."})
    dataset_revision: str | None = field(
        default=None,
        metadata={"help": "Branch or commit of the Hub data set, e.g. refs/convert/parquet for one with a script."},
    )
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Training data: a text file (train.de; train.en is found beside it), JSON lines or CSV; each may "
            "end in .gz, .bz2 or .xz."
        },
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "Validation data, in the formats of --train_file."}
    )
    test_file: str | None = field(default=None, metadata={"help": "Test data, in the formats of --train_file."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Use only the first N training pairs."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use only the first N validation pairs."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use only the first N test pairs."})
    max_source_length: int = field(default=128, metadata={"help": "Sources are truncated to this many tokens."})
    max_target_length: int = field(
        default=128,
        metadata={"help": "Training targets are truncated to this many tokens, and translations end there."},
    )
    source_prefix: str | None = field(default=None, metadata={"help": "Text put before every source (T5 models)."})
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
            "help": "The sentences are Moses tokens separated by spaces, as prepare_iwslt14.py writes them: BLEU and "
            "chrF are computed on the detokenized text, and bleu_tokenized_lowercased on the tokens."
        },
    )
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Batches of at most N padded tokens per process, counted on the longer side, instead of "
            "--per_device_train_batch_size sentences."
        },
    )
    num_beams: int | None = field(
        default=None, metadata={"help": "Beams in the evaluation after training. Default: --generation_num_beams."}
    )
    length_penalty: float | None = field(
        default=None,
        metadata={
            "help": "Beams are ranked by log-likelihood / length**N. Default: 1. Larger values favour long "
            "translations."
        },
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many consecutive evaluations without a better score."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace a finished run in --output_dir."})
