"""What the 3D view shows, said to viser: Gaussians in blocks, cameras, paths, and who may look."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import rich
import viser
from numpy.typing import NDArray

from retain.apps.page.server import is_loopback
from retain.apps.reconstruct.cloud import covariances
from retain.apps.reconstruct.course import Points
from retain.apps.reconstruct.live_panel import Panel
from retain.datasets.splats.splat import RECORD
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.pipeline.results import KNOWN

if TYPE_CHECKING:
    from retain.apps.reconstruct.live import Newest

BLUE, AMBER, RED, SOFT = (98, 171, 255), (242, 171, 75), (255, 111, 159), (154, 164, 178)
TURNED = math.cos(math.radians(10))
"""Up is set anew when it has turned by more than 10 degrees."""
NARROW = 1100
"""Pixels of a window under which the panel starts folded."""
PUT = 64
"""Last places of a browser's camera that are kept: it answers late where it draws slowly."""


class _Server(viser.ViserServer):
    """Never asks for a public address: what is shown stays on this machine."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        return None


class LiveScene:
    """Served at 127.0.0.1 only, and to its pages only: no other site in a browser can read it."""

    def __init__(self, title: str, port: int) -> None:
        with _quiet():
            self._server = _Server("127.0.0.1", port, label=title, verbose=False)
        self._server._websock_server.on_client_connect(self._check)
        self.port = self._server.get_port()
        gui = self._server.gui
        gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        self._panel = Panel(self._server)
        self._chased: dict[int, deque[Points]] = {}
        """Where the cameras of browsers that follow were put; of those that do not: none."""
        self._server.on_client_connect(self._welcome)
        self._server.on_client_disconnect(lambda client: self._forget(client.client_id))
        self._panel.follow.on_click(self._follow)
        self._world = self._server.scene.add_frame("/world", show_axes=False)
        """The map's world, turned so that its up is that of viser, +z."""
        self._blocks: dict[int, viser.GaussianSplatHandle] = {}
        self._up: Points | None = None
        self._eye: Points | None = None
        """c2w of the newest place, for those who follow."""
        self._drawn: dict[str, int] = {}
        self._frustum: viser.CameraFrustumHandle | None = None
        self._size = 0.15
        """Of a camera as drawn."""
        self.sized = False
        """Whether that fits the map, which without depth has any scale."""

    @property
    def watchers(self) -> int:
        return len(self._server.get_clients())

    def draw(
        self, newest: Newest, blocks: Mapping[int, NDArray[np.uint8]], middle: Points | None
    ) -> None:
        """Bring what is shown up to date, in one message to each browser. ``middle``: of the map,
        until it is ``sized``."""
        with newest.lock:
            course, camera, picture, pose = (
                newest.course, newest.camera, newest.picture, newest.pose,
            )  # fmt: skip
            own, given, up, last = course.own(), course.given(), course.up, course.last
            keyframes = list(course.keyframes.items)
        with self._server.atomic():
            if last is not None:
                self._turn(up)
                if middle is not None and not self.sized:
                    self.sized = True
                    self._size = 0.06 * float(np.linalg.norm(middle - last[:3, 3]))
            for number, records in blocks.items():
                self._draw_block(number, records)
            if last is not None and camera is not None and pose is not None:
                self._draw_camera(last, camera, picture, pose.state in KNOWN)
                self._draw_keyframes(keyframes, camera)
            self._draw_line("/world/path", own, BLUE, dashed=False)
            self._draw_line("/world/given", given, AMBER, dashed=True)
            self._panel.show(newest, len(given) > 0)
        if last is not None:
            self._eye = last
            self._chase()

    def _draw_block(self, number: int, records: NDArray[np.uint8]) -> None:
        handle = self._blocks.get(number)
        if not len(records):
            if handle is not None:
                self._blocks.pop(number).remove()
            return
        centers, spread = covariances(records)
        rgba = np.ascontiguousarray(records).view(RECORD)[:, 0]["rgba"]
        if handle is None:
            self._blocks[number] = self._server.scene.add_gaussian_splats(
                f"/world/map/{number}", centers, spread, rgba[:, :3], rgba[:, 3:]
            )
            return
        upper = spread.reshape(-1, 9)[:, [0, 1, 2, 4, 5, 8]].astype(np.float16)
        buffer = np.zeros((len(records), 8), np.uint32)
        buffer[:, :3] = np.ascontiguousarray(centers).view(np.uint32)
        buffer[:, 4:7] = np.ascontiguousarray(upper).view(np.uint32)
        buffer[:, 7:] = np.ascontiguousarray(rgba).view(np.uint32)
        handle.buffer = buffer

    def _draw_camera(
        self, c2w: Points, camera: Camera, picture: NDArray[np.uint8] | None, known: bool
    ) -> None:
        turn, place = rigid.quaternion(c2w[:3, :3]), c2w[:3, 3]
        if self._frustum is None:
            self._frustum = self._server.scene.add_camera_frustum(
                "/world/camera", 2 * math.atan(camera.height / 2 / camera.fy),
                camera.width / camera.height, scale=self._size, thickness=2.0,
                thickness_units="screen", color=BLUE,
            )  # fmt: skip
        frustum = self._frustum
        frustum.wxyz, frustum.position, frustum.scale = turn, place, self._size
        frustum.color = BLUE if known else RED
        frustum.visible = self._panel.frustums.value
        if picture is not None:
            frustum.image = picture

    def _draw_keyframes(self, poses: list[Points], camera: Camera) -> None:
        if self._same("/world/keyframes", len(poses), int(self._panel.frustums.value)):
            return
        if not poses or not self._panel.frustums.value:
            self._remove("/world/keyframes")
            return
        outline = _outline(camera, 0.4 * self._size)
        lines = np.concatenate([rigid.transform(pose, outline) for pose in poses])
        self._server.scene.add_line_segments(
            "/world/keyframes",
            lines.astype(np.float32),
            SOFT,
            thickness=1.0,
            thickness_units="screen",
        )

    def _draw_line(
        self, name: str, points: Points, color: tuple[int, int, int], dashed: bool
    ) -> None:
        if self._same(name, len(points), hash(points[-1].tobytes()) if len(points) else 0):
            return
        pieces = np.stack([points[:-1], points[1:]], axis=1) if len(points) > 1 else points[:0]
        pieces = pieces[::2] if dashed else pieces
        if not len(pieces):
            self._remove(name)
            return
        self._server.scene.add_line_segments(
            name, pieces.astype(np.float32), color, thickness=3.0, thickness_units="screen"
        )

    def _same(self, name: str, *key: int) -> bool:
        """Whether ``name`` was drawn like this last time."""
        before, self._drawn[name] = self._drawn.get(name), hash(key)
        return before == hash(key)

    def _remove(self, name: str) -> None:
        if self._server.scene.get_handle_by_name(name) is not None:
            self._server.scene.remove_by_name(name)

    def _turn(self, up: Points) -> None:
        if self._up is None or float(up @ self._up) < TURNED:
            self._up = up
            self._world.wxyz = rigid.quaternion(upright(up))

    # Whose camera follows.

    async def _check(self, connection: viser.infra.WebsockClientConnection) -> None:
        """Browsers say which page opens a connection: one of another site is closed at once."""
        live = self._server._websock_server._live_connections.get(connection.client_id)
        origin = live.request.headers.get("Origin") if live and live.request else None
        if live and origin is not None and not is_loopback(urlsplit(origin).hostname or ""):
            await live.close(1008, "This view answers to this machine only.")

    def _welcome(self, client: viser.ClientHandle) -> None:
        if client.camera.image_width < NARROW:
            client.gui.main_panel.minimize()
        client.camera.on_update(self._released)
        self._take(client)

    def _forget(self, number: int) -> None:
        self._chased.pop(number, None)

    def _follow(self, event: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
        if event.client is not None:
            self._take(event.client)

    def _take(self, client: viser.ClientHandle) -> None:
        self._chased[client.client_id] = deque([client.camera.position], PUT)
        self._chase()

    def _released(self, camera: viser.CameraHandle) -> None:
        """A camera that is where it was never put was moved by a person: it is let go."""
        put = self._chased.get(camera.client.client_id)
        if put is None or self._eye is None:
            return
        off = np.linalg.norm(np.array(put) - camera.position, axis=1)
        if off.min() > 0.05 * self._size:
            self._forget(camera.client.client_id)

    def _chase(self) -> None:
        """Cameras that follow stay behind the recorded one and a little above."""
        eye, up = self._eye, self._up
        if eye is None or up is None:
            return
        back, turn = 4 * self._size, upright(up)
        place = turn @ (eye[:3, 3] - back * eye[:3, 2] + 0.5 * back * up)
        ahead = turn @ (eye[:3, 3] + 1.5 * back * eye[:3, 2])
        for number, client in self._server.get_clients().items():
            if (put := self._chased.get(number)) is not None:
                put.append(place)
                with client.atomic():
                    client.camera.position = place
                    client.camera.look_at = ahead

    def close(self) -> None:
        with _quiet():
            self._server.stop()


def upright(up: Points) -> Points:
    """A rotation [3, 3] that brings ``up`` [3], of length 1, to +z."""
    z = np.array([0.0, 0.0, 1.0])
    axis, cosine = np.cross(up, z), float(up @ z)
    if cosine < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    k = rigid.skew(axis)
    return np.asarray(np.eye(3) + k + k @ k / (1 + cosine))


def _outline(camera: Camera, size: float) -> Points:
    """[8, 2, 3]: the edges of the pyramid a camera at the origin sees, ``size`` deep."""
    x, y = size * camera.width / 2 / camera.fx, size * camera.height / 2 / camera.fy
    corners = np.array([[-x, -y, size], [x, -y, size], [x, y, size], [-x, y, size]])
    sides = np.stack([np.zeros((4, 3)), corners], axis=1)
    return np.concatenate([sides, np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)])


@contextmanager
def _quiet() -> Iterator[None]:
    """viser tells of itself on stdout, where results go."""
    screen = rich.get_console()
    before, screen.quiet = screen.quiet, True
    try:
        yield
    finally:
        screen.quiet = before
