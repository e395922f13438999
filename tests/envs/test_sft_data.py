"""Files of texts to imitate: every format, what is held out, and what is told of rows that cannot be learned."""

import json
from pathlib import Path

import pytest

import envs

ROWS = [{"prompt": f"say {n}", "completion": f"{n}{n}"} for n in range(40)]


def lines(rows: list[object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_every_format_holds_the_same_texts(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a.jsonl").write_text(lines(ROWS))
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "a.csv").write_text("prompt,completion\n" + "".join(f"say {n},{n}{n}\n" for n in range(40)))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    chats = [
        {
            "messages": [
                {"role": "user", "content": r["prompt"]},
                {"role": "assistant", "content": r["completion"]},
            ]
        }
        for r in ROWS
    ]
    (tmp_path / "chat.jsonl").write_text(lines(chats))
    (tmp_path / "chat.csv").write_text(
        'messages\n"' + json.dumps(chats[0]["messages"]).replace('"', '""') + '"\n'
    )
    whole = envs.Texts(str(tmp_path / "a.jsonl"))
    for name in ("a.json", "a.csv", "a.parquet", "chat.jsonl"):
        assert envs.Texts(str(tmp_path / name)).rows == whole.rows, name
    assert [("say 0", "00")] == [*envs.files.sft_data._read(str(tmp_path / "chat.csv"))[1]]
    held_out = envs.Texts(str(tmp_path / "a.jsonl"), "validation")
    assert {*held_out.rows, *whole.rows} == {(r["prompt"], r["completion"]) for r in ROWS}
    assert len(held_out) + len(whole) == 40 and 1 <= len(held_out) <= 10
    assert whole.demonstration(whole.problem(0)) == whole.rows[0][1]


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({"weight": 0}, "the last message has weight 0, and what is learned of a row is its last message"),
        ({"train": False}, "the last message has train False"),
        (
            {"reasoning_content": "2 + 2 is 4"},
            "has reasoning_content '2 . 2 is 4', and only its content is learned",
        ),
    ],
)
@pytest.mark.parametrize("content", ["4", [{"type": "text", "text": "4"}]], ids=["text", "parts"])
def test_what_a_message_says_beside_its_content_is_not_dropped(last, words, content, tmp_path: Path) -> None:
    before = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "5", "weight": 0}]
    again = {"role": "user", "content": "Sure?"}

    def file_of(answer: dict[str, object]) -> str:
        rows = [{"messages": [*before, {**again, "content": f"Sure {n}?"}, answer]} for n in range(40)]
        (tmp_path / "chats.jsonl").write_text(lines(rows))
        return str(tmp_path / "chats.jsonl")

    answer = {"role": "assistant", "content": content}
    with pytest.raises(envs.EnvError, match=words):
        envs.Texts(file_of({**answer, **last}))
    envs.files.sft_data._read.cache_clear()
    learned = envs.Texts(file_of({**answer, "weight": 1, "train": True, "reasoning_content": ""}))
    assert {completion for _, completion in learned.rows} == {"4"}


def test_a_prompt_is_never_on_both_sides_unless_it_is_the_only_one(tmp_path: Path) -> None:
    file = tmp_path / "twice.jsonl"
    file.write_text(lines([*ROWS, *({**row, "completion": "else"} for row in ROWS)]))
    sides = [{prompt for prompt, _ in envs.Texts(str(file), split).rows} for split in ("train", "validation")]
    assert not sides[0] & sides[1]
    file = tmp_path / "one.jsonl"
    file.write_text(lines([{"prompt": "", "completion": f"{n}"} for n in range(200)]))
    assert envs.Texts(str(file)).rows and envs.Texts(str(file), "validation").rows


def test_a_chat_of_several_messages_keeps_them_as_its_prompt(tmp_path: Path) -> None:
    before = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    answer = [{"role": "assistant", "content": "Hi"}]
    (tmp_path / "a.jsonl").write_text(lines([{"messages": before + answer}]))
    (tmp_path / "b.jsonl").write_text(lines([{"prompt": before, "completion": answer}]))
    for name in ("a.jsonl", "b.jsonl"):
        assert envs.files.sft_data._read(str(tmp_path / name))[1] == ((before, "Hi"),)


def test_rows_of_alpaca_sharegpt_and_content_parts_are_read(tmp_path: Path) -> None:
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "say "}, {"type": "text", "text": "1"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "one"}]},
    ]
    forms = [
        {"instruction": "say 1", "input": "", "output": "one"},
        {"instruction": "say 1", "output": "one"},
        {"conversations": [{"from": "human", "value": "say 1"}, {"from": "gpt", "value": "one"}]},
        {"messages": parts},
        {"prompt": parts[:1], "completion": parts[1:]},
    ]
    (tmp_path / "a.jsonl").write_text(lines(forms))
    _, rows, *_ = envs.files.sft_data._read(str(tmp_path / "a.jsonl"))
    chat = [{"role": "user", "content": "say 1"}]
    assert [*rows] == [("say 1", "one")] * 4 + [(chat, "one")]
    (tmp_path / "b.jsonl").write_text(lines([{"instruction": "add", "input": "1 2", "output": "3"}]))
    assert envs.files.sft_data._read(str(tmp_path / "b.jsonl"))[1] == (("add\n\n1 2", "3"),)
    image = [{"role": "user", "content": [{"type": "image", "url": "a.png"}]}, parts[1]]
    (tmp_path / "c.jsonl").write_text(lines([{"messages": image}]))
    with pytest.raises(envs.EnvError, match="line 1 has messages"):
        envs.files.sft_data._read(str(tmp_path / "c.jsonl"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "holds no rows"),
        ([{"question": "1", "answer": "2"}], "line 1 has question, answer. Each row needs `prompt`"),
        ([{"messages": [{"role": "user", "content": "a"}]}], "the last message is the user's"),
        ([ROWS[0], {"messages": "hello"}], "line 2 has messages 'hello'"),
        ([{"messages": []}], "it must be a list of them"),
        ([{"instruction": " ", "input": "", "output": "a"}], "line 1 has an empty instruction"),
        (
            [{"instruction": "a", "input": ["b"], "output": "c"}],
            "line 1 has the input ['b']. Write it as a text",
        ),
        ([{"prompt": "a", "completion": ""}], "the completion ''"),
        ([{"prompt": 3, "completion": "a"}], "the prompt 3"),
        ([ROWS[0], {"prompt": [], "completion": "a"}], "line 2 has the prompt []"),
        ([ROWS[0]], "none is"),
        (["text"], 'line 1 is no JSON object such as {"prompt": ..., "completion": ...}'),
    ],
)
def test_what_cannot_be_learned_is_told(tmp_path: Path, rows: list[object], said: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(lines(rows))
    with pytest.raises(envs.EnvError) as told:
        for split in ("train", "validation"):
            envs.Texts(str(file), split)
    assert said in str(told.value) and str(file) in str(told.value)


def test_all_rows_that_cannot_be_learned_are_named_or_counted(tmp_path: Path) -> None:
    content = [
        *ROWS,
        *({"prompt": "a", "completion": ""} for _ in range(9)),
        {"prompt": "b"},
        {"completion": "c"},
        4,
    ]
    file = tmp_path / "some.jsonl"
    file.write_text(lines([*content, *ROWS]))
    with pytest.raises(envs.EnvError) as told:
        envs.Texts(str(file))
    head, *each = str(told.value).split("\n")
    assert (
        head == f"12 of {2 * len(ROWS) + 12} rows of {file} cannot be used:"
        and each[-1] == "  ... and 2 more."
    )
    assert f"line {len(ROWS) + 1} has the prompt" in each[0] and "has prompt. Each row needs" in each[9]


def test_bad_rows_are_left_out_counted_and_listed(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    bad = [{"prompt": "1", "completion": None}, {"prompt": "b"}]
    file.write_text(lines([*ROWS, *bad, *ROWS]))
    with pytest.raises(envs.EnvError, match=r"has prompt, completion \(null\)\. Each row needs"):
        envs.Texts(str(file))
    texts = {split: envs.Texts(str(file), split, bad_rows="skip") for split in ("train", "validation")}
    assert sum(map(len, texts.values())) == 2 * len(ROWS)
    told = f"Left out: 2 of {2 * len(ROWS) + 2} rows of {file}, which cannot be used; {file}.bad-rows.txt lists them."
    assert (texts["train"].notice, texts["validation"].notice) == (told, "")
    listed = Path(f"{file}.bad-rows.txt").read_text().splitlines()
    assert [f"line {len(ROWS) + 1} has" in listed[0], f"line {len(ROWS) + 2} has" in listed[1]] == [
        True,
        True,
    ]
    assert max(max(one.lines) for one in texts.values()) == 2 * len(ROWS) + 2  # the numbers of lines stay
    with pytest.raises(envs.EnvError, match='Did you mean "skip"'):
        envs.Texts(str(file), bad_rows="skp")


def test_a_column_of_dates_is_no_completion(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "days.parquet"
    days = pyarrow.array([1, 2], pyarrow.int32()).cast(pyarrow.date32())
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["a", "b"], "completion": days}), path)
    with pytest.raises(envs.EnvError, match='the column "completion" holds values of the type date32'):
        envs.Texts(str(path))
