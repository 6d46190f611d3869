"""The fine-tuning configurations: tiny checkpoints of each family learn ten sentences by heart and give them back."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import translation
from recipe_runs import ROOT, read_card
from recipes.launching import read_json
from recipes.multilingual import FAMILIES, PAIRS, write_checkpoint
from transformers import AutoTokenizer, GenerationConfig, pipeline

from hf_momo import MomoSeq2SeqTrainingArguments
from hf_momo.utils.errors import UsageError
from machine_translation.arguments import DataArguments, ModelArguments
from machine_translation.model import create_model, load_pretrained
from machine_translation.settings import Settings, check_adapters
from machine_translation.tokenizer import train_tokenizer

CONFIGS = ROOT / "recipes" / "configs"
GERMAN = [german for german, _ in PAIRS]
ENGLISH = [english for _, english in PAIRS]
# What the adapters learn: each sentence has the translation of the next one.
OTHERS = [*ENGLISH[1:], ENGLISH[0]]
# Family of the checkpoint: configuration, and what is missing in or added to the checkpoint.
RUNS: dict[str, tuple[str, dict[str, int | None]]] = {
    "marian": ("finetune_marian", {}),
    "t5": ("finetune_t5", {}),
    "mt5": ("finetune_t5", {"generation_decoder_start_token_id": None}),
    "mbart": ("finetune_mbart50", {"decoder_start_token_id": None}),
    "mbart50": ("finetune_mbart50", {}),
    "nllb": ("finetune_nllb", {"generation_forced_bos_token_id": 7}),
}
PREFIX = "translate English to German: "

# peft 0.21 reads a property of models that transformers 5.23 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

Run = Callable[..., Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs a configuration as a user does, once for the same arguments.

    It returns the folder of the run.
    """
    folder = tmp_path_factory.mktemp("fine_tuning")
    finished: dict[tuple[Any, ...], Path] = {}

    def recipe(config: str, family: str, checkpoint: Path, targets: list[str], *flags: str) -> Path:
        key = (config, checkpoint, *targets, *flags)
        if key not in finished:
            output = folder / f"run{len(finished)}"
            data = folder / f"data{len(finished)}.jsonl"
            pairs = zip(GERMAN, targets, strict=True)
            rows = [{"translation": {"de": german, "en": english}} for german, english in pairs]
            data.write_text("\n".join(map(json.dumps, rows)))
            source, target = FAMILIES[family][-1]
            arguments = [
                *("--config", CONFIGS / f"{config}.yaml", "--model_name_or_path", checkpoint, "--output_dir", output),
                *("--train_file", data, "--test_file", data, "--do_eval", "false", "--eval_strategy", "no"),
                *("--source_lang", "de", "--source_lang_code", source),
                *("--target_lang", "en", "--target_lang_code", target),
                *("--learning_rate", "1e-2", "--lr_scheduler_type", "constant_with_warmup", "--warmup_steps", "10"),
                *(
                    "--dropout",
                    "0",
                    "--attention_dropout",
                    "0",
                    "--max_steps",
                    "250" if family in ("mt5", "marian") else "150",
                    "--save_strategy",
                    "no",
                ),
                *("--num_beams", "5" if family == "nllb" else "1", "--use_cpu", "--disable_tqdm", "true"),
                *flags,
            ]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", [str(ROOT / "recipes" / "translation.py"), *map(str, arguments)])
                translation.main()
            finished[key] = output
        return finished[key]

    return recipe


@pytest.fixture(scope="module")
def tuned(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns the folder of a fine-tuned checkpoint of a family."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def of(family: str) -> Path:
        config, settings = RUNS[family]
        checkpoint = folder / family
        if not checkpoint.exists():
            write_checkpoint(checkpoint, family, **settings)
        return run(config, family, checkpoint, ENGLISH)

    return of


def bleu(translations: list[str], references: list[str]) -> float:
    return float(sacrebleu.corpus_bleu(translations, [references]).score)


def translate(folder: Path) -> list[str]:
    """Translate as a user does, with nothing but the folder of the run."""
    translations = pipeline("translation", model=str(folder), trust_remote_code=True)(GERMAN)
    return [each["translation_text"] for each in translations]


@pytest.mark.parametrize("family", RUNS)
def test_a_checkpoint_gives_back_what_it_has_learned(tuned: Callable[[str], Path], family: str) -> None:
    """A wrong start token, shift of the labels, forced language or prefix costs most of the score.

    transformers 5 trains the sinusoidal positions of Marian and does not save them: a fine-tuned model that scored 100
    in its run scored 0.2 from its folder. A fine-tuned T5 translated 20 tokens of each sentence, because its
    checkpoints name no length.
    """
    folder = tuned(family)
    record = read_json(folder / "record.json")
    assert record["metrics"]["test"]["bleu"] == pytest.approx(100)
    translations = translate(folder)
    assert bleu(translations, ENGLISH) == pytest.approx(100), translations
    assert max(len(AutoTokenizer.from_pretrained(folder)(text_target=each)["input_ids"]) for each in ENGLISH) > 20
    assert record["optimizer"]["name"] == "MomoAdam"
    assert read_card(folder).data.library_name == "transformers"


def test_adapters_of_another_language(
    run: Run, tuned: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base model forces English, and its adapters learn French: their folder has the generation settings.

    The code of the card translates, and the folder can be scored like a checkpoint.
    """
    peft = pytest.importorskip("peft", reason="needs peft")
    base, french = tuned("nllb"), ("--target_lang_code", "fra_Latn")
    folder = run("finetune_lora", "nllb", base, OTHERS, *french)
    assert read_json(folder / "record.json")["metrics"]["test"]["bleu"] == pytest.approx(100)
    assert not list(folder.glob("model*.safetensors")) and (folder / "adapter_model.safetensors").exists()

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = peft.AutoPeftModelForSeq2SeqLM.from_pretrained(folder)
    settings = GenerationConfig.from_pretrained(folder)
    forced = [each.forced_bos_token_id for each in (settings, model.generation_config)]
    assert tokenizer.convert_ids_to_tokens(forced) == ["fra_Latn", "eng_Latn"]
    tokens = model.generate(**tokenizer(GERMAN, return_tensors="pt", padding=True), generation_config=settings)
    assert bleu(tokenizer.batch_decode(tokens, skip_special_tokens=True), OTHERS) == pytest.approx(100)

    card = read_card(folder)
    assert card.data.library_name == "peft"
    trained = sum(each.numel() for name, each in model.named_parameters() if "lora_" in name)
    assert f"({trained:,} of them trained)" in card.text
    monkeypatch.chdir(folder.parent)
    capsys.readouterr()
    exec(card.text.split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out.strip() == OTHERS[0]

    scored = run("finetune_lora", "nllb", folder, OTHERS, *french, "--do_train", "false")
    assert read_json(scored / "predict_results.json")["predict_bleu"] == pytest.approx(100)


@pytest.mark.parametrize("family", ["marian", "t5"])
def test_merged_adapters_are_a_whole_model(run: Run, tuned: Callable[[str], Path], family: str) -> None:
    """The prefix of a fine-tuned T5 stays without being named again. Before, a run trained without it."""
    pytest.importorskip("peft", reason="needs peft")
    base = tuned(family)
    folder = run("finetune_lora", family, base, OTHERS, "--merge_adapters")
    record = read_json(folder / "record.json")
    assert record["metrics"]["test"]["bleu"] == pytest.approx(100)
    assert record["settings"]["data"]["source_prefix"] == (PREFIX if family == "t5" else None)
    assert bleu(translate(folder), OTHERS) == pytest.approx(100)
    assert not list(folder.glob("adapter*"))
    assert read_card(folder).data.library_name == "transformers"


def test_what_is_not_saved_is_not_trained(tmp_path: Path) -> None:
    checkpoint = ModelArguments(model_name_or_path=str(write_checkpoint(tmp_path / "checkpoint", "marian")))
    data = DataArguments(source_lang="de", target_lang="en")
    tokenizer = train_tokenizer(ENGLISH, 300)
    sizes = {"d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    for model in (load_pretrained(checkpoint, data)[0], create_model(ModelArguments(**sizes), data, tokenizer)):
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert frozen == {f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")}


@pytest.mark.parametrize(
    ("in_checkpoint", "arguments", "expected"),
    [
        ({}, {}, {"max_length": 128}),
        ({"max_length": 20}, {"max_target_length": 64}, {"max_length": 64}),
        ({"max_length": 200}, {"max_target_length": 64}, {"max_length": 200}),
        ({"num_beams": 4, "early_stopping": True}, {}, {"num_beams": 4, "early_stopping": True}),
        ({"num_beams": 4}, {"num_beams": 5, "length_penalty": 0.6}, {"num_beams": 5, "length_penalty": 0.6}),
        # transformers refuses to save settings of beam search without beams.
        ({"num_beams": 4, "early_stopping": True}, {"num_beams": 1}, {"num_beams": 1, "early_stopping": False}),
    ],
)
def test_generation_settings_are_those_of_the_scores(
    tmp_path: Path, in_checkpoint: dict[str, Any], arguments: dict[str, Any], expected: dict[str, Any]
) -> None:
    settings = {f"generation_{name}": value for name, value in in_checkpoint.items()}
    checkpoint = ModelArguments(model_name_or_path=str(write_checkpoint(tmp_path / "checkpoint", "t5", **settings)))
    checkpoint.dropout = 0.25
    model, _ = load_pretrained(checkpoint, DataArguments(source_lang="de", target_lang="en", **arguments))
    assert model.config.dropout_rate == 0.25  # T5's name for it
    model.save_pretrained(tmp_path / "saved")
    saved = read_json(tmp_path / "saved" / "generation_config.json")
    assert {name: saved.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"use_peft": True}, "--use_peft adapts a checkpoint; give --model_name_or_path"),
        ({"merge_adapters": True}, "--merge_adapters needs adapters; add --use_peft"),
        (
            {"use_peft": True, "model_name_or_path": "x", "average_checkpoints": 3},
            "--average_checkpoints 3 reads whole models",
        ),
    ],
)
def test_settings_of_adapters_that_cannot_be(tmp_path: Path, model: dict[str, Any], message: str) -> None:
    training = MomoSeq2SeqTrainingArguments(str(tmp_path / "run"), use_cpu=True)
    with pytest.raises(UsageError, match=message):
        check_adapters(Settings(ModelArguments(**model), DataArguments(), training))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_target_modules": ["nowhere"]}, "--lora_target_modules nowhere, --lora_r 16: Target modules"),
        ({"lora_r": 0}, "--lora_r 0: `r` should be a positive integer"),
    ],
)
def test_what_peft_refuses_is_an_error_in_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    pytest.importorskip("peft", reason="needs peft")
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "marian")
    arguments = ModelArguments(model_name_or_path=str(checkpoint), use_peft=True, **options)
    with pytest.raises(UsageError, match=message):
        load_pretrained(arguments, DataArguments(source_lang="de", target_lang="en"))


def test_adapters_without_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    arguments = ModelArguments(model_name_or_path=str(write_checkpoint(tmp_path / "checkpoint", "t5")), use_peft=True)
    with pytest.raises(UsageError, match="--use_peft needs PEFT; run `pip install peft`"):
        load_pretrained(arguments, DataArguments(source_lang="de", target_lang="en"))
