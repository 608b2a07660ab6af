"""OpenCLIP: words and pictures in one space. Nothing is fetched unless ``download`` says so."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retain.models.encoders.base import Features, TorchEncoder, choose_device, need, unit
from retain.models.encoders.hub import absent, unreachable
from retain.pipeline.errors import UsageError, nearest

log = logging.getLogger(__name__)

DEFAULT, DEFAULT_HUB = "ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/"
FILES = (".safetensors", ".bin", ".pt", ".pth")
NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Of published weights whose file has no other name."""


class OpenClip(TorchEncoder):
    """OpenCLIP's two towers (arXiv 2212.07143): pictures and words in one space.

    ``variant``: ``MODEL/TAG`` names published weights, by default ``ViT-B-32/laion2b_s34b_b79k``;
    they are taken from the hub's cache. ``MODEL@FILE`` and ``MODEL/TAG@FILE`` take them from a file
    (.safetensors, or .bin, .pt, .pth by torch's restricted reader). MODEL may be the path of a
    configuration of a model, a JSON file as OpenCLIP's own are. A TAG before a FILE says how its
    pictures are normalised; without, they are as the model's published weights agree on, else as
    OpenAI's.
    """

    def __init__(self, variant: str = "", device: str = "auto", download: bool = False) -> None:
        need("open_clip", "clip", "The encoder 'openclip'")
        if not (variant or download or _cached({"hf_hub": DEFAULT_HUB})):
            raise absent("openclip", "OpenCLIP's cache")  # before seconds of importing it
        import open_clip

        called, file = _parts(variant or DEFAULT)
        model, tag = _model_and_tag(called, alone=file is None)
        config = open_clip.get_pretrained_cfg(model, tag) if tag else _shared_config(model)
        name = (
            f"openclip:{called}@{file}" if file else f"openclip:{called}" if variant else "openclip"
        )
        _check_text_tower(name, model, download)
        weights = file or _published(name, config, download)
        with _hub(download):
            network = _towers(name, model, weights, config)
        device = choose_device(device)
        network = network.to(device)
        side = network.visual.image_size
        super().__init__(
            name,
            network.encode_image,
            dim=open_clip.get_model_config(model)["embed_dim"],
            side=side[0] if isinstance(side, tuple) else side,
            mean=[255 * v for v in config.get("mean", open_clip.OPENAI_DATASET_MEAN)],
            std=[255 * v for v in config.get("std", open_clip.OPENAI_DATASET_STD)],
            device=device,
        )
        self._encode_text = network.encode_text
        self.visual = network.visual
        """The tower of pictures; models/language reads its patches."""
        self._model, self._download = model, download

    @cached_property
    def _words(self) -> Any:
        """The model's own tokenizer; made when words come, because pictures need none."""
        import open_clip

        text = open_clip.get_model_config(self._model)["text_cfg"]
        if not text.get("hf_tokenizer_name"):
            room = text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
            return open_clip.SimpleTokenizer(
                context_length=room, **text.get("tokenizer_kwargs", {})
            )
        try:
            with _hub(self._download):
                return open_clip.get_tokenizer(self._model)
        except (ImportError, OSError, ValueError) as error:
            raise UsageError(
                f"The encoder {self.name!r} cannot read words: its tokenizer "
                f"{text['hf_tokenizer_name']!r} is not here ({type(error).__name__}).",
                hint="It needs `pip install transformers sentencepiece` and, once, --download.",
            ) from error

    def encode_text(self, texts: Sequence[str]) -> Features:
        import torch

        if not texts:
            return np.zeros((0, self.dim), np.float32)
        for text in texts:
            if not self.fits(text):
                log.warning(
                    "The text %.40r… is longer than the %d tokens that %s reads; its end is lost.",
                    text,
                    self._words.context_length,
                    self.name,
                )
        with torch.inference_mode():
            tokens = self._words(list(texts)).to(self._device)
            return unit(self._encode_text(tokens).float().cpu().numpy())

    def known(self, text: str) -> float:
        found = re.findall(r"[^\W\d_]+", text)
        letters = sum(map(len, found))
        if not letters:
            return 1.0 if re.search(r"\d", text) else 0.0
        return sum(len(word) for word in found if self._knows(word)) / letters

    def _knows(self, word: str) -> bool:
        if inner := getattr(self._words, "tokenizer", None):  # a vocabulary of many languages
            return inner.unk_token_id not in inner(word, add_special_tokens=False).input_ids
        # Bytes alone, or letters one by one, carry no meaning that was learnt.
        pieces = len(self._words.encode(word))
        return pieces == 1 or pieces < 0.75 * len(word)

    def fits(self, text: str) -> bool:
        words = self._words
        inner = getattr(words, "tokenizer", None)
        length = len(inner(text).input_ids) if inner else len(words.encode(text)) + 2
        return length <= int(words.context_length)


@contextmanager
def _hub(download: bool) -> Iterator[None]:
    """Within it the hub is not asked over the network unless ``download``: what is not in a file of
    weights (configurations and vocabularies of some text towers) comes from its cache."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not download
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _check_text_tower(name: str, model: str, download: bool) -> None:
    """Some models read words with a network of another package. Raises UsageError without it."""
    import importlib.util

    import open_clip
    from huggingface_hub import try_to_load_from_cache

    tower = open_clip.get_model_config(model)["text_cfg"].get("hf_model_name")
    if not tower:
        return
    if importlib.util.find_spec("transformers") is None:
        raise UsageError(
            f"The encoder {name!r} needs the package 'transformers', which is not installed.",
            hint="Install it with: pip install transformers sentencepiece",
        )
    if not download and not isinstance(try_to_load_from_cache(tower, "config.json"), str):
        raise absent(name, f"the hub's cache (its text tower {tower!r})")


def _parts(variant: str) -> tuple[str, Path | None]:
    """MODEL or MODEL/TAG, and the file after the @, whole. Raises UsageError."""
    # A configuration's path may hold an @ itself.
    at = variant.find("@", variant.find(".json@") + 1)
    if at < 0:
        return variant, None
    file = Path(variant[at + 1 :]).expanduser().absolute()
    if not variant[at + 1 :] or not file.is_file():
        raise UsageError(
            f"There is no file of weights at {variant[at + 1 :]!r}.",
            hint="Write openclip:MODEL@FILE, for example openclip:ViT-B-32@/data/clip.safetensors.",
        )
    if file.suffix not in FILES:
        raise UsageError(
            f"The weights in {file.name} are of a kind that is not read.",
            hint=f"OpenCLIP's weights are {', '.join(FILES)}.",
        )
    called = variant[:at]
    return str(Path(called).expanduser().absolute()) if called.endswith(".json") else called, file


def _model_and_tag(called: str, *, alone: bool) -> tuple[str, str]:
    """What OpenCLIP calls the model and its weights; ``alone``: without a file, so that there must
    be a tag. Raises UsageError."""
    import open_clip

    if called.endswith(".json"):
        if alone:
            raise UsageError(
                f"The configuration {called!r} says nothing of the model's weights.",
                hint="Write openclip:CONFIGURATION.json@WEIGHTS.safetensors.",
            )
        return _add_configuration(Path(called)), ""
    model, _, tag = called.partition("/")
    if model not in open_clip.list_models():
        raise UsageError(
            f"OpenCLIP has no model {model!r}.", hint=nearest(model, open_clip.list_models())
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags and (alone or tag):
        hint = f"It has {', '.join(tags)}." if tags else f"Write openclip:{model}@FILE."
        raise UsageError(f"OpenCLIP has no weights {tag!r} for {model!r}.", hint=hint)
    return model, tag


def _add_configuration(path: Path) -> str:
    """Make OpenCLIP know the model that a file of JSON describes; returns its name there."""
    import json

    import open_clip

    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"The configuration {path.name!r} cannot be read ({type(error).__name__})."
        ) from error
    parts = isinstance(config, dict) and [config.get("vision_cfg"), config.get("text_cfg")]
    if not parts or not all(isinstance(p, dict) for p in parts) or "embed_dim" not in config:
        raise UsageError(
            f"{path.name!r} does not describe a model of OpenCLIP.",
            hint="It is JSON with embed_dim, vision_cfg and text_cfg.",
        )
    if open_clip.get_model_config(path.stem) not in (None, config):
        raise UsageError(
            f"OpenCLIP knows another model by the name {path.stem!r}.", hint=f"Rename {path.name}."
        )
    open_clip.add_model_config(path)
    return path.stem


def _shared_config(model: str) -> dict[str, Any]:
    """How the published weights of ``model`` have their pictures normalised, where all agree."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    all_of = [open_clip.get_pretrained_cfg(model, tag) for tag in tags]
    told = [{"mean": one["mean"], "std": one["std"]} for one in all_of]
    return told[0] if told and all(one == told[0] for one in told) else {}


def _published(name: str, config: dict[str, Any], download: bool) -> Path:
    """The file of published weights: of the cache, or fetched where that is allowed."""
    import open_clip

    if found := _cached(config):
        return found
    if not download:
        raise absent(name, "OpenCLIP's cache")
    try:
        return Path(open_clip.download_pretrained(config))
    except (OSError, RuntimeError) as error:
        raise unreachable(name, error) from error


def _cached(config: dict[str, Any]) -> Path | None:
    """Published weights in the hub's cache, safetensors first; never asks the network."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, named = str(config.get("hf_hub", "")).rpartition("/")
    if not repository:
        file = Path.home() / ".cache/clip" / str(config.get("url", "")).rpartition("/")[2]
        return file if file.is_file() else None
    stem = named.rpartition(".")[0]
    names = (f"{stem}.safetensors", named) if named else NAMES
    found = (try_to_load_from_cache(repository, name) for name in names)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _towers(name: str, model: str, file: Path, config: dict[str, Any]) -> Any:
    """The network with the weights of ``file``. Raises UsageError where they do not fit."""
    import pickle

    import open_clip
    from safetensors import SafetensorError

    try:
        return open_clip.create_model(
            model,
            pretrained=str(file),
            force_quick_gelu=bool(config.get("quick_gelu")),
        ).eval()
    except ImportError as error:
        raise UsageError(f"The encoder {name!r} needs another package: {error}.") from error
    except (SafetensorError, pickle.UnpicklingError, OSError, EOFError, StopIteration) as error:
        raise UsageError(
            f"The weights of {name!r} in {file.name} cannot be read ({type(error).__name__}).",
            hint="The file is damaged or of another kind: OpenCLIP's are a state dict.",
        ) from error
    except (
        RuntimeError, LookupError, AttributeError, TypeError, ValueError, AssertionError,
        ArithmeticError,
    ) as error:  # fmt: skip
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(":. ")
        raise UsageError(
            f"The weights in {file.name} do not fit the model {model!r} ({why}).",
            hint="Name the model they were trained for: openclip:MODEL@FILE.",
        ) from error
