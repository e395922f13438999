"""Lets the Auto classes of transformers open our models after `import spg_trainer`, which loads neither of them.

What tells them, `spg_trainer.models`, is imported at the first `AutoConfig.from_pretrained`, which every other Auto
class calls: not while transformers is being imported, where its modules are half there, and not before it is needed.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

OPENING = """\
A masked diffusion language model of the architecture `llada`, which transformers opens once spg-trainer is installed
(`pip install -e .` in its checkout):

```python
import spg_trainer  # tells transformers what `llada` is
from transformers import AutoModel, AutoTokenizer

model, tokenizer = (auto.from_pretrained("PATH OF THIS FOLDER") for auto in (AutoModel, AutoTokenizer))
```

`python -m spg_trainer eval --model PATH` measures it.
"""
"""What the README.md of every model says."""
_WHERE = "transformers.models.auto.configuration_auto"


def teach_transformers() -> None:
    """Now if transformers has been imported, else as soon as it is."""
    if _WHERE in sys.modules:
        _teach(sys.modules[_WHERE])
    else:
        sys.meta_path.insert(0, _Waiting())


class _Waiting(MetaPathFinder):
    """Finds nothing itself; adds `_teach` to the end of the import of one module."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != _WHERE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_teach(module: ModuleType) -> None:
                run(module)
                _teach(module)

            spec.loader.exec_module = run_and_teach
        return spec


def _teach(module: ModuleType) -> None:
    auto = module.AutoConfig
    plain = auto.__dict__["from_pretrained"]

    def from_pretrained(*args: Any, **options: Any) -> Any:
        auto.from_pretrained = plain
        import_module("spg_trainer.models")  # registers `llada`
        return auto.from_pretrained(*args, **options)

    auto.from_pretrained = staticmethod(from_pretrained)
