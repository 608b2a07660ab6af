"""The weights that come with the package: on a real examination, on phantoms never trained on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pydicom.data
import pytest
import torch
from echo_beats import find_beats

from retain.models.gdkvm import evaluate, weights
from retain.models.gdkvm.stage import Segment
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks
from retain.pipeline.sources.dicom import DicomSource


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def real_clip() -> Path:
    """120 frames, 480x640, from the pydicom-data package."""
    return Path(str(pydicom.data.get_testdata_file("color3d_jpeg_baseline.dcm", download=False)))


def test_a_real_heart_is_one_chamber_that_beats() -> None:
    stage = Segment()
    out = [p for f in DicomSource(str(real_clip())).frames() for p in stage.process(Packet(f))]
    assert len(out) == 120
    seconds, area = [], []
    for packet in out:
        masks = packet.get("masks", Masks)
        assert masks.flags == ()
        cavity = (masks.probability[0] > 127).astype(np.uint8)
        assert cv2.connectedComponents(cavity, connectivity=4)[0] == 2
        seconds.append(packet.frame.seconds)
        area.append(float(cavity.sum()))
    share = np.array(area) / masks.probability[0].size
    assert 0.03 < share.min() < share.max() < 0.12
    beats = find_beats(seconds, area)
    assert 3 <= len(beats) <= 5
    lengths = np.diff([beat.ed_seconds for beat in beats])
    assert ((lengths > 0.75) & (lengths < 1.15)).all()  # the ECG-free truth: about 64 per minute
    assert all(beat.es_area / beat.ed_area < 0.75 for beat in beats)


@pytest.mark.parametrize("name", sorted(weights.SHIPPED))
def test_phantoms_never_trained_on(name: str) -> None:
    model = weights.load(name)
    found = evaluate.score(evaluate.streaming(model), evaluate.held_out(4, "easy"))
    assert found.ends.mean > 0.9
    assert abs(found.ends.mean - found.middle.mean) < 0.03


def test_structures_choose_their_weights() -> None:
    assert weights.load("mini").config.objects[0] == "cavity"
    assert weights.load("mini-all").config.objects == ("cavity", "myocardium", "atrium")
    assert Segment(structures="all").stats()["weights"] == "mini-all"
    assert weights.SHIPPED["mini"].stat().st_size < 5_000_000
