"""Which parameters of a model are matrices for Muon, and which are left to Adam."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor, nn

MATRIX, FLATTENED, REST = "matrix", "flattened", "rest"

# Names of modules and parameters, between two dots, where the type of the module does not tell. Of an embedding the
# last three are read, since a whole encoder may stand in a module called "embedder".
_EMBEDDING_NAMES = re.compile(r"embed|^wte$|^wpe$|^pos(ition(al)?s?)?(_|$)|_token$|bias$", re.IGNORECASE)
_HEAD_NAMES = re.compile(r"(^|_)head$|^classifier$|^score$|^qa_outputs$", re.IGNORECASE)
_LORA_NAMES = re.compile(r"^lora_[AB]$")


def kind_by_shape(param: Tensor, *, flatten: bool) -> str:
    """Return the kind of a parameter of which only the shape is known."""
    if param.ndim == 2:
        return MATRIX
    return FLATTENED if param.ndim > 2 and flatten else REST


def kind_by_name(name: str, param: Tensor, *, flatten: bool) -> str:
    """Return the kind of a parameter of which only name and shape are known.

    Parameters of three dimensions are batches of matrices if they belong to experts, otherwise filters.
    """
    parts = name.split(".")
    if any(map(_LORA_NAMES.match, parts)) and param.ndim == 2:
        return MATRIX
    if any(map(_EMBEDDING_NAMES.search, parts[-3:])) or any(map(_HEAD_NAMES.search, parts)):
        return REST
    if param.ndim == 3 and "expert" in name.lower():
        return MATRIX
    return kind_by_shape(param, flatten=flatten)


def kinds_of_parameters(module: nn.Module, *, flatten: bool) -> Iterator[tuple[str, nn.Parameter, str]]:
    """Yield name, parameter and kind of every parameter of ``module``.

    Embeddings and heads are told by the type of their module and by ``get_input_embeddings`` and
    ``get_output_embeddings``, tied weights included; by name only where the module does not say.

    Args:
        module: The model, or a wrapper around it.
        flatten: Whether filters of convolutions are matrices, each flattened to output channels times the rest.
    """
    rest = {id(param) for param in _embeddings_and_heads(module)}
    for name, param in module.named_parameters():
        yield name, param, REST if id(param) in rest else kind_by_name(name, param, flatten=flatten)


def _embeddings_and_heads(module: nn.Module) -> Iterator[nn.Parameter]:
    for each in module.modules():
        if isinstance(each, nn.Embedding | nn.EmbeddingBag):
            yield from each.parameters(recurse=False)
        for getter in ("get_input_embeddings", "get_output_embeddings"):
            weight = getattr(_called(each, getter), "weight", None)
            if isinstance(weight, nn.Parameter):
                yield weight


def _called(module: nn.Module, getter: str) -> nn.Module | None:
    try:
        found = getattr(module, getter, lambda: None)()
    except (NotImplementedError, AttributeError):
        # transformers' getters raise where a model has no such layer.
        return None
    return found if isinstance(found, nn.Module) else None
