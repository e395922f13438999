"""`prompt_style=FILE`: a prompt of the user's own, to the byte."""

from pathlib import Path

import pytest

import envs
from envs.text.shown_form import unpaid_form

TASKS = {
    "gsm8k": ("{question}", {"source": "generated"}),
    "math500": ("{question}", {"source": "generated"}),
    "countdown": ("Numbers: {numbers}\nTarget: {target}", {}),
    "sudoku": ("{puzzle}", {}),
}


def opened(tmp_path, task: str, text: bytes):
    path = tmp_path / "prompt.txt"
    path.write_bytes(text)
    return envs.make(task, split="test", prompt_style=str(path), **TASKS[task][1])


@pytest.mark.parametrize("task", TASKS)
def test_a_prompt_is_the_file_with_the_problem_in_it(tmp_path, task):
    places, arguments = TASKS[task]
    env = opened(tmp_path, task, f"Box it: \\boxed{{...}}, {{x}}.\n{places}\n\n---\n<reasoning>\n\n".encode())
    problem, plain = env.problem(3), envs.make(task, split="test", **arguments).problem(3)
    values = {**problem.metadata, **problem.reference, "question": problem.metadata.get("problem")}
    values["question"] = problem.metadata.get("question", values["question"])
    held = places
    for name in ("question", "numbers", "target", "puzzle"):
        held = held.replace(f"{{{name}}}", str(values.get(name)))
    assert problem.prompt == f"Box it: \\boxed{{...}}, {{x}}.\n{held}\n"
    assert problem.completion_prefix == "<reasoning>\n"
    assert problem.reference == plain.reference
    assert env.score(problem, env.demonstration(problem)).rewards["correct"] == 1
    for completion in (
        env.demonstration(problem),
        *env.habits(problem).values(),
    ):  # sft shows these behind the prefix
        assert (problem.completion_prefix + completion).count("<reasoning>") == 1
    assert next(iter(env.origin.values())).startswith("sha256 ")


def test_without_a_separator_there_is_no_prefix_and_of_several_the_last_divides(tmp_path):
    problem = opened(tmp_path, "sudoku", b"{puzzle}").problem(0)
    assert (problem.prompt, problem.completion_prefix) == (problem.reference["puzzle"], "")
    problem = opened(tmp_path, "sudoku", b"a\n---\n{puzzle}\n---\nb").problem(0)
    assert problem.prompt.startswith("a\n---\n") and problem.completion_prefix == "b"
    for text in (
        b"{puzzle}\n---\n---\nb",
        b"{puzzle}\n---\n---\n---\nb\n",
        b"{puzzle}\r\n---\r\n---\r\nb\r\n",
    ):
        problem = opened(tmp_path, "sudoku", text).problem(0)
        assert problem.prompt.endswith("\n---") and problem.completion_prefix == "b"
    problem = opened(tmp_path, "sudoku", b"{puzzle}\n---\n---").problem(0)
    assert problem.prompt.endswith("\n---") and problem.completion_prefix == ""
    problem = opened(tmp_path, "sudoku", b"{puzzle}\r\n---\r\n<r>\r\n").problem(0)
    assert (problem.prompt, problem.completion_prefix) == (problem.reference["puzzle"], "<r>")


@pytest.mark.parametrize(
    ("task", "text", "words"),
    [
        ("countdown", b"make {target}", r"lacks \{numbers\}; .* \{numbers\} and \{target\}"),
        ("sudoku", b"{puzzle} {numbers}", r"must not hold \{numbers\}"),
        ("sudoku", b"{puzzle}\n---\nof {puzzle}:", r"\{puzzle\} behind its line ---"),
        ("gsm8k", b"x\n---\n{question}", r"lacks \{question\}"),
        ("math500", b"\xff{question}", "cannot be read"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(tmp_path, task, text, words):
    with pytest.raises(envs.EnvError, match=words):
        opened(tmp_path, task, text)


@pytest.mark.parametrize("task", TASKS)
def test_an_unknown_style_names_the_nearest_and_the_file(task):
    with pytest.raises(
        envs.EnvError, match=r'prompt_style="instuct" .* "instruct"\? Known: .* or a file'
    ) as told:
        envs.make(task, prompt_style="instuct", **TASKS[task][1])
    assert "None" not in str(told.value)


@pytest.mark.parametrize("task", [*TASKS, "code", "rows.jsonl"])
def test_the_old_name_of_our_prompt_is_refused_with_the_new_one(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"prompt": "1 + 1?", "answer": "2"}\n')
    arguments = TASKS.get(task, (None, {"verifier": "gsm8k"} if task == "rows.jsonl" else {}))[1]
    with pytest.raises(
        envs.EnvError, match=r"prompt_style=paper is called prompt_style=instruct.*system_prompt=\"@FILE\""
    ):
        envs.make(task, prompt_style="paper", **arguments)


def test_where_a_file_was_looked_for_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(envs.EnvError, match=r'"prompt.txt" .* none by this name in ') as told:
        envs.make("gsm8k", prompt_style="prompt.txt", source="generated")
    assert str(tmp_path) in str(told.value)


def test_a_folder_and_a_path_without_a_file_are_told_as_what_they_are(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for style, words in (
        (str(tmp_path), f"prompt_style={tmp_path} is a folder. Name a file"),
        ("..", "prompt_style=.. is a folder. Name a file"),
        (str(tmp_path / "none.txt"), f"there is no file {tmp_path}/none.txt."),
        (
            "prompts/none.txt",
            f"prompt_style=prompts/none.txt: there is no file {tmp_path}/here/prompts/none.txt.",
        ),
        ("", 'prompt_style="" is unknown'),
    ):
        with pytest.raises(envs.EnvError) as told:
            envs.make("sudoku", prompt_style=style)
        assert words in str(told.value)


BOX_IN_BLOCK = "Answer in this form:\n<answer>\n\\boxed{...}\n</answer>\n\n"
BLOCK = "Answer in this form:\n<answer>\n...\n</answer>\n\n"


@pytest.mark.parametrize(
    ("task", "prompt", "reward_preset", "earned"),
    [
        ("gsm8k", BOX_IN_BLOCK + "{question}", "paper", "0.126"),  # SPG's evaluation prompt asks for this
        ("gsm8k", BLOCK + "{question}", "paper", ""),  # and its training prompt for this
        ("gsm8k", BOX_IN_BLOCK + "{question}", None, ""),
        ("gsm8k", "{question} Write \\boxed{...}.", "paper", "0"),
        ("gsm8k", "{question}", "paper", ""),
        ("gsm8k", '{question} Write the final answer after "####".', "paper", "0"),  # verl's prompt
        ("gsm8k", '{question} Write the final answer after "####".', None, ""),
        ("gsm8k", "Q: 3 + 2?\nA: It is 3 + 2 = 5.\n#### 5\n\nQ: {question}\nA:", "paper", "0"),
        ("gsm8k", "#### Question\n{question}", "paper", ""),
        ("gsm8k", "#### 2. Question\n{question}\n#####", "paper", ""),
        ("math500", BLOCK + "Wrap the answer in \\boxed{}.\n{question}", "paper", ""),
        ("countdown", BOX_IN_BLOCK + "{numbers}, {target}", "paper", "0.1"),
        ("countdown", "{numbers}, {target}, e.g. <answer>\n2*4-3\n</answer>", "paper", ""),
        ("sudoku", "{puzzle}\n<answer>\n[16 digits]\n</answer>", "paper", ""),
    ],
)
def test_a_prompt_that_shows_a_form_which_the_reward_does_not_pay_is_named(
    tmp_path, task: str, prompt: str, reward_preset: str | None, earned: str
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text(prompt)
    arguments = {"reward_preset": reward_preset} if reward_preset else {}
    warning = unpaid_form(envs.make(task, prompt_style=str(file), **TASKS[task][1], **arguments))
    assert (f"earns {earned}, no more than a wrong one" in warning) if earned else not warning


def test_a_form_is_looked_at_in_each_task_of_a_mixture(tmp_path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text(BOX_IN_BLOCK + "{question}")
    arguments = {"source": "generated", "reward_preset": "paper", "prompt_style": str(file)}
    both = envs.make("countdown + gsm8k", **{f"gsm8k.{name}": value for name, value in arguments.items()})
    assert unpaid_form(both).startswith("gsm8k[")
