"""The page in a real browser: nothing on its error stream, no page that scrolls sideways, images that are there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from made_run import REASONS, data_folder, run_folder
from PIL import Image

from dilated.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="found no chromium or google-chrome to show the page with")

PROBE = """<script>
addEventListener('load', () => {
  for (const one of document.querySelectorAll('details')) one.open = true;
  const root = document.documentElement, images = [...document.images];
  const wide = [...document.querySelectorAll('body *')].filter(
    e => !e.closest('.wide, pre, .field, .range') && e.getBoundingClientRect().right > innerWidth + 1);
  parent.postMessage({inner: innerWidth, scroll: root.scrollWidth, height: root.scrollHeight, images: images.length,
    broken: images.filter(i => !i.complete || !i.naturalWidth).length,
    wide: wide.slice(0, 3).map(e => e.outerHTML.slice(0, 120))}, '*');
});
</script>"""
FRAME = """<!doctype html><meta charset="utf-8"><title>frame</title><link rel="icon" href="data:,">
<body style="margin:0"><pre id="told"></pre>
<script>addEventListener('message', e => document.getElementById('told').textContent = JSON.stringify(e.data));</script>
<iframe src="probed.html" style="border:0;width:{width}px;height:844px"></iframe>"""


def browser(folder: Path, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    fixed = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000")
    own = (f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--v=0")
    return subprocess.run(
        [BROWSER, *fixed, *own, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the page itself brought to the error stream."""
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module", params=["few", "many", "odd"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with three classes, with thirty of long names, and with names that are markup."""
    names = {
        "few": ("sky", "road", "tree"),
        "many": tuple(f"a rather long name of class {i}" for i in range(30)),
        "odd": ("x" * 150, '<b>&"', "</script><img src=x onerror=console.error(1)>"),
    }[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    run = run_folder(folder / "run", names)
    (run / "plan.json").write_text(json.dumps(REASONS))
    return write_report(run, data_folder(folder / "data", names, images=4), folder / "page.html", device="cpu")


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_is_whole(page: Path, tmp_path: Path, width: int) -> None:
    text = page.read_text(encoding="utf-8")
    (tmp_path / "probed.html").write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.replace("{width}", str(width)), encoding="utf-8")
    done = browser(tmp_path, frame, f"--window-size={width + 200},900", "--dump-dom")
    assert complaints(done) == []
    told = re.search(r'<pre id="told">([^<]+)</pre>', done.stdout)
    assert told is not None, done.stderr[-2000:]
    found = json.loads(unescape(told[1]))
    assert found["inner"] == width
    assert found["scroll"] <= width, found["wide"]
    assert found["wide"] == []
    assert found["broken"] == 0
    assert found["images"] == 4 * 4 + 1
    assert found["height"] > 2000


@needs_browser
def test_the_screenshot_is_not_blank(page: Path, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    done = browser(tmp_path, page, "--window-size=1280,3000", f"--screenshot={shot}")
    assert complaints(done) == []
    gray = np.asarray(Image.open(shot).convert("L"))
    assert all(len(np.unique(part)) > 50 for part in np.array_split(gray, 3))
