"""A trained model where the package of one is expected: what conf/ says of it is read from its config.json alone."""

import pytest
from cell_maker import trained_package


@pytest.fixture(autouse=True, scope="module")
def trained_model(tmp_path_factory):
    with trained_package(tmp_path_factory.mktemp("minilm")):
        yield
