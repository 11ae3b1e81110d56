"""Sets of values that between them make every object of the chart in each of its forms."""

from __future__ import annotations

from typing import Any

SETS: dict[str, dict[str, Any]] = {
    "least": {},
}
