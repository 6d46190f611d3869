"""Running a recipe as a user does, and small data to run it on."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import ModelCard

from hf_momo.hub.cards import render_model_card

ROOT = Path(__file__).parents[1]
DEMO_CONFIG = ROOT / "recipes" / "configs" / "demo.yaml"
# A model and a run that take seconds.
TINY = [
    *("--d_model", "32", "--encoder_layers", "1", "--decoder_layers", "1", "--vocab_size", "400"),
    *("--encoder_attention_heads", "2", "--decoder_attention_heads", "2"),
    *("--encoder_ffn_dim", "64", "--decoder_ffn_dim", "64", "--max_target_length", "24", "--num_beams", "2"),
    *("--max_train_samples", "400", "--max_eval_samples", "12", "--max_predict_samples", "12"),
    *("--per_device_train_batch_size", "16", "--logging_steps", "2"),
]
PAIRS = [
    ("Ein Hund läuft über die Wiese.", "A dog runs across the meadow."),
    ('Sie sagte: „Na, NA?"', 'She said: "Well, NA?"'),
    ("Zwei Männer, ein Boot", "Two men, one boat"),
    ("Der Preis beträgt 3,50 €.", "The price is 3.50 €."),
]


def run_script(name: str, *arguments: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script of recipes/ in a process of its own, on one thread, with no network."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "recipes" / name), *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def read_card(folder: Path) -> ModelCard:
    """The model card of a run, which is what its record makes and names no path of this machine."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == render_model_card(json.loads((folder / "record.json").read_text(encoding="utf-8")))
    assert str(folder.absolute().parent) not in text
    return ModelCard(text)


def write_text(folder: Path, name: str, lines: Sequence[str]) -> Path:
    """One sentence a line, gzip-packed where the name says so."""
    data = "".join(f"{line}\n" for line in lines).encode()
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def write_sides(folder: Path, stem: str, suffix: str = "") -> Path:
    """PAIRS as parallel text; the German file's path."""
    write_text(folder, f"{stem}.en{suffix}", [english for _, english in PAIRS])
    return write_text(folder, f"{stem}.de{suffix}", [german for german, _ in PAIRS])


def write_json_lines(folder: Path, name: str) -> Path:
    """PAIRS in Hugging Face's translation format."""
    rows = [{"translation": {"de": german, "en": english}} for german, english in PAIRS]
    return write_text(folder, name, [json.dumps(row, ensure_ascii=False) for row in rows])
