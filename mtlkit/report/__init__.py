"""A report card of a trained model, in one file: scores with intervals, classes, worst examples, calibration, cost."""

from mtlkit.report.bootstrap import Collected, Range, collect, score_ranges
from mtlkit.report.card import Card, card_of
from mtlkit.report.page import page_of

__all__ = ["Card", "Collected", "Range", "card_of", "collect", "page_of", "score_ranges"]
