"""Faster R-CNN with places to read memory: the base's own boxes until something is learned."""

from __future__ import annotations

import pytest
import torch
from rcnn_parts import NAMES, clip, tiny_base, tiny_model
from torch import Tensor

from retain.kernels.bank_read import reference
from retain.kernels.bank_read.reference import Form
from retain.models.mamba.rcnn.network import PIXEL, GeoLayer, MambaRCNN, as_tensor
from retain.pipeline.errors import UsageError


class Keep:
    """Reads random rows by the model's layers, and keeps what came by."""

    def __init__(self, model: MambaRCNN) -> None:
        self.model, self.came = model, list[tuple[str, int, int]]()
        self.rows = dict[str, Tensor]()

    def __call__(self, place: str, query: Tensor, level: int = 0) -> Tensor:
        self.came.append((place, level, len(query)))
        rows = torch.randn(20, query.shape[1], generator=torch.Generator().manual_seed(1))
        self.rows[place] = out = self.model.layer(place)(query, rows)
        return out


@pytest.mark.parametrize("form", ["paper", "released_2022"])
@pytest.mark.parametrize("head", ["two", "conv"])
def test_an_untrained_model_returns_the_boxes_of_its_base(head: str, form: Form) -> None:
    base = tiny_base(head)
    model = MambaRCNN(base, NAMES, form=form, heads=8)
    for k in (0, 5):
        image = clip()[k].image
        with torch.no_grad():
            wanted = base([as_tensor(image, torch.device("cpu"))])[0]
        got = model.detect(image, Keep(model))
        assert len(wanted["boxes"]) > 5
        assert torch.equal(got.in_picture(got.boxes), wanted["boxes"])
        assert torch.equal(got.scores, wanted["scores"])
        assert torch.equal(got.labels + 1, wanted["labels"])


def test_a_trained_one_does_not() -> None:
    model, image = tiny_model(), clip()[0].image
    one, two = model.detect(image), model.detect(image, Keep(model))
    assert not torch.equal(one.likely[:10], two.likely[:10])


def test_reads_come_from_coarse_maps_and_after_each_linear() -> None:
    for head, instance in (("two", ["fc6", "fc7"]), ("conv", ["fc2"])):
        model = tiny_model(head)
        read = Keep(model)
        seen = model.detect(clip()[0].image, read)
        sizes = [seen.maps[name][0, 0].numel() for name in ("0", "1")]
        n = len(seen.proposals)
        assert read.came == [
            (PIXEL, 0, sizes[0]),
            (PIXEL, 1, sizes[1]),
            *((place, 0, n) for place in instance),
        ]
        assert list(model.instance_places) == instance


@pytest.mark.parametrize("head", ["two", "conv"])
def test_rows_are_those_before_the_relu(head: str) -> None:
    model = tiny_model(head)
    read = Keep(model)
    model.detect(clip()[0].image, read)
    assert all(bool((read.rows[place] < 0).any()) for place in model.instance_places)


def test_the_subsampled_map_follows_the_enhanced_one() -> None:
    model = tiny_model()
    maps = model.detect(clip()[0].image, Keep(model)).maps
    assert list(maps) == ["0", "1", "pool"]
    assert torch.equal(maps["pool"], maps["1"][..., ::2, ::2])


def test_a_state_of_the_base_lacks_the_new_layers_only() -> None:
    base, other = tiny_base(seed=1), tiny_model(seed=2)
    result = other.load_state_dict(base.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys
    assert all(key.startswith("geo.") for key in result.missing_keys)
    assert {k for k in other.state_dict() if not k.startswith("geo.")} == set(base.state_dict())


@pytest.mark.parametrize("form", ["paper", "released_2022"])
def test_a_layer_is_the_definition(form: Form) -> None:
    torch.manual_seed(0)
    layer = GeoLayer(32, 4, form).double()
    with torch.no_grad():
        layer.last.weight.normal_()
        layer.last.bias.normal_()
    query, rows = torch.randn(7, 32).double(), torch.randn(11, 32).double()
    with torch.no_grad():
        got = layer(query, rows)
        wanted = reference.enhance(query, rows, layer.weights, 4, form)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(got, query)


@pytest.mark.parametrize("form", ["paper", "released_2022"])
def test_at_first_only_the_last_linear_has_a_gradient(form: Form) -> None:
    layer = GeoLayer(32, 4, form)
    layer(torch.randn(5, 32), torch.randn(9, 32)).square().sum().backward()
    moved = {name.split(".")[0] for name, p in layer.named_parameters() if (p.grad != 0).any()}
    assert moved == {"out" if form == "paper" else "value"}


def test_names_heads_and_levels_must_fit() -> None:
    with pytest.raises(UsageError, match="knows 8 classes and the background, the list has 9"):
        MambaRCNN(tiny_base(), ("background", *NAMES), heads=8)
    with pytest.raises(UsageError, match="5 heads do not divide 32 channels"):
        MambaRCNN(tiny_base(), NAMES, heads=5)
    model = MambaRCNN(tiny_base(), NAMES, ("0", "7"), heads=8)
    with pytest.raises(UsageError, match="no '7'"):
        model.detect(clip()[0].image)


def test_it_stays_in_evaluation_mode() -> None:
    model = tiny_model("conv").train()
    assert not any(part.training for part in model.modules())
