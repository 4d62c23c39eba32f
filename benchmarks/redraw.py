"""Milliseconds per redraw of a 200-point curve on the page of `replica explore`: ``python benchmarks/redraw.py``.

From a changed box to the new data of the page, without the browser; the median and the slowest of 20.
"""

from __future__ import annotations

import statistics
import time

from replica.explorer import AtOnce, Page
from replica.sweep import first_sweep

CASES = {
    "ridge": ("ridge", {}, {}),
    "srf": ("srf", {}, {"alpha0": 4.0}),
    "glm, logistic": ("glm", {"loss": "logistic", "labels": "sign"}, {}),
}


def redraws(model: str, options: dict[str, str], parameters: dict[str, float], repeats: int = 20) -> list[float]:
    """Milliseconds of so many redraws, the penalty moved each time."""
    page = Page(first_sweep(model, options, parameters), AtOnce())
    found = []
    for i in range(repeats):
        start = time.perf_counter()
        page.controls["reg"].box.value = f"{0.1 * 1.1**i:.4g}"
        found.append(1e3 * (time.perf_counter() - start))
    return found


if __name__ == "__main__":
    for name, case in CASES.items():
        milliseconds = redraws(*case)
        print(f"{name:<15} {statistics.median(milliseconds):6.1f} ms, slowest {max(milliseconds):6.1f} ms")
