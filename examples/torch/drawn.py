"""Drawn pictures with several attributes each, for networks with several answers. Nothing is downloaded: a picture depends on
the part and its number alone."""
import numpy as np

ATTRIBUTES = ("circle", "square", "triangle", "stripes")
SIDE = 32
COUNT = {"train": 12000, "test": 4000}


def shape_of(kind, rows, columns, y, x, radius, angle):
    """Where a figure is: inside it, by distances from its middle in units of its radius."""
    v, u = (rows - y) / radius, (columns - x) / radius
    v, u = v * np.cos(angle) - u * np.sin(angle), v * np.sin(angle) + u * np.cos(angle)
    if kind == "circle":
        return np.hypot(u, v)
    if kind == "square":
        return np.maximum(np.abs(u), np.abs(v)) * 1.2
    return np.maximum.reduce([v * 2, -v + np.sqrt(3) * u, -v - np.sqrt(3) * u])


def picture(source):
    """RGB bytes [3][SIDE][SIDE] and which attributes it has."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    present = source.random(len(ATTRIBUTES)) < 0.5
    ground = source.uniform(40, 216, 3)
    image = np.broadcast_to(ground, (SIDE, SIDE, 3)).copy()
    if present[3]:
        angle, width = source.uniform(0, np.pi), source.uniform(3, 6)
        stripes = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi / width) > 0
        image[stripes] += source.choice([-1, 1]) * source.uniform(20, 40)
    for index in source.permutation(3):
        if not present[index]:
            continue
        radius = source.uniform(6, 10)
        y, x = source.uniform(radius, SIDE - radius, 2)
        distance = shape_of(ATTRIBUTES[index], rows, columns, y, x, radius, source.uniform(0, 2 * np.pi))
        inside = distance <= 1
        if source.random() < 0.3:
            inside &= distance > 0.6
        colour = source.uniform(0, 255, 3)
        while np.abs(colour - ground).max() < 60:
            colour = source.uniform(0, 255, 3)
        image[inside] = colour
    image += source.normal(0, 4, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8).transpose(2, 0, 1), present


def attributes(_, part):
    """Pictures [n][3][SIDE][SIDE], and of each which ATTRIBUTES it has, as 0 and 1."""
    pictures = [picture(np.random.default_rng([i, part == "test"])) for i in range(COUNT[part])]
    return np.stack([p for p, _ in pictures]), np.stack([a for _, a in pictures]).astype(np.float32)
