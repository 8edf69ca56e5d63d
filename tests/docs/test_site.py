"""The documentation site in a real browser: `make test-site` builds it into $SITE first."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.unit.report.browser import NoBrowserError, Page, browse, program
from typing_extensions import override

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("SITE", ROOT / "site")).resolve()
WIDTHS = (320, 1440)
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
STILL = """
document.head.insertAdjacentHTML('beforeend', '<style>* { transition: none !important }</style>')
"""
"""What slides to its new place after a resize is too wide on the way."""
GROUND = "getComputedStyle(document.body).backgroundColor"
SEARCH = """
const field = document.querySelector('input.md-search__input');
field.focus();
field.value = WORDS;
field.dispatchEvent(new Event('input', {bubbles: true}));
field.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}));
"""
FOUND = "[...document.querySelectorAll('.md-search-result__link')].map(link => link.href)"

pytestmark = pytest.mark.skipif("SITE" not in os.environ, reason="`make test-site` builds the site")


class Quiet(SimpleHTTPRequestHandler):
    @override
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    handler = partial(Quiet, directory=SITE)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    try:
        found = program()
    except NoBrowserError as error:
        pytest.skip(f"the site was not opened in a browser: {error}")
    async with browse(found, tmp_path / "profile") as tab:
        yield tab


async def resize(page: Page, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    await page.call("Emulation.setDeviceMetricsOverride", **size)


async def test_no_page_asks_another_host_complains_or_is_too_wide(page: Page, address: str) -> None:
    names = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    assert {"index.html", "tutorial.html", "runbooks.html", "reference/metrics.html"} <= set(names)
    for name in names:
        await page.open(address + name)
        await page.ask(STILL)
        for width in WIDTHS:
            await resize(page, width)
            assert await page.ask(SIDEWAYS) <= 0, (name, width)
        assert [x for x in page.requested() if not x.startswith((address, "data:"))] == [], name
        assert page.complaints() == [], name


async def test_a_page_follows_light_and_dark(page: Page, address: str) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await page.call("Emulation.setEmulatedMedia", features=[feature])
        await page.open(address + "index.html")
        grounds.append(await page.ask(GROUND))
    assert grounds[0] == "rgb(255, 255, 255)"
    assert sum(int(part) for part in grounds[1].strip("rgb()a").split(",")[:3]) < 200


async def test_the_search_finds_a_metric_and_a_field(page: Page, address: str) -> None:
    for words, where in (
        ("finetuning_mfu_ratio", "reference/metrics.html"),
        ("startDeadlineSeconds", "lifecycle.html"),
    ):
        await page.open(address + "index.html")
        found: list[str] = []
        for number in range(150):
            if number % 10 == 0:  # What is typed before the page listens is lost.
                await page.ask(SEARCH.replace("WORDS", repr(words)))
            if found := await page.ask(FOUND):
                break
            await asyncio.sleep(0.2)
        assert [link for link in found if where in link], (words, found)


async def test_what_a_terminal_showed_is_copied_without_prompts_and_answers(page: Page) -> None:
    """The theme marks a block so while its button reads it."""
    await page.open(SITE / "tutorial.html")
    blocks = "[...document.querySelectorAll('code:has(.gp)')]"
    await page.ask(f"{blocks}.forEach(block => block.setAttribute('data-md-copying', ''))")
    copied = await page.ask(f"{blocks}.map(block => block.innerText.trim())")
    assert copied[0] == "finetuning doctor"
    assert [line for line in copied[1].splitlines() if line] == [
        "kubectl apply -f examples/finetuningjob-lora.yaml",
        "kubectl get finetuningjobs --watch",
    ]
    assert any("ask.py" in each and each.endswith("finetuning report tiny-lora") for each in copied)
    assert not [each for each in copied if "│" in each or "condition met" in each]


async def test_the_site_reads_from_the_disk_as_well(page: Page) -> None:
    await page.open(SITE / "index.html")
    link = await page.ask("[...document.querySelectorAll('article a')].map(a => a.href)")
    assert (SITE / "tutorial.html").as_uri() in link
