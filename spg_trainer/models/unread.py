"""Tensors of a model's files that the model does not have, and that are saved with it as they are."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor


class Unread(dict[str, Tensor]):
    """{name in the files: tensor}. Nothing is read before a tensor is used: its memory is that of the file.

    A file that is deleted, or replaced by another one, stays as it was for the tensors of it. Copies of a model share
    them.
    """

    def __deepcopy__(self, memo: Any) -> "Unread":
        return self

    @classmethod
    def of(cls, folder: Path, patterns: Sequence[str]) -> "Unread":
        """Those tensors of a model's folder in whose names one of the patterns is found."""
        unread = cls()
        for file in sorted(folder.glob("model*.safetensors")):
            with safe_open(file, framework="pt") as tensors:
                names = [name for name in tensors.keys() if any(re.search(part, name) for part in patterns)]
                unread |= {name: tensors.get_tensor(name) for name in names}
        return unread
