"""Facts on published models that need no network: their config.json by name, and the decoding of their families.

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


def decoding_layer(model: str) -> Layer | None:
    """The decoding that the authors of the model's family publish, as a layer of settings (`resolve.py`).

    If a family's authors publish no decoding, the layer is empty, and a dry run says so. None for a model of a family
    that `published.yaml` does not name. The dense LLaDA models are left out there, since the recipes have their
    decoding.
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
    for name, rollout in _facts()["families"].items():
        if name in names:
            return Layer(f"{FILE}: {name}", {"rollout": rollout} if rollout else {})
    return None


def _facts() -> dict[str, Any]:
    """The content of `published.yaml`."""
    return parsed((resources.files("spg_trainer") / FILE).read_text(encoding="utf-8"))
