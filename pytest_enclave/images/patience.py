"""How long whoever fetches images waits for those who have them."""

from __future__ import annotations

import msgspec


class Patience(msgspec.Struct, frozen=True):
    """How often a request is tried (`tries`), pauses growing from `pause` seconds to `longest`, and what it waits for.

    A pull that stands still for `stall` seconds is given up.
    """

    stall: float = 60.0
    tries: int = 5
    pause: float = 0.5
    longest: float = 15.0
