"""CURVE keys in files. A pair is two files: ``NAME.key`` to give away, ``NAME.key_secret`` to keep.

The format is that of pyzmq's certificates, so either reads the other's.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.utils import z85

from retain.pipeline.errors import UsageError

PUBLIC, SECRET = ".key", ".key_secret"
MAX_FILE = 4096
MAX_PEERS = 10_000
"""Key files of one folder."""

_FIELD = r'^\s*{}-key\s*=\s*"([!-~]{{40}})"\s*$'
_PUBLIC_KEY = re.compile(_FIELD.format("public"), re.MULTILINE)
_SECRET_KEY = re.compile(_FIELD.format("secret"), re.MULTILINE)


class Pair(NamedTuple):
    """Z85 text of a key pair."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"Pair({self.public.decode()})"


def create(name: str, folder: Path) -> tuple[Path, Path]:
    """Make a new pair in ``folder``; returns (public file, secret file).

    Raises UsageError when either is there already: a key is never written over.
    """
    if not re.fullmatch(r"[\w][\w.\-]*", name):
        raise UsageError(
            f"{name!r} cannot name a key.", hint="Use letters, digits, '-', '_' and '.'."
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    public, secret = zmq.curve_keypair()
    body = f'metadata\n    name = "{name}"\ncurve\n    public-key = "{public.decode()}"\n'
    public_file, secret_file = folder / (name + PUBLIC), folder / (name + SECRET)
    if public_file.exists():
        raise _there(public_file)
    told = "# Secret: stays on this host; whoever has it can pose as it.\n"
    _write(secret_file, told + body + f'    secret-key = "{secret.decode()}"\n', 0o600)
    _write(public_file, "# Public: give it to the other host.\n" + body, 0o644)
    return public_file, secret_file


def _write(path: Path, text: str, mode: int) -> None:
    """A new file with exactly ``mode``, whatever the umask, from its first byte on."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode & 0o600)
    except FileExistsError:
        raise _there(path) from None
    except OSError as error:
        raise UsageError(f"The key {str(path)!r} cannot be written: {error.strerror}.") from None
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
        os.fchmod(fd, mode)


def _there(path: Path) -> UsageError:
    return UsageError(
        f"There is a key {str(path)!r} already; it is not written over.",
        hint="Choose another name, or remove the pair if nobody uses it.",
    )


def load_secret(path: str | Path) -> Pair:
    """The pair in a secret file. Raises UsageError when others may read it."""
    file = Path(path).expanduser()
    text, mode = _read(file)
    if mode & 0o077:
        raise UsageError(
            f"The secret key {str(file)!r} can be read by others (mode {mode:04o}).",
            hint=f"Run: chmod 600 {str(file)!r}. If it may have been read, make a new pair.",
        )
    public, secret = _PUBLIC_KEY.search(text), _SECRET_KEY.search(text)
    if not public or not secret:
        raise UsageError(
            f"{str(file)!r} is no secret key file.",
            hint=f"Give the file that ends in {SECRET}; `retain keys new NAME` makes one.",
        )
    pair = Pair(public[1].encode(), secret[1].encode())
    if _public_of(pair.secret) != pair.public:
        raise UsageError(f"The keys in {str(file)!r} do not belong together.")
    return pair


def load_public(path: str | Path) -> bytes:
    """The public key in a public file (Z85). Raises UsageError, also for a secret file: that one
    has no business on another host."""
    file = Path(path).expanduser()
    text, _ = _read(file)
    if _SECRET_KEY.search(text):
        raise UsageError(
            f"{str(file)!r} is a secret key, where a public one is wanted.",
            hint=f"Give the file that ends in {PUBLIC}. If the secret has left its host, make a "
            "new pair.",
        )
    public = _PUBLIC_KEY.search(text)
    if not public or _binary(public[1].encode()) is None:
        raise UsageError(
            f"{str(file)!r} is no public key file.", hint="`retain keys new NAME` makes one."
        )
    return public[1].encode()


def load_allowed(path: str | Path) -> frozenset[bytes]:
    """Public keys (32 bytes each) in a file, or in all ``*.key`` files of a folder."""
    folder = Path(path).expanduser()
    files = sorted(folder.glob("*" + PUBLIC)) if folder.is_dir() else [folder]
    if len(files) > MAX_PEERS:
        raise UsageError(f"{str(folder)!r} holds more than {MAX_PEERS:,} keys.")
    keys = (_binary(load_public(file)) for file in files)
    return frozenset(key for key in keys if key)


def _read(path: Path) -> tuple[str, int]:
    """(text, permission bits) of one and the same file."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(MAX_FILE).decode("ascii", "replace")
    except OSError as error:
        raise UsageError(
            f"The key {str(path)!r} cannot be read: {error.strerror}.",
            hint="`retain keys new NAME` makes a pair.",
        ) from None
    return text, stat.S_IMODE(status.st_mode)


def _binary(key: bytes) -> bytes | None:
    try:
        return bytes(z85.decode(key))
    except (KeyError, struct.error):
        return None


def _public_of(secret: bytes) -> bytes | None:
    try:
        return zmq.curve_public(secret)
    except (ValueError, zmq.ZMQError):
        return None
