"""`retain snapshot`: the state of a running command, from its live page, into a folder."""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

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


def packed(run: HasStats) -> bytes:
    """The state of ``run`` at this moment as a zip file. Raises StateError."""
    with tempfile.TemporaryDirectory(prefix="retain-snapshot-") as spare:
        folder = Path(spare) / "state"
        run.snapshot(folder)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, path.name)
        return out.getvalue()


def snapshot(page: str, folder: Path, token_file: Path | None = None) -> None:
    """Ask the page at ``page`` (address or port) for a state and unpack it to a new ``folder``."""
    if folder.exists():
        raise UsageError(f"{str(folder)!r} exists already.", hint="Name a new folder.")
    url = f"http://127.0.0.1:{page}/" if page.isdigit() else page
    unpack(_ask(url, bearer(token_file)), folder)


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


def _ask(url: str, token: dict[str, str]) -> bytes:
    if not url.startswith(("http://127.", "http://localhost", "http://[::1]")):
        raise UsageError(f"{redact(url)!r} is not a live page's address on this machine.")
    request = Request(f"{url.rstrip('/')}/api/snapshot", b"", {HEADER: "1", **token}, method="POST")
    try:
        # Without the proxies of the environment: it is this machine that is asked.
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_S) as answer:
            data: bytes = answer.read(MAX_BYTES)
            return data
    except HTTPError as error:
        raise RetainError(error.read(1000).decode("utf-8", "replace")) from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise RetainError(
            f"Nothing answers at {redact(url)} ({reason}).",
            hint="It is the address that a running watch or segment prints.",
        ) from None
