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
    """The published decoding of the family that `--model` names; None of LLaDA's own, of which recipes are made.

    Where a family has none, the layer is empty, and its origin says so.
    """
    try:
        settings = known_settings(resolve_model(model).base)
    except ModelError:  # said where the model is opened
        return None
    kind = str(settings.get("model_type"))
    names = (kind, *(f"{kind} {architecture}" for architecture in settings.get("architectures") or ()))
    for name, rollout in _facts()["families"].items():
        if name in names:
            return Layer(f"{FILE}: {name}", {"rollout": rollout} if rollout else {})
    return None


def _facts() -> dict[str, Any]:
    return parsed((resources.files("spg_trainer") / FILE).read_text(encoding="utf-8"))
