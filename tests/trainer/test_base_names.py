"""The names of the Trainer's optimizers as the base of ``momo_wrapper``, on a CPU, and the table of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trainer.tiny import arguments, gpt2, text_examples
from transformers.training_args import OptimizerNames

import hf_momo
from hf_momo import MomoTrainer, list_optimizers
from hf_momo.optimizers.registry import unwrap_optimizer

# Third-party code warns of what it does with torch; that is not the wrapper's.
pytestmark = pytest.mark.filterwarnings("default")

YES = "works"
IN_BACKWARD, SCHEDULE_FREE = "refused: updates during backward", "refused: gradient at another point"
NAMES = {
    "adamw_torch": ("torch", YES),
    "adamw_torch_fused": ("torch", YES),
    "adamw_torch_xla": ("torch_xla", "not tried: needs a TPU"),
    "adamw_torch_npu_fused": ("torch_npu", "not tried: needs an NPU"),
    "adafactor": ("transformers", YES),
    "adamw_anyprecision": ("torchdistx", "not tried: torchdistx is not on PyPI"),
    "adamw_torch_4bit": ("torchao", YES),
    "adamw_torch_8bit": ("torchao", YES),
    "ademamix": ("bitsandbytes", YES),
    "sgd": ("torch", YES),
    "adagrad": ("torch", YES),
    "adamw_bnb_8bit": ("bitsandbytes", YES),
    "adamw_8bit": ("bitsandbytes", YES),
    "ademamix_8bit": ("bitsandbytes", YES),
    "lion_8bit": ("bitsandbytes", YES),
    "lion_32bit": ("bitsandbytes", YES),
    "paged_adamw_32bit": ("bitsandbytes", YES),
    "paged_adamw_8bit": ("bitsandbytes", YES),
    "paged_ademamix_32bit": ("bitsandbytes", YES),
    "paged_ademamix_8bit": ("bitsandbytes", YES),
    "paged_lion_32bit": ("bitsandbytes", YES),
    "paged_lion_8bit": ("bitsandbytes", YES),
    "rmsprop": ("torch", YES),
    "rmsprop_bnb": ("bitsandbytes", YES),
    "rmsprop_bnb_8bit": ("bitsandbytes", YES),
    "rmsprop_bnb_32bit": ("bitsandbytes", YES),
    "galore_adamw": ("galore_torch", YES),
    "galore_adamw_8bit": ("galore_torch", "not tried: needs a GPU"),
    "galore_adafactor": ("galore_torch", YES),
    "galore_adamw_layerwise": ("galore_torch", IN_BACKWARD),
    "galore_adamw_8bit_layerwise": ("galore_torch", IN_BACKWARD),
    "galore_adafactor_layerwise": ("galore_torch", IN_BACKWARD),
    "lomo": ("lomo_optim", IN_BACKWARD),
    "adalomo": ("lomo_optim", IN_BACKWARD),
    "grokadamw": ("grokadamw", YES),
    "schedule_free_radam": ("schedulefree", SCHEDULE_FREE),
    "schedule_free_adamw": ("schedulefree", SCHEDULE_FREE),
    "schedule_free_sgd": ("schedulefree", SCHEDULE_FREE),
    "apollo_adamw": ("apollo_torch", YES),
    "apollo_adamw_layerwise": ("apollo_torch", IN_BACKWARD),
    "stable_adamw": ("optimi", f"{YES}; without a GPU with `triton=false`"),
}
WORKING = {name: package for name, (package, result) in NAMES.items() if result.startswith(YES)}
REFUSED = [name for name, (_, result) in NAMES.items() if result.startswith("refused")]
PAGE = Path(hf_momo.__file__).parent / "optimizers" / "README.md"


def table() -> str:
    """Return the table of the page, one row for each result."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name, key in NAMES.items():
        rows.setdefault(key, []).append(f"`{name}`")
    lines = [f"| {', '.join(names)} | {package} | {result} |" for (package, result), names in rows.items()]
    return "\n".join(["| `base=` | package | in `momo_wrapper`, on a CPU |", "|---|---|---|", *lines])


def test_the_table_has_every_name_and_stands_in_the_page() -> None:
    stock = {member.value for member in OptimizerNames} - set(list_optimizers())
    # Transformers 5 has dropped it.
    assert stock - {"adamw_apex_fused"} <= NAMES.keys()
    assert table() in PAGE.read_text(encoding="utf-8")


def run(folder: Path, optim: str, **options: Any) -> tuple[list[Tensor], Any]:
    torch.manual_seed(0)
    given = {"learning_rate": 1e-2, "weight_decay": 0.1, "max_steps": 4, "optim_target_modules": "all-linear"}
    trainer = MomoTrainer(
        model=gpt2(), args=arguments(folder, optim=optim, **(given | options)), train_dataset=text_examples(16)
    )
    trainer.train()
    return [param.detach().clone() for param in trainer.model.parameters()], unwrap_optimizer(trainer.optimizer)


@pytest.mark.parametrize(("name", "package"), WORKING.items(), ids=WORKING.keys())
def test_capped_is_the_stock_optimizer_to_the_bit(name: str, package: str, tmp_path: Path) -> None:
    """In the Trainer, and a bound that the loss comes near makes the steps shorter."""
    pytest.importorskip(package, exc_type=ImportError)
    own = "" if name != "stable_adamw" else ",triton=false"
    ours, optimizer = run(tmp_path / "ours", "momo_wrapper", optim_args=f"base={name},lower_bound=-1e12{own}")
    assert optimizer.last_step.capped_steps == 4
    if not own:
        stock, plain = run(tmp_path / "stock", name)
        assert type(optimizer.base) is type(plain)
        assert all(torch.equal(one, other) for one, other in zip(ours, stock, strict=True))
    _, bounded = run(tmp_path / "bounded", "momo_wrapper", optim_args=f"base={name},lower_bound=3.17{own}")
    assert bounded.last_step.capped_steps < 4


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_loaded(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"optim_args: got base={name}, which (updates|takes its gradient)"):
        arguments(tmp_path, optim="momo_wrapper", optim_args=f"base={name}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "optim_args: momo_wrapper needs base=NAME, such as base=adamw_torch"),
        ("base=adamw_trch", "optim_args: got base=adamw_trch; did you mean adamw_torch?"),
        (
            "base=momo_adam",
            "optim_args: got base=momo_adam, which has MoMo's step size already",
        ),
        ("base=sgd,lower_bound=low", "optim_args: got lower_bound=low, must be a number"),
    ],
)
def test_mistakes_before_anything_is_loaded(text: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        arguments(tmp_path, optim="momo_wrapper", optim_args=text)
    assert str(caught.value).startswith(message)


def test_the_base_s_own_options_reach_it(tmp_path: Path) -> None:
    """Those that the Trainer reads, and others of the class, typed by its defaults; any else is an error."""
    text = "base=sgd,momentum=0.5,beta=0.8,nesterov=true,maximize=false,lower_bound=0.25"
    _, optimizer = run(tmp_path, "momo_wrapper", optim_args=text, max_steps=1)
    group = optimizer.entries[0]
    assert (group["momentum"], group["nesterov"], group["maximize"], group["beta"]) == (0.5, True, False, 0.8)
    assert group["initial_lower_bound"] == 0.25
    _, optimizer = run(tmp_path, "momo_wrapper", optim_args="base=adamw_torch,amsgrad=true", max_steps=1)
    assert optimizer.param_groups[0]["amsgrad"] is True
    with pytest.raises(ValueError, match="neither momo_wrapper nor its base adamw_torch has an option 'momentm'"):
        run(tmp_path, "momo_wrapper", optim_args="base=adamw_torch,momentm=0.9", max_steps=1)


def test_the_record_of_a_run_names_the_base(tmp_path: Path) -> None:
    from hf_momo.hub.record import training_record

    torch.manual_seed(0)
    given = arguments(
        tmp_path, optim="momo_wrapper", optim_args="base=adamw_torch,lower_bound=0.5", learning_rate=1e-2, max_steps=2
    )
    trainer = MomoTrainer(model=gpt2(), args=given, train_dataset=text_examples(16))
    trainer.train()
    settings = training_record(trainer, {})["optimizer"]
    assert (settings["name"], settings["base"], settings["lower_bound"], settings["beta"]) == (
        "MomoWrapper", "AdamW", 0.5, 0.9,
    )  # fmt: skip
    trainer.create_model_card()
    assert "AdamW" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path) -> None:
    """With clipping and accumulation."""
    text = "base=adamw_torch,lower_bound=3.17"
    options = {"optim_args": text, "max_grad_norm": 0.5, "gradient_accumulation_steps": 2, "save_strategy": "steps"}
    unbroken, one = run(tmp_path, "momo_wrapper", save_steps=2, max_steps=5, **options)
    torch.manual_seed(0)
    args = arguments(
        tmp_path, optim="momo_wrapper", learning_rate=1e-2, weight_decay=0.1, max_steps=5, save_steps=2, **options
    )
    trainer = MomoTrainer(model=gpt2(), args=args, train_dataset=text_examples(16))
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert unwrap_optimizer(trainer.optimizer).last_step == one.last_step
    for param, expected in zip(trainer.model.parameters(), unbroken, strict=True):
        assert torch.equal(param, expected)
