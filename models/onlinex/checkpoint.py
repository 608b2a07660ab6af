"""Weights that a user has: encoder and decoders of CroCo, DUSt3R, MASt3R and CUT3R checkpoints.

None come with the package, and their licences (CC BY-NC-SA for most) are the user's to keep. Heads
are not taken: theirs give points, ours Gaussians. What was taken and what was left is reported.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.network import OnlineX
from retain.pipeline.errors import StateError, UsageError

Kind = Literal["croco", "dust3r", "cut3r"]
_HEAD = 64
"""Width of a head in all of these families; a checkpoint does not tell."""
_HINT = (
    "What fits: CroCo v2, DUSt3R, MASt3R or CUT3R weights, as .safetensors, or as .pth that holds "
    "tensors only."
)
_BLOCK = re.compile(r"^(enc_blocks|dec_blocks|dec_blocks2|dec_blocks_state)\.(\d+)\.(.+)$")
_STATE = "register_tokens.weight"
_EMBED = "decoder_embed_state.weight", "decoder_embed_state.bias"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a checkpoint."""

    kind: Kind
    taken: tuple[str, ...]
    """Our parameters that hold the checkpoint's values now."""
    fresh: tuple[str, ...]
    """Our parameters that it knows nothing of."""
    unused: tuple[str, ...]
    """Its tensors that have no place here."""


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors or .pth file, by their names in the checkpoint.

    Raises UsageError where there is none, StateError for what is damaged or would run code.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {str(path)!r}.", hint=_HINT)
    try:
        values = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    except pickle.UnpicklingError as error:
        raise StateError(
            f"{str(path)!r} holds more than tensors: opening it could run code of whoever made it.",
            hint="Open it where it came from and save its `model` as .safetensors.",
        ) from error
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, AttributeError) as error:
        raise StateError(
            f"{str(path)!r} is damaged, or no checkpoint ({type(error).__name__}).", hint=_HINT
        ) from error
    return {name.removeprefix("module."): value for name, value in values.items()}


def config_of(values: Mapping[str, Tensor], **changes: Any) -> OnlineXConfig:
    """A configuration whose encoder and decoders are those of a checkpoint (``read``); pictures of
    256 pixels. ``changes`` as of OnlineXConfig. Raises StateError for what is none of these."""
    kind = kind_of(values)
    try:
        patch = values["patch_embed.proj.weight"]
        narrow, wide = values["decoder_embed.weight"].shape
        mlp = values["enc_blocks.0.mlp.fc1.weight"].shape[0] // wide
        depth = _depth(values, "dec_blocks")
        sizes: dict[str, Any] = {
            "side": 256, "patch": patch.shape[-1], "dim": wide, "heads": max(1, wide // _HEAD),
            "encoder_depth": _depth(values, "enc_blocks"), "decoder_dim": narrow,
            "decoder_heads": max(1, narrow // _HEAD), "decoder_depth": depth, "mlp": mlp,
        }  # fmt: skip
        if kind == "cut3r":
            sizes |= {"director": "single", "director_depth": depth,
                      "anchors": len(values["register_tokens.weight"])}  # fmt: skip
    except (KeyError, ValueError, IndexError) as error:
        raise StateError(f"The {kind} checkpoint is not whole: {error}.", hint=_HINT) from error
    return OnlineXConfig(**{**sizes, **changes})


def kind_of(values: Mapping[str, Tensor]) -> Kind:
    """Which family has tensors of these names. Raises StateError for none."""
    names = {match[1] for name in values if (match := _BLOCK.match(name))}
    if not {"enc_blocks", "dec_blocks"} <= names:
        shown = ", ".join(sorted(values)[:3]) or "nothing"
        raise StateError(f"No encoder and decoder of a known family: it holds {shown}.", hint=_HINT)
    if "dec_blocks_state" in names:
        return "cut3r"
    return "dust3r" if "dec_blocks2" in names else "croco"


def load_into(model: OnlineX, values: Mapping[str, Tensor]) -> Loaded:
    """Copy what of ``values`` (``read``) has a place in ``model``.

    Both streams of the relative extractor get DUSt3R's; CroCo and CUT3R have one decoder of
    pictures, which both start from. CUT3R's decoder of its state and its state tokens go to a
    director that is ``single``, as its own. Intrinsics and stacked pictures, which these networks
    do not know, add nothing at first. Raises StateError, before anything is changed, where shapes
    differ or something is missing.
    """
    kind, own = kind_of(values), model.state_dict()
    pairs = {ours: theirs for ours in own if (theirs := _theirs(ours, kind, model.config))}
    found = {ours: _value(values, theirs) for ours, theirs in pairs.items() if theirs in values}
    wrong = [f"{theirs} is missing" for theirs in pairs.values() if theirs not in values]
    wrong += [
        f"{pairs[ours]} is {tuple(value.shape)}, not {tuple(own[ours].shape)}"
        for ours, value in found.items()
        if value.shape != own[ours].shape
    ]
    wrong += [
        f"it has {_depth(values, name)} {name}, not {depth}"
        for name, depth in (
            ("enc_blocks", model.config.encoder_depth), ("dec_blocks", model.config.decoder_depth)
        )
        if _depth(values, name) != depth
    ]  # fmt: skip
    if wrong:
        rest = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise StateError(
            f"The {kind} checkpoint does not fit the configuration: {'; '.join(wrong[:3])}{rest}.",
            hint="`config_of` makes a configuration that it fits.",
        )
    model.load_state_dict({**own, **found})
    with torch.no_grad():
        unknown = list(model.encoder.rays.parameters())
        if model.relative.stack is not None:
            unknown += model.relative.stack.out.parameters()
        for parameter in unknown:
            parameter.zero_()
    used = set(pairs.values()) | (set(_EMBED) if "director.start" in found else set())
    return Loaded(kind, tuple(found), tuple(k for k in own if k not in found),
                  tuple(k for k in values if k not in used))  # fmt: skip


def _theirs(ours: str, kind: Kind, config: OnlineXConfig) -> str | None:
    """What a checkpoint of ``kind`` calls the parameter ``ours``, if it has it."""
    second = "dec_blocks2" if kind == "dust3r" else "dec_blocks"
    names = {
        "encoder.patch.": "patch_embed.proj.", "encoder.blocks.": "enc_blocks.",
        "encoder.norm.": "enc_norm.", "relative.embed.": "decoder_embed.",
        "relative.decoder.first.": "dec_blocks.", "relative.decoder.second.": f"{second}.",
        "relative.decoder.norm_first.": "dec_norm.", "relative.decoder.norm_second.": "dec_norm.",
    }  # fmt: skip
    if kind == "cut3r":
        names["relative.token"] = "pose_token"
        if config.director == "single":
            names |= {
                "director.decoder.first.": "dec_blocks.",
                "director.decoder.second.": "dec_blocks_state.",
                "director.decoder.norm_first.": "dec_norm.",
                "director.decoder.norm_second.": "dec_norm_state.",
                "director.start": _STATE,
            }
    for name, theirs in names.items():
        if ours.startswith(name):
            return theirs + ours.removeprefix(name)
    return None


def _value(values: Mapping[str, Tensor], name: str) -> Tensor:
    """A tensor; state tokens as the decoder gets them, through their embedding."""
    if name != _STATE or not set(_EMBED) <= set(values):
        return values[name]
    weight, bias = (values[key].float() for key in _EMBED)
    return values[name].float() @ weight.mT + bias


def _depth(values: Mapping[str, Tensor], name: str) -> int:
    found = {int(m[2]) for key in values if (m := _BLOCK.match(key)) and m[1] == name}
    return len(found)


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _pickled(path: Path) -> dict[str, Tensor]:
    """Published .pth files hold their command line too, as an argparse.Namespace, which is data."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    saved = saved.get("model", saved) if isinstance(saved, dict) else {}
    values = {str(k): v for k, v in saved.items() if isinstance(v, Tensor)}
    if not values:
        raise ValueError("it holds no tensors by name")
    return values
