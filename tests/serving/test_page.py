"""The page at `/` in a real browser, over a real server: every kind of model, asked by hand as a person would."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import uvicorn
from PIL import Image

from tests.serving.conftest import MODELS, wav
from zoo.runtime.serve import App, Settings, worker
from zoo.runtime.serve.listening import listening

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt install chromium")
SHOWN = {
    **MODELS,
    "mood": ("distilbert-base-uncased", "text-classification"),
    "finder": ("detr-resnet-50", "object-detection"),
    "streets": ("segformer-b0-ade", "image-segmentation"),
    "sounds": ("ast-audioset", "audio-classification"),
    "table": ("wide-and-deep", "tabular-classification"),
}
TEXT = "Ada Lovelace lives in London, near the Thames. 👍 She wrote."
COLOURS = ("#2f5fd0", "#c4320a")  # of the first two labels
TOKEN = "a-token-of-the-tests"


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (320, 200), (100, 150, 200)).save(file, "PNG")
    return file.getvalue()


INPUTS: dict[str, Any] = {
    "tagger": TEXT, "mood": "A good film.", "writer": "Once upon", "table": '{"city": "Rome", "age": 3}',
    **dict.fromkeys(("animals", "finder", "streets"), ("a.png", "image/png", png())),
    **dict.fromkeys(("speech", "sounds"), ("a.wav", "audio/wav", wav())),
}  # fmt: skip
OPTIONS = {"finder": {"threshold": 0, "top_k": 1}, "writer": {"do_sample": True, "seed": 1, "max_new_tokens": 24}}


@contextmanager
def serving(bundles: list[Path], settings: Settings) -> Iterator[str]:
    """The address of a server in a thread of this process."""
    server = uvicorn.Server(worker._config(App(bundles, settings)))
    with listening(settings) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            _wait_until_ready(address)
            yield address
        finally:
            server.should_exit = True
            thread.join(30)


def _wait_until_ready(address: str) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{address}/v2/health/ready").close()
            return
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.fixture(scope="module")
def address(export: Callable[..., dict[str, Path]]) -> Iterator[str]:
    with serving(list(export(SHOWN).values()), Settings(port=0)) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # A container's root has no sandbox of Chromium's; the page is our own.
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def visiting(browser: Browser, address: str, refused: int = 0, **options: Any) -> Iterator[Page]:
    """A page that asks nobody but the server and has no errors but those of `refused` requests."""
    asked: list[str] = []
    said: list[str] = []
    with browser.new_context(**{"viewport": {"width": 1000, "height": 700}, **options}) as context:
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"uncaught: {error}"))
        page.goto(f"{address}/")
        yield page
    assert [url for url in asked if not url.startswith((f"{address}/", "data:", "blob:"))] == []
    refusals = [text for text in said if text.startswith("error: Failed to load resource: the server responded with")]
    assert len(refusals) == refused, said
    assert [text for text in said if text not in refusals] == []


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with visiting(browser, address) as found:
        yield found


def choose(page: Page, name: str) -> None:
    page.select_option("#model", name)
    # The fields may be those of the model before until then.
    page.wait_for_selector("#run:not([disabled])")
    assert (page.locator("#about").text_content() or "").startswith(SHOWN[name][1])


def give(page: Page, content: Any) -> None:
    if isinstance(content, str):
        page.locator("#fields textarea").first.fill(content)
    else:
        name, kind, data = content
        page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})


def ask(page: Page) -> Any:
    """The answer as JSON."""
    page.click("#run")
    page.wait_for_selector("#answer:not([hidden])")
    page.wait_for_selector("#run:not([disabled])")
    said = page.locator("#json").text_content() or "null"
    return json.loads(said)


def ask_of(page: Page, name: str) -> Any:
    choose(page, name)
    give(page, INPUTS[name])
    page.fill("#options", json.dumps(OPTIONS[name]) if name in OPTIONS else "")
    return ask(page)


def pixels(page: Page) -> np.ndarray[Any, Any]:
    """uint8 [H, W, 4] of the canvas in the answer."""
    data = page.locator("#shown canvas").first.evaluate("canvas => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGBA"))


def colour(text: str) -> np.ndarray[Any, Any]:
    return np.array([int(text[at : at + 2], 16) for at in (1, 3, 5)])


@pytest.mark.parametrize("name", ["mood", "animals", "sounds", "table"])
def test_labels_are_bars_as_long_as_their_scores(page: Page, name: str) -> None:
    answer = ask_of(page, name)
    rows = page.locator("#shown .bar")
    assert rows.locator("span").all_text_contents() == [item["label"] for item in answer["top"]]
    assert rows.locator("b").all_text_contents() == [f"{item['score']:.3f}" for item in answer["top"]]
    for place, item in enumerate(answer["top"]):
        bar = Image.open(io.BytesIO(rows.nth(place).locator("progress").screenshot())).convert("RGB")
        middle = np.asarray(bar, np.int64)[bar.height // 2]
        blue = (middle[:, 2] - middle[:, 0]) > 80
        assert blue.mean() == pytest.approx(item["score"], abs=0.04)
    assert page.locator("#shown canvas").count() == (name in ("animals", "sounds"))


def test_entities_are_highlighted_where_they_stand(page: Page) -> None:
    answer = ask_of(page, "tagger")
    assert answer, "the tiny model finds some"
    marks = page.locator("#shown mark")
    assert marks.evaluate_all("marks => marks.map(mark => [mark.firstChild.data, mark.lastChild.textContent])") == [
        [item["text"], item["label"]] for item in answer
    ]
    whole = page.locator("#shown .text").evaluate(
        "text => [...text.childNodes].map(part => part.firstChild ? part.firstChild.data : part.data).join('')"
    )
    assert whole == TEXT


def test_boxes_are_drawn_on_the_image(page: Page) -> None:
    (found,) = ask_of(page, "finder")
    drawn = pixels(page)
    assert drawn.shape[:2] == (200, 320)
    x0, y0, x1, y1 = (int(side) for side in found["box"])
    expected = colour(COLOURS[["cat", "dog"].index(found["label"])])
    inside = [((x0 + x1) // 2, min(y1, 199)), (x0, (y0 + y1) // 2), (min(x1, 319), (y0 + y1) // 2)]
    assert all(np.array_equal(drawn[y, x, :3], expected) for x, y in inside)
    # And not within it.
    assert drawn[(y0 + y1) // 2, (x0 + x1) // 2, :3].tolist() == [100, 150, 200]


def test_segments_are_laid_over_the_image(page: Page) -> None:
    answer = ask_of(page, "streets")
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"]["data"]))))
    shades = np.stack([0.45 * np.array([100, 150, 200]) + 0.55 * colour(text) for text in COLOURS])
    assert np.abs(pixels(page)[..., :3] - shades[mask]).max() <= 2
    bars = page.locator("#shown .bar")
    assert bars.locator("span").all_text_contents() == [item["label"] for item in answer["segments"]]


def test_a_recording_is_a_waveform_with_its_transcript(page: Page) -> None:
    choose(page, "speech")
    rate = 16_000
    wave = np.sin(np.arange(rate) * 0.2).astype(np.float32) * np.repeat([0.0, 0.8], rate // 2).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV")
    give(page, ("half.wav", "audio/wav", file.getvalue()))
    answer = ask(page)
    assert page.locator("#shown .text").text_content() == answer["text"] != ""
    inked = (pixels(page)[..., 3] > 0).sum(axis=0)
    half = len(inked) // 2
    # Silence is a line; what is loud is 0.8 of the height.
    assert inked[: half - 5].max() <= 2
    assert inked[half + 5 :].min() > 0.7 * 116
    assert page.locator("#shown audio").count() == 1


def test_a_text_is_written_as_it_comes(page: Page) -> None:
    with page.expect_request("**/predict/writer/stream"):
        answer = ask_of(page, "writer")
    assert answer["text"]
    assert page.locator("#shown .text").text_content() == INPUTS["writer"] + answer["text"]


def test_a_file_is_dropped(page: Page) -> None:
    choose(page, "animals")
    script = """bytes => {
      const held = new DataTransfer();
      held.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
      return held;
    }"""
    held = page.evaluate_handle(script, list(png()))
    page.dispatch_event("#drop", "dragover", {"dataTransfer": held})
    assert page.locator("#drop.over").count() == 1
    page.dispatch_event("#drop", "drop", {"dataTransfer": held})
    assert page.locator("#drop.over").count() == 0
    assert page.locator("#dropped").text_content() == "dropped.png"
    assert ask(page)["label"] in ("cat", "dog")


def test_the_same_file_can_be_chosen_for_another_model(page: Page, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    for name in ("animals", "table", "streets"):
        choose(page, name)
        if name != "table":
            page.set_input_files("#file", tmp_path / "a.png")
            assert ask(page)


def test_of_models_chosen_in_haste_the_last_is_asked(browser: Browser, address: str) -> None:
    with visiting(browser, address) as page:
        choose(page, "table")
        held: list[Any] = []
        page.route("**/v2/models/animals", lambda route: held.append(route))
        page.select_option("#model", "animals")
        choose(page, "mood")
        with page.expect_response("**/v2/models/animals"):
            held[0].continue_()
        page.wait_for_timeout(100)
        give(page, INPUTS["mood"])
        assert ask(page)["label"] in ("yes", "no")


def test_what_goes_wrong_is_said(browser: Browser, address: str) -> None:
    with visiting(browser, address, refused=1) as page:
        choose(page, "animals")
        ask(page)
        assert page.locator("#shown .error").text_content() == "Choose a file first."
        give(page, ("a.png", "image/png", b"no picture"))
        page.locator("#shown .error", has_text="is not an image that can be read").wait_for(state="detached")
        ask(page)
        page.locator("#shown .error", has_text="is not an image that can be read").wait_for()
        page.fill("#options", "{")
        ask(page)
        page.locator("#shown .error", has_text="JSON").wait_for()


def test_a_server_with_a_token_asks_for_it(browser: Browser, export: Callable[..., dict[str, Path]]) -> None:
    bundle = export(SHOWN)["mood"]
    with serving([bundle], Settings(port=0, token=TOKEN)) as address, visiting(browser, address, refused=2) as page:
        page.locator("#login").wait_for()
        assert not page.locator("#ask").is_visible()
        page.fill("#token", "another one")
        page.press("#token", "Enter")
        page.locator("#refused").wait_for()
        page.fill("#token", TOKEN)
        page.press("#token", "Enter")
        page.locator("#ask").wait_for()
        assert not page.locator("#login").is_visible()
        give(page, INPUTS["mood"])
        assert ask(page)["label"]
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        assert TOKEN not in page.url


def test_every_model_on_a_phone_in_the_dark(browser: Browser, address: str, tmp_path: Path) -> None:
    narrow = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "is_mobile": True}
    with visiting(browser, address, **narrow) as page:
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, background.removeprefix("rgb(").removesuffix(")").split(","))) < 60
        for name in SHOWN:
            ask_of(page, name)
            assert page.locator("#shown .error").count() == 0, name
            page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") == 390, name
