"""The encoder of a published DiT-Mem checkpoint (December 2025)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from retain.models.ditmem.released import Filter, ReleasedEncoder
from retain.pipeline.errors import UsageError

_ROOTS = ("high_pass_module", "low_pass_module", "self_attention")
# Blocks are in theirs twice, once by name and once in a row of them.
_ALIASES = {"cnn.0.": "conv_block1.", "cnn.1.": "conv_block2."}


def released(
    tensors: Mapping[str, Tensor],
    *,
    latent: tuple[int, int, int, int] = (16, 21, 60, 104),
    tokens: int = 100,
    mode: Literal["release", "paper"] = "paper",
) -> ReleasedEncoder:
    """The encoder in ``tensors``, a checkpoint as safetensors loads it; in float32, in eval mode.

    Names may have a prefix (theirs: ``pipe.dit_mem.``). ``latent``: channels, frames, height and
    width it was built for, of which the file tells the first only; ``tokens`` per clip and band.
    ``mode``: ``release`` adds the filters' noise, drawn anew, ``paper`` none, so that equal clips
    have equal tokens in every run.

    Warns (UserWarning) about buffers the file lacks: the published training exports parameters
    only. Raises UsageError for a file that is not such an encoder, or not of these sizes.
    """
    own = _named(tensors)
    first = own.get("high_pass_module.conv_block1.conv.weight")
    second = own.get("high_pass_module.conv_block2.conv.weight")
    last = own.get("high_pass_module.feature_proj.weight")
    if first is None or second is None or last is None:
        raise UsageError(
            "This is not a checkpoint of a DiT-Mem encoder: it has no weights of its "
            "high_pass_module."
        )
    wide = (first.shape[0], second.shape[0])
    made = ReleasedEncoder((first.shape[1], *latent[1:]), wide, last.shape[0], tokens, mode)
    for name, module in made.named_modules():
        if isinstance(module, Filter) and f"{name}.complex_weight" in own:
            module.complex_weight = own[f"{name}.complex_weight"].float()
    wanted = made.state_dict()
    buffers = {name for name, _ in made.named_buffers()}
    strange = sorted(own.keys() - wanted.keys())
    absent = sorted(wanted.keys() - own.keys() - buffers)
    if strange or absent:
        raise UsageError(
            f"This is not the DiT-Mem encoder that is known here: {len(absent)} weights are "
            f"missing and {len(strange)} are strange, the first is {(absent + strange)[0]!r}."
        )
    for name, value in own.items():
        if value.shape != wanted[name].shape:
            raise UsageError(
                f"{name!r} is {list(value.shape)} in the checkpoint, and an encoder for latents "
                f"of {list(latent)} has {list(wanted[name].shape)}.",
                hint="Give the latent= it was trained with.",
            )
    if not buffers <= own.keys():
        warnings.warn(
            "The checkpoint holds no filter tables or norm statistics. Tables are made anew and "
            "norms keep mean 0 and variance 1, as in the published inference; the tokens may "
            "differ from those of its training.",
            stacklevel=2,
        )
    made.load_state_dict(own, strict=False)
    return made.eval()


def _named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` by our names. Raises UsageError for weights of anything else."""
    own: dict[str, Tensor] = {}
    others = []
    for name, value in tensors.items():
        start = max(name.find(f"{root}.") for root in _ROOTS)
        if start < 0 or (start and name[start - 1] != "."):
            others.append(name)
            continue
        name = name[start:]
        for alias, proper in _ALIASES.items():
            name = name.replace(f".{alias}", f".{proper}")
        own[name] = value
    if own and others:
        raise UsageError(
            f"The checkpoint holds {len(others)} weights beside the encoder's, the first is "
            f"{others[0]!r}; they would be lost.",
            hint="Load those into the backbone yourself, and give this the others.",
        )
    return own
