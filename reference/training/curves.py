"""Draws a run's log as SVG: for every phase its loss over the steps, and its scores.

python3 -m training.curves --from DIR [--to DIR/curves]
"""

import argparse
import json
import math
import os

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 260, 58, 34, 26
INKS = ("#1f5fa8", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0e7490", "#a16207", "#475569")


def ticks(low, high, most=5):
    """Round numbers between low and high."""
    span = (high - low) or 1.0
    size = 10 ** math.floor(math.log10(span / most))
    size = next(size * k for k in (1, 2, 5, 10) if span / (size * k) <= most)
    return [size * i for i in range(math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9) + 1)]


def chart(title, series, below="step"):
    """SVG of {name: [(x, y), ...]}."""
    points = [p for line in series.values() for p in line]
    x0, x1 = min(p[0] for p in points), max(p[0] for p in points)
    y0, y1 = min(p[1] for p in points), max(p[1] for p in points)
    x1, y1 = (x1 if x1 > x0 else x0 + 1), (y1 if y1 > y0 else y0 + 1)
    plot_width, plot_height = WIDTH - LEFT - 14, HEIGHT - BOTTOM - TOP

    def place(x, y):
        return LEFT + (x - x0) / (x1 - x0) * plot_width, TOP + (1 - (y - y0) / (y1 - y0)) * plot_height

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/><text x="{LEFT}" y="16" font-size="13">{title}</text>',
    ]
    for y in ticks(y0, y1):
        at = place(x0, y)[1]
        out.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - 14}" stroke="#e2e8f0"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" fill="#475569">{y:g}</text>')
    for x in ticks(x0, x1):
        at = place(x, y0)[0]
        out.append(f'<text x="{at:.1f}" y="{HEIGHT - 16}" text-anchor="middle" fill="#475569">{x:g}</text>')
    out.append(f'<text x="{WIDTH - 14}" y="{HEIGHT - 3}" text-anchor="end" fill="#475569">{below}</text>')
    # On the right, at the height where it covers the fewest points.
    right = [y for x, y in (place(*p) for p in points) if x > 0.7 * WIDTH]
    heights = range(TOP + 12, HEIGHT - BOTTOM - 14 * len(series) + 12, 2)
    legend = min(heights, key=lambda at: sum(at - 14 < y < at + 14 * len(series) - 8 for y in right))
    for i, (name, line) in enumerate(series.items()):
        ink = INKS[i % len(INKS)]
        path = "L".join("{:.1f} {:.1f}".format(*place(*p)) for p in line)
        out.append(f'<path d="M{path}" fill="none" stroke="{ink}" stroke-width="1.5"/>')
        out.append(f'<text x="{WIDTH - 18}" y="{legend + 14 * i}" text-anchor="end" fill="{ink}">{name}</text>')
    return "\n".join([*out, "</svg>\n"])


def draw(folder, target):
    with open(os.path.join(folder, "log.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    os.makedirs(target, exist_ok=True)
    for phase in dict.fromkeys(line["phase"] for line in lines):
        mine = [line for line in lines if line["phase"] == phase]
        charts = {"loss": {"loss": [(line["step"], line["loss"]) for line in mine if "loss" in line]}}
        scores = [line for line in mine if line.get("score")]
        for unit, names in (("dB", ("psnr",)), ("ssim", ("ssim",)), ("held", ("held_loss",))):
            keys = [key for key in (scores[0] if scores else {}) if any(name in key for name in names)]
            charts[unit] = {key: [(line["step"], line[key]) for line in scores] for key in keys}
        for unit, series in charts.items():
            series = {name: line for name, line in series.items() if line}
            if series:
                with open(os.path.join(target, f"{phase}-{unit}.svg"), "w") as file:
                    file.write(chart(f"{phase}: {unit}", series))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", required=True)
    parser.add_argument("--to")
    options = parser.parse_args()
    draw(options.folder, options.to or os.path.join(options.folder, "curves"))


if __name__ == "__main__":
    main()
