"""Facts on published models that need no network: their config.json by name, and what is published for a family.

The facts are in `models/published.yaml`. This file imports no torch.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from spg_trainer.errors import ModelError
from spg_trainer.settings.recipes import Layer, parsed
from spg_trainer.settings.weights import resolve_model

FILE = "models/published.yaml"


def known_settings(base: str) -> dict[str, Any]:
    """The config.json of a folder; for a Hub id, its settings in `published.yaml`; {} if there is neither."""
    file = Path(base) / "config.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        _, _, name = base.rpartition("/")
        return _facts()["models"].get(name, {})


def family_layer(model: str) -> Layer | None:
    """What is published for the model's family, as a layer of settings (`resolve.py`): decoding, layers of adapters.

    The layer has no decoding if the family's authors publish none, and a dry run says so. None for a model of a family
    that `published.yaml` does not name.
    """
    try:
        settings = known_settings(resolve_model(model).base)
    except ModelError:  # it is raised again when the model is opened
        return None
    model_type = str(settings.get("model_type"))
    # The name of a family is its model_type; if several families share it, model_type and class: `llada
    # LLaDAMoEModelLM`.
    names = {model_type}
    names |= {f"{model_type} {architecture}" for architecture in settings.get("architectures") or ()}
    for name, values in _facts()["families"].items():
        if name in names:
            return Layer(f"{FILE}: {name}", values)
    return None


def _facts() -> dict[str, Any]:
    """The content of `published.yaml`."""
    return parsed((resources.files("spg_trainer") / FILE).read_text(encoding="utf-8"))
