"""Boxes of an SSD: anchors, codes against them, the loss, what remains of a network's output, and how good that is.

A box is top, left, bottom, right in shares of the picture; an anchor is its middle's y and x, height and width.
Anchors, codes and suppression are those of run_network's task `boxes`.
"""
import dataclasses

import numpy as np
import torch
from torch.nn import functional as F

MATCH = 0.5  # the overlap from which an anchor answers for a box
MOST = 100  # boxes of a picture
FOCUS, POSITIVE = 2.0, 0.25  # gamma and alpha of the focal loss


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where anchors are and how boxes are coded against them; FORMAT.md says what the fields mean."""

    grids: tuple[int, ...]
    min_scale: float = 0.2
    max_scale: float = 0.5
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5)
    coder: tuple[float, ...] = (10.0, 10.0, 5.0, 5.0)
    iou_threshold: float = 0.5

    def anchors(self):
        """[anchors][4] in float64, in the order of a network's outputs: by layer, row, column, kind."""
        steps = max(1, len(self.grids) - 1)
        scales = [self.min_scale + (self.max_scale - self.min_scale) * i / steps for i in range(len(self.grids))]
        layers = []
        for grid, scale, following in zip(self.grids, scales, [*scales[1:], 1.0]):
            sizes = [(scale / ratio**0.5, scale * ratio**0.5) for ratio in self.aspect_ratios]
            sizes.append(((scale * following) ** 0.5,) * 2)
            middles = (torch.arange(grid, dtype=torch.float64) + 0.5) / grid
            cells = torch.cartesian_prod(middles, middles)
            layers.append(torch.cat([cells.repeat_interleave(len(sizes), 0),
                                     torch.tensor(sizes, dtype=torch.float64).repeat(len(cells), 1)], 1))
        return torch.cat(layers)

    @property
    def anchors_per_cell(self):
        return len(self.aspect_ratios) + 1


def corners_of(anchors):
    middle, half = anchors[..., :2], anchors[..., 2:] / 2
    return torch.cat([middle - half, middle + half], -1)


def overlaps(a, b):
    """Intersection over union of boxes [...][m][4] and [...][n][4]: [...][m][n]. Boxes without area overlap nothing."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    inside = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp_min(0).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return inside / (areas - inside).clamp_min(1e-12)


def encode(boxes, anchors, coder):
    """ty, tx, th, tw of boxes, one for each anchor."""
    middle, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    codes = torch.cat([(middle - anchors[:, :2]) / anchors[:, 2:], (size / anchors[:, 2:]).log()], -1)
    return codes * torch.tensor(coder, dtype=codes.dtype)


def decode(codes, anchors, coder):
    codes = codes / torch.tensor(coder, dtype=codes.dtype)
    middle = codes[..., :2] * anchors[:, 2:] + anchors[:, :2]
    return corners_of(torch.cat([middle, codes[..., 2:].exp() * anchors[:, 2:]], -1)).clamp(0, 1)


def match(labels, anchors):
    """For every picture and anchor its label, 0 where it answers for none, and its box. `labels` are
    [pictures][most][5]: label, box; label 0 where there is none. A box also has the anchor that fits it best."""
    there = labels[:, :, 0] > 0
    iou = overlaps(corners_of(anchors).to(labels.dtype), labels[:, :, 1:]) * there[:, None, :]
    best, chosen = iou.max(2)
    taken = best >= MATCH
    for box in range(labels.shape[1]):
        own = iou[:, :, box].argmax(1)
        pictures = there[:, box].nonzero()[:, 0]
        taken[pictures, own[pictures]] = True
        chosen[pictures, own[pictures]] = box
    answers = labels.gather(1, chosen[:, :, None].expand(-1, -1, 5))
    return torch.where(taken, answers[:, :, 0], 0).long(), answers[:, :, 1:]


def loss(outputs, labels, anchors, coder):
    """The focal loss of scores, the background's among them, and the smooth L1 loss of codes, by matched anchors."""
    codes, scores = outputs
    wanted, box = match(labels, anchors)
    targets = F.one_hot(wanted, scores.shape[2]).to(scores.dtype)
    right = torch.where(targets > 0, scores, -scores)
    weights = torch.where(targets > 0, POSITIVE, 1 - POSITIVE)
    of_scores = (weights * torch.sigmoid(-right) ** FOCUS * F.softplus(-right)).sum()
    positive = wanted > 0
    wanted_codes = encode(box, anchors.to(codes.dtype), coder)
    of_codes = F.smooth_l1_loss(codes[positive], wanted_codes[positive], reduction="sum")
    return (of_scores + of_codes) / positive.sum().clamp_min(1)


def detections(codes, scores, anchors, rule, threshold):
    """Of one picture's codes and probabilities, the best first, at most MOST: labels, scores, boxes. Of two boxes of a
    label that overlap more than the rule's iou_threshold the worse goes."""
    at, label = (scores[:, 1:] >= threshold).nonzero(as_tuple=True)
    score, order = scores[at, label + 1].double().sort(descending=True, stable=True)
    at, label = at[order], label[order] + 1
    boxes = decode(codes[at].double(), anchors[at], rule.coder)
    clash = ((overlaps(boxes, boxes) > rule.iou_threshold) & (label[:, None] == label)).numpy()
    free, kept = np.ones(len(at), bool), []
    for i in range(len(at)):
        if free[i] and len(kept) < MOST:
            kept.append(i)
            free &= ~clash[i]
    return label[kept], score[kept], boxes[kept]


def average_precision(scores, hits, wanted):
    """The area below precision over recall, interpolated from above."""
    right = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
    return float(np.sum(np.diff(right, prepend=0) * precision)) / wanted


def mean_average_precision(found, truths, labels, thresholds):
    """By threshold of intersection over union, the mean over the labels that there are. `found` has (labels, scores,
    boxes) by picture, the best first; `truths` are [pictures][most][5] as in match(). A true box is found once."""
    means = {threshold: [] for threshold in thresholds}
    for label in range(1, labels):
        wanted, scores, matrices = 0, [np.zeros(0)], []
        for (of_label, score, boxes), truth in zip(found, truths):
            truth = truth[truth[:, 0] == label, 1:].double()
            wanted += len(truth)
            chosen = of_label == label
            scores.append(score[chosen].numpy())
            matrices.append(overlaps(boxes[chosen], truth).numpy())
        for threshold in thresholds if wanted else ():
            hits = [np.zeros(0)]
            for matrix in matrices:
                hit, free = np.zeros(len(matrix)), np.ones(matrix.shape[1], bool)
                for row in np.nonzero((matrix >= threshold).any(1))[0]:
                    best = np.argmax(matrix[row] * free)
                    hit[row] = free[best] and matrix[row, best] >= threshold
                    free[best] &= not hit[row]
                hits.append(hit)
            means[threshold].append(average_precision(np.concatenate(scores), np.concatenate(hits), wanted))
    return {threshold: float(np.mean(of_labels)) for threshold, of_labels in means.items()}
