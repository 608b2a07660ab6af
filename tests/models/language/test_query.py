"""Words, probabilities, relevancy and the compression of features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.datasets.scene.room_classes import CLASSES, codes
from retain.models.language import query
from retain.models.language.classes import ClassTeacher
from retain.models.language.compress import ENOUGH, FIRST, Basis
from retain.pipeline.errors import StateError, UsageError

IMAGE = np.zeros((6, 8, 3), np.uint8)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal(shape))


def test_words_are_cleaned() -> None:
    assert query.words_in(" cat, a  red car ,,dog,") == ("cat", "a red car", "dog")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" , ", "names nothing"),
        ("cat,dog,cat", "'cat' twice"),
        (",".join(map(str, range(255))), "255 things; masks have room for 254"),
    ],
)
def test_words_that_cannot_be_used_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        query.words_in(text)


def test_probabilities_are_a_softmax_of_sharpened_cosines() -> None:
    features, words = random(3, 4, 8), random(5, 8, seed=1)
    found = query.probabilities(features, words)
    exact = np.exp(100 * (features.astype(float) @ words.T))
    np.testing.assert_allclose(found, exact / exact.sum(-1, keepdims=True), atol=1e-4)
    np.testing.assert_array_equal(found, query.probabilities(features, words))


def test_background_takes_what_is_likest_to_it_and_synonyms_add_nothing() -> None:
    features = np.eye(3, dtype=np.float32)
    words, background = features[:2], features[2:]
    found = query.probabilities(features, words, background)
    np.testing.assert_allclose(found, [[1, 0], [0, 1], [0, 0]], atol=1e-6)
    middle = unit(features[0] + features[2])
    alone = query.probabilities(middle, words, background)
    twice = query.probabilities(middle, words, np.repeat(background, 5, axis=0))
    np.testing.assert_allclose(alone, twice, atol=1e-6)
    assert alone[0] == pytest.approx(0.5, abs=1e-3)


def test_a_word_permuted_is_a_plane_permuted() -> None:
    features, words = random(6, 8), random(5, 8, seed=1)
    order = [3, 0, 4, 2, 1]
    np.testing.assert_allclose(
        query.probabilities(features, words[order]),
        query.probabilities(features, words)[:, order],
        atol=1e-6,
    )


def test_relevancy_is_against_the_likest_canonical_word() -> None:
    features, word, canonical = random(6, 8), random(8, seed=1), random(4, 8, seed=2)
    found = query.relevancy(features, word, canonical)
    pairs = [
        np.exp(10 * (features @ word))
        / (np.exp(10 * (features @ word)) + np.exp(10 * features @ c))
        for c in canonical
    ]
    np.testing.assert_allclose(found, np.min(pairs, axis=0), atol=1e-5)
    np.testing.assert_allclose(query.relevancy(features, word, word[None]), 0.5)


def test_class_teacher_names_what_is_labelled() -> None:
    labels = np.zeros((6, 8), np.uint8)
    labels[:, 4:] = CLASSES.index("lamp")
    teacher = ClassTeacher()
    dense = teacher.dense(IMAGE, labels)
    np.testing.assert_array_equal(dense, codes()[labels])
    assert query.relevancy(dense, *_against(teacher, "lamp"))[0, 7] > 0.99
    assert query.relevancy(dense, *_against(teacher, "lamp"))[0, 0] == 0.5  # nothing is as likely
    assert ClassTeacher(patch=2).dense(IMAGE, labels).shape == (3, 4, 16)
    with pytest.raises(UsageError, match="labelled"):
        teacher.dense(IMAGE)
    with pytest.raises(UsageError, match=r"no 'lam'.*lamp"):
        teacher.text(["lam"])


def _against(teacher: ClassTeacher, word: str) -> tuple[np.ndarray, np.ndarray]:
    others = [one for one in teacher.canonical if one != word]
    return teacher.text([word])[0], teacher.text(others)


def test_a_cone_of_words_is_told_apart_through_noise() -> None:
    labels = np.random.default_rng(0).integers(1, len(CLASSES), (40, 40)).astype(np.uint8)
    image = np.zeros((40, 40, 3), np.uint8)
    teacher = ClassTeacher(512, noise=0.5)
    words = teacher.text(CLASSES[1:])
    assert (words @ words.T).min() > 0.5
    found = query.probabilities(teacher.dense(image, labels), words).argmax(axis=2) + 1
    assert (found == labels).mean() > 0.99


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.integers(20, 64), st.integers(1, 5))
def test_the_basis_is_orthonormal_grows_and_never_changes_what_was_said(
    seed: int, dim: int, pictures: int
) -> None:
    basis = Basis(dim)
    before = basis.vectors.copy()
    for k in range(pictures):
        rank, features = basis.rank, random(50, dim, seed=100 * k + seed)
        lost = basis.kept(features)
        kept = basis.extend(features)
        assert kept >= lost - 1e-6
        assert basis.rank <= (FIRST if k == 0 else rank + 1)
        np.testing.assert_array_equal(basis.vectors[:, :rank], before[:, :rank])
        gram = basis.vectors.T @ basis.vectors
        np.testing.assert_allclose(gram, np.diag(np.arange(16) < basis.rank), atol=1e-5)
        before = basis.vectors.copy()
    again = Basis.of(basis.vectors, basis.floor)
    assert again.rank == basis.rank
    more = random(50, dim, seed=seed + 7)
    assert again.extend(more) == basis.extend(more)
    np.testing.assert_array_equal(again.vectors, basis.vectors)


def test_directions_are_the_principal_ones_where_nothing_is_kept_well() -> None:
    rng = np.random.default_rng(0)
    features = unit(rng.standard_normal((300, 60)) * np.linspace(2, 1, 60))
    basis = Basis(60)
    kept = basis.extend(features)
    assert basis.rank == FIRST
    own = np.linalg.svd(features.astype(float), full_matrices=False)[2][:FIRST].T
    np.testing.assert_allclose(
        own @ own.T, basis.vectors.astype(float) @ basis.vectors.T, atol=1e-4
    )
    assert kept == pytest.approx(float(((features @ own) ** 2).sum(axis=1).mean()), abs=1e-5)


def test_noise_leaves_room_for_what_comes_later() -> None:
    """Ten pictures of three noisy things, then a small fourth one."""
    things, dim = random(4, 200), 200
    rng = np.random.default_rng(5)

    def seen(*counts: int) -> np.ndarray:
        rows = np.repeat(things[: len(counts)], counts, axis=0)
        return unit(rows + 0.5 * unit(rng.standard_normal(rows.shape)))

    basis = Basis(dim)
    for _ in range(10):
        basis.extend(seen(300, 200, 100))
    assert basis.rank == FIRST
    assert basis.kept(things[3]) < 0.3
    basis.extend(seen(300, 200, 100, 30))
    assert basis.rank == FIRST + 1
    assert basis.kept(things[3]) > 0.8
    basis.extend(seen(300, 200, 100, 30))
    assert basis.rank == FIRST + 1


def test_in_the_first_picture_what_is_small_gets_its_direction_too() -> None:
    common, rare = random(2, 40)
    features = np.concatenate([np.tile(common, (995, 1)), np.tile(rare, (5, 1))])
    basis = Basis(40)
    basis.extend(features)
    assert basis.rank == 2
    assert basis.kept(rare) > ENOUGH


def test_features_of_few_directions_take_no_more_and_lose_nothing() -> None:
    few = random(3, 40)
    basis = Basis(40)
    mixed = unit(np.abs(np.random.default_rng(1).standard_normal((100, 3))) @ few)
    assert basis.extend(mixed) >= ENOUGH
    assert basis.rank <= 3
    words = basis.codes(few)
    np.testing.assert_allclose(basis.codes(mixed) @ words.T, mixed @ few.T, atol=0.3)
    assert basis.extend(np.zeros((4, 40), np.float32)) == 1.0  # nothing said, nothing learnt


def test_the_same_features_give_the_same_basis() -> None:
    made = [Basis(32), Basis(32)]
    for basis in made:
        for k in range(4):
            basis.extend(random(60, 32, seed=k))
    np.testing.assert_array_equal(made[0].vectors, made[1].vectors)


@pytest.mark.parametrize(
    "vectors", [np.ones((20, 16)), np.zeros((20, 15)), np.eye(20, 16)[:, ::-1] * 2]
)
def test_a_basis_that_is_none_is_refused(vectors: np.ndarray) -> None:
    with pytest.raises(StateError):
        Basis.of(vectors.astype(np.float32))
