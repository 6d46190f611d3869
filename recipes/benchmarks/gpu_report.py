"""Run everything that needs a GPU, in at most eight minutes, and write one record and one table.

    make gpu                                    # runs/gpu/report.json and runs/gpu/report.md
    python recipes/benchmarks/gpu_report.py --data multi30k

These are the tests marked ``gpu`` (among them the capture of a step in a CUDA graph), the time of a step of all
methods and kernels on three sets of parameters, the same of MomoMuon in bfloat16, and one training of the translation
recipe: Multi30k, where ``--data`` names a folder with it, otherwise the built-in sentences. Each part is a process
with a time limit. Without a GPU everything runs at a tiny size on the CPU, the tests skip, and the table says that
nothing has been timed on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from plot_step_time import title
from step_candidates import MEMORY

from hf_momo.utils.files import write_whole

RECIPES = Path(__file__).resolve().parents[1]
SMOKE = (
    "--d_model 32 --encoder_layers 1 --decoder_layers 1 --vocab_size 400 --encoder_attention_heads 2"
    " --decoder_attention_heads 2 --encoder_ffn_dim 64 --decoder_ffn_dim 64 --max_target_length 24"
    " --max_train_samples 400 --max_predict_samples 12 --max_steps 6 --num_beams 1"
)


def parts(output: Path, data: Path | None, tests: list[str], on_gpu: bool) -> dict[str, tuple[int, list[str]]]:
    """Return the time limit in seconds and the command of each part; the limits are eight minutes in all."""
    tested = ["-m", "pytest", *tests, "-q", "-m", "gpu", f"--junitxml={output / 'tests.xml'}"]
    commands: dict[str, tuple[int, list[str]]] = {"tests": (170, tested)}
    muon = "--dtype bfloat16 --only Muon --rounds"
    timed = {"smoke": "smoke --rounds 2 --warm_up 1", "smoke_bfloat16": f"smoke {muon} 2 --warm_up 1"}
    if on_gpu:
        timed = {name: f"{name} --rounds 10" for name in ("iwslt14", "gpt2")}
        timed |= {"tiny": "tiny --rounds 3 --warm_up 1 --skip_counts", "iwslt14_bfloat16": f"iwslt14 {muon} 10"}
    for name, words in timed.items():
        script = [str(RECIPES / "benchmarks" / "step_time.py"), "--output", str(output / f"step_{name}.json")]
        commands[f"step_{name}"] = (50 if on_gpu else 90, [*script, "--parameters", *words.split()])
    config = RECIPES / "configs" / ("demo.yaml" if data is None else "multi30k.yaml")
    recipe = [str(RECIPES / "translation.py"), "--config", str(config), "--output_dir", str(output / "recipe")]
    if data is not None:
        files = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
        recipe += [word for kind, name in files.items() for word in (f"--{kind}_file", str(data / f"{name}.de.gz"))]
    recipe += ["--do_eval", "false", "--eval_strategy", "no", "--save_strategy", "no", "--overwrite", "true"]
    return commands | {"recipe": (110, recipe + ([] if on_gpu else SMOKE.split()))}


def run(command: list[str], limit: int, log: Path) -> dict[str, Any]:
    """Run Python with ``command``; return its exit status, ``None`` if it was stopped at ``limit``, and its time."""
    start, status = time.perf_counter(), None
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=RECIPES.parent,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if status is None:  # with the processes that tests have launched, which would occupy the GPU
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return {"status": status, "seconds": time.perf_counter() - start, "command": command}


def outcomes(path: Path) -> dict[str, dict[str, int]]:
    """Return how often each test function passed, failed and was skipped, from a JUnit file."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in ElementTree.parse(path).iter("testcase") if path.is_file() else ():
        kinds = {"skipped": "skipped", "failure": "failed", "error": "failed"}
        kind = next((kinds[child.tag] for child in case if child.tag in kinds), "passed")
        counts[f"{case.get('classname')}.{str(case.get('name')).partition('[')[0]}"][kind] += 1
    return {name: dict(each) for name, each in sorted(counts.items())}


def table(report: dict[str, Any]) -> str:
    """Return the report in Markdown."""
    lines = [f"# {report['device']}, torch {torch.__version__}", ""]
    if not report["on_gpu"]:
        lines += ["No GPU was found: its tests were skipped, and **nothing has been timed on a GPU**.", ""]
    lines += ["| part | status | seconds |", "|---|---|---|"]
    for name, part in report["parts"].items():
        status = {0: "ok", None: "stopped at its time limit"}.get(part["status"], "failed")
        lines.append(f"| {name} | {status} | {part['seconds']:.0f} |")
    lines += ["", "| test | passed | skipped | failed |", "|---|---|---|---|"]
    for name, counts in report["tests"].items():
        cells = " | ".join(str(counts.get(kind, 0)) for kind in ("passed", "skipped", "failed"))
        lines.append(f"| {name} | {cells} |")
    for record in report["steps"].values():
        lines += ["", f"{title(record)}, {record['dtype']}, on {record['device']}:", ""]
        lines += ["| step | ms | at least | to fused AdamW | to base | GB/s | waits |", "|---|" + "---|" * 6]
        for name, seconds in record["median_seconds"].items():
            least, base, rate = (record[key][name] for key in ("floor_seconds", "to_base", "bytes_per_second"))
            row = [
                f"{seconds * 1e3:.3f}",
                "" if least is None else f"{least * 1e3:.3f}",
                "" if name in MEMORY else f"{record['to_fused_adamw'][name]:.2f}",
                "" if base is None else f"{base:.2f}",
                "" if rate is None else f"{rate / 1e9:.1f}",
                str(record["counts"].get(name, {}).get("waits", "")),
            ]
            lines.append(f"| {name} | {' | '.join(row)} |")
    lines += ["", "| translation recipe | |", "|---|---|"]
    results = report["recipe"].items()
    lines += [f"| {name} | {value:.4g} |" for name, value in results if isinstance(value, float)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the parts, write the report; return 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"), help="folder of the report")
    parser.add_argument("--data", type=Path, help="folder with train.de.gz, train.en.gz, and val and test_2016_flickr")
    parser.add_argument("--parts", nargs="+", help="names of parts in the report: run these alone")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="files and folders of tests")
    options = parser.parse_args()
    output, data = options.output.resolve(), options.data and options.data.resolve()
    output.mkdir(parents=True, exist_ok=True)
    results = output / "recipe" / "all_results.json"
    for path in (results, output / "tests.xml", *output.glob("step_*.json")):
        path.unlink(missing_ok=True)  # an earlier report's must not stand for a part that fails now
    on_gpu = torch.cuda.is_available()
    done = {}
    every = parts(output, data, options.tests, on_gpu)
    if unknown := set(options.parts or ()) - every.keys():
        parser.error(f"--parts: got {', '.join(sorted(unknown))}, must be of {', '.join(every)}")
    for name in options.parts or every:
        limit, command = every[name]
        print(f"{name}: at most {limit} seconds", flush=True)
        done[name] = run(command, limit, output / f"{name}.log")
    read = {path.stem: json.loads(path.read_text()) for path in output.glob("step_*.json")}
    report = {
        "device": torch.cuda.get_device_name() if on_gpu else "CPU",
        "on_gpu": on_gpu,
        "parts": done,
        "tests": outcomes(output / "tests.xml"),
        "steps": {name: read[name] for name in done if name in read},
        "recipe": json.loads(results.read_text()) if results.is_file() else {},
    }
    write_whole(output / "report.json", json.dumps(report, indent=1) + "\n")
    write_whole(output / "report.md", table(report))
    print(table(report))
    return 0 if all(part["status"] == 0 for part in done.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
