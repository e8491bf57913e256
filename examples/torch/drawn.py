"""Drawn pictures, of several attributes each or with boxes around figures. Nothing is downloaded: a picture depends on
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


def figure(source, kind, rows, columns, smallest, largest):
    """Where a figure of any place and angle is, now and then with a hole: true for its pixels."""
    radius = source.uniform(smallest, largest)
    y, x = source.uniform(radius, len(rows) - radius, 2)
    distance = shape_of(kind, rows, columns, y, x, radius, source.uniform(0, 2 * np.pi))
    inside = distance <= 1
    if source.random() < 0.3:
        inside &= distance > 0.6
    return inside


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
        inside = figure(source, ATTRIBUTES[index], rows, columns, 6, 10)
        colour = source.uniform(0, 255, 3)
        while np.abs(colour - ground).max() < 60:
            colour = source.uniform(0, 255, 3)
        image[inside] = colour
    image += source.normal(0, 4, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8).transpose(2, 0, 1), present


def attributes(_, part, limit=None):
    """Pictures [n][3][SIDE][SIDE], and of each which ATTRIBUTES it has, as 0 and 1."""
    every = [picture(np.random.default_rng([i, part == "test"])) for i in range(COUNT[part])[:limit]]
    return np.stack([p for p, _ in every]), np.stack([a for _, a in every]).astype(np.float32)


FIGURES = ("circle", "square", "triangle")
SCENE, MOST_FIGURES = 64, 4
SCENES = {"train": 12000, "test": 1000}


def scene(source):
    """RGB bytes [3][SCENE][SCENE] and the boxes of its figures [MOST_FIGURES][5]: 1 + the index in FIGURES, or 0 where
    there is none, top, left, bottom, right in shares. Boxes overlap by a tenth of the smaller one at most."""
    rows, columns = np.mgrid[:SCENE, :SCENE].astype(np.float64)
    ground = source.uniform(40, 216, 3)
    angle, length = source.uniform(0, 2 * np.pi), source.uniform(0, 40)
    slope = ((rows * np.cos(angle) + columns * np.sin(angle)) / SCENE - 0.5) * length
    image = ground + slope[:, :, None]
    labels = np.zeros((MOST_FIGURES, 5), np.float32)
    boxes = []
    wanted = source.integers(1, MOST_FIGURES + 1)
    for _ in range(20):
        if len(boxes) == wanted:
            break
        kind = source.integers(len(FIGURES))
        inside = figure(source, FIGURES[kind], rows, columns, 6, 16)
        at = np.nonzero(inside)
        box = np.array([at[0].min(), at[1].min(), at[0].max() + 1, at[1].max() + 1])
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (*boxes, box)]
        shared = [np.clip(np.minimum(box[2:], b[2:]) - np.maximum(box[:2], b[:2]), 0, None).prod() for b in boxes]
        if any(10 * s > min(areas[-1], a) for s, a in zip(shared, areas)):
            continue
        colour = source.uniform(0, 255, 3)
        while np.abs(colour - ground).max() < 70:
            colour = source.uniform(0, 255, 3)
        image[inside] = colour
        labels[len(boxes)] = [1 + kind, *box / SCENE]
        boxes.append(box)
    image += source.normal(0, 6, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8).transpose(2, 0, 1), labels


def scenes(_, part, limit=None):
    """Pictures [n][3][SCENE][SCENE] and their boxes [n][MOST_FIGURES][5]."""
    every = [scene(np.random.default_rng([i, 2 + (part == "test")])) for i in range(SCENES[part])[:limit]]
    return np.stack([p for p, _ in every]), np.stack([b for _, b in every])
