"""The model of the click-through rate recipe: a saved DLRM, or one from scratch."""

from models.dlrm import DLRM, DLRMConfig

from click_through.arguments import ModelArguments
from click_through.criteo import CATEGORIES, COUNTS
from hf_momo.utils.errors import UsageError


def prepare_model(args: ModelArguments) -> DLRM:
    """Return the saved model, or a new one.

    Raises:
        UsageError: If the saved model cannot be loaded or does not fit the log.
    """
    if args.model_name_or_path is None:
        sizes = args.hash_sizes * CATEGORIES if len(args.hash_sizes) == 1 else args.hash_sizes
        return DLRM(
            DLRMConfig(
                num_dense_features=COUNTS,
                hash_sizes=sizes,
                embedding_size=args.embedding_size,
                bottom_hidden_sizes=args.bottom_hidden_sizes,
                top_hidden_sizes=args.top_hidden_sizes,
            )
        )
    try:
        model: DLRM = DLRM.from_pretrained(args.model_name_or_path)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--model_name_or_path {args.model_name_or_path}: no saved DLRM ({error}); give the folder of a run"
        ) from error
    config = model.config
    if (config.num_dense_features, len(config.hash_sizes)) != (COUNTS, CATEGORIES):
        raise UsageError(
            f"--model_name_or_path {args.model_name_or_path} takes {config.num_dense_features} counts and "
            f"{len(config.hash_sizes)} categories; the log has {COUNTS} and {CATEGORIES}"
        )
    return model
