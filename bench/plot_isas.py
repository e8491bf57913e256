"""Draws what `po2quant_bench_table --json` wrote: the layers under the roofs of each instruction set, and the rates of all
rows as bars. Noisy figures are not drawn.

    python3 bench/plot_isas.py FILE.json FILE.svg
"""
import json
import statistics
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

PLAIN = "plain_o3_native"


def roofline(axes, rows, engines, colours):
    """Multiply-accumulates per byte against GMAC/s: each layer is a point, each dot-product peak a line, and each
    bandwidth of a copy a slope."""
    layers = [row for row in rows if row["unit"] == "GMAC/s"]
    intensities = [row["macs"] / row["bytes"] for row in layers]
    ends = [0.5 * min(intensities), 2 * max(intensities)]
    lowest = float("inf")
    highest = 0.0
    for engine in engines:
        cells = [(x, cell) for x, row in zip(intensities, layers) for cell in row["cells"] if cell["isa"] == engine]
        points = [(x, cell["rate"]) for x, cell in cells if not cell["noisy"]]
        if points:
            axes.scatter(*zip(*points), s=9, color=colours[engine], label=engine)
            lowest = min(lowest, min(y for _, y in points))
        peaks = [cell["roof"] for _, cell in cells if "roof" in cell]
        if peaks and engine != PLAIN:  # the plain loop is under the best one's
            peak = statistics.median(peaks)
            axes.plot(ends, [peak, peak], color=colours[engine], linewidth=0.8)
            highest = max(highest, peak)
    for row in rows:
        copies = [cell["roof"] for cell in row["cells"] if "roof" in cell]
        if row["op"] == "fake_quantize" and copies:
            axes.plot(ends, [x * copies[0] for x in ends], color="grey", linewidth=0.8, linestyle="dashed")
            axes.annotate(f"copy of {row['shape']} floats", (ends[0], ends[0] * copies[0]), fontsize=6)
    axes.set(xscale="log", yscale="log", xlim=ends, xlabel="multiply-accumulates per byte", ylabel="GMAC/s",
             title="Layers under the roofs of each instruction set")
    if highest:
        axes.set_ylim(0.5 * min(lowest, highest), 2 * highest)
    axes.legend(fontsize=7)


def bars(axes, rows, engines, colours):
    thickness = 1 / (len(engines) + 1)
    for at, row in enumerate(rows):
        for cell in row["cells"]:
            y = at + (engines.index(cell["isa"]) - (len(engines) - 1) / 2) * thickness
            if cell["noisy"]:
                axes.annotate("noisy", (0, y), fontsize=4, verticalalignment="center")
            else:
                axes.barh(y, cell["rate"], thickness, color=colours[cell["isa"]])
    axes.set_yticks(range(len(rows)), [f"{row['op']} {row['shape']}" for row in rows], fontsize=6)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(rows[0]["unit"])
    axes.legend([plt.Rectangle((0, 0), 1, 1, color=colours[engine]) for engine in engines], engines, fontsize=7)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1]) as file:
        table = json.load(file)
    rows = table["rows"]
    engines = [PLAIN, *table["isas"]]
    colours = {PLAIN: "grey"} | {isa: plt.get_cmap("viridis")(i / len(table["isas"])) for i, isa in enumerate(table["isas"])}
    passes = [row for row in rows if row["unit"] == "GB/s"]
    layers = [row for row in rows if row["unit"] == "GMAC/s"]
    panels = []
    if layers:
        panels.append((5.0, lambda axes: roofline(axes, rows, engines, colours)))
    for some in (passes, layers):
        if some:
            panels.append((1 + 0.4 * len(some), lambda axes, some=some: bars(axes, some, engines, colours)))
    heights = [height for height, _ in panels]
    figure, all_axes = plt.subplots(len(panels), 1, figsize=(9, sum(heights)), squeeze=False, layout="constrained",
                                    gridspec_kw={"height_ratios": heights})
    for axes, (_, draw) in zip(all_axes[:, 0], panels):
        draw(axes)
    figure.savefig(sys.argv[2])


main()
