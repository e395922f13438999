"""Converts rows of Alpaca, of ShareGPT, and of chats with parts of content to the form that all readers here take.

The default names of the columns are elsewhere: those of a task in `_columns` of `envs.files.rows`, those of files that
are only judged in `verifiers.command.fields`.
"""

from collections.abc import Mapping
from typing import Any

from envs.problem import is_prompt

FORM_COLUMNS = ("messages", "conversations", "instruction", "input", "output")
"""Columns from which `common_form` makes `prompt` and `completion`."""
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
"""{speaker in ShareGPT's `from`: role}."""


LEARNED, BESIDE_CONTENT = ("weight", "train"), ("reasoning_content", "reasoning", "thinking", "tool_calls")
"""Keys of a message: those that say whether it is to be learned, and those of what was written beside its content."""


def common_form(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row, with `messages` for ShareGPT's `conversations`, and `prompt` and `completion` for Alpaca's columns.

    A row that has a `prompt` or `messages` gets no further column. Alpaca's columns are left as they are if the `input`
    is there and is no text.
    """
    found = {name: as_messages(value) for name, value in row.items()}
    if found.get("prompt") is not None or found.get("messages") is not None:
        return found
    if found.get("conversations") is not None:
        found["messages"] = found["conversations"]
        return found
    instruction, input_text = found.get("instruction"), found.get("input")
    if isinstance(instruction, str) and isinstance(input_text, str | None):
        found["prompt"] = "\n\n".join(text for text in (instruction, input_text) if text)
        if found.get("completion") is None and found.get("output") is not None:
            found["completion"] = found["output"]
    return found


def row_with_prompt(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row in `common_form`; if that has no `prompt`, the whole chat in `messages` becomes the prompt."""
    found = common_form(row)
    messages = found.get("messages")
    if found.get("prompt") is None and isinstance(messages, list) and messages:
        found["prompt"] = messages
    return found


def before_answer(prompt: Any) -> Any:
    """A chat without the assistant's message at its end; any other prompt as it is."""
    last = prompt[-1] if isinstance(prompt, list) and prompt else None
    ends_in_answer = isinstance(last, Mapping) and last.get("role") == "assistant"
    return prompt[:-1] if ends_in_answer else prompt


def last_answer(prompt: Any) -> str | None:
    """The assistant's message at the end of a chat; None for any other prompt, and for an empty message."""
    if before_answer(prompt) is prompt:  # no message was cut off: the prompt does not end in the assistant's
        return None
    return prompt[-1].get("content") or None


def as_messages(value: Any) -> Any:
    """A conversation as chat messages with `role` and `content`.

    It may be ShareGPT's, with `from` and `value`, or have lists of text parts as content. Any other value stays as it
    is, also a conversation with a part that is no text.
    """
    if is_prompt(value) or not isinstance(value, list):
        return value
    if not all(isinstance(message, dict) for message in value):
        return value
    messages = []
    for message in value:
        speaker = message.get("from")
        role = message.get("role", SPEAKERS.get(speaker, speaker))  # another speaker keeps its name
        content = message.get("content", message.get("value"))
        if isinstance(content, list) and all(
            isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
        ):
            content = "".join(part["text"] for part in content)
        more = {name: message[name] for name in (*LEARNED, *BESIDE_CONTENT) if name in message}
        messages.append({**more, "role": role, "content": content})
    return messages if is_prompt(messages) else value
