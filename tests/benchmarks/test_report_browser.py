"""`report.html` in a real browser: it draws, it complains of nothing, and nothing overlaps."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks import synthetic
from vlv_benchmarks.record import Samples
from vlv_benchmarks.report import page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(BROWSERS)}"),
]
COMPLAINT = re.compile(r"CONSOLE.*|Refused to .*|ERR_\w+")

MEASURE = """
<pre id="measured"></pre><script>
const found = [], inside = (a, b) =>
  a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
for (const figure of document.querySelectorAll('figure')) {
  const frame = figure.getBoundingClientRect();
  const title = figure.querySelector('figcaption').textContent;
  const words = [...figure.querySelectorAll('svg[role=img] text')];
  const boxes = words.map(each => each.getBoundingClientRect());
  boxes.forEach((box, i) => {
    if (box.left < frame.left || box.right > frame.right) found.push(
      title + ': ' + words[i].textContent + ' leaves its frame');
    for (let j = i + 1; j < boxes.length; j++) if (inside(box, boxes[j])) found.push(
      title + ': ' + words[i].textContent + ' lies over ' + words[j].textContent);
  });
}
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.getElementById('measured').textContent = JSON.stringify(
  {found, wide, figures: document.querySelectorAll('figure').length});
</script>
"""
"""finds words of figures that overlap or leave their frame, and a page that scrolls sideways"""


@pytest.fixture(scope="module")
def html() -> str:
    rows, turns = synthetic.afternoon()
    return page(synthetic.record(rows, turns, Samples(turns=len(turns), sha256="0")), turns)


def browse(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a file without a window."""
    profile = path.with_suffix(".profile")
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--enable-logging=stderr", f"--user-data-dir={profile}", *options, path.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def measured(path: Path, html: str, *, width: int) -> dict[str, object]:
    """What MEASURE finds in the page."""
    path.write_text(html.replace("</body>", f"{MEASURE}</body>"))
    shown = browse(path, f"--window-size={width},4000", "--dump-dom").stdout
    found = re.search(r'<pre id="measured">(.*?)</pre>', shown, re.S)
    assert found, shown[-500:]
    parsed: dict[str, object] = json.loads(unescape(found[1]))
    return parsed


def screenshot(path: Path, html: str, *options: str) -> tuple[np.ndarray, list[str]]:
    """Pixels (H, W, 3), and what the browser complained of."""
    path.write_text(html)
    picture = path.with_suffix(".png")
    said = browse(path, "--window-size=1240,2400", f"--screenshot={picture}", *options).stderr
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB")), COMPLAINT.findall(said)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_is_drawn_without_complaints(tmp_path: Path, html: str, dark: bool) -> None:
    option = ["--blink-settings=preferredColorScheme=0"] if dark else []
    pixels, complaints = screenshot(tmp_path / "report.html", html, *option)
    assert complaints == []
    assert (pixels[0, 0].max() < 60) == dark
    # words and figures cover a part of the page, from top to bottom
    differ = np.abs(pixels.astype(int) - pixels[0, 0]).max(axis=2) > 40
    assert 0.02 < differ.mean() < 0.5
    assert differ.reshape(8, -1).any(axis=1).all()
    # figures are in colour: at least four of the palette's are there
    coloured = pixels[pixels.max(axis=2).astype(int) - pixels.min(axis=2) > 90]
    assert len(np.unique(coloured // 16, axis=0)) > 20


@pytest.mark.parametrize("width", [1240, 600])
def test_no_words_of_a_figure_overlap(tmp_path: Path, html: str, width: int) -> None:
    found = measured(tmp_path / "report.html", html, width=width)
    assert found["figures"] == 17
    assert found["found"] == []
    assert found["wide"] == 0


def test_an_overlap_would_be_found(tmp_path: Path, html: str) -> None:
    doubled = re.sub(r'(<text class="label".*?</text>)', r"\1\1", html)
    found = measured(tmp_path / "report.html", doubled, width=1240)
    assert "Where a call's time goes: torch eager lies over torch eager" in str(found["found"])


def test_a_complaint_would_be_heard(tmp_path: Path, html: str) -> None:
    broken = html.replace("</body>", "<script>console.error('so not')</script></body>")
    _, complaints = screenshot(tmp_path / "report.html", broken)
    assert any("so not" in each for each in complaints)


def test_a_blank_page_would_be_seen(tmp_path: Path) -> None:
    pixels, _ = screenshot(tmp_path / "report.html", "<!doctype html><title>x</title>")
    assert (pixels == pixels[0, 0]).all()
