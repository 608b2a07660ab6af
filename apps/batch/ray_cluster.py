"""A connection to Ray: to one of our own on this machine, or to that of an address.

Ray is imported here alone, and only when somebody asked for it.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import retain
from retain.pipeline.errors import MissingExtra, RetainError, UsageError

STORE_BYTES = 80 << 20
"""Ray's store of objects. Jobs and outcomes are small and never go there; it is its least."""
REACH_S = 5.0
"""What an address may take to answer."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_DEDUP_LOGS": "1",  # nor printed between our lines: why a worker died is in its Outcome
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
_BOUNDED = {"RAY_NUM_REDIS_GET_RETRIES": "1", "RAY_py_gcs_connect_timeout_s": "10"}
"""For an address: Ray would try to connect to one for a quarter of an hour."""
_OWN = {
    # Ray replaces 127.0.0.1 by the address others reach this machine by, unless it is told that
    # clusters are not to be had, which it tells itself on two systems.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Workers without a share of a GPU see what the command sees, as those of `local` do.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "token",
}


@contextmanager
def connected(address: str, workers: int) -> Iterator[Any]:
    """The module ``ray``, connected. Without an address a Ray of ``workers`` cores is started, on
    loopback and for nobody without its token, and stopped in the end; a connection that this
    process has already is used instead, and left.

    Raises UsageError where Ray is absent or the address does not answer, RetainError where it
    cannot be started.
    """
    more = _BOUNDED if address else {**_OWN, "RAY_AUTH_TOKEN": _token()} | _paths()
    with _environment(_QUIET | more):
        ray = _ray()
        if ray.is_initialized():
            if address:
                raise UsageError(f"This process is connected to a Ray; {address!r} is another.")
            yield ray
            return
        if address:
            _reach(address)
        with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
            try:
                if address:
                    _connect(ray, address)
                else:
                    _start(ray, workers, folder)
                yield ray
            finally:
                ray.shutdown()


@cache
def _token() -> str:
    """Ray reads the token once in a process."""
    return secrets.token_hex(32)


def room(ray: Any, need: int, gpus: float) -> int:
    """Workers that the nodes have room for: a core, ``gpus`` of one GPU and ``need`` bytes each."""
    count = 0
    for has in _nodes(ray):
        fit = int(min(has.get("CPU", 0), has.get("memory", 0) // need))
        on_one = int(1 / gpus + 1e-9) if gpus else 0
        count += min(fit, int(has.get("GPU", 0)) * on_one) if gpus else fit
    return count


def request(ray: Any, need: int, gpus: float) -> dict[str, Any]:
    """What Ray is asked for a worker. Never more memory than a node has: one always fits."""
    most = max(int(has.get("memory", 0)) for has in _nodes(ray))
    return {
        "num_cpus": 1,
        "num_gpus": gpus,
        "memory": min(need, most),
        "max_restarts": 0,
        "max_task_retries": 0,
    }


def _nodes(ray: Any) -> list[dict[str, float]]:
    """What each host has. Raises RetainError when there is none left."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not alive:
        raise RetainError("Ray has ended on its last host.", hint="The same command goes on.")
    return alive


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray", "--engine ray") from error
    return ray


def _start(ray: Any, workers: int, folder: str) -> None:
    try:
        with _handlers():
            ray.init(
                address="local",
                num_cpus=workers,
                object_store_memory=STORE_BYTES,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
                **_SILENT,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise RetainError(
            f"Ray could not be started on this machine: {error}",
            hint="Use --engine local; it needs nothing.",
        ) from error


def _reach(address: str) -> None:
    """Raises UsageError where nobody listens: Ray itself would try for minutes."""
    if "://" in address:
        raise UsageError(f"--address takes HOST:PORT or auto, not {address!r}.", hint=_HINT)
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(
            f"No Ray answers at {address!r} (--address): {_word(error)}.", hint=_HINT
        ) from error


def _word(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _connect(ray: Any, address: str) -> None:
    """Raises UsageError where there is no Ray that takes us."""
    try:
        with _handlers():
            ray.init(address=address, **_SILENT)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        said = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"The Ray at {address!r} cannot be used: {said.rstrip('.')}.", hint=_HINT
        ) from error


_HINT = (
    "The command runs on a host of the cluster, such as in a Ray job: docs/cluster.md. "
    "Without --address it starts a Ray of its own."
)
_SILENT = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}


def _paths() -> dict[str, str]:
    home = str(Path(retain.__file__).parents[1])
    return {"PYTHONPATH": os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))}


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _handlers() -> Iterator[None]:
    """Ray takes SIGTERM for itself; the batch wants it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
