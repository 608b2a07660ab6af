"""`retain reconstruct --language` and a query of its map, in a small generated room."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from retain.apps.reconstruct import run as job
from retain.apps.reconstruct import show
from retain.apps.reconstruct.run import LANGUAGE, MAP, SCENE
from retain.datasets.scene.room_classes import CLASSES
from retain.models.language.describe import read_basis
from retain.models.scene.mapper import read_map
from retain.pipeline.errors import UsageError


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a mapped room, described by a teacher."""
    out = tmp_path_factory.mktemp("language") / "room"
    job.reconstruct(
        job.ReconstructOptions(
            source="room://?seed=3&frames=16",
            out=out,
            width=96,
            language="classes:64,4,0.2",
            refine=0,
            finish=0,
            exports=(),
            page=False,
            runner="inline",
        ),
        lambda done: None,
    )
    return out


def test_the_basis_lies_beside_the_map(results: Path) -> None:
    teacher, basis = read_basis(str(results / LANGUAGE))
    assert teacher == "classes:64,4,0.2"
    assert basis.dim == 64
    assert not (results / SCENE).exists()  # its words are the teacher's, not a list
    codes = read_map(str(results / MAP))[0].codes
    assert codes is not None
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, atol=1e-4)


def lit(results: Path, out: Path, word: str) -> float:
    """Share of the first picture that a query lights up: what is not lit is grey."""
    show.show(show.RenderOptions(results, out, width=96, query=word))
    with av.open(str(out)) as video:
        picture = next(video.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    return float((picture[..., 0] - picture[..., 2] > 60).mean())


def test_words_light_up_what_they_name(results: Path, tmp_path: Path) -> None:
    shares = {word: lit(results, tmp_path / f"{word}.mp4", word) for word in ("wall", "plant")}
    assert 0.1 < shares["wall"] < 0.9
    assert shares["plant"] < shares["wall"]


def test_a_word_the_teacher_does_not_know_is_refused(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="knows no 'wal'") as caught:
        show.show(show.RenderOptions(results, tmp_path / "x.mp4", query="wal"))
    assert any(word in caught.value.hint for word in CLASSES)
    assert not (tmp_path / "x.mp4").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"download": True}, "are of --language"),
        ({"dinoiser": Path("last.pt")}, "are of --language"),
        ({"language": "clip", "profile": "neural"}, "its own language codes"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        job.ReconstructOptions(source="room://?seed=3", **options)  # type: ignore[arg-type]
