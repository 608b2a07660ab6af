"""Clips written in the layouts of known data sets: to test readers, and programs that expect them.

What a layout cannot hold is refused, not bent.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect import mot, vid
from retain.datasets.detect.base import (
    CROWD,
    GENERATED,
    IGNORE,
    OCCLUDED,
    Clip,
    Found,
    Sample,
    truths,
)
from retain.pipeline.errors import UsageError, nearest
from retain.pipeline.files import write_whole


def write_clips(clips: Sequence[Clip], root: str | Path, layout: str) -> None:
    """Writes all frames and boxes of ``clips`` below ``root``.

    layout  ``coco-vid``: lossless; ``annotations.json`` and ``images/``
            ``imagenet-vid``: JPEG, whole pixels, split ``val``; ImageNet VID's classes only
            ``davis``: JPEG, silhouettes instead of boxes; needs masks
            ``mot``: lossless pictures, boxes to a thousandth; its classes only

    Raises UsageError for another layout and for clips that one cannot hold.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"Clips are not written as {layout!r}.", hint=nearest(layout, LAYOUTS))
    if not clips or len({clip.name for clip in clips}) < len(clips):
        raise UsageError("There must be clips to write, each with a name of its own.")
    if any("/" in clip.name or clip.name.startswith(".") for clip in clips):
        raise UsageError("A clip is written to a folder of its name, which cannot have a '/'.")
    LAYOUTS[layout](clips, Path(root))


def _coco(clips: Sequence[Clip], root: Path) -> None:
    for clip in clips:
        for k in range(len(clip)):
            save(root / "images" / clip.name / f"{k:06d}.png", clip[k].image)
    write_whole(root / "annotations.json", json.dumps(coco_json(clips, "images/")).encode())


def coco_json(clips: Sequence[Clip], prefix: str = "") -> dict[str, Any]:
    """COCO-VID's JSON of clips whose frames lie in ``<prefix><clip>/000000.png``. All ids count
    from 1, pictures in the order of clips and frames. Raises UsageError when classes differ."""
    names = clips[0].names
    if any(clip.names != names for clip in clips):
        raise UsageError("Clips in one file need the same classes.")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    first = 1
    for video, clip in enumerate(clips, 1):
        known = truths(clip)
        for frame, truth in enumerate(known):
            name = f"{prefix}{clip.name}/{frame:06d}.png"
            place = {"id": len(images) + 1, "video_id": video, "frame_id": frame}
            size = {"width": truth.size[0], "height": truth.size[1]}
            images.append({**place, "file_name": name, **size})
            for box, label, track, flags in zip(
                truth.boxes.astype(float), truth.labels, truth.tracks, truth.flags, strict=True
            ):
                x, y, w, h = map(float, np.concatenate([box[:2], box[2:] - box[:2]]))
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "video_id": video,
                    "category_id": int(label) + 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    **{key: int(flags & bit > 0) for key, bit in _COCO_FLAGS.items()},
                }
                if track >= 0:
                    annotation["instance_id"] = first + int(track)
                annotations.append(annotation)
        first += 1 + max((int(truth.tracks.max(initial=-1)) for truth in known), default=-1)
    return {
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, 1)],
        "videos": [{"id": k, "name": c.name, "fps": c.rate} for k, c in enumerate(clips, 1)],
        "images": images,
        "annotations": annotations,
    }


_COCO_FLAGS = {"iscrowd": CROWD, "occluded": OCCLUDED, "generated": GENERATED, "ignore": IGNORE}


def coco_results(found: Sequence[Found]) -> list[dict[str, Any]]:
    """COCO's list of results for the pictures of ``coco_json``, in their order."""
    return [
        {
            "image_id": image,
            "category_id": int(label) + 1,
            "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])],
            "score": float(score),
        }
        for image, one in enumerate(found, 1)
        for box, score, label in zip(one.boxes.astype(float), one.scores, one.labels, strict=True)
    ]


def _vid(clips: Sequence[Clip], root: Path) -> None:
    lines = []
    for clip in clips:
        _known_classes(clip, tuple(vid.CLASSES), "ImageNet VID")
        lines.append(f"val/{clip.name} 1 0 {len(clip)}\n")
        for k in range(len(clip)):
            sample, place = clip[k], Path("VID") / "val" / clip.name / f"{k:06d}"
            save(root / "Data" / f"{place}.JPEG", sample.image)
            xml = _xml(sample, clip.names, clip.name, f"{k:06d}")
            write_whole(root / "Annotations" / f"{place}.xml", xml)
    write_whole(root / "ImageSets" / "VID_val_videos.txt", "".join(lines).encode())


def _xml(sample: Sample, names: Sequence[str], folder: str, name: str) -> bytes:
    top = ET.Element("annotation")
    ET.SubElement(top, "folder").text = folder
    ET.SubElement(top, "filename").text = name
    _children(ET.SubElement(top, "size"), ("width", "height"), sample.truth.size)
    truth = sample.truth
    for box, label, track, flags in zip(
        truth.boxes, truth.labels, truth.tracks, truth.flags, strict=True
    ):
        one = ET.SubElement(top, "object")
        ET.SubElement(one, "trackid").text = str(track)
        ET.SubElement(one, "name").text = vid.CLASSES[names[label]]
        corners = [round(float(value)) for value in box]
        _children(ET.SubElement(one, "bndbox"), ("xmin", "ymin", "xmax", "ymax"), corners)
        bits = [int(flags & bit > 0) for bit in (OCCLUDED, GENERATED)]
        _children(one, ("occluded", "generated"), bits)
    return bytes(ET.tostring(top))


def _children(node: ET.Element, names: Sequence[str], values: Sequence[int]) -> None:
    for name, value in zip(names, values, strict=True):
        ET.SubElement(node, name).text = str(value)


def _davis(clips: Sequence[Clip], root: Path) -> None:
    for clip in clips:
        for k in range(len(clip)):
            sample = clip[k]
            if sample.mask is None:
                raise UsageError(f"{clip.name!r} has no silhouettes, which DAVIS is made of.")
            save(root / "JPEGImages" / "480p" / clip.name / f"{k:05d}.jpg", sample.image)
            save(root / "Annotations" / "480p" / clip.name / f"{k:05d}.png", sample.mask)


def _mot(clips: Sequence[Clip], root: Path) -> None:
    for clip in clips:
        _known_classes(clip, mot.CLASSES, "MOT")
        places = [mot.CLASSES.index(name) + 1 for name in clip.names]
        lines = []
        for k in range(len(clip)):
            sample = clip[k]
            truth = sample.truth
            save(root / clip.name / "img1" / f"{k + 1:06d}.png", sample.image)
            for row in range(len(truth)):
                x0, y0, x1, y1 = (float(value) for value in truth.boxes[row])
                numbers = (x0 + 1, y0 + 1, x1 - x0, y1 - y0)
                box = ",".join(f"{value:.3f}" for value in numbers)
                counts = int(truth.flags[row] & IGNORE == 0)
                seen = 0.25 if truth.flags[row] & OCCLUDED else 1.0
                place = places[truth.labels[row]]
                lines.append(f"{k + 1},{truth.tracks[row]},{box},{counts},{place},{seen}\n")
        write_whole(root / clip.name / "gt" / "gt.txt", "".join(lines).encode())
        width, height = clip.truth(0).size
        info = (
            f"[Sequence]\nname={clip.name}\nimDir=img1\nframeRate={clip.rate:g}\n"
            f"seqLength={len(clip)}\nimWidth={width}\nimHeight={height}\nimExt=.png\n"
        )
        write_whole(root / clip.name / "seqinfo.ini", info.encode())


def _known_classes(clip: Clip, known: Sequence[str], what: str) -> None:
    for name in clip.names:
        if name not in known:
            raise UsageError(f"{what} has no class {name!r}.", hint=nearest(name, known))


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    """RGB pictures by the ending of ``path``; a mask [H, W] as a PNG with a palette."""
    from PIL import Image as Pil

    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Pil.fromarray(pixels)
    if pixels.ndim == 2:
        picture.putpalette([(37 * k * (c + 1)) % 256 for k in range(256) for c in range(3)])
    if path.suffix == ".png":
        picture.save(path, compress_level=1)
    else:
        picture.save(path, format="JPEG", quality=95)


LAYOUTS: dict[str, Callable[[Sequence[Clip], Path], None]] = {
    "coco-vid": _coco,
    "davis": _davis,
    "imagenet-vid": _vid,
    "mot": _mot,
}
