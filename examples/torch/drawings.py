"""What a run looks like: curves of its training as SVG, and boxes in pictures as PNG."""
import html
import math
import struct
import zlib

import numpy as np

WIDTH, HEIGHT, LEFT, GAP = 640, 150, 70, 60
COLOURS = ("#2166ac", "#b2182b", "#1b7837", "#762a83", "#e08214")
DRAWN_POINTS = 400  # of a curve
DOTTED_POINTS = 50  # at most, of a curve whose points are marked: one alone would not be seen
BOX_COLOURS = ((255, 64, 64), (64, 224, 64), (64, 128, 255), (255, 208, 0), (224, 64, 224))  # run_network's


def ticks(low, high):
    """Three to seven round numbers inside."""
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step *= next(factor for factor in (1, 2, 5) if (high - low) / (step * factor) <= 6.5)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def thinned(points):
    """Means of as many neighbours as leave DRAWN_POINTS."""
    of = max(1, len(points) // DRAWN_POINTS)
    groups = [points[i : i + of] for i in range(0, len(points), of)]
    return [(group[-1][0], math.fsum(y for _, y in group) / len(group)) for group in groups]


def panel(title, curves, steps, top):
    """`curves` are lists of (step, value)."""
    values = [y for curve in curves for _, y in curve if math.isfinite(y)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    x = lambda step: LEFT + WIDTH * step / steps
    y = lambda value: top + HEIGHT * (high - value) / (high - low)
    lines = [f"<text x='{LEFT}' y='{top - 8}'>{html.escape(title)}</text>"]
    for value in ticks(low, high):
        lines.append(f"<line x1='{LEFT}' y1='{y(value):.1f}' x2='{LEFT + WIDTH}' y2='{y(value):.1f}' stroke='#ddd'/>")
        lines.append(f"<text x='{LEFT - 6}' y='{y(value) + 4:.1f}' text-anchor='end'>{value:.6g}</text>")
    for step in ticks(0, steps):
        lines.append(f"<text x='{x(step):.1f}' y='{top + HEIGHT + 16}' text-anchor='middle'>{step:.0f}</text>")
    for curve, colour in zip(curves, COLOURS * len(curves)):
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in curve if math.isfinite(value))
        lines.append(f"<polyline fill='none' stroke='{colour}' stroke-width='1.5' points='{points}'/>")
        if len(curve) <= DOTTED_POINTS:
            lines += [f"<circle cx='{x(step):.1f}' cy='{y(value):.1f}' r='2.5' fill='{colour}'/>"
                      for step, value in curve if math.isfinite(value)]
    return lines


def curves(panels, steps):
    """Panels below each other, over steps: a title and curves each."""
    height = len(panels) * (HEIGHT + GAP) + 20
    lines = [f"<svg xmlns='http://www.w3.org/2000/svg' width='{LEFT + WIDTH + 30}' height='{height}' font-size='12' "
             "font-family='sans-serif'>", "<rect width='100%' height='100%' fill='white'/>"]
    for i, (title, curves) in enumerate(panels):
        lines += panel(title, [thinned(curve) for curve in curves], steps, 30 + i * (HEIGHT + GAP))
    return "\n".join([*lines, "</svg>", ""])


def png(pixels):
    """The file's bytes, of RGB bytes [height][width][3]."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = pixels.shape
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))  # each row begins with its filter: none
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b""))


def sheet(images, found, columns=8, rows=4, zoom=2):
    """The first of pictures [n][3][height][width] with outlines of their boxes: (label, (top, left, bottom, right) in
    shares) each. A PNG's bytes."""
    cells = []
    for image, boxes in zip(images[: columns * rows], found):
        cell = np.pad(image.transpose(1, 2, 0).repeat(zoom, 0).repeat(zoom, 1), ((1, 1), (1, 1), (0, 0)),
                      constant_values=255)
        for label, box in boxes:
            ends = [1 + round(share * (length - 3)) for share, length in zip(box, cell.shape[:2] * 2)]
            top, left, bottom, right = ends
            for edge in (np.s_[top, left : right + 1], np.s_[bottom, left : right + 1],
                         np.s_[top : bottom + 1, left], np.s_[top : bottom + 1, right]):
                cell[edge] = BOX_COLOURS[label % len(BOX_COLOURS)]
        cells.append(cell)
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    return png(np.concatenate([np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]))
