"""The tokenizer of the embedded models: bytes, the tags tasks ask for, the marks of a conversation."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END, END_OF_TURN, MASK = "<|endoftext|>", "<|eot_id|>", "<|mdm_mask|>"
ROLES = ("user", "assistant", "system")
TAGS = ("<answer>", "</answer>", "<reasoning>", "</reasoning>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['user', 'assistant', 'system'] %}"
    "{{ raise_exception('unknown role ' ~ message['role'] ~ '; use system, user or assistant') }}"
    "{% endif %}"
    "{{ '<|' ~ message['role'] ~ '|>' ~ message['content'] ~ '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer in which every byte is a token whose id is the byte, so that no text is ever unknown.

    Ids 0..255 are the bytes (one printable ASCII character or newline is one token), 256..261 the special
    tokens `<|endoftext|>` (end and padding), `<|eot_id|>`, `<|mdm_mask|>`, `<|user|>`, `<|assistant|>`,
    `<|system|>`, and 262..265 the tags `<answer>`, `</answer>`, `<reasoning>`, `</reasoning>`, which are
    ordinary text to a decoder that skips special tokens. Pads on the left, adds nothing of its own to a text,
    266 tokens in all.
    """
    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    special = (END, END_OF_TURN, MASK, *(f"<|{role}|>" for role in ROLES))
    core.add_special_tokens([_whole(text, special=True) for text in special])
    core.add_tokens([_whole(text, special=False) for text in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=END,
        mask_token=MASK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def _whole(text: str, *, special: bool) -> AddedToken:
    return AddedToken(text, special=special, normalized=False, lstrip=False, rstrip=False, single_word=False)


def _byte_characters() -> list[str]:
    """The character byte-level tokenizers write for each byte: itself if printable, else one from 256 on."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) if byte in shown else chr(256 + hidden.index(byte)) for byte in range(256)]
