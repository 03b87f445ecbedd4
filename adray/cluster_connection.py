"""The former name of `adray.ray_session`."""

from __future__ import annotations

from adray.ray_session import use_ray as ensure_ray

__all__ = ["ensure_ray"]
