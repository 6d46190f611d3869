"""Loading of data sets from the Hub."""

import errno
from collections.abc import Iterator
from typing import Any

import datasets

from hf_momo.utils.errors import UsageError

_CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}


def load_from_hub(name: str, config: str | None = None, revision: str | None = None, instead: str = "") -> Any:
    """Load all splits of a data set of the Hub, or of a local folder in the Hub's layout.

    Args:
        name: Id of the data set, or path of the folder.
        config: Name of its configuration.
        revision: Branch, tag or commit.
        instead: What to use where there is no network, for the error message.

    Returns:
        A ``DatasetDict``.

    Raises:
        UsageError: If the data set does not exist, cannot be reached or cannot be stored in the cache.
    """
    try:
        return datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # datasets raises a dozen kinds here, from ConnectionError to its own
        causes = list(_causes(error))
        cause = " ".join(str(causes[-1]).split()) or type(causes[-1]).__name__
        advice = "a data set of the Hub needs the network or a copy in the cache"
        advice += f"; without either use {instead}" if instead else ""
        if any(isinstance(each, OSError) and each.errno in _CANNOT_WRITE for each in causes):
            advice = "if this is the cache, set HF_HOME to a folder with space that you may write to"
        raise UsageError(f"--dataset_name {name} could not be loaded ({cause}); {advice}") from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__ or following.__context__
