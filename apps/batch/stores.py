"""Items that are no plain files: samples of tar shards, objects in stores, addresses."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from retain.apps.batch.items import ABSENT, VIDEO_SUFFIXES, Item, look
from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.redact import redact
from retain.pipeline.sources.blocks import Window
from retain.pipeline.sources.remote import fault, stamp_of, stamp_of_info, store_of, within
from retain.pipeline.sources.shards import FOLDER, HEADERS, MOST, Member, members
from retain.pipeline.sources.stored import STORES, member_place, open_blob, suffix

CLIPS = VIDEO_SUFFIXES - {".retain"}
"""What of a shard or a store is an item, by its ending."""
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_NAMES = 1_000_000
_TRANSIENT = (SourceFault.TIMEOUT, SourceFault.STALLED, SourceFault.REFUSED)
_TIMEOUT_S, _LISTING_S = 10.0, 600.0
_FILLED_IN = r"\$\{[^{}]*\}"
_LOGIN = re.compile(rf"://(?:[^/@:?#${{}}]+|{_FILLED_IN}):{_FILLED_IN}@|://{_FILLED_IN}@")
"""A login whose secret is filled in later."""


def braces(pattern: str) -> list[str]:
    """What ``clips-{000..127}.tar`` or ``{a,b}.tar`` stands for, in order; ``${NAME}`` is none.

    >>> braces("c-{08..10}.tar")
    ['c-08.tar', 'c-09.tar', 'c-10.tar']
    """
    parts: list[list[str]] = []
    last = 0
    for found in _BRACES.finditer(pattern):
        if pattern[found.start() - 1 : found.start()] == "$" or not (one := _choices(found[1])):
            continue
        parts += [[pattern[last : found.start()]], one]
        last = found.end()
    parts.append([pattern[last:]])
    count = 1
    for part in parts:
        count *= len(part)
    if count > _MOST_NAMES:
        raise UsageError(f"{pattern!r} stands for {count:,} names.", hint="Give a list instead.")
    return ["".join(words) for words in itertools.product(*parts)]


def _choices(inside: str) -> list[str]:
    if ends := _RANGE.fullmatch(inside):
        first, last = ends.groups()
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        step = 1 if int(first) <= int(last) else -1
        if abs(int(last) - int(first)) >= _MOST_NAMES:
            raise UsageError(f"'{{{inside}}}' stands for too many names.")
        return [f"{n:0{width}}" for n in range(int(first), int(last) + step, step)]
    return inside.split(",") if "," in inside else []


def is_shard(name: str) -> bool:
    return suffix(name.partition("?")[0] if "://" in name else name) == ".tar"


def is_store(name: str) -> bool:
    scheme, found, _ = name.partition("://")
    return bool(found) and scheme.lower() in STORES


def check_public(address: str) -> None:
    """Raises UsageError for an address that tells a secret: the manifest would keep it."""
    bare = re.sub(_FILLED_IN, "", _LOGIN.sub("://", address))
    if redact(bare) != bare:
        raise UsageError(
            f"{redact(address)!r} has credentials in it, and a batch writes addresses down.",
            hint="Put ${NAME} in their place for a variable of the environment, or ${file:/path}.",
        )


def of_shard(key: str, path: str) -> Iterator[Item]:
    """The clips of a shard, in its order. What is wrong with the shard as a whole is one more item,
    which fails and says what. Raises SourceError when the shard's server does not answer: then
    nothing is known, and results that are there must not be taken for those of another shard."""
    found: list[tuple[int, Member]] = []
    stamp, whole = 0, True
    try:
        shard = open_blob(path, _TIMEOUT_S, spool=False)
        try:
            stamp = shard.stamp
            window = Window(shard, 0, shard.size, HEADERS, 4, MOST)
            found.extend(_samples(members(window)))
        finally:
            shard.close()
    except SourceError as error:
        if error.fault in _TRANSIENT and "://" in path:
            raise
        whole = False
    clips = [(at, one) for at, one in found if suffix(one.name) in CLIPS and one.trouble != FOLDER]
    times = Counter(member.name for _, member in clips)
    for at, member in clips:
        name = member.name
        if times[name] > 1:  # the error of opening it says so
            yield Item(f"{key}::{name}", f"{path}::{name}", ABSENT, stamp)
        elif "://" in path:
            mark = stamp_of(stamp, member.size, member.start)
            yield Item(f"{key}::{name}", f"{path}::@{at}::{name}", ABSENT, mark)
        else:
            yield Item(f"{key}::{name}", f"{path}::@{at}::{name}", member.size, stamp)
    if not whole:
        yield Item(key, path, *look(path))


def _samples(found: Iterable[Member]) -> Iterator[tuple[int, Member]]:
    """Each member with the place where its sample begins."""
    sample, at = None, 0
    for member in found:
        if member.sample != sample:
            sample, at = member.sample, member.at
        yield at, member


def of_store(key: str) -> Iterator[Item]:
    """The object ``key`` of a store; the clips that match it, where it has ``*``, ``?`` or ``[``;
    those below it, where it ends in ``/``. Raises SourceError when the store does not answer,
    UsageError when it cannot be read here."""
    many = key.endswith("/") or any(sign in key for sign in "*?[")
    infos = {}
    try:
        infos = within(_LISTING_S if many else _TIMEOUT_S, lambda: _infos(key, many))
    except (SourceError, UsageError):
        raise
    except Exception as error:
        told = fault(error, redact(key), _TIMEOUT_S)
        if many or told.fault in _TRANSIENT:
            raise told from None
    if not many:
        yield Item(key, key, ABSENT, stamp_of_info(infos[key]) if infos else 0)
    for name, info in sorted(infos.items()) if many else ():
        if info.get("type") != "file":
            continue
        if is_shard(name):
            yield from of_shard(name, name)
        elif suffix(name) in CLIPS:
            yield Item(name, name, ABSENT, stamp_of_info(info))


def _infos(key: str, many: bool) -> dict[str, dict[str, object]]:
    from retain.pipeline.sources.credentials import Secrets

    store, path = store_of(Secrets().expand(key))
    if not many:
        return {key: store.info(path)}
    inside, named = path.strip("/"), key.rstrip("/")
    if not inside or not named.endswith(inside):
        raise UsageError(f"{redact(key)!r} cannot be listed.", hint="Give a list of addresses.")
    before = named.removesuffix(inside)
    found = store.find(path, detail=True) if key.endswith("/") else store.glob(path, detail=True)
    return {before + name.lstrip("/"): info for name, info in found.items()}


def look_in(path: str) -> tuple[int, int]:
    """(size, mtime_ns of its shard) of a member of a shard here; size 0 when the shard has no such
    member there, (ABSENT, 0) when the shard is gone."""
    place = member_place(path)
    assert place is not None
    size = 0
    try:
        shard = open_blob(place.shard)
    except SourceError:
        return ABSENT, 0
    try:
        at = place.at or 0
        window = Window(shard, at, max(0, shard.size - at), HEADERS, 4, MOST)
        size = next((m.size for m in members(window) if m.name == place.name), 0)
    except SourceError:
        pass  # what opening it says matters, not this
    finally:
        shard.close()
    return size, shard.stamp
