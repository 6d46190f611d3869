"""MomoMuon: Muon on the matrices of a model and Adam on everything else, with MoMo's adaptive step size."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from hf_momo.optimizers import matrices
from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.direction import Direction
from hf_momo.optimizers.muon_halves import OPTIONS, AdamHalf, MuonDirection
from hf_momo.sharding import ProcessGroup

logger = logging.getLogger(__name__)

_ADAM = AdamHalf()


class MomoMuon(MomoOptimizer):
    r"""Muon on the matrices of a model and Adam on everything else, with a step size worked out from the loss.

    Matrices move along the orthogonalized average of their gradients, everything else as in Adam, and one model of the
    loss spans both. While the cap ``lr`` is binding this *is* ``torch.optim.Muon`` and ``torch.optim.AdamW``. Sources:
    Muon is Keller Jordan's (https://kellerjordan.github.io/posts/muon/), with the scale of Moonshot's "Muon is
    Scalable for LLM Training" (arXiv 2502.16982); MoMo's step size for Muon and Adam together is that of Crawshaw,
    Modi, Liu, Gower (arXiv 2510.09827), with this package's own clipping at 0, weight decay and sample weights.

    Embeddings, positions, the output head, biases and normalization layers belong to Adam; see ``methods_of``. A group
    with ``"method": "muon"`` or ``"adam"`` is taken as it says, any other is split into one group for each.

    Orthogonalized matrices are kept from measuring to the update, in the dtype of the Newton-Schulz steps or of the
    parameter, whichever is smaller: 2 bytes an element in bfloat16. Beside them, the temporary memory of a step is a
    few copies of its largest matrix, with FSDP2 of as many matrices as there are ranks. Under DistributedDataParallel
    and FSDP2 every rank orthogonalizes its share of the matrices.

    Args:
        params: Parameters, named parameters, or parameter groups. Groups may differ in ``lr``, ``weight_decay``,
            ``eps``, ``ns_steps``, ``ns_dtype`` and ``adjust_lr_fn`` and are solved jointly.
        lr: Cap on the step size, in [0, inf). With ``adjust_lr_fn="match_rms_adamw"`` in the unit of AdamW's learning
            rate, for matrices too.
        module: The model that the parameters belong to, which tells embeddings and heads from other matrices. Without
            it, names tell in named parameters, and all tensors of two dimensions are matrices in plain ones.
        momentum: Weight of the past in the averages of loss and gradient, as ``torch.optim.Muon`` calls it: the same
            as ``betas[0]``, and may be left out.
        nesterov: Whether the direction looks one step ahead, as in ``torch.optim.Muon``, in both halves.
        ns_steps: Number of Newton-Schulz steps, in [1, 100).
        ns_dtype: Dtype of these steps: ``"bfloat16"`` (that of ``torch.optim.Muon``), ``"float32"``, or ``"auto"``:
            bfloat16 on accelerators, on a CPU the faster of the two, and float64 for float64 parameters.
        adjust_lr_fn: Scale of the update of an ``A x B`` matrix: ``"match_rms_adamw"`` (``0.2 * sqrt(max(A, B))``) or
            ``"original"`` (``sqrt(max(1, A / B))``).
        flatten: Whether filters of convolutions are matrices too, each flattened to output channels times the rest.
        betas: Weights of the past in the averages of loss and gradient, in both halves (one model of the loss has one
            set of weights), and of the squared gradient in Adam's half, each in [0, 1).
        eps: Added to the root of Adam's second moment, in [0, inf).
        weight_decay: Decoupled weight decay (``param * (1 - lr * weight_decay)`` before the step), in [0, inf).
        lower_bound: Lower bound of the loss, in units of the loss. It cannot be estimated on the fly: the estimate
            rests on a quadratic metric.
        slope: ``"direction"``, or ``"batch"`` to use the average of bounds of the slopes of single batches where it is
            larger. The ratio of Frobenius norms stands in them for that of the dual norms of a matrix.
        gap: ``"bound"``, or ``"progress"`` to use the decrease of the loss over the last octave of training in place
            of the distance to ``lower_bound``.
        caution: Factor of the slope, in (0, inf): steps below the cap are shorter by it.
        kernel: How the inner products of Adam's half are computed: ``"eager"``, ``"compiled"``, ``"triton"`` or
            ``"auto"``. Muon's half uses torch operations.
        process_group: The ranks that train the model together: ``None`` for all ranks of the job, a
            ``torch.distributed.ProcessGroup``, or ``"self"`` for an optimizer on one rank that is not data-parallel.
        sharded: Must be ``False``: flat pieces of parameters (FSDP1, ZeRO) hold no matrices.

    Raises:
        ValueError: If an argument is out of range, no parameter of ``module`` is a matrix, parameters are complex or
            on several devices, or groups disagree in an option that they must share.
        TypeError: If an argument is not a number.
        NotImplementedError: If ``sharded`` is true.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 4))
        >>> optimizer = MomoMuon(model.parameters(), lr=1e-2, module=model)
        >>> loss = model(torch.tensor([1, 2])).square().mean()
        >>> loss.backward()
        >>> _ = optimizer.step(loss=loss)
        >>> MomoMuon.methods_of(model)
        {'0.weight': 'adam', '1.weight': 'muon', '1.bias': 'adam'}
    """

    direction = MuonDirection()

    # Set while the constructor adds its groups.
    _kinds: Mapping[int, str] | None = None

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        *,
        module: nn.Module | None = None,
        momentum: float | None = None,
        nesterov: bool = False,
        ns_steps: int = 5,
        ns_dtype: str = "auto",
        adjust_lr_fn: str = "match_rms_adamw",
        flatten: bool = False,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        lower_bound: float = 0.0,
        slope: str = "direction",
        gap: str = "bound",
        caution: float = 1.0,
        kernel: str = "auto",
        process_group: ProcessGroup = None,
        sharded: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            # The key under which torch's schedulers that cycle the momentum look for it.
            "betas": betas,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "ns_dtype": ns_dtype,
            "adjust_lr_fn": adjust_lr_fn,
            "flatten": flatten,
            "eps": eps,
            "weight_decay": weight_decay,
            "lower_bound": lower_bound,
            "slope": slope,
            "gap": gap,
            "caution": caution,
            "kernel": kernel,
        }
        _check_momentum(momentum, betas)
        if module is not None:
            self._kinds = {id(param): kind for _, param, kind in matrices.kinds_of_parameters(module, flatten=flatten)}
        super().__init__(params, defaults, process_group=process_group, sharded=sharded)
        self._kinds = None
        has_matrices = self.parameter_counts["muon"][0] > 0
        if module is not None and not has_matrices:
            raise ValueError(
                "params: none of them is a matrix that Muon could move (a weight of two dimensions outside of"
                " embeddings, positions and the output head). Use momo_adam (MomoAdam), or name the matrices by a"
                ' parameter group with "method": "muon". Flat parameters of FSDP version 1 are no matrices; use FSDP2'
            )
        logger.log(logging.INFO if has_matrices else logging.WARNING, "MomoMuon: %s", self._described())

    @staticmethod
    def methods_of(module: nn.Module, *, flatten: bool = False) -> dict[str, str]:
        """Return ``"muon"`` or ``"adam"`` for each parameter of a model, by name.

        Args:
            module: The model.
            flatten: Whether filters of convolutions are matrices.
        """
        kinds = matrices.kinds_of_parameters(module, flatten=flatten)
        return {name: "adam" if kind == matrices.REST else "muon" for name, _, kind in kinds}

    @property
    def parameter_counts(self) -> dict[str, tuple[int, int]]:
        """Number of parameter tensors and of their elements, for ``"muon"`` and for ``"adam"``."""
        counts = {}
        for method in ("muon", "adam"):
            params = [p for group in self.param_groups if group["method"] == method for p in group["params"]]
            counts[method] = (len(params), sum(param.numel() for param in params))
        return counts

    def direction_of(self, group: Mapping[str, Any]) -> Direction:
        """Return Muon or Adam, as the group says."""
        return MuonDirection(self._ranks) if group["method"] == "muon" else _ADAM

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, split into one of matrices and one of the rest where it names no ``"method"``.

        Args:
            param_group: As for every optimizer of this package, and ``"method"``: ``"muon"`` or ``"adam"``.

        Raises:
            ValueError: If an option is out of range, one that all groups share differs from the others', or a
                parameter in a group of method ``"muon"`` has fewer than two dimensions.
        """
        param_group = dict(param_group)
        if "momentum" in param_group:
            _check_momentum(param_group.pop("momentum"), param_group.get("betas", self.defaults["betas"]))
        before = len(self.param_groups)
        try:
            for part in self._by_method(param_group):
                super().add_param_group(part)
                _check_dimensions(self.param_groups[-1])
        except (TypeError, ValueError):
            del self.param_groups[before:]
            raise

    def _by_method(self, param_group: dict[str, Any]) -> list[dict[str, Any]]:
        params = param_group["params"]
        if "method" in param_group or isinstance(params, set):
            return [param_group]
        params = [params] if isinstance(params, Tensor) else list(params)
        flatten = param_group.get("flatten", self.defaults["flatten"])
        by_kind: dict[str, list[Any]] = {kind: [] for kind in (matrices.MATRIX, matrices.FLATTENED, matrices.REST)}
        for each in params:
            by_kind[self._kind(each, flatten=flatten)].append(each)
        parts = [
            {**param_group, "params": chosen, "method": "adam" if kind == matrices.REST else "muon"}
            | {"flatten": kind == matrices.FLATTENED}
            for kind, chosen in by_kind.items()
            if chosen
        ]
        lr = param_group.get("lr", self.defaults["lr"])
        for part in parts[1:] if isinstance(lr, Tensor) else ():
            part["lr"] = lr.clone()  # schedulers change the rate of each group in place
        return parts or [{**param_group, "params": params, "method": "adam"}]

    def _kind(self, param: Any, *, flatten: bool) -> str:
        name, param = param if isinstance(param, tuple) else (None, param)
        if not isinstance(param, Tensor):
            return matrices.REST  # which torch refuses
        if self._kinds is not None and id(param) in self._kinds:
            return self._kinds[id(param)]
        if name is not None:
            return matrices.kind_by_name(name, param, flatten=flatten)
        return matrices.kind_by_shape(param, flatten=flatten)

    def _described(self) -> str:
        muon, adam = self.parameter_counts["muon"], self.parameter_counts["adam"]
        return (
            f"Muon on {muon[0]} matrices ({muon[1]:,} elements), Adam on {adam[0]} other parameters"
            f" ({adam[1]:,} elements), betas {self.param_groups[0]['betas']}"
        )


def _check_momentum(momentum: Any, betas: Any) -> None:
    OPTIONS["betas"].check("betas", betas)
    if momentum is not None and momentum != betas[0]:
        raise ValueError(
            f"momentum: got {momentum!r}, but betas[0] is {betas[0]!r}; they must be equal, because one model of the"
            " loss spans Muon's half and Adam's. Set betas alone (Trainer: --adam_beta1 and --adam_beta2)"
        )


def _check_dimensions(group: Mapping[str, Any]) -> None:
    for param in group["params"]:
        if group["method"] == "muon" and param.ndim < 2:
            raise ValueError(
                f"method: got 'muon' for a parameter of shape {tuple(param.shape)}, which is not a matrix; put it into"
                ' a group with "method": "adam"'
            )
