"""The report page as a reader meets it: in a real browser, alone, without network, whoever wrote the records."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from stress import view
from stress.page import render, write
from stress.session import read_reading
from stress.store import EVENTS, RECORDS, RUN
from tests.pages import AMD, HOSTILE, INTEL, full_matrix, hostile, made, run, varied
from tests.support import stress

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZES = ((360, 740), (1280, 900))
MEGABYTE = 1_000_000

LANDS = """async () => {
  const wrong = [];
  const targets = new Set([...document.querySelectorAll('a[href]')].map(a => a.getAttribute('href')));
  for (const target of targets) {
    location.hash = '';
    location.hash = target;
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const at = document.getElementById(target.slice(1));
    const box = at && at.getBoundingClientRect();
    if (!box || !(box.height > 0 && box.top < innerHeight && box.bottom > 0)) wrong.push(target);
  }
  return wrong;
}"""
"""Follows every link of the page; those that show nothing of what they name."""

CONTRAST = """() => {
  const light = text => {
    const linear = x => x > 0.04045 ? ((x + 0.055) / 1.055) ** 2.4 : x / 12.92;
    const [r, g, b] = text.match(/[0-9.]+/g).map(x => linear(x / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = e => {
    while (getComputedStyle(e).backgroundColor == 'rgba(0, 0, 0, 0)') e = e.parentElement;
    return getComputedStyle(e).backgroundColor;
  };
  const texts = '.b, .m td a, .note, .eyebrow, p, dt, mark, summary small, figure text';
  return [...document.querySelectorAll(texts)].map(e => {
    const style = getComputedStyle(e);
    const [a, b] = [light(e.tagName == 'text' ? style.fill : style.color), light(behind(e))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), e.outerHTML.slice(0, 60)];
  }).filter(([ratio]) => ratio < 4.5);
}"""
"""What is harder to read than WCAG 2.1, 1.4.3 allows."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "these tests look at the page in a browser; on Debian: apt install chromium"
    with sync_playwright() as play:
        it = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield it
        it.close()


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    both = run(varied(), AMD, "an AMD machine"), run(varied(), INTEL, "an Intel machine")
    nasty = run(hostile(), AMD, HOSTILE, command=HOSTILE, started=HOSTILE, version=HOSTILE, seed=HOSTILE)
    return {
        "one": render(made(both[0])),
        "two": render(made(*both)),
        "hostile": render(made(nasty)),
        "nothing": render(made(run([]))),
    }


@pytest.fixture(params=["one", "two", "hostile", "nothing"])
def file(request: pytest.FixtureRequest, pages: dict[str, str], tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(pages[request.param], encoding="utf-8")
    return path


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}px")
def test_a_browser_shows_it_silently_alone_and_without_overflow(
    browser: Any, file: Path, size: tuple[int, int]
) -> None:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert (said, [url for url in asked if not url.startswith("data:")]) == ([], [file.as_uri()])
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.close()


def test_every_link_lands_on_what_it_names(browser: Any, file: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(file.as_uri())
    assert page.evaluate("[...document.querySelectorAll('a')].every(a => a.hash)")
    assert page.evaluate(LANDS) == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(browser: Any, file: Path, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert page.evaluate(CONTRAST) == []
    bright = page.evaluate("getComputedStyle(document.body).backgroundColor").startswith("rgb(24")
    assert bright is (scheme == "light")
    page.close()


def test_it_works_by_keyboard_and_without_scripts(
    browser: Any, pages: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(pages["one"], encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the results"
    assert page.locator(":focus").bounding_box()["x"] >= 0
    outline = "e => getComputedStyle(e).outlineStyle"
    assert page.locator(":focus").evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
    summary = page.locator("details.reg > summary").first
    summary.focus()
    row = page.locator("details.reg tr[id]").first
    assert not row.is_visible()
    page.keyboard.press("Enter")
    assert row.is_visible()
    context.close()


def test_it_prints_without_what_a_sheet_of_paper_cannot_do(browser: Any, file: Path) -> None:
    page = browser.new_page()
    page.goto(file.as_uri())
    page.emulate_media(media="print")
    assert not page.locator("nav").first.is_visible()
    assert page.locator(".verdict").first.is_visible()
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    page.close()


class Seen(HTMLParser):
    """The tags of a page, and what its attributes refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.refers: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src"):
                self.refers.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


@pytest.mark.parametrize("name", ["one", "two", "hostile", "nothing"])
def test_it_needs_nothing_and_runs_nothing(pages: dict[str, str], name: str) -> None:
    seen = Seen(pages[name])
    assert not seen.tags & {"script", "img", "iframe", "object", "form"}
    assert not seen.handlers
    assert {ref[:1] if ref[0] == "#" else ref for ref in seen.refers} <= {"#", "data:,"}
    assert len(seen.ids) == len(set(seen.ids))
    assert {ref[1:] for ref in seen.refers if ref[0] == "#"} <= set(seen.ids)
    assert not re.search(r"url\(|@import", pages[name])


def test_what_others_wrote_is_shown_and_not_obeyed(pages: dict[str, str]) -> None:
    text = pages["hostile"]
    assert HOSTILE not in text
    assert text.count("&lt;script&gt;") > 10
    assert "&amp;amp;" in text


def test_the_page_says_in_words_what_the_colours_say(pages: dict[str, str]) -> None:
    text = pages["two"]
    assert "executed what the vendor&#39;s manual forbids" in text
    for word in ("FORBIDDEN", "INTERESTING", "UNPROVEN", "CLEAN"):
        assert f'title="{word}"' in text
    assert "Intel SDM" in text
    assert "stress run --cases all --seed 7" in text
    assert "this machine lacks SERIALIZE" in text


def test_a_full_matrix_is_small_and_twenty_machines_are_too(monkeypatch: pytest.MonkeyPatch) -> None:
    records = full_matrix()
    assert len(records) > 2000
    assert len(render(made(run(records))).encode()) < 1.5 * MEGABYTE
    # Twenty machines: each has its share of the room, and adds as much as any other.
    monkeypatch.setattr(view, "SECTIONS", 0)
    one, two = (made(*(run(records, AMD, f"machine {i}") for i in range(n))) for n in (1, 2))
    share = len(render(two).encode()) - len(render(one).encode())
    assert 20 * share < 15 * MEGABYTE


def test_the_command_line_writes_the_page_of_several_folders(tmp_path: Path) -> None:
    for name, vendor in (("a", AMD), ("b", INTEL)):
        made_ = run(varied(), vendor, name)
        folder = tmp_path / name
        folder.mkdir()
        (folder / RUN).write_text(json.dumps(made_.header))
        (folder / RECORDS).write_text("".join(json.dumps(r) + "\n" for r in made_.records))
        events = [event for of in made_.events.values() for event in of]
        (folder / EVENTS).write_text("".join(json.dumps(e) + "\n" for e in events))
    out = tmp_path / "report.html"
    done = stress("report", tmp_path / "a", tmp_path / "b", "-o", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert out.read_text(encoding="utf-8") == write(read_reading([tmp_path / "a", tmp_path / "b"]))
    assert "2 of 2 machines" in out.read_text(encoding="utf-8")
