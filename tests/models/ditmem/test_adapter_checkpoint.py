"""Published DiT-Mem checkpoints."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from retain.models.ditmem.adapters.checkpoint import released
from retain.models.ditmem.released import ReleasedEncoder
from retain.pipeline.errors import UsageError

LATENT = (3, 21, 16, 24)
SIZES = {"latent": LATENT, "tokens": 5}


def source() -> ReleasedEncoder:
    torch.manual_seed(0)
    return ReleasedEncoder(LATENT, (8, 12), 32, 5, "paper").eval()


def published(encoder: ReleasedEncoder, prefix: str = "pipe.dit_mem.") -> dict[str, Tensor]:
    """As the published training saves it: parameters only, in half precision."""
    return {prefix + n: p.detach().bfloat16() for n, p in encoder.named_parameters()}


@pytest.mark.parametrize("prefix", ["pipe.dit_mem.", "dit_mem.", ""])
def test_a_published_file_gives_its_encoder_and_a_warning(prefix: str) -> None:
    encoder, clips = source(), torch.randn(2, 2, *LATENT)
    file = published(encoder, prefix)
    encoder.load_state_dict({k: v.bfloat16() for k, v in encoder.state_dict().items()})
    with pytest.warns(UserWarning, match="no filter tables or norm statistics"):
        made = released(file, **SIZES)  # type: ignore[arg-type]
    assert not made.training
    assert next(made.parameters()).dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(made(clips), encoder(clips))


def test_a_whole_state_and_names_of_the_row_of_blocks() -> None:
    encoder, clips = source(), torch.randn(1, 2, *LATENT)
    with torch.no_grad():
        for name, buffer in encoder.named_buffers():
            if name.endswith(("mean", "var")):
                buffer.uniform_(0.5, 1.5)
        truth = encoder(clips)  # draws the tables
    rows = {"conv_block1.": "cnn.0.", "conv_block2.": "cnn.1."}
    file = {}
    for name, value in encoder.state_dict().items():
        for own, theirs in rows.items():
            name = name.replace(own, theirs)
        file[name] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = released(file, **SIZES)  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.equal(made(clips), truth)


def test_files_that_are_something_else() -> None:
    file = published(source())
    with pytest.raises(UsageError, match="not a checkpoint of a DiT-Mem encoder"):
        released({"blocks.0.weight": torch.zeros(2)})
    with pytest.raises(UsageError, match=r"1 weights beside .* 'pipe.dit.head.weight'"):
        released(file | {"pipe.dit.head.weight": torch.zeros(2)})
    with pytest.raises(UsageError, match="Give the latent= it was trained with"):
        released(file, latent=(3, 21, 32, 24))
    del file["pipe.dit_mem.self_attention.q.bias"]
    with pytest.raises(UsageError, match=r"1 weights are missing .* 'self_attention.q.bias'"):
        released(file, **SIZES)  # type: ignore[arg-type]
