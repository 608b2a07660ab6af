"""`retain train mamba`: any videos in, a memory for a detector out; goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retain.apps import console
from retain.apps.training import into, launched

if TYPE_CHECKING:
    from retain.models.mamba.train import Kind, Recipe, Told


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `retain train mamba` was asked. ``None``: the recipe's own."""

    out: Path
    host: str = "small"
    videos: tuple[str, ...] = ()
    """None: procedural clips."""
    episodes: int | None = None
    rounds: int | None = None
    controls: bool = False
    """Also the control without a memory and the paper's read-out, to compare with."""
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    """Of torch; 0: all cores. Runs are the same bits for the same number only."""
    cache: Path | None = None

    def recipes(self) -> dict[Kind, Recipe]:
        from retain.models.mamba.train import KINDS, Recipe

        given: dict[str, Any] = {} if self.rounds is None else {"rounds": self.rounds}
        kinds = KINDS if self.controls else KINDS[:1]
        return {kind: replace(Recipe(kind=kind, seed=self.seed), **given) for kind in kinds}


def train(options: TrainOptions) -> int:
    """Train to the end; the exit code. Raises Stopped after Ctrl-C; the same command goes on."""
    with launched(options.device, options.threads) as (device, _):
        return _train(options, device)


def _train(options: TrainOptions, device: str) -> int:
    import platformdirs

    from retain.models.mamba.distil import Material
    from retain.models.mamba.hosts.open import open_host
    from retain.models.mamba.train import run

    host = open_host(options.host, device)
    material = Material(options.videos)
    if options.episodes is not None:
        material = replace(material, episodes=options.episodes)
    cache = options.cache or Path(platformdirs.user_cache_dir("retain")) / "episodes"
    say = console.messages().print
    what = f"{len(options.videos)} videos" if options.videos else "procedural clips"
    say(f"training a memory for {options.host} on {what} into {options.out}")
    with into(options.out) as bar:

        def tell(t: Told) -> None:
            text = f"{t.kind}, loss {t.loss:.2f}, held out {t.held_out:.2f}"
            bar.show(text, t.round, t.rounds)

        path = run(
            options.recipes(),
            host,
            material,
            options.out,
            cache,
            drawn=lambda done, of: bar.show("describing episodes", done, of),
            tell=tell,
        )
    console.output().print(str(path))
    return 0
