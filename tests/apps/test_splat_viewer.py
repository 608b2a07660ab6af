"""The page of a scene, in a real browser with WebGL in software: its picture, and moving in it."""

from __future__ import annotations

import base64
import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser_parts import SIZES, Watched, launched, until
from numpy.typing import NDArray
from PIL import Image
from splat_parts import picture_of, psnr, some

from retain.apps.reconstruct.viewer import LIMIT, pack, write_viewer
from retain.datasets.splats.splat import from_records, to_records
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize.gaussians import Gaussians

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

CAMERA = Camera(150.0, 150.0, 80.0, 60.0, 160, 120)
GROUND = (0xF4 / 255, 0xF5 / 255, 0xF7 / 255)
TITLE = "<b>attic</b> & $co"


def pose(*twist: float) -> NDArray[np.float64]:
    return rigid.exp(twist)


POSES = [pose(0, 0, 0, 0, 0, 0), pose(0.05, 0.2, 0.02, -0.6, 0.1, 0), pose(0, -0.2, 0, 0.6, 0, 0)]
VIEWS = [(c2w, CAMERA) for c2w in POSES]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from launched(webgl=True)


KEEP = """
const original = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, options) {
  return original.call(this, kind, { ...options, preserveDrawingBuffer: true });
};
"""
"""So that the canvas can be read after it was drawn; the page itself does not pay for that."""


def opened(watched: Watched, page: Path) -> Tab:
    """The page with its first picture drawn; the stage as large as the camera's picture."""
    tab = ready(watched, page)
    tab.add_style_tag(content="#stage { flex: none !important; width: 160px; height: 120px; }")
    still(tab)
    return tab


def ready(watched: Watched, page: Path) -> Tab:
    tab = watched.tab
    tab.add_init_script(KEEP)
    tab.goto(page.as_uri())
    until(tab, "'ready' in document.getElementById('stage').dataset")
    return tab


def drawn(tab: Tab) -> NDArray[np.float64]:
    """What the canvas shows, [H, W, 3] in 0..1."""
    data = str(tab.evaluate("document.getElementById('canvas').toDataURL()"))
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))))[..., :3] / 255


def still(tab: Tab) -> NDArray[np.float64]:
    """The picture once the worker's order has come, nothing changes any more and all is fine."""
    last = drawn(tab)
    for _ in range(100):
        tab.wait_for_timeout(60)
        now = drawn(tab)
        fine = now.shape[1] == tab.evaluate("document.getElementById('stage').clientWidth")
        if fine and now.shape == last.shape and (now == last).all() and now.std() > 0.01:
            return now
        last = now
    raise AssertionError("the picture never came to rest")


def wanted(gaussians: Gaussians, c2w: NDArray[np.float64]) -> NDArray[np.float64]:
    return picture_of(gaussians, rigid.inverse(c2w), CAMERA, GROUND)


def looks_like(tab: Tab, gaussians: Gaussians, c2w: NDArray[np.float64]) -> float:
    return psnr(still(tab), wanted(gaussians, c2w))


@pytest.fixture(scope="module")
def scene() -> Gaussians:
    return some(60, seed=3)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, scene: Gaussians) -> Path:
    path = tmp_path_factory.mktemp("viewer") / "scene.html"
    return write_viewer(path, scene, VIEWS, title=TITLE)


@pytest.mark.browser
def test_each_view_is_what_the_definition_gives(
    browser: Browser, page: Path, scene: Gaussians
) -> None:
    from playwright.sync_api import expect

    with Watched(browser) as watched:
        requests: list[str] = []
        watched.tab.on("request", lambda request: requests.append(request.url))
        tab = opened(watched, page)
        expect(tab.get_by_role("heading", name=TITLE)).to_be_visible()
        expect(tab.locator(".facts")).to_have_text("60 Gaussians · 3 views")
        for k, c2w in enumerate(POSES):
            expect(tab.locator("#reading")).to_have_text(f"View {k + 1} of 3")
            assert looks_like(tab, scene, c2w) > 38
            tab.get_by_label("Next view").click()
        tab.get_by_role("button", name="Reset").click()
        assert looks_like(tab, scene, POSES[0]) > 38
        assert psnr(still(tab), wanted(scene, POSES[1])) < 25, "the views differ"
        assert all(url.startswith(("file:", "blob:", "data:")) for url in requests)
        assert watched.problems == []


@pytest.mark.browser
def test_a_dense_scene_is_what_our_rasteriser_draws(browser: Browser, tmp_path: Path) -> None:
    """Thousands of flat Gaussians, some across the border and behind the camera."""
    from retain.kernels.rasterize.render import render

    dense = some(6000, seed=5, size=0.04)
    dense.means[:] *= (2, 2, 1)
    dense.means[::10, 2] -= 5
    path = write_viewer(tmp_path / "dense.html", dense, VIEWS[1:], title="dense")
    with Watched(browser) as watched:
        tab = opened(watched, path)
        ours = render(dense, CAMERA, POSES[1], background=GROUND).color
        assert psnr(still(tab), np.clip(ours, 0, 1)) > 38
        assert watched.problems == []


@pytest.mark.browser
def test_mouse_wheel_and_keys_move_the_eye_as_said(
    browser: Browser, page: Path, scene: Gaussians
) -> None:
    """A card in front of another, so that what is turned and moved can be told apart."""
    with Watched(browser) as watched:
        tab = opened(watched, page)
        home = still(tab)
        box = tab.locator("#stage").bounding_box()
        assert box is not None
        x, y = box["x"] + 80, box["y"] + 60

        def drag(dx: int, button: str = "left") -> None:
            tab.mouse.move(x, y)
            tab.mouse.down(button=button)  # type: ignore[arg-type]
            tab.mouse.move(x + dx, y, steps=3)
            tab.mouse.up(button=button)  # type: ignore[arg-type]

        drag(20)
        turned = still(tab)
        assert psnr(turned, home) < 30
        drag(-20)
        assert psnr(still(tab), home) > 35, "and back"
        drag(20, "right")
        shifted = still(tab)
        assert psnr(shifted, home) < 30
        tab.keyboard.press("r")
        assert psnr(still(tab), home) > 60
        tab.mouse.wheel(0, 400)
        assert content_width(still(tab)) < content_width(home), "away makes it smaller"
        tab.keyboard.press("r")
        tab.keyboard.down("s")
        tab.wait_for_timeout(400)
        tab.keyboard.up("s")
        assert content_width(still(tab)) < content_width(home), "S goes back"
        tab.keyboard.press("r")
        tab.keyboard.press("f")
        assert tab.get_by_label("Fly").is_checked()
        drag(20)
        looked = still(tab)
        assert psnr(looked, home) < 30
        assert centre(looked) > centre(home), "dragging right brings what is left"
        tab.keyboard.press("]")
        assert looks_like(tab, scene, POSES[1]) > 38
        assert watched.problems == []


def content_width(shown: NDArray[np.float64]) -> int:
    return int((np.abs(shown - GROUND).max(axis=2) > 0.05).any(axis=0).sum())


def centre(shown: NDArray[np.float64]) -> float:
    weight = np.abs(shown - GROUND).sum(axis=(0, 2))
    return float((weight * np.arange(len(weight))).sum() / weight.sum())


@pytest.mark.browser
def test_the_path_plays_and_can_be_scrubbed(browser: Browser, page: Path, scene: Gaussians) -> None:
    from playwright.sync_api import expect

    with Watched(browser) as watched:
        tab = opened(watched, page)
        slider = tab.get_by_label("Along the camera's path")
        tab.get_by_role("button", name="Play the path").click()
        until(tab, "Number(document.getElementById('slider').value) > 0.2")
        tab.get_by_role("button", name="Pause").click()
        part = float(slider.input_value())
        assert 0.2 < part < 2
        still(tab)
        assert float(slider.input_value()) == part, "paused"
        slider.fill("0.5")
        halfway = pose(*(0.5 * np.array([0.05, 0.2, 0.02, 0, 0, 0])))
        halfway[:3, 3] = 0.5 * POSES[1][:3, 3]
        assert looks_like(tab, scene, halfway) > 38
        tab.locator("#stage").hover()
        tab.mouse.wheel(0, 200)
        plain = still(tab)
        tab.get_by_label("Path", exact=True).check()
        assert psnr(still(tab), plain) < 40, "the path is drawn"
        slider.fill("1.9")
        tab.get_by_role("button", name="Play the path").click()
        expect(tab.get_by_role("button", name="Play the path")).to_be_visible()
        expect(tab.locator("#reading")).to_have_text("View 3 of 3")
        assert watched.problems == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_fits_the_screen_and_follows_the_scheme(
    browser: Browser, size: str, scheme: str, page: Path
) -> None:
    from playwright.sync_api import expect

    with Watched(browser, size, scheme) as watched:
        tab = ready(watched, page)
        shown = still(tab)
        assert (shown[4, 4].mean() < 0.2) == (scheme == "dark"), "the ground behind the scene"
        assert not watched.wide()
        for name in ("Help", "Reset", "Play the path", "Next view"):
            expect(tab.get_by_role("button", name=name)).to_be_in_viewport(ratio=1)
        stage = tab.locator("#stage").bounding_box()
        assert stage is not None
        assert stage["height"] > 0.75 * SIZES[size][1]
        tab.get_by_role("button", name="Help").click()
        dialog = tab.get_by_role("dialog", name="Moving around")
        expect(dialog).to_be_in_viewport(ratio=1)
        tab.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        assert watched.problems == []


@pytest.mark.browser
def test_where_drawing_is_slow_moving_is_coarser(browser: Browser, page: Path) -> None:
    with Watched(browser) as watched:
        watched.tab.add_init_script(
            """let clock = 1e6;
            window.requestAnimationFrame = (draw) => setTimeout(() => draw(clock += 100), 0);"""
        )
        tab = opened(watched, page)
        tab.keyboard.down("ArrowLeft")
        until(tab, "document.getElementById('canvas').width === 80")
        tab.keyboard.up("ArrowLeft")
        until(tab, "document.getElementById('canvas').width === 160")
        assert watched.problems == []


@pytest.mark.browser
def test_two_fingers_pinch(browser: Browser, page: Path) -> None:
    with Watched(browser, "phone") as watched:
        tab = opened(watched, page)
        home = still(tab)
        tab.evaluate(
            """() => {
              const stage = document.getElementById("stage");
              stage.setPointerCapture = () => {};
              const send = (type, id, x, y) => stage.dispatchEvent(new PointerEvent(type,
                { pointerId: id, clientX: x, clientY: y, buttons: 1, bubbles: true }));
              send("pointerdown", 1, 30, 100); send("pointerdown", 2, 130, 100);
              for (let k = 1; k <= 10; k++) send("pointermove", 2, 130 - 5 * k, 100);
              send("pointerup", 2, 80, 100); send("pointerup", 1, 30, 100);
            }"""
        )
        assert content_width(still(tab)) < content_width(home)
        assert watched.problems == []


@pytest.mark.browser
def test_without_webgl_it_says_so(browser: Browser, page: Path) -> None:
    from playwright.sync_api import expect

    with Watched(browser) as watched:
        watched.tab.add_init_script("HTMLCanvasElement.prototype.getContext = () => null;")
        watched.tab.goto(page.as_uri())
        expect(watched.tab.get_by_role("alert")).to_contain_text("WebGL 2, which this browser")
        expect(watched.tab.get_by_role("button", name="Play the path")).to_be_hidden()
        assert watched.problems == []


@pytest.mark.browser
def test_a_lost_context_comes_back(browser: Browser, page: Path, scene: Gaussians) -> None:
    with Watched(browser) as watched:
        tab = opened(watched, page)
        tab.evaluate(
            """() => new Promise((done) => {
              const canvas = document.getElementById("canvas");
              const loss = canvas.getContext("webgl2").getExtension("WEBGL_lose_context");
              canvas.addEventListener("webglcontextrestored", () => done());
              const restore = () => setTimeout(() => loss.restoreContext(), 50);
              canvas.addEventListener("webglcontextlost", restore);
              loss.loseContext();
            })"""
        )
        assert looks_like(tab, scene, POSES[0]) > 38
        watched.problems.clear()  # the browser itself warns of the loss


@pytest.mark.browser
def test_scenes_without_cameras_and_without_gaussians(browser: Browser, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    alone = write_viewer(tmp_path / "alone.html", some(50), title="alone")
    with Watched(browser) as watched:
        tab = opened(watched, alone)
        assert still(tab).std() > 0.01
        expect(tab.get_by_role("button", name="Next view")).to_be_hidden()
        expect(tab.locator(".facts")).to_have_text("50 Gaussians")
        assert watched.problems == []
    empty = write_viewer(tmp_path / "empty.html", Gaussians.empty(), VIEWS, title="empty")
    with Watched(browser) as watched:
        watched.tab.goto(empty.as_uri())
        expect(watched.tab.get_by_role("alert")).to_contain_text("This scene is empty")
        assert watched.problems == []


def test_what_is_cut_is_said_and_is_the_least(tmp_path: Path) -> None:
    scene = some(500)
    path = write_viewer(tmp_path / "scene.html", scene, VIEWS[:1], title="t", limit=100)
    text = path.read_text("utf-8")
    assert "100 of 500 Gaussians, those that show most · 1 view<" in text
    shown = from_records(unpacked(text))
    assert len(shown) == 100
    area = np.sort(scene.scales, axis=1)[:, 1:].prod(axis=1) * scene.opacities
    least = np.sort(area)[-100]
    shown_area = np.sort(shown.scales, axis=1)[:, 1:].prod(axis=1) * shown.opacities
    assert shown_area.min() > 0.97 * least - 1e-5
    assert LIMIT >= 100_000


def unpacked(text: str) -> NDArray[np.uint8]:
    found = re.search(r'id="records">([^<]*)<', text)
    assert found is not None
    columns = np.frombuffer(gzip.decompress(base64.b64decode(found[1])), np.uint8)
    return np.ascontiguousarray(columns.reshape(32, -1).T)


def test_packing_rounds_as_said() -> None:
    scene = some(300)
    columns = np.frombuffer(gzip.decompress(pack(to_records(scene))), np.uint8)
    read = from_records(np.ascontiguousarray(columns.reshape(32, -1).T))
    order = np.lexsort(np.rint(read.means * 4096).T)
    wanted = np.lexsort(np.rint(scene.means * 4096).T)
    np.testing.assert_allclose(read.means[order], scene.means[wanted], atol=2.0**-13)
    np.testing.assert_allclose(read.scales[order], scene.scales[wanted], rtol=0.005)


def test_names_and_titles_cannot_become_markup(page: Path) -> None:
    text = page.read_text("utf-8")
    assert "<b>attic" not in text
    assert "&lt;b&gt;attic&lt;/b&gt; &amp; $co" in text
    assert re.search(r"(src|href)\s*=", text) is None
