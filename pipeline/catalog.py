"""Names for things that live in one file each. Listing them imports nothing."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from retain.pipeline.errors import UsageError, nearest


class Catalog(Mapping[str, str]):
    """``name -> "module:Class"``; a class is imported when it is first asked for."""

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> str:
        try:
            return self._entries[name]
        except KeyError:
            raise UsageError(
                f"There is no {self.kind} called {name!r}.", hint=nearest(name, self._entries)
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def load(self, name: str) -> Any:
        return load_class(self[name])


def load_class(target: str) -> Any:
    """The object named by ``"package.module:Name"``."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


SOURCES = Catalog(
    "source",
    {
        "any": "retain.pipeline.sources.any:AnySource",
        "video": "retain.pipeline.sources.video:VideoSource",
        "images": "retain.pipeline.sources.images:ImageSource",
        "camera": "retain.pipeline.sources.camera:CameraSource",
        "dicom": "retain.pipeline.sources.dicom:DicomSource",
        "synthetic": "retain.pipeline.sources.synthetic:SyntheticSource",
        "stdin": "retain.pipeline.sources.stdin:StdinSource",
        "far": "retain.pipeline.far.receiver:FarSource",
        "recording": "retain.pipeline.recorder:ReplaySource",
    },
)

SINKS = Catalog(
    "sink",
    {
        "jsonl": "retain.pipeline.sinks:JsonLines",
        "count": "retain.pipeline.sinks:Count",
        "far": "retain.pipeline.far.sender:FarSink",
    },
)
