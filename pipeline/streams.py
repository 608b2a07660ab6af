"""The file that names the streams of `retain serve`: read strictly, edited without losing comments.

streams:
  door: {source: "rtsp://viewer:${DOOR}@10.0.0.7/1", fps: 2}
  yard: {source: "0"}
settings: {encoder: mobilenetv2, bytes: 8000000, evict_after_s: 600}
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from retain.pipeline.errors import GraphError, UsageError
from retain.pipeline.files import write_whole
from retain.pipeline.yaml_nodes import Marked

MAX_BYTES = 1_000_000
MAX_STREAMS = 256
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", re.ASCII)
"""Of a stream: it becomes part of file names and addresses."""


class StreamSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stream."""

    source: Annotated[str, Meta(min_length=1)]
    """As for `retain watch`; secrets as ``${NAME}`` or ``${file:/path}``."""
    fps: Annotated[float, Meta(ge=0, le=100_000)] = 2.0
    """Frames looked at per second; 0: all."""
    frozen_s: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    timeout: Annotated[float, Meta(ge=0.1, le=3600)] = 10.0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for all streams. Read once, when the command starts."""

    mode: Literal["robust", "paper"] = "robust"
    encoder: str = "mobilenetv2"
    device: str = "auto"
    bytes: Annotated[int, Meta(ge=0)] = 0
    """Budget of each stream's memory; 0: of the mode."""
    entries: Annotated[int, Meta(ge=0)] = 0
    tokens: Annotated[int, Meta(ge=0)] = 0
    evict_after_s: Annotated[float, Meta(ge=0)] = 600.0
    """A stream silent for so long leaves the memory for the disk; 0: never."""
    batch: Annotated[int, Meta(ge=1, le=64)] = 1
    """Frames of different streams that one call of the encoder may take."""
    journal_bytes: Annotated[int, Meta(ge=4096)] = 64 << 20
    """Size at which a results file gives way to a new one; one old one is kept."""


class Streams(msgspec.Struct, frozen=True):
    """The whole file."""

    streams: dict[str, StreamSpec]
    settings: Settings = Settings()


def check_name(name: str) -> str:
    """Raises UsageError."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"A stream cannot be called {name!r}.",
            hint="Use up to 40 letters, digits, '-' and '_'.",
        )
    return name


def load_streams(path: str | Path) -> Streams:
    """Read and check ``path``. Raises GraphError with line and column, UsageError when it cannot
    be read."""
    return parse_streams(read_text(Path(path)), Path(path).name)


def read_text(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"The streams' file {str(path)!r} cannot be read: {error.strerror}.",
                         hint="See docs/serve.md for an example.") from None  # fmt: skip
    if len(text) > MAX_BYTES:
        raise UsageError(f"The streams' file {str(path)!r} is larger than {MAX_BYTES:,} bytes.")
    return text


def parse_streams(text: bytes, name: str) -> Streams:
    return _Reader(name).read(text)


class _Reader(Marked):
    EMPTY_HINT = "Name streams: 'streams: {door: {source: \"rtsp://…\"}}'."

    def read(self, text: bytes) -> Streams:
        root = self._compose(text)
        top = self._mapping(root, "the file", ("streams", "settings"))
        if "streams" not in top:
            self._fail(root, "The file has no 'streams'.", self.EMPTY_HINT)
        found = (
            {} if self._value(top["streams"]) is None else self._mapping(top["streams"], "streams")
        )
        if len(found) > MAX_STREAMS:
            self._fail(top["streams"], f"There are {len(found)} streams; {MAX_STREAMS} at most.")
        streams = {name: self._stream(name, node) for name, node in found.items()}
        settings = Settings()
        if "settings" in top and self._value(top["settings"]) is not None:
            settings = self._struct(Settings, top["settings"], "settings")
        return Streams(streams, settings)

    def _stream(self, name: str, node: yaml.Node) -> StreamSpec:
        try:
            check_name(name)
        except UsageError as error:
            self._fail(node, error.what, error.hint)
        made: StreamSpec = self._struct(StreamSpec, node, f"stream {name!r}")
        return made

    def _struct(self, kind: Any, node: yaml.Node, what: str) -> Any:
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        parts = self._mapping(node, what, tuple(fields))
        values = {}
        for key, part in parts.items():
            value = self._value(part)
            try:
                values[key] = msgspec.convert(value, fields[key].type, strict=True)
            except msgspec.ValidationError as error:
                self._fail(part, f"{key!r} of {what}: {error}, got {value!r}.")
        for field in fields.values():
            if field.required and field.name not in values:
                self._fail(node, f"{what[0].upper()}{what[1:]} needs {field.name!r}.")
        return kind(**values)


def add_stream(path: Path, name: str, spec: StreamSpec) -> None:
    """Write a further stream into the file, atomically. Raises UsageError when it is there."""
    _edit(path, lambda text, now: _with(text, now, name, spec))


def remove_stream(path: Path, name: str) -> None:
    """Take a stream out of the file, atomically. Raises UsageError when it is not there."""
    _edit(path, lambda text, now: _without(text, now, name))


def _edit(path: Path, change: Any) -> None:
    path = path.resolve()
    text = read_text(path)
    now = parse_streams(text, path.name)
    changed, wanted = change(text.decode(), now)
    try:
        same = parse_streams(changed.encode(), path.name) == wanted
    except GraphError:
        same = False
    if not same:  # an unusual layout: what is said stays, how it is written does not
        plain = {
            "streams": {key: _told(spec) for key, spec in wanted.streams.items()},
            "settings": _told(wanted.settings),
        }
        changed = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    _replace(path, changed.encode())


def _told(spec: StreamSpec | Settings) -> dict[str, Any]:
    fields = msgspec.structs.fields(spec)
    values = msgspec.structs.asdict(spec)
    return {f.name: values[f.name] for f in fields if f.required or values[f.name] != f.default}


def _with(text: str, now: Streams, name: str, spec: StreamSpec) -> tuple[str, Streams]:
    if name in now.streams:
        raise UsageError(f"There is a stream {name!r} already.", hint="Choose another name.")
    wanted = Streams({**now.streams, name: spec}, now.settings)
    _, streams = _streams_node(text)
    lines = text.splitlines()
    if not isinstance(streams, yaml.MappingNode) or streams.flow_style or not streams.value:
        return "", wanted
    key, value = streams.value[-1]
    at = _last_line(lines, key, value) + 1
    # A value as JSON is one as YAML.
    told = ", ".join(f"{k}: {msgspec.json.encode(v).decode()}" for k, v in _told(spec).items())
    lines.insert(at, f"{' ' * key.start_mark.column}{name}: {{{told}}}")
    return "\n".join(lines) + "\n", wanted


def _without(text: str, now: Streams, name: str) -> tuple[str, Streams]:
    if name not in now.streams:
        raise UsageError(f"There is no stream {name!r} in the file.")
    wanted = Streams({k: v for k, v in now.streams.items() if k != name}, now.settings)
    _, streams = _streams_node(text)
    if streams.flow_style or len(streams.value) == 1:
        return "", wanted
    key, value = next(pair for pair in streams.value if str(pair[0].value) == name)
    lines = text.splitlines()
    del lines[key.start_mark.line : _last_line(lines, key, value) + 1]
    return "\n".join(lines) + "\n", wanted


def _streams_node(text: str) -> tuple[yaml.Node, Any]:
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    return next((key, value) for key, value in root.value if key.value == "streams")


def _last_line(lines: list[str], key: yaml.Node, value: yaml.Node) -> int:
    """Of an entry; comments after it belong to what follows."""
    last = min(value.end_mark.line, len(lines) - 1)
    if last > key.start_mark.line and not lines[last][: value.end_mark.column].strip():
        last -= 1  # a block ends where the next one begins
    while last > key.start_mark.line and not lines[last].partition("#")[0].strip():
        last -= 1
    return int(last)


def _replace(path: Path, data: bytes) -> None:
    """Whoever reads sees the old file or the new one; who may read it stays as it was."""
    try:
        write_whole(path, data, path.stat().st_mode & 0o777)
    except OSError as error:
        raise UsageError(f"The streams' file {str(path)!r} cannot be written: {error.strerror}.") \
            from None  # fmt: skip
