"""The page of a real server in a real browser: legend, probe, comparison, downloads; two widths, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from page_proxy import BROWSER, PageProxy
from PIL import Image
from real_server import CLASSES, TOKEN, Server, start

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(package)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="found no chromium or google-chrome to show the page with")

PROBE = """
(async () => {
  const wait = test => new Promise(done => { const again = () => test() ? done() : setTimeout(again, 20); again(); });
  const main = document.querySelector('main'), told = {};
  const settled = () => wait(() => ['done', 'failed'].includes(main.dataset.state));
  const pixels = () => {
    const {width, height} = get('canvas');
    const {data} = get('canvas').getContext('2d').getImageData(0, 0, width, height);
    return data.reduce((sum, value, i) => (sum * 31 + value) % 1000003, 7);
  };
  const change = (element, value) => {
    if (element.type === 'checkbox') element.click();
    else {
      element.value = value;
      for (const name of ['input', 'change']) element.dispatchEvent(new Event(name));
    }
  };
  try {
    get('sample').click();
    await settled();
    told.without_token = [main.dataset.state, get('error').textContent];
    get('token').value = 'TOKEN';
    get('second').value = '';
    get('sample').click();
    await wait(() => main.dataset.state === 'done');
    told.classes = [...get('classes').querySelectorAll('li')].map(item => item.innerText.trim());
    told.size = [get('canvas').width, get('canvas').height];
    const before = pixels(), box = get('classes').querySelector('input');
    change(box);
    told.toggle_changes = pixels() !== before;
    change(get('classes').querySelector('input'));
    told.toggle_restores = pixels() === before;
    change(get('opacity'), 0);
    told.opacity_changes = pixels() !== before;
    change(get('opacity'), 55);
    get('canvas').focus();
    for (const key of ['ArrowRight', 'ArrowDown'])
      get('canvas').dispatchEvent(new KeyboardEvent('keydown', {key, shiftKey: key === 'ArrowDown', cancelable: true}));
    told.probe = get('probe').innerText;
    told.probe_numbers = [...get('probe').querySelectorAll('.number')].map(number => number.textContent);
    told.probe_rows = get('probe').querySelectorAll('.row').length;
    const make = URL.createObjectURL;
    const saved = new Promise(done => { URL.createObjectURL = blob => { done(blob); return make.call(URL, blob); }; });
    [...get('downloads').children].find(button => button.textContent === 'JSON').click();
    told.downloaded = JSON.parse(await (await saved).text());
    change(get('second'), get('second').options[2].value);
    await settled();
    await wait(() => !get('differ').hidden);
    told.differ = get('differ').textContent;
    const half = pixels();
    change(get('divider'), 10);
    told.divider_changes = pixels() !== half;
    change(get('divider'), 50);
    const compared = shownViews()[1], shared = compared.classes;
    compared.classes = shared.map((entry, i) => i ? entry : {...entry, name: 'another'});
    drawClasses();
    told.unlike = Object.fromEntries([...get('classes').querySelectorAll('li')].map(item =>
      [item.querySelector('input').dataset.name, item.querySelector('.share').textContent]));
    compared.classes = shared;
    drawClasses();

    const root = document.documentElement;
    told.inner = innerWidth;
    told.scroll = root.scrollWidth;
    told.wide = [...document.querySelectorAll('body *')]
      .filter(e => !e.closest('.thumbs') && e.getBoundingClientRect().right > innerWidth + 1).slice(0, 3)
      .map(e => e.outerHTML.slice(0, 120));
    const channels = color => color.match(/[\\d.]+/g).map(Number);
    const light = color => channels(color).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = e => {
      for (; e; e = e.parentElement) {
        const color = getComputedStyle(e).backgroundColor;
        if (channels(color)[3] !== 0) return color;
      }
      return 'rgb(255,255,255)';
    };
    const hasText = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    told.faint = [...document.querySelectorAll('main *, header *')]
      .filter(e => e.offsetParent && !e.disabled && hasText(e)).filter(e => {
        const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05) < 4.5;
      }).map(e => e.outerHTML.slice(0, 120));
    const isNamed = e => e.textContent.trim() || e.getAttribute('aria-label') ||
      (e.labels && [...e.labels].some(l => l.textContent.trim()));
    told.unnamed = [...document.querySelectorAll('button, input, select, canvas')].filter(e => !isNamed(e))
      .map(e => e.outerHTML);
    told.small = [...document.querySelectorAll('button, select, .button')].filter(e => e.offsetParent &&
      e.getBoundingClientRect().height < 24).map(e => e.outerHTML);
    told.dark = matchMedia('(prefers-color-scheme: dark)').matches;

    const views = current;
    await add([new File(['no image'], '<b>bold</b>.txt')]);
    told.refused = [main.dataset.state, get('error').textContent, document.querySelectorAll('b').length];
    await show(views);
  } catch (error) { told.error = `${error} ${error.stack}`; }
  await fetch('/told', {method: 'POST', body: JSON.stringify(told)});
})();
""".replace("TOKEN", TOKEN)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(tmp_path_factory.mktemp("serve"), "--device", "cpu", networks=2)
    yield server
    server.process.terminate()
    server.finish()


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_the_page_shows_probes_compares_and_saves_labels(
    server: Server, tmp_path: Path, width: int, dark: bool
) -> None:
    proxy = PageProxy(server.port, PROBE, width, 2200)
    options = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    console = proxy.show(tmp_path, tmp_path / "shot.png", *options)
    told = proxy.told
    assert "error" not in told, told["error"]
    assert told["without_token"] == ["failed", "token: is missing or wrong (send Authorization: Bearer TOKEN)"]
    expected = server.ask("POST", "/predict?output=json", server.ask("GET", "/sample").body)
    fractions = {c["name"]: c["fraction"] for c in told["downloaded"]["classes"]}
    assert expected.status == 200
    assert set(fractions) == set(CLASSES.names)
    assert sum(fractions.values()) == pytest.approx(1)
    assert len(told["classes"]) == len(CLASSES.names)
    assert all(any(row.startswith(name) for row in told["classes"]) for name in CLASSES.names)
    assert told["size"] == [640, 480]
    for name in ("toggle_changes", "toggle_restores", "opacity_changes", "divider_changes"):
        assert told[name], name
    assert told["probe"].startswith("Column 321, row 250")
    assert told["probe_rows"] == len(CLASSES.names)
    assert all(number.removesuffix("%").isdecimal() for number in told["probe_numbers"]), "known to a 255th"
    assert told["differ"].startswith("Labels differ at ")
    assert told["unlike"]["field"].endswith("% | –"), "the second network lacks this class"
    assert told["unlike"]["another"].startswith("– | ")
    assert "–" not in told["unlike"]["disc"]
    assert (told["inner"], told["dark"]) == (width, dark)
    assert told["scroll"] <= width, told["wide"]
    for name in ("wide", "faint", "unnamed", "small"):
        assert told[name] == [], name
    state, words, bold = told["refused"]
    assert (state, bold) == ("failed", 0)
    assert "no image format" in words
    expected_lines = ("status of 401", "status of 415", "willReadFrequently")  # the refusals, and the test's own reads
    assert [line for line in console if not any(words in line for words in expected_lines)] == []
    gray = np.asarray(Image.open(tmp_path / "shot.png").convert("L"))[:1000, :width]
    assert all(len(np.unique(part)) > 30 for part in np.array_split(gray, 2))
