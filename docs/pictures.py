"""`make pictures`: the README's pictures, from this checkout's own artifacts, drawn by a real browser.

.venv/bin/python docs/pictures.py      needs chromium (apt-get install chromium) and a measured week 1
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from runner import glance, grid

ROOT = Path(__file__).resolve().parent.parent
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip


def main() -> None:
    pictures = ROOT / "docs" / "pictures"
    pictures.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "status.html"
        page.write_text(status_page(), encoding="utf-8")
        shoot(page, pictures / "status.png", "1130,270", folder)
        report = ROOT / "artifacts" / "week01" / "day07" / "weekly_report_wk1.html"
        shoot(report, pictures / "weekly_report.png", "1130,1500", folder)


def status_page() -> str:
    """`run status week01` as a terminal shows it, as one HTML page."""
    console = Console(record=True, width=112, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ run status week01", style="bold"))
    for line in grid.lines(glance.of(ROOT, "week01"), colour=True):
        console.print(Text.from_ansi(line))
    return console.export_html(inline_styles=True).replace("<body", "<body style='margin:24px;font-size:16px'", 1)


def shoot(page: Path, picture: Path, size: str, profile: str) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        sys.exit("no chromium: sudo apt-get install -y chromium")
    argv = [browser, *QUIET, f"--user-data-dir={profile}/{picture.stem}", f"--window-size={size}",
            f"--screenshot={picture}", page.as_uri()]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True, timeout=120)
    print(picture.relative_to(ROOT))


if __name__ == "__main__":
    main()
