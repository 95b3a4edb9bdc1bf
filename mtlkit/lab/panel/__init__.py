"""A panel that steers somebody's own training loop."""

from mtlkit.lab.panel.panel import LossPanel

__all__ = ["LossPanel"]
