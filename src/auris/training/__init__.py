"""Training: from manifests to model directories."""

from importlib.util import find_spec

from auris.errors import MissingExtra

if find_spec("pydantic") is None:
    raise MissingExtra(
        "Training needs pydantic", "it is not installed", "run pip install 'auris-asr[train]'"
    )
