"""What a batch can do to an item: the single commands, in one process and without their page."""

from __future__ import annotations

import errno
import importlib
import json
import math
import os
import stat
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from retain.apps.batch.engine import ItemError, Job
from retain.apps.batch.work import named
from retain.apps.running import NodeError, StreamOptions, is_live
from retain.pipeline.errors import (
    RetainError,
    SourceError,
    SourceFault,
    UsageError,
    nearest,
    no_space,
)
from retain.pipeline.wire import Fault

TARGET = "retain.apps.batch.tasks:run_task"
_NUMBERS = ("fps", "limit", "seconds")
_SHARED = (*_NUMBERS, "device")
"""What of StreamOptions may be set; the rest is about one stream, or about people."""
_VOLATILE = ("source", "took_s", "times_real_time", "command", "versions", "errors", "runner")
_PROBED = 256
"""Frames looked at to find what is wrong with a source."""


@dataclass(frozen=True, slots=True)
class Task:
    """``module:function`` takes ``module:options`` and writes a folder with summary.json."""

    module: str
    function: str
    options: str
    measure: Callable[[Mapping[str, Any]], float | None]
    """Of summary.json: what orders the items from worst to best."""
    label: str
    high: bool = True
    """Whether more of it is better."""
    worst: str = "Worst items"
    best: str = "Best items"


def _share(facts: Mapping[str, Any], part: float) -> float | None:
    return part / facts["frames"] if facts.get("frames") else None


def _number(facts: Mapping[str, Any], *names: str) -> float | None:
    found: Any = facts
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


def _flicker(facts: Mapping[str, Any]) -> float | None:
    return _number(facts, "arms", next(reversed(facts["arms"]), ""), "flicker")


def _newest(facts: Mapping[str, Any]) -> float | None:
    return max((float(moment["score"]) for moment in facts["new"]), default=None)


TASKS = {
    "watch": Task(
        "retain.apps.watch", "watch", "WatchOptions",
        lambda facts: _share(facts, facts["routed"]["clear"] + facts["routed"]["blurred"]),
        "share of frames that entered the memory",
        worst="Least eventful items", best="Most eventful items",
    ),
    "segment": Task(
        "retain.apps.segment.run", "segment", "SegmentOptions",
        lambda facts: _share(facts, facts["doubtful_frames"]),
        "share of doubtful frames", high=False,
    ),
    "detect": Task(
        "retain.apps.detect.run", "detect", "DetectOptions",
        _flicker, "flicker of the boxes", high=False,
    ),
    "reconstruct": Task(
        "retain.apps.reconstruct.run", "reconstruct", "ReconstructOptions",
        lambda facts: _number(facts, "psnr_db"), "PSNR of held-out frames in dB",
    ),
    "imagine": Task(
        "retain.apps.imagine.run", "imagine", "ImagineOptions",
        _newest, "novelty of the newest moment",
        worst="Least novel items", best="Most novel items",
    ),
}  # fmt: skip


def check(task: str, words: Mapping[str, str]) -> dict[str, Any]:
    """The options ``words`` (as typed) of ``task``, as plain values. Raises UsageError."""
    kind = _options(task)
    types = typing.get_type_hints(kind)
    general = {field.name for field in fields(StreamOptions)} | {"resume"}
    allowed = [field.name for field in fields(kind) if field.name not in general] + [*_SHARED]
    read: dict[str, Any] = {}
    for name, word in words.items():
        if name not in allowed:
            raise UsageError(
                f"The task {task!r} has no option {name!r} in a batch.", hint=nearest(name, allowed)
            )
        several = typing.get_origin(types[name]) is tuple
        value: Any = [one for one in word.split(",") if one] if several else word
        try:
            read[name] = msgspec.to_builtins(msgspec.convert(value, types[name], strict=False))
        except msgspec.ValidationError as error:
            raise UsageError(f"The option {name!r} cannot be {word!r}: {error}.") from error
        if isinstance(read[name], float) and not math.isfinite(read[name]):
            raise UsageError(f"The option {name!r} cannot be {word!r}.", hint="Give a number.")
        if name in _NUMBERS and read[name] < 0:
            raise UsageError(f"The option {name!r} cannot be {word!r}.", hint="0: the default.")
    kind(source="", **read)
    return read


def _options(task: str) -> Any:
    if task not in TASKS:
        raise UsageError(f"There is no task {task!r}.", hint=nearest(task, TASKS))
    return getattr(importlib.import_module(TASKS[task].module), TASKS[task].options)


def run_task(job: Job, options: dict[str, Any]) -> dict[str, Any]:
    """The Target of workers. ``options``: ``task``, and ``set`` as from ``check``."""
    task, given = TASKS[options["task"]], options["set"]
    _check_source(job.path)
    asked = _options(options["task"])(
        source=job.path,
        out=Path(job.folder),
        page=False,
        runner="inline",
        command=f"retain batch --task {options['task']}",
        **{name: tuple(one) if isinstance(one, list) else one for name, one in given.items()},
    )
    run = getattr(importlib.import_module(task.module), task.function)
    try:
        done = run(asked, lambda done: None)
    except SourceError:
        raise
    except NodeError:
        raise
    except RetainError as error:
        if not no_space(error):
            _blame_source(job.path)
        raise
    facts = json.loads((Path(job.folder) / "summary.json").read_bytes())
    if done.exit_code:
        fault = msgspec.convert(facts["errors"][0], Fault)
        raise ItemError(named(fault.code), fault.message)
    return {name: value for name, value in facts.items() if name not in _VOLATILE}


def _check_source(source: str) -> None:
    """Raise UsageError for what nobody could ever be done with."""
    if not source:
        raise UsageError(
            "Its name is no UTF-8 text, and cannot be written down.", hint="Rename the file."
        )
    if ("://" in source or source.startswith("/dev/video")) and is_live(source):
        raise UsageError(f"{source!r} is live and would never be done.", hint="Use retain watch.")
    if "://" in source:
        return
    try:
        mode = os.stat(source).st_mode
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            text = f"No file can be called {source[:80]!r}."
            raise SourceError(SourceFault.NOT_FOUND, text) from error
        return  # the source knows better what it is
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UsageError(
            f"{source!r} is a pipe, a socket or a device.", hint="A batch takes files and folders."
        )


def _blame_source(path: str) -> None:
    """Raise the SourceError that kept a file from giving frames, if one did: a graph that ends
    with nothing says why only in words."""
    if not Path(path).is_file():
        return
    from retain.pipeline.sources.any import AnySource

    source = AnySource(path, limit=_PROBED)
    try:
        if not sum(1 for _ in source.frames()):
            raise SourceError(SourceFault.EMPTY, f"{path!r} holds not one frame.")
    finally:
        source.close()
