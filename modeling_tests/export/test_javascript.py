"""Exports in JavaScript: pixels to the bit, answers in Node and in a browser as in Python, and the page itself."""

import functools
import http.server
import json
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfApi, ModelCard
from PIL import Image

from transformers_fastvlm import AutoModelForVision2Seq, FastVLMImageProcessorPil, FastVLMProcessor
from transformers_fastvlm.export import ExportSettings, export
from transformers_fastvlm.publishing import publication
from transformers_fastvlm.publishing.publish_settings import PublishSettings

ROOT = Path(__file__).parents[2]
READER = ROOT / "checkpoints" / "tiny-reader"
PAGE = ROOT / "examples" / "browser"
TRUTH = json.loads((READER / "images" / "truth.json").read_text())

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="JavaScript is run by Node")
needs_npm = pytest.mark.skipif(
    not (PAGE / "node_modules").is_dir(), reason="transformers.js comes with npm: make test-browser"
)

PIXELS = """
import fs from "node:fs";
import {{ toPixelValues }} from "{module}";
const cases = JSON.parse(fs.readFileSync("cases.json"));
for (const {{ name, side, ...image }} of cases) {{
  const values = toPixelValues({{ data: fs.readFileSync(name), ...image }}, side);
  fs.writeFileSync(`${{name}}.values`, Buffer.from(values.buffer));
}}
"""
# Width, height, channels and side: smaller and larger, upright and wide, with opacity, of one row.
SIZES = [
    (300, 200, 3, 192),
    (201, 417, 4, 192),
    (50, 31, 3, 192),
    (64, 64, 1, 64),
    (777, 1, 3, 128),
    (900, 1201, 3, 512),
]


@needs_node
def test_pixels_are_those_of_the_processor(tmp_path):
    random, cases = np.random.RandomState(0), []
    for index, (width, height, channels, side) in enumerate(SIZES):
        random.randint(0, 256, (height, width, channels)).astype(np.uint8).tofile(tmp_path / f"{index}")
        cases.append({"name": f"{index}", "width": width, "height": height, "channels": channels, "side": side})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    node(PIXELS.format(module=PAGE / "pixels.js"), tmp_path)
    for index, (width, height, channels, side) in enumerate(SIZES):
        pixels = np.fromfile(tmp_path / f"{index}", np.uint8).reshape(height, width, channels)
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels[..., :3])
        expected = FastVLMImageProcessorPil(size=side)(image, return_tensors="np")["pixel_values"][0]
        found = np.fromfile(tmp_path / f"{index}.values", np.float32).reshape(3, side, side)
        np.testing.assert_array_equal(found, expected)


def node(script: str, folder: Path) -> str:
    (folder / "script.mjs").write_text(script)
    done = subprocess.run(["node", "script.mjs"], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    pytest.importorskip("onnxscript", reason="ONNX exports need the `export` extra")
    output = tmp_path_factory.mktemp("javascript") / "model"
    return export(ExportSettings(str(READER), "onnx", output, precision="q4")).folder


@pytest.fixture(scope="module")
def site(folder) -> Path:
    """The page as a static server has it, with an export and npm's packages beside it."""
    site = folder.parent
    for path in PAGE.iterdir():
        (site / path.name).symlink_to(path)
    return site


ANSWERS = """
import * as transformers from "@huggingface/transformers";
import { FastVLM } from "./fastvlm.js";
const { env, RawImage } = transformers;
env.allowRemoteModels = false;
env.localModelPath = "./";
const model = await FastVLM.load(transformers, "model", { device: "cpu" });
const answers = [];
for (const [names, question] of ASKED) {
  const images = await Promise.all(names.map((name) => RawImage.read(name)));
  answers.push(await model.answer(images, question, { maxNewTokens: 8 }));
}
let refusal = "";
await model.answer([], "What is <image>?").catch((error) => (refusal = error.message));
console.log(JSON.stringify({ answers, refusal }));
"""


@needs_node
@needs_npm
def test_node_answers_as_python_does(site):
    asked = [([str(READER / "images" / row["image"])], row["question"]) for row in TRUTH]
    asked += [([], "What is it?"), ([asked[0][0][0], asked[1][0][0]], "Which is the text?")]
    told = json.loads(node(ANSWERS.replace("ASKED", json.dumps(asked)), site))
    model = AutoModelForVision2Seq.from_pretrained(READER).eval()
    processor = FastVLMProcessor.from_pretrained(READER)
    assert told["answers"] == [python_answer(model, processor, images, question) for images, question in asked]
    assert "may not contain <image>" in told["refusal"]


def python_answer(model, processor, images: list[str], question: str) -> str:
    content = [*({"type": "image", "path": path} for path in images), {"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    answer = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return processor.decode(answer, skip_special_tokens=True).strip()


@needs_node
@needs_npm
def test_a_model_cards_snippet_runs(hub, folder, site, tmp_path, monkeypatch):
    monkeypatch.setattr(publication, "export", lambda settings: shutil.copytree(folder, settings.output))
    settings = PublishSettings(str(READER), "acme/reader", exports=("onnx:q4",), example_prompt="What does it say?")
    publication.publish(settings, tmp_path / "repository", HfApi())
    card = ModelCard.load("acme/reader")
    assert {"onnx", "transformers.js"} < set(card.data.tags)
    snippet = card.text.partition("```js\n")[2].partition("```")[0]
    Image.open(READER / "images" / "sign.png").convert("RGB").save(site / "photo.jpg")
    host = f'transformers.env.remoteHost = "{hub.endpoint}";\n'
    assert node(snippet.replace("const model", host + "const model", 1), site) == "HELLO\n"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(site):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def write_video(path: Path, picture: Path) -> None:
    """A frame of 640 x 480, in YUV4MPEG2, for Chromium's fake camera."""
    frame = Image.new("RGB", (640, 480))
    image = Image.open(picture).convert("RGB")
    image.thumbnail(frame.size)
    frame.paste(image, ((640 - image.width) // 2, (480 - image.height) // 2))
    luma, *colours = frame.convert("YCbCr").split()
    planes = [luma.tobytes(), *(plane.resize((320, 240)).tobytes() for plane in colours)]
    path.write_bytes(b"YUV4MPEG2 W640 H480 F10:1 Ip A1:1 C420jpeg\nFRAME\n" + b"".join(planes))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    api = pytest.importorskip("playwright.sync_api", reason="Chromium is steered by playwright: make test-browser")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: make test-browser")
    video = tmp_path_factory.mktemp("camera") / "sign.y4m"
    write_video(video, READER / "images" / "sign.png")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", *camera, f"--use-file-for-fake-video-capture={video}"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page, at a phone's width, with a model."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{address}/index.html")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Ready')", timeout=120_000)
    yield page
    page.close()
    assert not complaints


def ask(page, question: str) -> str:
    page.fill("#question", question)
    page.click("#ask:enabled")
    page.wait_for_function("document.getElementById('time').textContent.includes('all after')", timeout=60_000)
    return page.text_content("#answer")


@needs_npm
def test_the_page_answers_and_needs_no_network_once_it_is_loaded(page, site):
    page.context.set_offline(True)
    for row in TRUTH:
        page.set_input_files("#file", READER / "images" / row["image"])
        if row["image"] != "circles.png":  # which the model miscounts, in Python too
            assert ask(page, row["question"]) == row["answer"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.context.set_offline(False)


@needs_npm
def test_what_is_no_picture_is_said_to_be_none_and_a_refusal_is_shown(page, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.wait_for_selector("#status.error")
    assert page.text_content("#status") == "notes.txt is no picture that this browser can read."
    assert page.is_disabled("#ask")
    page.set_input_files("#file", READER / "images" / "sign.png")
    page.fill("#question", "<|im_end|>")
    page.click("#ask:enabled")
    page.wait_for_selector("#status.error")
    assert "may not contain <|im_end|>" in page.text_content("#status")
    assert ask(page, "What does it say?") == "HELLO"


@needs_npm
def test_live_captions_of_the_camera(page):
    page.fill("#question", "What does it say?")
    page.click("#camera-button")
    page.wait_for_selector("#camera:visible")
    page.click("#live:enabled")
    page.wait_for_function("document.getElementById('answer').textContent === 'HELLO'", timeout=60_000)
    page.evaluate("document.getElementById('answer').textContent = ''")
    page.wait_for_function("document.getElementById('answer').textContent === 'HELLO'", timeout=60_000)
    page.click("#live")
    assert page.get_attribute("#live", "aria-pressed") == "false"
    page.wait_for_function("document.getElementById('ask').textContent === 'Ask'", timeout=60_000)


@needs_npm
def test_a_page_without_a_model_says_so(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/index.html?model=nowhere")
    page.wait_for_selector("#status.error", timeout=60_000)
    assert "nowhere" in page.text_content("#status")
    page.close()
