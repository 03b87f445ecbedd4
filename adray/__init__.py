"""adray: distributed training and serving of advertising creatives on Ray."""

__version__ = "0.1.0"
