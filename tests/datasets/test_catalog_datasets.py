"""Every listed data set can be loaded."""

from __future__ import annotations

import pytest

from retain.datasets.catalog import DATASETS


@pytest.mark.parametrize("name", DATASETS)
def test_listed_data_sets_exist(name: str) -> None:
    assert callable(DATASETS.load(name))
