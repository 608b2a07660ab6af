"""Read-outs on disk: one safetensors file for a host, bound to its weights by digest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from retain.models import tensors
from retain.pipeline.errors import StateError, UsageError

if TYPE_CHECKING:
    from retain.models.mamba.host import Host
    from retain.models.mamba.reading import Readout

SCHEMA = "retain-mamba/1"
_HINT = "`retain train mamba` writes such files."
SHIPPED = {
    name: Path(__file__).parent / "shipped" / f"readout-{name}.safetensors"
    for name in ("yolox-nano", "small")
}
"""Weights that come with the package, by name; see MODEL_CARD.md beside them."""


def write(path: Path, values: Mapping[str, Tensor], head: Mapping[str, Any]) -> None:
    tensors.write(path, values, head, SCHEMA)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header. Raises UsageError where there is no file, StateError for another one."""
    return tensors.read(path, SCHEMA, _HINT)


def save(path: Path, readouts: Mapping[str, Readout], host: Host, head: Mapping[str, Any]) -> None:
    """``readouts`` by kind (train.KINDS). ``head``: what is worth knowing of how they were made."""
    values = {f"{kind}/{k}": v for kind, r in readouts.items() for k, v in r.state_dict().items()}
    configs = {kind: r.config.as_json() for kind, r in readouts.items()}
    write(path, values, {**head, "host": host.digest, "configs": configs})


def load_readout(source: str | Path, host: Host, kind: str = "gated") -> Readout:
    """A read-out ready to use, from a file or by the name of shipped weights.

    kind  ``gated``, ``paper`` or ``control``, as far as the file holds them

    Raises StateError for a file that is damaged or for another host, UsageError for a name nobody
    knows or a kind the file does not hold.
    """
    path = locate(source)
    values, head = read(path)
    if head.get("host") != host.digest:
        raise StateError(
            f"{str(path)!r} was trained for another detector: its rows mean nothing to this one.",
            hint="Train one with `retain train mamba OUT --host …`.",
        )
    configs = head.get("configs", {})
    if kind not in configs:
        raise UsageError(
            f"{path.name!r} holds no read-out {kind!r}, but {', '.join(sorted(configs))}.",
            hint="`retain train mamba OUT --host … --controls` trains all of them into one file.",
        )
    try:
        readout = _built(dict(configs[kind]))
        own = {k.removeprefix(f"{kind}/"): v for k, v in values.items() if k.startswith(f"{kind}/")}
        readout.load_state_dict(own)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise StateError(f"{str(path)!r} does not fit its own description.") from error
    return readout.eval().requires_grad_(False)


def _built(config: dict[str, Any]) -> Readout:
    from retain.models.mamba.gated import Gated, GatedConfig
    from retain.models.mamba.paper import Paper, PaperConfig

    kind = config.pop("kind")
    return Paper(PaperConfig(**config)) if kind == "paper" else Gated(GatedConfig(**config))


def kinds(source: str | Path) -> list[str]:
    """Which read-outs a file holds."""
    return sorted(read(locate(source))[1].get("configs", {}))


def shipped_for(host: Host) -> str | None:
    """The name of the shipped weights that fit ``host``, if any do."""
    for name, path in SHIPPED.items():
        if path.is_file() and read(path)[1].get("host") == host.digest:
            return name
    return None


def locate(source: str | Path) -> Path:
    """The file that ``source`` names. Raises UsageError for a name nobody knows."""
    return tensors.locate(source, SHIPPED)
