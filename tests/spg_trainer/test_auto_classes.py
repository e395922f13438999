"""`import spg_trainer` is all that transformers' Auto classes need to open what a run leaves in model/."""

import subprocess
import sys

import pytest

from spg_trainer.models.source import packaged

CLASSES = ("AutoConfig", "AutoTokenizer", "AutoModel", "AutoModelForMaskedLM")


def run(*lines: str) -> str:
    """What a fresh Python prints for a program, whose argument is the folder of an embedded model."""
    command = [sys.executable, "-c", "\n".join(lines), str(packaged("tiny-sudoku"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_neither_torch_nor_transformers():
    assert run("import spg_trainer, sys", "print({'torch', 'transformers'} & {*sys.modules})") == "set()\n"


@pytest.mark.parametrize(
    "imports",
    [
        ("import spg_trainer", "from transformers import LlamaForCausalLM"),
        ("import transformers, spg_trainer",),
    ],
    ids=["spg_trainer first", "transformers first"],
)
def test_auto_classes_open_a_model_whichever_package_comes_first(imports):
    names = ", ".join(CLASSES)
    opened = f"print(*(type(c.from_pretrained(sys.argv[1])).__name__ for c in ({names})))"
    heavy = "print('peft' in sys.modules)"
    found = run("import sys", *imports, f"from transformers import {names}", opened, heavy).split()
    assert found[0] == "LLaDAConfig" and found[2:] == ["LLaDAForMaskedLM"] * 2 + ["False"]
