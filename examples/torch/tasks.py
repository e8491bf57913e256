"""What networks answer: a class, attributes, or boxes. How they learn it, how good it is, what run_network calls it."""
import torch
from torch.nn import functional as F

import boxes

LEAST_SCORE = 0.02  # of boxes that count when a network is tested: a precision is wanted at every recall
SHOWN_SCORE = 0.3  # of boxes that run_network prints and draws


class Task:
    """Besides: loss(outputs, labels); answers(outputs), one of each picture; answer_of(found), the one that run_network
    has found; metrics(answers, labels), what they are worth, with the share that counts as `metric`."""

    metric = "accuracy"

    def __init__(self, names):
        self.names = tuple(names)

    def mirrored(self, labels, which):
        """The labels of pictures of which some are mirrored."""
        return labels

    def description(self, score=SHOWN_SCORE):
        """The content of task.json; a score is what boxes need at least."""
        return {"task": self.kind, "labels": self.names, "resize": "bilinear"}


class Classes(Task):
    """Labels are the classes' numbers."""

    kind = "classes"

    def loss(self, outputs, labels):
        return F.cross_entropy(outputs, labels)

    def answers(self, outputs):
        return outputs.argmax(1).tolist()

    def answer_of(self, found):
        return self.names.index(found[0]["label"])

    def metrics(self, answers, labels):
        right = sum(answer == label for answer, label in zip(answers, labels.tolist()))
        return {self.metric: right / len(labels), "right": right, "answers": len(labels)}


class Attributes(Task):
    """Labels are 0 or 1 for each attribute."""

    kind = "attributes"

    def loss(self, outputs, labels):
        return F.binary_cross_entropy_with_logits(outputs, labels)

    def answers(self, outputs):
        return (outputs > 0).tolist()

    def answer_of(self, found):
        there = {finding["label"] for finding in found}
        return [name in there for name in self.names]

    def metrics(self, answers, labels):
        right = int((torch.tensor(answers) == (labels > 0)).sum())
        return {self.metric: right / labels.numel(), "right": right, "answers": labels.numel()}


class Boxes(Task):
    """Labels are [most][5] for each picture: the name's number, 0 where there is no box, top, left, bottom, right in
    shares. The first of the names is the background's."""

    kind, metric = "boxes", "mAP at 0.5"

    def __init__(self, names, side, strides):
        super().__init__(("background", *names))
        self.rule = boxes.Rule(tuple(-(-side // stride) for stride in strides))
        self.anchors = self.rule.anchors()

    def loss(self, outputs, labels):
        return boxes.loss(outputs, labels, self.anchors, self.rule.coder)

    def mirrored(self, labels, which):
        other = labels.clone()
        other[:, :, 2], other[:, :, 4] = 1 - labels[:, :, 4], 1 - labels[:, :, 2]
        return torch.where(which[:, None, None], other, labels)

    def answers(self, outputs):
        return [boxes.detections(codes, scores, self.anchors, self.rule, LEAST_SCORE)
                for codes, scores in zip(outputs[0], torch.sigmoid(outputs[1]))]

    def answer_of(self, found):
        found = found[: boxes.MOST]
        return (torch.tensor([self.names.index(finding["label"]) for finding in found], dtype=torch.int64),
                torch.tensor([finding["value"] for finding in found], dtype=torch.float64),
                torch.tensor([finding["box"] for finding in found], dtype=torch.float64).reshape(-1, 4))

    def metrics(self, answers, labels):
        thresholds = [percent / 100 for percent in range(50, 100, 5)]
        at = boxes.mean_average_precision(answers, labels, len(self.names), thresholds)
        return {self.metric: at[0.5], "mAP at 0.75": at[0.75], "mAP at 0.5:0.95": sum(at.values()) / len(at)}

    def description(self, score=SHOWN_SCORE):
        rule = self.rule
        return super().description() | {
            "boxes": "codes", "scores": "scores", "grids": rule.grids, "min_scale": rule.min_scale,
            "max_scale": rule.max_scale, "aspect_ratios": rule.aspect_ratios, "coder": rule.coder,
            "score_threshold": score, "iou_threshold": rule.iou_threshold}
