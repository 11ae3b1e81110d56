"""The page in a real browser: Debian's ``chromium`` without a window, driven by playwright."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from sfumato.core.errors import EngineFailure
from sfumato.core.keys import ROLES
from sfumato.core.models import ModelInfo
from sfumato.core.ports import Slot
from sfumato.engine.fake import FakeEngine
from tests.integration.api.serving import context_of, serving
from tests.support.parts import MODEL, House, open_house
from tests.support.png import png

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("no chromium here; install Debian's package chromium", allow_module_level=True)
playwright_api = pytest.importorskip(
    "playwright.async_api", reason="no playwright here; install sfumato[test]"
)

from playwright.async_api import Browser, Page, expect  # noqa: E402 - after the skips

#: One browser for all tests, so one event loop too.
pytestmark = pytest.mark.asyncio(loop_scope="module")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
STARTER = dataclasses.replace(
    MODEL,
    name="starter",
    title="Starter",
    sizes=((128, 128),),
    defaults=dataclasses.replace(MODEL.defaults, width=128, height=128, num_inference_steps=20),
)
LARGEST_SEED = str(2**64 - 1)


class Gate:
    """Holds the engine before a step until the test lets it go on."""

    def __init__(self, *, hold_at_step: int) -> None:
        self.go_on = threading.Event()
        self._hold_at_step = hold_at_step
        self._steps = 0

    def __call__(self, _slots: Sequence[Slot]) -> None:
        self._steps += 1
        if self._steps >= self._hold_at_step:
            assert self.go_on.wait(30)


@dataclass
class Site:
    house: House
    page: Page

    async def generate(self, prompt: str = "a castle at night") -> None:
        await self.page.get_by_label("Prompt", exact=True).fill(prompt)
        await self.page.get_by_role("button", name="Generate").click()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with playwright_api.async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="module")
async def site(browser: Browser) -> AsyncIterator[Site]:
    """The page, which must load nothing from elsewhere and raise nothing."""
    complaints: list[str] = []
    async with open_house(STARTER) as house, serving(context_of(house)) as url:
        page = await browser.new_page(viewport={"width": 1200, "height": 800})
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((url, "data:", f"blob:{url}"))
                else complaints.append(f"asked for {request.url}")
            ),
        )
        await page.goto(url)
        await expect(page.get_by_text("Nothing here yet")).to_be_visible()
        yield Site(house, page)
        await page.close()
    assert complaints == []


async def test_words_that_the_model_does_not_know_are_named(site: Site) -> None:
    await site.generate("a castle, fireworks and a zebra at night")
    note = site.page.locator(".job .notes li")
    await expect(note).to_have_text("starter does not know: fireworks, and, zebra")
    await expect(note).to_be_visible()


async def test_from_a_prompt_to_a_picture(site: Site) -> None:
    page, gate = site.page, Gate(hold_at_step=3)
    await site.generate()
    await expect(page.locator(".job.queued .words")).to_have_text("waiting for a worker to answer")
    async with site.house.working(FakeEngine(before_step=gate), preview_interval=0.0):
        await expect(page.locator(".job.running .words")).to_have_text(re.compile(r"step \d of 20"))
        await expect(page.locator(".sketch img")).to_have_attribute("src", re.compile("^data:"))
        await expect(page.get_by_role("progressbar")).to_have_attribute("max", "20")
        gate.go_on.set()
        picture = page.get_by_role("img", name="a castle at night")
        await expect(picture).to_have_js_property("naturalWidth", 128)
    await expect(page.get_by_role("status")).to_have_text("a castle at night: succeeded")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download").click()
    (job,) = (await site.house.tracking.list()).jobs
    assert (await download.value).suggested_filename == f"{job.id}-0.png"


async def test_every_setting_reaches_the_job_and_comes_back_after_a_reload(site: Site) -> None:
    page = site.page
    await page.get_by_text("Advanced").click()
    await expect(page.get_by_label("Steps")).to_have_attribute("placeholder", "20")
    for label, value in {
        "Negative prompt": "fog",
        "Width": "64",
        "Height": "64",
        "Steps": "3",
        "Guidance": "2.5",
        "Seed": LARGEST_SEED,
        "How many": "2",
        "Clip skip": "2",
    }.items():
        await page.get_by_label(label).fill(value)
    await page.get_by_label("Sampler").select_option("euler_a")
    await page.get_by_label("Schedule").select_option("karras")
    async with site.house.working():
        await site.generate("a dragon at night")
        await expect(page.locator(".job.succeeded figure")).to_have_count(2)
    (job,) = (await site.house.tracking.list()).jobs
    assert job.request.seed == 2**64 - 1
    assert (job.settings.guidance_scale, job.settings.sampler) == (2.5, "euler_a")
    assert (job.settings.schedule, job.request.clip_skip) == ("karras", 2)
    await page.reload()
    card = page.locator(".job.succeeded")
    await expect(card.locator(".seed")).to_have_text([LARGEST_SEED, "0"])
    await expect(card).to_contain_text("starter does not know: dragon")
    await card.get_by_text("Recipe").click()
    await expect(card.locator("dl")).to_contain_text("128 × 128")
    await card.get_by_role("button", name="Use these settings").click()
    await expect(page.get_by_label("Seed", exact=True)).to_have_value(LARGEST_SEED)
    await expect(page.get_by_label("Prompt", exact=True)).to_have_value("a dragon at night")


async def test_a_picture_is_begun_with_and_begun_with_again(site: Site, tmp_path: Path) -> None:
    page, file = site.page, tmp_path / "in.png"
    file.write_bytes(png(64, 48))
    await page.get_by_text("Begin with a picture").click()
    await page.get_by_label("Picture", exact=True).set_input_files(file)
    beginning = page.get_by_role("img", name="The picture to begin with")
    await expect(beginning).to_have_js_property("naturalWidth", 64)
    await page.get_by_label("Drawn anew").fill("0.5")
    async with site.house.working():
        await site.generate()
        await expect(page.locator(".job.succeeded figure")).to_have_count(1)
    (job,) = (await site.house.tracking.list()).jobs
    brought = job.request.init_image
    assert brought is not None
    assert (brought.width, brought.height, job.request.strength) == (64, 48, 0.5)
    await page.reload()
    await page.get_by_role("button", name="Use these settings").click()
    await expect(beginning).to_have_js_property("naturalWidth", 64)
    await expect(page.get_by_label("Drawn anew")).to_have_value("0.5")
    await site.generate()
    await expect(page.locator(".job")).to_have_count(2)
    again, _ = (await site.house.tracking.list()).jobs
    assert (again.request.init_image, again.request.strength) == (brought, 0.5)


async def test_a_drawn_picture_is_gone_on_from_and_left_out_again(site: Site) -> None:
    page = site.page
    async with site.house.working():
        first = await site.house.finished(await site.house.submit())
        await page.reload()
        await page.get_by_role("button", name="Begin with the picture").click()
        await site.generate()
        await expect(page.locator(".job.succeeded")).to_have_count(2)
    later, _ = (await site.house.tracking.list()).jobs
    assert later.request.init_image is not None
    assert later.request.init_image.sha256 == first.images[0].sha256
    await page.get_by_label("Drawn anew").fill("0.5")
    await page.get_by_role("button", name="Without it").click()
    await site.generate()
    await expect(page.locator(".job")).to_have_count(3)
    latest = (await site.house.tracking.list()).jobs[0]
    assert (latest.request.init_image, latest.request.strength) == (None, None)


async def test_a_file_that_is_no_picture_is_named_at_its_field(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "in.png"
    file.write_text("no picture")
    await site.page.get_by_text("Begin with a picture").click()
    await site.page.get_by_label("Picture", exact=True).set_input_files(file)
    await site.generate()
    await expect(site.page.get_by_text("init_image is no picture that can be read")).to_be_visible()
    await expect(site.page.get_by_label("Picture", exact=True)).to_be_focused()


async def test_an_error_stands_beside_its_field(site: Site) -> None:
    page = site.page
    await site.generate("")
    prompt = page.get_by_label("Prompt", exact=True)
    await expect(prompt).to_have_attribute("aria-invalid", "true")
    await expect(prompt).to_have_accessible_description(re.compile("prompt is empty"))
    await expect(prompt).to_be_focused()
    await page.get_by_text("Advanced").click()
    await page.get_by_label("Width").fill("13")
    await page.get_by_text("Advanced").click()
    await site.generate()
    await expect(page.get_by_text("width is 13, not a positive multiple of 8")).to_be_visible()
    await expect(page.get_by_label("Width")).to_be_focused()
    await expect(prompt).not_to_have_attribute("aria-invalid", "true")
    assert not (await site.house.tracking.list()).jobs


async def test_the_keyboard_alone_generates_and_cancels(site: Site) -> None:
    page = site.page
    await expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    await page.keyboard.type("a castle at night")
    await page.keyboard.press("Control+Enter")
    await page.get_by_role("button", name="Cancel").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".job.canceled")).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


async def test_a_failed_job_says_why(site: Site) -> None:
    def fail(_slots: Sequence[Slot]) -> None:
        raise EngineFailure("The network went out for lunch.")

    await site.generate()
    async with site.house.working(FakeEngine(before_step=fail)):
        failed = site.page.locator(".job.failed")
        await expect(failed).to_contain_text("The network went out for lunch. (engine_failure)")


async def test_a_model_that_has_to_be_copied_tells_how_much_is_here(site: Site) -> None:
    far, arrived = dataclasses.replace(STARTER, source="far/"), asyncio.Event()
    site.house.catalog.models = (far,)

    class OnItsWay:
        @contextlib.asynccontextmanager
        async def hold(
            self, model: ModelInfo, progress: Callable[[int, int], None]
        ) -> AsyncIterator[ModelInfo]:
            progress(459, 1000)
            await arrived.wait()
            yield model

    await site.generate()
    async with site.house.working(FakeEngine(), files=OnItsWay()):
        words = site.page.locator(".job.running .words")
        await expect(words).to_have_text("loading starter 45 %")
        arrived.set()
        await expect(site.page.locator(".job.succeeded")).to_have_count(1)


async def test_more_open_jobs_than_a_browser_has_connections_all_finish(site: Site) -> None:
    for _ in range(9):
        await site.house.submit()
    await site.page.reload()
    await expect(site.page.locator(".job.queued")).to_have_count(9)
    async with site.house.working():
        await expect(site.page.locator(".job.succeeded")).to_have_count(9, timeout=30_000)


async def test_a_service_that_is_gone_keeps_what_was_typed(site: Site) -> None:
    page = site.page
    await page.route("**/v1/jobs", lambda route: route.abort())
    await site.generate("a castle that matters")
    await expect(page.get_by_role("alert")).to_contain_text("does not answer")
    await expect(page.get_by_label("Prompt", exact=True)).to_have_value("a castle that matters")


async def test_a_key_is_asked_for_kept_for_the_tab_and_sent_as_a_header(browser: Browser) -> None:
    """Pictures, previews and downloads come with it, and no address ever holds it."""
    asked: list[str] = []
    gate = Gate(hold_at_step=3)
    async with open_house(STARTER) as house, serving(context_of(house, key_required=True)) as url:
        _, key = await house.keys.create(name="me", scopes=ROLES["user"])
        tabs = await browser.new_context(viewport={"width": 1200, "height": 800})
        page = await tabs.new_page()
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(url)
        field = page.get_by_label("Key", exact=True)
        await expect(field).to_be_focused()
        for wrong, words in (("no key", "That is no key."), ("sfk_wrong", "key")):
            await field.fill(wrong)
            await page.keyboard.press("Enter")
            await expect(page.locator("#key-error")).to_contain_text(words)
            await expect(field).to_be_visible()
        await field.fill(key)
        await page.get_by_role("button", name="Use it").click()
        await expect(page.get_by_text("Nothing here yet")).to_be_visible()
        await expect(field).to_be_hidden()
        site = Site(house, page)
        await site.generate()
        picture = page.get_by_role("img", name="a castle at night")
        async with house.working(FakeEngine(before_step=gate), preview_interval=0.0):
            await expect(page.locator(".sketch img")).to_have_attribute("src", re.compile("^data:"))
            gate.go_on.set()
            await expect(picture).to_have_js_property("naturalWidth", 128)
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download").click()
        (job,) = (await house.tracking.list()).jobs
        assert (await download.value).suggested_filename == f"{job.id}-0.png"
        await page.get_by_role("button", name="Begin with the picture").click()
        beginning = page.get_by_role("img", name="The picture to begin with")
        await expect(beginning).to_have_js_property("naturalWidth", 128)
        await page.reload()
        await expect(picture).to_have_js_property("naturalWidth", 128)
        other = await tabs.new_page()
        await other.goto(url)
        await expect(other.get_by_label("Key", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Forget the key").click()
        await expect(field).to_be_focused()
        await expect(picture).to_have_count(0)
        await tabs.close()
    assert not any(key in address for address in asked)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_phone(site: Site, scheme: str) -> None:
    page = site.page
    async with site.house.working():
        for fields in ({}, {"num_images": 3, "seed": 2**64 - 1}):
            await site.house.finished(await site.house.submit("x" * 300, **fields))
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.reload()
    await page.get_by_text("Advanced").click()
    await expect(page.locator(".job")).to_have_count(2)
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
