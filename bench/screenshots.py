"""The pictures of the review page and the local Hub in docs/images, made anew from the quickstart's run.

    python bench/screenshots.py [--runs runs] [--hub hub] [--into docs/images]

Needs Chromium, and what `make quickstart` leaves behind. Nothing is decided on the review page: the run stays as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.chromium_page import CHROMIUM, chromium_page

ROOT = Path(__file__).parents[1]
RUN = "quickstart"
DATASET = "datasets/local/quickstart-intents"
DESK, PHONE = (1280, 860), (500, 900)


@contextmanager
def served(*words: str) -> Iterator[str]:
    """The address that a command of evokd-data prints when its page can be opened."""
    command = [sys.executable, "-m", "evokd_data", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            address = next((word for line in process.stdout for word in line.split() if word.startswith("http")), None)
            assert address, f"evokd-data {' '.join(words)} printed no address"
            yield address.rstrip("/") if words[0] == "hub" else address
        finally:
            process.terminate()


async def pictures(review: str, hub: str, into: Path) -> None:
    with tempfile.TemporaryDirectory() as profile:
        async with chromium_page(Path(profile)) as page:
            for name, address, (width, height), dark in (
                ("review-desktop", review, DESK, False),
                ("review-phone", review, PHONE, True),
                ("hub-desktop", f"{hub}/{DATASET}", DESK, False),
                ("hub-phone", f"{hub}/{DATASET}", PHONE, True),
            ):
                await page.open(address, width, height, dark=dark)
                await asyncio.sleep(1)  # rows are asked for after the page has loaded
                await page.screenshot(
                    into / f"{name}.png", {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
                )
                assert page.errors == [], page.errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--hub", type=Path, default=ROOT / "hub")
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    if CHROMIUM is None or not (options.runs / RUN).is_dir():
        sys.exit(f"needs Chromium on PATH, and the run {options.runs / RUN}; run: make quickstart")
    with served("review", str(options.runs / RUN)) as review, served("hub", "serve", "--root", str(options.hub)) as hub:
        asyncio.run(pictures(review, hub, options.into))


if __name__ == "__main__":
    main()
