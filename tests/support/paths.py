"""Where the checkout is, and the files that may lie beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SHARED: Final = ROOT.parent / "shared"
