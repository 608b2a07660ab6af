"""Whole files or none, and what to say of a path that leads nowhere."""

from __future__ import annotations

import difflib
import glob
import os
import tempfile
from pathlib import Path


def write_whole(path: str | Path, data: bytes | bytearray | memoryview, mode: int = 0o644) -> None:
    """Atomically: whoever reads ``path`` sees the old file or the whole new one. Folders are made.
    ``mode``: who may read and write it.

    Raises OSError; the old file is then untouched and nothing is left beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, mode)  # mkstemp's are the owner's alone
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # or the name may be lost with the power
        finally:
            os.close(directory)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # a write that finds no room names no file
        raise


def similar(path: Path) -> str:
    """What there is in place of ``path``, which does not exist: the nearest name in its folder, the
    folder under another one (``docs/a/b`` for ``a/b``), or that the folder is missing too."""
    if path.is_symlink():
        return f"It is a link to {os.readlink(path)!r}, which is not there."
    folder = path.parent
    if not folder.is_dir():
        below = [] if path.is_absolute() else sorted(Path().glob(f"*/{glob.escape(str(path))}"))
        if below:
            return f"Did you mean {str(below[0])!r}?"
        return f"The folder {str(folder)!r} does not exist either."
    try:
        names = os.listdir(folder)
    except OSError:
        return ""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(path.name.lower(), by_lower, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {str(folder / by_lower[close[0]])!r}?"
    if not names:
        return f"The folder {str(folder)!r} is empty."
    shown = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
    return f"The folder {str(folder)!r} holds: {shown}"
