"""The bench's ratios as a picture: bars around 1, with the spread of the rounds."""

import statistics
from pathlib import Path
from typing import Any

WIDTH, LEFT, ROW, TOP = 760, 330, 30, 46
INK, BAR, OTHER = "#24292f", "#2f6f9f", "#8a949e"

BARS = (
    ("full", "tokens_per_cpu_s", "trl", "10 M, full: tokens/s over TRL's"),
    ("lora", "tokens_per_cpu_s", "trl", "10 M, lora: tokens/s over TRL's"),
    ("large", "tokens_per_cpu_s", "trl", "100 M, lora: tokens/s over TRL's"),
    ("short", "tokens_per_cpu_s", "trl", "short rows packed, over TRL's defaults"),
    ("full", "tokens_per_cpu_s", "torchtune", "10 M, full: tokens/s over torchtune's"),
    ("lora", "tokens_per_cpu_s", "torchtune", "10 M, lora: tokens/s over torchtune's"),
    ("large", "tokens_per_cpu_s", "torchtune", "100 M, lora: tokens/s over torchtune's"),
    ("full", "tokens_per_cpu_s", "bare", "10 M, full: tokens/s over the bare loop's"),
    ("lora", "tokens_per_cpu_s", "bare", "10 M, lora: tokens/s over the bare loop's"),
    ("large", "tokens_per_cpu_s", "bare", "100 M, lora: tokens/s over the bare loop's"),
)


def draw(rounds: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Write an SVG with a bar for each comparison that was measured."""
    bars = [
        (text, [each["ours"][key] / each[other][key] for each in rounds[name]], other)
        for name, key, other, text in BARS
        if rounds.get(name) and all(other in each for each in rounds[name])
    ]
    if not bars:
        return
    scale = (WIDTH - LEFT - 70) / max(max(ratios) for _, ratios, _ in bars)
    height = TOP + ROW * len(bars) + 16
    lines = [_bar(TOP + n * ROW, scale, *bar) for n, bar in enumerate(bars)]
    one = LEFT + scale
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13" fill="{INK}">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n'
        '<text x="12" y="24" font-size="15">Real tokens per processor second: this trainer over '
        "another (more is better)</text>\n"
        + "\n".join(lines)
        + f'\n<line x1="{one:.0f}" x2="{one:.0f}" y1="{TOP - 8}" y2="{height - 12}" '
        f'stroke="{INK}" stroke-dasharray="3 3"/>\n</svg>\n'
    )


def _bar(y: int, scale: float, text: str, ratios: list[float], other: str) -> str:
    middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
    colour = OTHER if other == "bare" else BAR
    ends = [LEFT + value * scale for value in (low, high)]
    return (
        f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end">{text}</text>'
        f'<rect x="{LEFT}" y="{y}" width="{middle * scale:.1f}" height="18" fill="{colour}"/>'
        f'<line x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{y + 9}" y2="{y + 9}" stroke="{INK}"/>'
        f'<text x="{ends[1] + 6:.1f}" y="{y + 14}">{middle:.2f}</text>'
    )
