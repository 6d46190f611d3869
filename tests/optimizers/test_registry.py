"""The registry, the Trainer's ``optim_args`` and the weight decay groups."""

import inspect
from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import pytest
import torch
from optimizer_cases import METHODS
from torch import nn

import hf_momo
from hf_momo import Momo, OptimizerInfo, create_optimizer, get_optimizer_info, list_optimizers
from hf_momo.optimizers.registry import parse_optim_args, unwrap_optimizer
from hf_momo.tap.factory import weight_decay_groups


def test_names():
    """Every method of the registry has a row in the tests' table; the wrapper, which has none of its own, has not."""
    infos = [info for info in map(get_optimizer_info, list_optimizers()) if not info.takes_base]
    assert {info.name: info.optimizer_cls for info in infos} == {name: each.cls for name, each in METHODS.items()}


@pytest.mark.parametrize("name", list_optimizers())
def test_row(name):
    """The defaults are read from the constructor, so that they stand in one place."""
    info = get_optimizer_info(name)
    assert isinstance(info, OptimizerInfo)
    assert info.name == name
    assert info.description
    signature = inspect.signature(info.optimizer_cls)
    assert dict(info.defaults) == {n: p.default for n, p in list(signature.parameters.items())[1:]}
    of_the_trainer = {"lr", "betas", "eps", "weight_decay", "module", "process_group", "sharded"}
    assert set(info.optim_args) == set(info.defaults) - of_the_trainer | ({"base"} if info.takes_base else set())
    with pytest.raises(FrozenInstanceError):
        info.name = "other"
    with pytest.raises(TypeError):
        info.defaults["lr"] = 3.0


def test_signature_of_a_class_without_init_of_its_own():
    """On Python 3.10 it was that of ``__new__``: momo_adafactor had no default and refused each of its options."""
    inherited = type("Inherited", (Momo,), {})
    assert inspect.signature(inherited) == inspect.signature(Momo)


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="name: got 'momo_adagrad', must be one of 'momo', 'momo_adam'"):
        get_optimizer_info("momo_adagrad")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("momo_adam", None, {}),
        ("momo_adam", "", {}),
        ("momo_adam", " , ", {}),
        ("momo_adam", "lower_bound=0.5", {"lower_bound": 0.5}),
        ("momo_adam", "lower_bound=1", {"lower_bound": 1.0}),
        ("momo_adam", "lower_bound=-2e-3", {"lower_bound": -2e-3}),
        ("momo_adam", "lower_bound=auto", {"lower_bound": "auto"}),
        ("momo_adam", "adapt_lower_bound=true", {"adapt_lower_bound": True}),
        ("momo_adam", "adapt_lower_bound=False", {"adapt_lower_bound": False}),
        ("momo_adam", "adapt_lower_bound=1,", {"adapt_lower_bound": True}),
        ("momo_adam", "weight_decay_form=adamw", {"weight_decay_form": "adamw"}),
        (
            "momo_adam",
            " adapt_lower_bound = true , lower_bound = 0.5,kernel=eager",
            {"adapt_lower_bound": True, "lower_bound": 0.5, "kernel": "eager"},
        ),
        ("momo", "beta=0.5,bias_correction=0", {"beta": 0.5, "bias_correction": False}),
    ],
)
def test_parse_optim_args(name, text, expected):
    """Values are converted to the type of the option's default."""
    parsed = parse_optim_args(name, text)
    assert parsed == expected
    assert {k: type(v) for k, v in parsed.items()} == {k: type(v) for k, v in expected.items()}
    if parsed.get("lower_bound") != "auto":
        create_optimizer(name, nn.Linear(1, 1), **parsed)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "momo_adam",
            "bound=1",
            "optim_args: momo_adam has no option 'bound'; it has weight_decay_form, lower_bound, adapt_lower_bound,",
        ),
        ("momo_adam", "beta=0.9", "optim_args: momo_adam has no option 'beta'"),
        ("momo", "weight_decay_form=adamw", "optim_args: momo has no option 'weight_decay_form'; it has beta,"),
        ("momo_adam", "lower_bound", "optim_args: got 'lower_bound', must be key=value pairs separated by commas"),
        ("momo_adam", "lower_bound=", "optim_args: got 'lower_bound=', must be key=value pairs"),
        ("momo_adam", "lower_bound=low", "optim_args: got lower_bound=low, must be a number"),
        ("momo_adam", "adapt_lower_bound=yes please", "optim_args: got adapt_lower_bound=yes please, must be true or"),
        ("momo_adam", "adapt_lower_bound=0.5", "optim_args: got adapt_lower_bound=0.5, must be true or false"),
        ("momo", "beta=auto", "optim_args: got beta=auto, must be a number"),
        ("momo_adam", "lr=1", "optim_args: lr is set by --learning_rate, not by optim_args"),
        ("momo_adam", "betas=0.9", "optim_args: betas is set by --adam_beta1 and --adam_beta2"),
        ("momo_adam", "eps=1e-6", "optim_args: eps is set by --adam_epsilon"),
        ("momo", "weight_decay=0.1", "optim_args: weight_decay is set by --weight_decay"),
    ],
)
def test_parse_optim_args_refuses(name, text, message):
    with pytest.raises(ValueError) as caught:
        parse_optim_args(name, text)
    assert str(caught.value).startswith(message)


class TestCreateOptimizer:
    def test_module_without_decay_is_one_group_in_the_model_s_order(self):
        model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
        model[0].bias.requires_grad_(False)
        optimizer = create_optimizer("momo", model, lr=0.3, beta=0.5)
        assert type(optimizer) is Momo
        (group,) = optimizer.param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters() if p.requires_grad]
        assert (group["lr"], group["momentum"]) == (0.3, 0.5)

    def test_module_with_decay_is_two_groups(self):
        model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1, bias=False))
        optimizer = create_optimizer("momo_adam", model, weight_decay=0.1)
        assert [(g["weight_decay"], len(g["params"])) for g in optimizer.param_groups] == [(0.1, 2), (0.0, 3)]

    def test_parameters_and_groups_are_taken_as_they_are(self):
        a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        assert create_optimizer("momo", [a, b], weight_decay=0.1).param_groups[0]["weight_decay"] == 0.1
        groups = [{"params": [a], "weight_decay": 0.2}, {"params": [b]}]
        optimizer = create_optimizer("momo_adam", groups, weight_decay=0.1)
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.1]

    @pytest.mark.parametrize("name", list_optimizers())
    def test_trains(self, name):
        """The defaults of every row lower a loss."""
        torch.manual_seed(0)
        model, inputs = nn.Linear(3, 1), torch.randn(20, 3)
        base = {"base": torch.optim.AdamW, "lr": 1e-2} if get_optimizer_info(name).takes_base else {}
        optimizer = create_optimizer(name, model, weight_decay=1e-4, **base)
        losses = []
        for _ in range(1000):  # a cap of 1e-3 on each coordinate has some way to go
            optimizer.zero_grad()
            loss = (model(inputs).squeeze(1) - inputs[:, 0]).square().mean()
            loss.backward()
            optimizer.step(loss=loss)
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.3 * losses[0]

    def test_unknown_option_lists_the_known(self):
        with pytest.raises(TypeError, match="momentum: momo has no such option; it has lr, beta, weight_decay"):
            create_optimizer("momo", nn.Linear(1, 1), momentum=0.9)

    def test_base_and_its_options(self):
        """Options of the wrapper go to it, all others to the base; no weight decay where the base has none."""
        options = {"base": torch.optim.AdamW, "lr": 0.1, "amsgrad": True, "lower_bound": 0.5}
        optimizer = create_optimizer("momo_wrapper", nn.Linear(1, 1), **options)
        assert type(optimizer.base) is torch.optim.AdamW
        group = optimizer.entries[0]
        assert (group["amsgrad"], group["weight_decay"], float(group["lower_bound"])) == (True, 0.0, 0.5)
        create_optimizer("momo_wrapper", nn.Linear(1, 1), base=torch.optim.Rprop)
        for base in (None, "adamw_torch", torch.optim.SGD(nn.Linear(1, 1).parameters())):
            with pytest.raises(TypeError, match=r"base: got .*, must be a class of optimizers"):
                create_optimizer("momo_wrapper", nn.Linear(1, 1), base=base)

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="name: got 'sgd'"):
            create_optimizer("sgd", nn.Linear(1, 1))


def small_models():
    transformers = pytest.importorskip("transformers")
    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 20}
    bert = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=20
    )
    marian = transformers.MarianConfig(
        **sizes, **heads, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None
    )
    bart = transformers.BartConfig(**sizes, **heads, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    t5 = transformers.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=20)
    llama = transformers.LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=20
    )
    gpt2 = transformers.GPT2Config(
        n_embd=8, n_layer=1, n_head=2, vocab_size=20, n_positions=16, bos_token_id=1, eos_token_id=2
    )
    return {
        "bert": lambda: transformers.BertForSequenceClassification(bert),
        "marian": lambda: transformers.MarianMTModel(marian),
        "bart": lambda: transformers.BartForConditionalGeneration(bart),
        "t5": lambda: transformers.T5ForConditionalGeneration(t5),
        "llama": lambda: transformers.LlamaForCausalLM(llama),
        "gpt2": lambda: transformers.GPT2LMHeadModel(gpt2),
    }


@pytest.mark.parametrize("name", ["bert", "marian", "bart", "t5", "llama", "gpt2"])
def test_decay_groups_are_the_trainer_s(name):
    """The decayed parameters are those of the Trainer; tied ones appear once, frozen ones not at all."""
    transformers = pytest.importorskip("transformers")
    model = small_models()[name]()
    frozen = next(iter(model.parameters()))
    frozen.requires_grad_(False)
    decayed, rest = weight_decay_groups(model, 0.1)
    theirs = set(transformers.Trainer.get_decay_parameter_names(SimpleNamespace(), model))
    names = {id(p): n for n, p in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {
        n for n, p in model.named_parameters() if n in theirs and p.requires_grad
    }
    everything = [id(p) for p in decayed["params"] + rest["params"]]
    assert len(everything) == len(set(everything))
    assert set(everything) == {id(p) for p in model.parameters() if p.requires_grad}
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)


def test_unwrap_optimizer():
    """Any number of accelerate's wrappers is removed."""
    optimizer = Momo([nn.Parameter(torch.ones(1))])
    assert unwrap_optimizer(optimizer) is optimizer
    assert unwrap_optimizer(SimpleNamespace(optimizer=SimpleNamespace(optimizer=optimizer))) is optimizer


def test_public_names():
    """Every exported name exists and is listed by ``dir``."""
    lazy = set(hf_momo._LAZY)
    assert all(hasattr(hf_momo, name) for name in set(hf_momo.__all__) - lazy)
    assert set(hf_momo.__all__) <= set(dir(hf_momo))
    with pytest.raises(AttributeError, match="no attribute 'MomoSGD'"):
        _ = hf_momo.MomoSGD
