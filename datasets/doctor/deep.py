"""Opens every item of what was found with its reader, and lists what is broken, with causes."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from retain.datasets.boundaries.videos import SUFFIXES
from retain.datasets.detect.base import Clip, Clips
from retain.datasets.detect.open import FORMATS
from retain.datasets.doctor import kits
from retain.datasets.doctor.base import Finding, counted
from retain.datasets.doctor.heads import fault
from retain.datasets.doctor.scene import attempt
from retain.datasets.echo.camus import Camus
from retain.datasets.echo.echonet import EchoNet
from retain.pipeline.errors import MissingExtra, RetainError, SourceError, SourceFault
from retain.pipeline.sources.any import AnySource

Tell = Callable[[int, int | None], None]
"""Items done, and how many there are, where that is known."""
Result = tuple[str, str]
"""An item, and what is wrong with it; ``""`` for nothing."""
Items = Iterator[Result]
CAUSES = 20
"""Told apart; those of what is left are counted together."""


def examine(finding: Finding, tell: Tell) -> None:
    """Add a line for each cause, or one that all items can be read.

    Ends early, with what was found so far, when interrupted or when a reader's package is not
    installed; that exception passes on.
    """
    broken: dict[str, list[str]] = {}
    done, total, whole = 0, _total(finding), False
    items = _items(finding)
    try:
        for item, why in items:
            done += 1
            tell(done, max(total, done) if total else None)
            if why:
                broken.setdefault(_cause(finding, why), []).append(item)
        whole = True
    except MissingExtra:
        raise
    except RetainError as error:  # the data set as such cannot be opened
        broken.setdefault(str(error), [])
        whole = True
    finally:
        for why, names in list(broken.items())[:CAUSES]:
            count = f"{len(names):,} × " if names else ""
            finding.add("deep", "broken", f"{count}{why}", names)
        if rest := list(broken.values())[CAUSES:]:
            others = [name for names in rest for name in names]
            finding.add("deep", "broken", f"{len(others):,} for other causes", others)
        if not whole:
            finding.add("deep", "note", f"stopped after {counted(done, 'items')}")
        elif not broken:
            finding.add("deep", "ok", f"all {counted(done, 'items')} can be read")


def _cause(finding: Finding, why: str) -> str:
    """The same words for the same cause: without the names of files, which are listed."""
    return re.sub(rf"'?{re.escape(str(finding.root))}[^\s':]*'?", "FILE", why)


def _total(finding: Finding) -> int:
    """Items, where one is what ``Finding.items`` counts."""
    one = (kits.ECHONET, kits.GEBD, kits.BBC, kits.AUTOSHOT, kits.VIDEOS, kits.DICOM, kits.PICTURES)
    return 2 * finding.items if finding.kit is kits.CAMUS else finding.items * (finding.kit in one)


def _items(finding: Finding) -> Items:
    kit = finding.kit
    if kit in (kits.ECHONET, kits.CAMUS):
        return _echo(finding)
    if kit in (kits.DAVIS, kits.VID, kits.MOT, kits.COCO):
        return _detect(finding)
    if kit.key in kits.SCENES:
        return _scenes(finding)
    if kit in (kits.GEBD, kits.BBC, kits.AUTOSHOT):
        return _boundaries(finding)
    if kit is kits.SHARDS:
        return _shards(finding)
    return _plain(finding)


def _echo(finding: Finding) -> Items:
    reader = (EchoNet if finding.kit is kits.ECHONET else Camus)(finding.root)
    told = 0
    for clip in reader.clips():
        lost = [p for p in reader.problems[told:] if p.lost]
        told = len(reader.problems)
        yield from ((problem.item, problem.what) for problem in lost)
        yield clip.name, ""
    yield from ((p.item, p.what) for p in reader.problems[told:] if p.lost)


def _detect(finding: Finding) -> Items:
    """Every frame with its labels. Splits of which there is nothing are passed over."""
    for place in finding.members or [finding.root]:
        for options in _options(finding, place):
            name = str(options.get("split") or place.name)
            try:
                reader = FORMATS.load(_READERS.get(finding.kit.key, finding.kit.key))
                clips: Clips = reader(place, **options)
            except SourceError as error:
                if error.fault is not SourceFault.EMPTY or "split" not in options:
                    yield name, error.what
                continue
            for number in range(len(clips)):
                yield from _frames(clips[number])


_READERS = {kits.COCO.key: "coco-vid"}


def _options(finding: Finding, place: Path) -> list[dict[str, str]]:
    """What the reader is given beside the place; several: it is asked several times."""
    if finding.kit is kits.VID:
        return [{"split": split} for split in ("train", "val", "test")]
    if finding.kit is kits.MOT:
        return [{"boxes": "gt" if (place / "gt" / "gt.txt").is_file() else "det"}]
    return [{"images": str(finding.homes[place])}] if place in finding.homes else [{}]


def _frames(clip: Clip) -> Items:
    for index in range(len(clip)):
        item = f"{clip.name} frame {clip.numbers[index]}"
        yield item, _why(lambda k=index: clip[k])  # type: ignore[misc]


def _scenes(finding: Finding) -> Items:
    for path in finding.members:
        scene = attempt(finding.kit.key, path)
        if isinstance(scene, str):
            yield path.name, scene
            continue
        for index in range(len(scene)):
            yield f"{path.name} picture {index}", _why(lambda k=index, s=scene: s[k])  # type: ignore[misc]


def _boundaries(finding: Finding) -> Items:
    """The videos of the annotations, from first to last picture."""
    for path in sorted(finding.root.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            yield path.name, _played(path)


def _shards(finding: Finding) -> Items:
    """Every member of every shard, read to its end."""
    for path in sorted(finding.root.glob("*.tar")):
        yield path.name, _tar(path)


def _tar(path: Path) -> str:
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                held = tar.extractfile(member)
                while held is not None and held.read(1 << 20):
                    pass
    except (tarfile.TarError, OSError, EOFError) as error:
        return f"is no whole tar file ({error})"
    return ""


def _plain(finding: Finding) -> Items:
    for path in finding.members:
        yield path.name, fault(path) or _played(path)


def _played(path: Path) -> str:
    """What stops a file from being played to its end."""
    try:
        with closing(AnySource(str(path))) as source:
            source.open()
            frames = sum(1 for _ in source.frames())
            stats = source.stats()
    except RetainError as error:
        return error.what
    if stats.get("decode_errors") or stats.get("corrupt"):
        return "some of its pictures are damaged"
    return "" if frames else "it holds no picture"


def _why(read: Callable[[], object]) -> str:
    """What keeps an item from being read. Nothing that a file can do ends the examination."""
    try:
        read()
    except RetainError as error:
        return error.what
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
