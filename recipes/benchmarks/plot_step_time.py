"""Print the table and draw the picture of step times from the records of step_time.py.

Usage, with the records of one machine:

    cd recipes/benchmarks/results && python ../plot_step_time.py step_time_*_2_cores.json --output step_time.png
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from step_candidates import BASELINE, MEMORY

# The palette of Okabe and Ito, which colour-blind readers can distinguish.
COLORS = {"hf_momo": "#0072B2", "momo-opt": "#D55E00", "torch": "#999999"}
SETS = {"iwslt14": "encoder-decoder", "gpt2": "GPT-2 small", "tiny": "tiny tensors", "smoke": "smoke size"}


def title(record: dict[str, Any]) -> str:
    """Return the set of parameters with its size and its number of tensors."""
    return f"{SETS[record['parameters']]}: {record['elements'] / 1e6:.3g}M in {record['tensors']:,} tensors"


def ratio(record: dict[str, Any], name: str) -> float:
    """Return the time of a step relative to fused AdamW, NaN where the set has no matrices for the method."""
    return float(record["to_fused_adamw"].get(name, math.nan))


def shown(number: float) -> str:
    """Return two digits of the number, nothing for NaN."""
    return "" if math.isnan(number) else f"{number:.2f}"


def markdown(records: list[dict[str, Any]]) -> str:
    """Return a table of the times relative to fused AdamW: one row an optimizer, one column a set."""
    heads = [f"{title(record)} ({record['median_seconds'][BASELINE] * 1e3:.0f} ms)" for record in records]
    lines = [f"| step, to torch's fused AdamW | {' | '.join(heads)} |", "|---|" + "---|" * len(records)]
    for name in records[0]["median_seconds"]:
        if name not in MEMORY:
            lines.append(f"| {name} | {' | '.join(shown(ratio(record, name)) for record in records)} |")
    return "\n".join(lines)


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Draw the times relative to fused AdamW as bars, one panel a set."""
    figure = Figure(figsize=(4.2 * len(records) + 1.5, 4.2), layout="constrained")
    panels = figure.subplots(1, len(records), sharey=True, squeeze=False)[0]
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # keeps the dashed line off the numbers
    names = [name for name in records[0]["median_seconds"] if name not in MEMORY]
    for panel, record in zip(panels, records, strict=True):
        ratios = [ratio(record, name) for name in names]
        colors = [
            next((c for start, c in COLORS.items() if name.startswith(start)), COLORS["torch"]) for name in names
        ]
        bars = panel.barh(names, ratios, color=colors)
        panel.bar_label(bars, list(map(shown, ratios)), padding=3, fontsize=8, bbox=white)
        panel.set(xscale="log", xlim=(0.3, 2.5 * max(filter(math.isfinite, ratios))))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel("time of a step, fused AdamW = 1")
        panel.set_title(title(record), fontsize=9)
        panel.axvline(1.0, color="black", linewidth=0.8, linestyle="--", zorder=1)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    threads = records[0]["threads"]
    figure.suptitle(
        f"One optimizer step on {records[0]['device']}, {threads} threads, medians of one process", fontsize=10
    )
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    """Read the records, print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+", help="records of step_time.py, made on one machine")
    parser.add_argument("--output", type=Path, required=True, help="the picture, a PNG")
    options = parser.parse_args()
    records = [json.loads(path.read_text()) for path in options.records]
    print(markdown(records))
    draw(records, options.output)


if __name__ == "__main__":
    main()
