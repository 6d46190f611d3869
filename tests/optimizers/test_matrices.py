"""Which parameters of real models are matrices for Muon."""

import pytest
import torch
from torch import nn

from hf_momo import MomoMuon, create_optimizer

SIZES = {"vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2}


def transformers_models():
    transformers = pytest.importorskip("transformers")
    two = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "pad_token_id": 0}
    gpt2 = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16, **SIZES}
    t5 = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 20}
    image = {"image_size": 8, "patch_size": 4, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8}
    bert = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    mixtral = {"num_local_experts": 4, "num_key_value_heads": 1, **bert, **SIZES}
    t = transformers
    return {
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**gpt2)),
        "gpt2 untied": lambda: t.GPT2LMHeadModel(t.GPT2Config(**gpt2, tie_word_embeddings=False)),
        "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**t5)),
        "m2m_100": lambda: t.M2M100ForConditionalGeneration(t.M2M100Config(**two, **heads, **SIZES)),
        "vit": lambda: t.ViTForImageClassification(t.ViTConfig(**image, num_attention_heads=2)),
        "bert classifier": lambda: t.BertForSequenceClassification(t.BertConfig(**bert, vocab_size=20)),
        "roberta classifier": lambda: t.RobertaForSequenceClassification(t.RobertaConfig(**bert, vocab_size=20)),
        "llama classifier": lambda: t.LlamaForSequenceClassification(t.LlamaConfig(**bert, **SIZES, pad_token_id=0)),
        "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**mixtral)),
    }


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
# For each model, a part of the name of every matrix.
MATRICES = {
    "gpt2": {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"},
    "gpt2 untied": {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"},
    "t5": {*(f"Attention.{name}." for name in "qkvo"), "DenseReluDense.wi", "DenseReluDense.wo"},
    "m2m_100": {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},
    "vit": {"layer"},
    "bert classifier": {"attention", "intermediate", "output.dense", "pooler"},
    "roberta classifier": {"attention", "intermediate", "output.dense"},
    "llama classifier": {*ATTENTION, "gate_proj", "up_proj", "down_proj"},
    "mixtral": {*ATTENTION, "gate", "experts"},
}


@pytest.mark.parametrize("name", MATRICES)
def test_of_transformers(name):
    """Matrices of the body are Muon's; embeddings, tied weights, heads, biases and norms are Adam's."""
    model = transformers_models()[name]()
    methods = MomoMuon.methods_of(model)
    muon = {each for each, method in methods.items() if method == "muon"}
    assert methods.keys() == dict(model.named_parameters()).keys()
    for part in MATRICES[name]:
        assert any(part in each for each in muon), part
    assert [each for each in muon if not any(part in each for part in MATRICES[name])] == []
    params = dict(model.named_parameters())
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    assert not any(id(params[each]) in embeddings for each in muon)
    # What is left of two dimensions or more is an embedding, a head, a position or a convolution.
    rest = [each for each in methods.keys() - muon if params[each].ndim >= 2]
    known = ("embed", "wte", "wpe", "shared", "lm_head", "classifier", "score", "cls_token", "relative_attention_bias")
    assert [each for each in rest if not any(part in each for part in known)] == []


def test_tied_heads_are_not_matrices():
    """The weight of a tied head has the name of the embedding, or of the head; Adam gets it either way."""
    models = transformers_models()
    assert "lm_head.weight" not in MomoMuon.methods_of(models["gpt2"]())
    assert MomoMuon.methods_of(models["gpt2"]())["transformer.wte.weight"] == "adam"
    assert MomoMuon.methods_of(models["gpt2 untied"]())["lm_head.weight"] == "adam"

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(4, 9, bias=False)
            self.words = nn.Embedding(9, 4)
            self.body = nn.Linear(4, 4)
            self.out.weight = self.words.weight

    assert MomoMuon.methods_of(Tied()) == {"out.weight": "adam", "body.weight": "muon", "body.bias": "adam"}


@pytest.mark.parametrize(
    ("name", "shape", "method"),
    [
        ("encoder.layers.0.linear1.weight", (4, 4), "muon"),
        ("embedder.encoder.layers.0.linear1.weight", (4, 4), "muon"),
        ("attention.heads.0.query.weight", (4, 4), "muon"),
        ("patch_embed.proj.weight", (4, 4), "adam"),
        ("pos_embed", (4, 4), "adam"),
        ("position_embeddings", (1, 4, 4), "adam"),
        ("wpe.weight", (4, 4), "adam"),
        ("heads.head.weight", (4, 4), "adam"),
        ("classification_head.dense.weight", (4, 4), "adam"),
        ("mlp.experts.gate_up_proj", (3, 4, 4), "muon"),
        ("mlp.experts.gate_up_proj_bias", (3, 4), "adam"),
        ("conv.weight", (4, 4, 3), "adam"),
        ("cls_token", (1, 1, 4), "adam"),
        ("layer.lora_A.default.weight", (2, 4), "muon"),
        ("lm_head.lora_B.default.weight", (4, 2), "muon"),
        ("embed_tokens.lora_embedding_A.default", (2, 4), "adam"),
    ],
)
def test_by_name(name, shape, method):
    """Of parameters with names alone."""
    matrix = ("body.weight", nn.Parameter(torch.ones(2, 2)))
    optimizer = MomoMuon([(name, nn.Parameter(torch.ones(shape))), matrix])
    found = {each: group["method"] for group in optimizer.param_groups for each in group["param_names"]}
    assert found[name] == method


@pytest.mark.parametrize("flatten", [False, True])
def test_convolutions(flatten):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv1d(3, 4, 3), nn.Linear(4, 4))
    optimizer = MomoMuon(model.parameters(), module=model, flatten=flatten)
    kinds = {id(p): (g["method"], g["flatten"]) for g in optimizer.param_groups for p in g["params"]}
    assert kinds[id(model[2].weight)] == ("muon", False)
    for convolution in model[:2]:
        assert kinds[id(convolution.weight)] == (("muon", True) if flatten else ("adam", False))


def test_weight_decay_groups_are_split():
    """``create_optimizer`` makes groups with and without decay, each of matrices and the rest."""
    model = transformers_models()["gpt2"]()
    optimizer = create_optimizer("momo_muon", model, weight_decay=0.1, lr=1e-3)
    assert [(g["method"], g["weight_decay"]) for g in optimizer.param_groups] == [
        ("muon", 0.1),
        ("adam", 0.1),
        ("adam", 0.0),
    ]
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in optimizer.param_groups[1]["params"]} == {
        "transformer.wte.weight",
        "transformer.wpe.weight",
    }
    assert optimizer.parameter_counts["muon"][0] == 4


# peft 0.21 reads a property of models that transformers 5.23 has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora():
    """A and B of the adapters are matrices; a head that is trained in full is not."""
    peft = pytest.importorskip("peft", reason="needs peft")
    model = peft.get_peft_model(
        transformers_models()["bert classifier"](),
        peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS"),
    )
    optimizer = create_optimizer("momo_muon", model)
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        for param in group["params"]:
            is_adapter = ".lora_A." in names[id(param)] or ".lora_B." in names[id(param)]
            assert (group["method"] == "muon") == is_adapter, names[id(param)]
    assert optimizer.parameter_counts["muon"][0] == 4
    assert optimizer.parameter_counts["adam"][0] == 2
