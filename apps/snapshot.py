"""`retain snapshot`: the state of a running command, from its live page, into a folder."""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from retain.apps import console
from retain.apps.token import bearer
from retain.pipeline.errors import RetainError, StateError, UsageError
from retain.pipeline.redact import redact

if TYPE_CHECKING:
    from retain.apps.page.server import HasStats

HEADER = "X-Retain"
"""A page of another site cannot send it, so it cannot ask for states either."""
TIMEOUT_S = 120.0
MAX_BYTES = 8 << 30
_NAMES = re.compile(r"graph\.json|[0-9]{1,4}")


TOOK = "X-Retain-Took-Ms"
"""With the answer: how long the graph took to give its state."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A state that lies in a folder."""

    folder: str
    nbytes: int
    files: int
    """With a stage's state."""
    took_ms: float
    """From the question to the graph until its state was whole."""
    total_ms: float
    """Until it lay in the folder."""


def packed(run: HasStats) -> tuple[bytes, float]:
    """The state of ``run`` at this moment as a zip file, and the milliseconds until the graph had
    given it. Raises StateError."""
    with tempfile.TemporaryDirectory(prefix="retain-snapshot-") as spare:
        folder = Path(spare) / "state"
        began = perf_counter()
        run.snapshot(folder)
        took_ms = 1000 * (perf_counter() - began)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, path.name)
        return out.getvalue(), took_ms


def snapshot(page: str, folder: Path, token_file: Path | None = None) -> Taken:
    """Ask the page at ``page`` (address or port) for a state and unpack it to a new ``folder``."""
    if folder.exists():
        raise UsageError(f"{str(folder)!r} exists already.", hint="Name a new folder.")
    began = perf_counter()
    data, took_ms = _ask(local_page(page), bearer(token_file))
    unpack(data, folder)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    files = sum(name.isdecimal() for name in sizes)
    total_ms = 1000 * (perf_counter() - began)
    return Taken(str(folder), sum(sizes.values()), files, took_ms, round(total_ms, 1))


def tell(taken: Taken, as_json: bool) -> None:
    """On stdout."""
    if as_json:
        print(json.dumps(asdict(taken)))
        return
    console.output().print(
        f"  {taken.folder}: {taken.nbytes:,} bytes, states of {taken.files} stages, taken in "
        f"{taken.took_ms:.0f} ms ({taken.total_ms:.0f} ms until here)"
    )


def local_page(page: str) -> str:
    """The address, without a slash at its end, of a live page on this machine, from that or from
    its port. Raises UsageError: a question may carry a token, which goes nowhere else.

    >>> local_page("8000"), local_page("http://localhost:8000/#x")
    ('http://127.0.0.1:8000', 'http://localhost:8000')
    """
    try:
        parts = urlsplit(f"http://127.0.0.1:{page}" if page.isdecimal() else page)
        host, port = parts.hostname or "", parts.port
        here = host == "localhost" or ip_address(host).is_loopback
        good = here and parts.scheme == "http" and parts.username is None and port != 0
    except ValueError:
        good = False
    if not good:
        raise UsageError(
            f"{redact(page)!r} is not a live page's address on this machine.",
            hint="Name the port or the address that a running command prints.",
        )
    return f"http://{parts.netloc}"


def unpack(data: bytes, folder: Path) -> None:
    """Raises StateError unless ``data`` is what ``packed`` makes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if not all(_NAMES.fullmatch(entry.filename) for entry in entries):
                raise StateError("The answer holds other files than a snapshot does.")
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise StateError("The snapshot is too large.")
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".snapshot-") as spare:
                archive.extractall(f"{spare}/state")
                (Path(spare) / "state").rename(folder)
    except zipfile.BadZipFile:
        raise StateError("The answer is not a snapshot.") from None
    except OSError as error:
        raise RetainError(f"{str(folder)!r} cannot be written: {error.strerror}.") from error


def _ask(url: str, token: dict[str, str]) -> tuple[bytes, float]:
    request = Request(f"{url}/api/snapshot", b"", {HEADER: "1", **token}, method="POST")
    try:
        # Without the proxies of the environment: it is this machine that is asked.
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_S) as answer:
            data: bytes = answer.read(MAX_BYTES)
            return data, float(answer.headers.get(TOOK, "nan"))
    except HTTPError as error:
        raise RetainError(error.read(1000).decode("utf-8", "replace")) from None
    except (URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise RetainError(
            f"Nothing answers at {redact(url)} ({reason}).",
            hint="It is the address that a running watch or segment prints.",
        ) from None
