"""A trained model where the package of one is expected: what conf/ says of it is read from its config.json alone."""

import json

import pytest

from bench.data import zoo

MINILM = {"model_type": "bert", "num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12}


@pytest.fixture(autouse=True, scope="package")
def trained_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minilm")
    (folder / zoo.CONFIG).write_text(json.dumps(MINILM | {"intermediate_size": 1536, "vocab_size": 30522}))
    (folder / zoo.WEIGHTS[0]).write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo.Package, "find", lambda _: folder)
        yield
    zoo.folder_of.cache_clear()
    zoo.fingerprint.cache_clear()
