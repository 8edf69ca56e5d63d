"""The page in a real browser: it opens offline, fits, obeys its policy, and prints."""

import asyncio
import base64
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.report.browser import NoBrowserError, Page, browse, program
from typing_extensions import override

COMMAND = str(Path(sys.executable).with_name("finetuning"))
ATTACK = """
const image = new Image(); image.src = 'http://127.0.0.1:PORT/image'; document.body.append(image);
const script = document.createElement('script'); script.textContent = "document.title = 'owned'";
document.body.append(script);
document.body.setAttribute('style', 'background: url(http://127.0.0.1:PORT/style)');
"""
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
OUTSIDE = """
[...document.querySelectorAll('figure, .tile, td, .facts dd')].filter(
  node => node.getBoundingClientRect().right > innerWidth || node.scrollWidth > node.clientWidth + 1
).map(node => node.outerHTML.slice(0, 99))
"""
TEXTS = """
[...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width).flatMap(
  svg => {
    const frame = svg.getBoundingClientRect();
    const shown = [...svg.querySelectorAll('.tick, .unit')].filter(x => x.checkVisibility());
    const places = shown.map(node => node.getBoundingClientRect());
    return places.filter((one, i) => one.left < frame.left - 1 || one.right > frame.right + 1
      || places.slice(i + 1).some(two => one.left < two.right && two.left < one.right
                                         && one.top < two.bottom && two.top < one.bottom));
  }).map(place => JSON.stringify(place))
"""


@pytest.fixture(scope="session")
def browser_program() -> str:
    try:
        return program()
    except NoBrowserError as error:
        pytest.skip(f"the page was not opened in a browser: {error}")


@pytest.fixture
async def page(browser_program: str, tmp_path: Path) -> AsyncIterator[Page]:
    async with browse(browser_program, tmp_path / "profile") as found:
        yield found


def report(folder: Path, target: Path) -> Path:
    command = [COMMAND, "report", str(folder), "--output", str(target)]
    subprocess.run(command, check=True, capture_output=True)
    return target


async def test_the_page_opens_offline_and_fits_every_screen(
    page: Page, finished: Path, tmp_path: Path
) -> None:
    path = report(finished, tmp_path / "report.html")
    await page.open(path)
    assert await page.ask("document.title") == "finished-run: fine-tuning report"
    for width in (320, 400, 768, 1280, 2560):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        await page.call("Emulation.setDeviceMetricsOverride", **size)
        assert await page.ask(SIDEWAYS) == 0, width
        assert await page.ask(OUTSIDE) == [], width
        assert await page.ask(TEXTS) == [], width
    assert page.requested() == [path.as_uri()]
    assert page.complaints() == []


async def test_light_and_dark_have_contrast_and_paper_is_white(
    page: Page, finished: Path, tmp_path: Path
) -> None:
    await page.open(report(finished, tmp_path / "report.html"))
    for scheme, ink_is_darker in (("light", True), ("dark", False)):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await page.call("Emulation.setEmulatedMedia", features=[feature])
        for ink, ground in (("body", "body"), (".badge.good", ".badge.good"), ("dt", ".tile")):
            over, under = await luminance(page, ink, "color"), await luminance(page, ground)
            assert (over < under) is ink_is_darker
            light, dark = max(over, under), min(over, under)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, ink)  # WCAG 2.2, 1.4.3
    await page.call("Emulation.setEmulatedMedia", media="print")
    assert await luminance(page, "body") == pytest.approx(1)
    printed = await page.call("Page.printToPDF", printBackground=True)
    assert base64.b64decode(printed["data"]).startswith(b"%PDF-")


async def luminance(page: Page, where: str, what: str = "backgroundColor") -> float:
    """Relative luminance by WCAG 2.2."""
    colour = await page.ask(f"getComputedStyle(document.querySelector('{where}')).{what}")
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


async def test_hostile_files_do_nothing_in_the_browser(
    page: Page, hostile: Path, tmp_path: Path
) -> None:
    path = report(hostile, tmp_path / "report.html")
    await page.open(path)
    assert "fine-tuning report" in await page.ask("document.title")
    assert await page.ask("document.querySelectorAll('script, img, [onload], [style]').length") == 0
    assert page.requested() == [path.as_uri()]
    assert page.complaints() == []


@contextmanager
def stranger(reached: list[str]) -> Iterator[int]:
    """A port that notes who calls; every call has been hung up when it ends."""

    class Note(socketserver.BaseRequestHandler):
        @override
        def handle(self) -> None:
            reached.append("yes")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Note) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


async def test_the_policy_stops_what_would_get_past_the_escaping(
    page: Page, finished: Path, tmp_path: Path
) -> None:
    reached: list[str] = []

    with stranger(reached) as port:
        attack = ATTACK.replace("PORT", str(port))
        await page.open(report(finished, tmp_path / "report.html"))
        await page.ask(attack)
        assert await page.ask("document.title") == "finished-run: fine-tuning report"
        assert await page.ask("getComputedStyle(document.body).backgroundImage") == "none"
        assert len([x for x in page.complaints() if "Content Security Policy" in x]) == 3
        assert reached == []
        # Without the policy all of this does happen, so the test can fail.
        bare = tmp_path / "bare.html"
        bare.write_text("<title>bare</title><body>")
        await page.open(bare)
        await page.ask(attack)
        assert await page.ask("document.title") == "owned"
        async with asyncio.timeout(10):
            while not reached:
                await page.ask("1")


def test_a_run_is_named_by_its_folder_or_its_name(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(finished)
    for arguments, target in (
        (["mine"], "finished-run.html"),
        ([str(finished), "-o", "x.html"], "x.html"),
    ):
        done = run(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{target} (")
        assert "Training succeeded" in (tmp_path / target).read_text(encoding="utf-8")
    assert "Training succeeded" in run("mine", "--output", "-", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ((), 2, "required: FOLDER|JOB"),
        (("nowhere",), 2, "bash examples/fetch.sh nowhere ./nowhere"),
        ((".",), 2, ".: holds none of status.json"),
        (("mine", "-o", "no/such/page.html"), 1, "no/such/page.html: No such file or directory"),
        (("mine", "-o", "."), 1, ".: "),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...], code: int, expected: str, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(finished)
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [COMMAND, "report", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
