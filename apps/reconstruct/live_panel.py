"""The panel of the 3D view: how tracking goes, how large the map is, where the time goes."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
import viser
import viser.uplot

from retain.apps.drawing import number, size

if TYPE_CHECKING:
    from retain.apps.reconstruct.live import Newest
    from retain.pipeline.results import Pose

EVERY_S = 0.5


class Panel:
    """Words, a bar, a plot and two controls. Told at most twice a second."""

    def __init__(self, server: viser.ViserServer) -> None:
        gui = server.gui
        self._state = gui.add_markdown("Waiting for the first frame.")
        self._memory = gui.add_markdown("")
        self._bar = gui.add_progress_bar(0.0)
        self.follow = gui.add_button(
            "Follow the camera", hint="Until you move the view yourself.", icon=viser.Icon.VIDEO
        )
        self.frustums = gui.add_checkbox("Show cameras", True)
        self._parts = gui.add_markdown("")
        axis = viser.uplot.Axis(label="seconds")
        self._plot = gui.add_uplot(
            (np.zeros(1), np.zeros(1)),
            (viser.uplot.Series(label="s"), viser.uplot.Series(label="inliers", stroke="#62abff")),
            axes=(axis, viser.uplot.Axis()), scales={"x": viser.uplot.Scale(time=False)},
            legend=viser.uplot.Legend(show=False), title="Points that agree", aspect=1.8,
        )  # fmt: skip
        self._given = False
        self._told_s = -math.inf

    def show(self, newest: Newest, given: bool) -> None:
        """``given``: there is a path to measure by."""
        now = time.monotonic()
        with newest.lock:
            pose, numbers, finished = newest.pose, newest.numbers, newest.finished
            if pose is None or (now - self._told_s < EVERY_S and not finished):
                return
            self._told_s = now
            waiting = newest.cloud.waiting
            scaled = newest.course.scaled
            points = np.array(numbers.drift if given else numbers.inliers)
            if given and not scaled:
                points[:, 1] *= 100
            facts = f"{number(numbers.keyframes)} keyframes, {number(numbers.lost)} frames lost"
            final = newest.final
        if final:
            self._state.content = "**Finished.** This is the map that was written."
        elif finished:
            self._state.content = "**The stream has ended.** The map is refined once more."
        else:
            self._state.content = _state(pose, waiting)
        self._memory.content = (
            f"{number(pose.stable)} stable + {number(pose.active)} active Gaussians  \n"
            f"{facts}  \nmemory: {size(pose.nbytes)} of {size(pose.byte_budget)}"
        )
        share = min(100.0, 100 * pose.nbytes / max(pose.byte_budget, 1))
        self._bar.value = share  # type: ignore[misc]  # viser's types hide the setter
        self._parts.content = _parts(pose)
        if given and not self._given:
            self._given = True
            unit = "map units" if scaled else "cm"
            self._plot.title = f"Distance to the given path, {unit}"
            label = viser.uplot.Series(label="drift", stroke="#f2ab4b")
            self._plot.series = (viser.uplot.Series(label="s"), label)
        if len(points):
            self._plot.data = (points[:, 0].copy(), points[:, 1].copy())


def _state(pose: Pose, waiting: bool) -> str:
    words = f"**{pose.state.capitalize()}**" + (f": {pose.reason}" if pose.reason else "")
    words += f", {number(pose.inliers)} points agree" if pose.inliers else ""
    return words + ("  \nA change of the map was missed; waiting for all of it." if waiting else "")


def _parts(pose: Pose) -> str:
    rows = "\n".join(f"| {name} | {ms:.1f} |" for name, ms in pose.parts_ms.items())
    return f"| part | ms |\n|:--|--:|\n{rows}"
