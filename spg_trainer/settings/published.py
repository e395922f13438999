"""What is known of published models without a network: sizes by name, and the decoding of their families.

Imports no torch. The facts are in `models/published.yaml`.
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
    """The config.json of a folder, or what is known of a Hub id's; empty where neither is at hand."""
    file = Path(base) / "config.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return _facts()["models"].get(base.rpartition("/")[2], {})


def decoding_layer(model: str) -> Layer | None:
    """The decoding that the authors of the model's family publish, as a layer of settings.

    None for LLaDA, whose decoding is that of the recipes, and for a model whose family is not known here. The layer of
    a family whose authors publish none is empty; the dry run tells of it.
    """
    try:
        settings = known_settings(resolve_model(model).base)
    except ModelError:  # said where the model is opened
        return None
    kind = str(settings.get("model_type"))
    # A family is called `sdar`, or `llada LLaDAMoEModelLM` where several share a model_type.
    names_of_model = (
        kind,
        *(f"{kind} {architecture}" for architecture in settings.get("architectures") or ()),
    )
    for name, rollout in _facts()["families"].items():
        if name in names_of_model:
            return Layer(f"{FILE}: {name}", {"rollout": rollout} if rollout else {})
    return None


def _facts() -> dict[str, Any]:
    return parsed((resources.files("spg_trainer") / FILE).read_text(encoding="utf-8"))
