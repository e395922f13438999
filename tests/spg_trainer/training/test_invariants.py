"""docs/project/invariants.md: the tests that it names are there, and the streams of a run have its keys."""

import ast
import re
from pathlib import Path

import pytest

from spg_trainer import seeding
from spg_trainer.evaluation.evaluate import evaluate
from spg_trainer.models import load_model, tiny
from spg_trainer.training import loop, update
from tests.common.pair_cases import pair_config, pairs_file
from tests.common.sft_cases import SMALL, sft
from tests.common.trainer_cases import EVALUATION, LORA, change, small_config, tiny_folder
from tests.common.turn_cases import TALK, Talk

TESTS = Path(__file__).resolve().parents[2]
PAGE = TESTS.parent / "docs" / "project" / "invariants.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="no pages beside the tests")


def rows(heading: str) -> list[str]:
    """The lines of the table of a section, without its head."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("heading", ["What is equal to what", "Who may call whom", "What a checkpoint holds"])
def test_each_line_of_the_page_names_a_test_that_is_there(heading: str) -> None:
    lines = rows(heading)
    assert len(lines) > 5
    for line in lines:
        (named,) = re.findall(r"`([\w/]+\.py)::(\w+)`", line)
        tree = ast.parse((TESTS / named[0]).read_text(encoding="utf-8"))
        assert named[1] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, line


def key_patterns() -> dict[str, re.Pattern[str]]:
    """Key of the page -> what its texts look like; each number is a group of its name."""
    keys = [re.findall(r"`(.+?)`", line)[-1] for line in rows("Which stream is keyed by what")]
    found = {}
    for key in keys:
        pattern = re.sub(r"([A-Z]+)", r"(?P<\1>\\d+)", key.replace("[", "(?:").replace("]", ")?"))
        found[key] = re.compile(pattern)
    return found


VARIED = {"PROBLEM", "GENERATION", "ITERATION", "MASK", "COLUMN"}
"""Numbers of which the runs below have several: where a key leaves one out, streams are shared."""


def test_every_stream_of_a_run_has_one_key_of_the_page(tmp_path, monkeypatch) -> None:
    """All ways in which runs draw: turns, fills, batches of problems, pools, pairs, shared masks, dropout; `sft`."""
    texts, derive = set(), seeding.derive

    def noted(seed: int, *key: int | str) -> int:
        texts.add("/".join(map(str, (seed, *key))))
        return derive(seed, *key)

    for module in (seeding, update, tiny):
        monkeypatch.setattr(module, "derive", noted)
    few = {
        "env": TALK,
        "max_steps": 1,
        "num_iterations": 2,
        "prompts_per_step": 2,
        "eval_problems": 2,
        **LORA,
    }
    dull = {"dull": "0,1,2,3,4,5,6,7"}  # so that a second batch of problems is sampled
    runs = {
        "bgpo": {"max_rollout_batches": 2, "env_args": dull, "max_steps": 2},
        "spg": {"algorithm_args": {"masking": "block_active", "block_length": 4}, "lora_dropout": 0.1},
        "espo": {"pools": True},
        "unigrpo": {},
    }
    for name, changes in runs.items():
        changes = {**few, "algorithm": name, "algorithm_args": {}, **changes}
        loop.train(small_config(tmp_path / name, **changes), quiet=True)
    loop.train(pair_config(tmp_path / "pairs", pairs_file(), max_steps=1), quiet=True)
    sft(change(SMALL, output_dir=str(tmp_path / "base")))
    evaluate(load_model(str(tiny_folder()), device="cpu"), Talk("test"), EVALUATION, num_generations=2)
    patterns = key_patterns()
    assert len(patterns) > 12
    for text in texts:
        assert sum(bool(pattern.fullmatch(text)) for pattern in patterns.values()) == 1, text
    for key, pattern in patterns.items():  # also with all that may be left out
        in_full = re.compile(pattern.pattern.replace(")?", ")"))
        found = [match.groupdict() for match in map(in_full.fullmatch, texts) if match]
        assert found, key
        assert not {name for name in VARIED & found[0].keys() if len({one[name] for one in found}) < 2}, key
