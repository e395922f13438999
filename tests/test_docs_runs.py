"""The commands of docs/runs.md that compare settings of SPG vary what they say, in the form of the paper."""

import re
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest

from spg_trainer import algorithms
from spg_trainer.reporting.compare import plan
from spg_trainer.settings.fields import CompareCommand

PAGE = Path(__file__).resolve().parents[1] / "docs" / "runs.md"

if not PAGE.is_file():  # tests copied beside an installed wheel
    pytest.skip("the docs are not here", allow_module_level=True)

TEXT = PAGE.read_text(encoding="utf-8")
COMMANDS = dict(re.findall(r"^\| ([^|]+) \| `S (.+)` \|$", TEXT, re.M))


@pytest.mark.parametrize("claim", COMMANDS)
def test_a_table_of_the_paper_varies_its_own_setting(claim: str) -> None:
    env = re.search(r"`S` is `python -m spg_trainer compare --env (\w+)", TEXT)[1]
    words, _, more = COMMANDS[claim].partition(" -- ")
    rows = [row for word in words.split("--algorithms ")[1].split() for row in written_out(word)]
    command = CompareCommand(env=(env,), algorithms=tuple(rows), seeds=1)
    runs = plan(command, shlex.split(more))
    found = [asdict(algorithms.build(r.config.algorithm, r.config.hyper_parameters)) for r in runs]
    assert len({str(each) for each in found}) == len(rows) >= 3
    named = {pair.partition("=")[0] for row in rows for pair in row.partition(":")[2].split(",")}
    paper = {"advantage": "mean", "merge": False, "negatives": "mix", "num_masks": 2}
    for each in found:
        assert {name: each[name] for name in paper.keys() - named} == {
            n: paper[n] for n in paper.keys() - named
        }
    if "masking" in named:
        assert all(run.config.rollout.num_blocks > 1 for run in runs), "or all three are the same"


def written_out(word: str) -> list[str]:
    """`a{1,2}` -> ["a1", "a2"], as a shell does."""
    before, brace, rest = word.partition("{")
    return [before + part for part in rest.removesuffix("}").split(",")] if brace else [word]


def test_the_page_has_the_tables() -> None:
    assert len(COMMANDS) == 5
