"""The words by which ten languages name an answer: data for the one rule of `verifiers.sentence`.

A word is a run of letters: "answer", "Answer" or "ANSWER". Chinese, Japanese and Korean have no spaces between words,
or none before a particle. Their words (`TERMS_OF`) are found wherever they stand.
"""

from typing import NamedTuple

from verifiers.extract import Bytes

OTHER, ANSWER, BEING, BEFORE, SO, MODAL, ASIDE, CONDITION, DENIAL, ARE = range(10)
"""The roles of words: "So (SO) the final (BEFORE) answer (ANSWER) to (ASIDE) this must (MODAL) be (BEING) 18.".

ARE, the word "are", counts as a verb of being behind "answers", but not in an aside: the verb of "the answer for the
boxes that are left is 18" is the "is". A CONDITION makes a sentence a supposition, "if the answer is 18"; a DENIAL is
"not". All other words are OTHER.
"""


class Language(NamedTuple):
    """The words of a language by their roles, with a space between two words."""

    answer: str
    """Words for an answer: "result"."""
    being: str
    """Verbs of being: "is"."""
    before: str
    """Words that may stand before "answer": articles, adjectives, and words that open a conclusion."""
    condition: str
    """Words that make what follows a supposition: "if"."""


LANGUAGES = {
    "English": Language(
        "answer answers ans result",
        "is equals be",
        "the final and my our best correct corrected correction right total actual actually revised updated wait "
        "required exact numerical simplified overall closest resulting only most likely",
        "if unless suppose assuming whether",
    ),
    "Spanish": Language(
        "respuesta resultado", "es son", "la el final correcta por lo tanto entonces", "si supongamos"
    ),
    "French": Language("réponse résultat", "est", "la le finale correcte donc ainsi alors", "si supposons"),
    "German": Language(
        "antwort ergebnis", "ist lautet", "die das endgültige richtige also somit", "wenn falls ob"
    ),
    "Italian": Language("risposta risultato", "è", "la il finale corretta quindi dunque", "se"),
    "Portuguese": Language("resposta resultado", "é", "a o final correta portanto logo assim", "se"),
    "Russian": Language("ответ", "равен это", "итак следовательно окончательный правильный", "если"),
}
TERMS_OF = {
    "Chinese": Language("答案", "是 为 為 等于", "所以 因此 故 最终 最終 正确 的", "如果 若 假设"),
    "Japanese": Language("答え 解答", "は", "したがって よって 最終的な", "もし"),
    "Korean": Language("정답 답", "은 는", "따라서 그러므로 최종", "만약"),
}
ENDINGS = ("です", "입니다", "이다", ", which is correct", ", which is right", " is correct", " is right")
"""What may stand behind the value: "18です" says "is 18" in Japanese, and "Answer: B is correct" names B."""
# All endings as one text in UTF-8, and the size of each, since compiled code reads bytes in place, unlike a tuple.
ENDING_BYTES = "".join(ENDINGS).encode()
ENDING_SIZES = bytes(len(ending.encode()) for ending in ENDINGS)
# {role: English words that stand in no `Language`}. Of these roles, only CONDITION has words in `LANGUAGES`, too.
_MORE = {
    SO: "so thus therefore hence then yes",
    MODAL: "should would must will",
    ASIDE: "to of for in we you that which",
    CONDITION: "doubt nobody",
    DENIAL: "not no never wrong incorrect",
    ARE: "are",
}

_KEY_BYTES = 7
_MASK = (1 << 8 * _KEY_BYTES) - 1


def with_byte(key: int, byte: int) -> int:
    """The key of a word with one more byte behind it. A key has 56 bits, in Python and where compiled."""
    return (key * 131 + byte) & _MASK


def key_of(word: str) -> int:
    """A word as one integer, ASCII letters read as lower case; a table of integers is quick to search."""
    key = 0
    for byte in word.encode():
        key = with_byte(key, byte | 32 if byte < 128 else byte)
    return key


def _roles() -> dict[int, int]:
    """{key of a word: its role}. A word with two roles has the one that is read first, and `_MORE` is read first."""
    roles: dict[int, int] = {}
    lists = [(words, role) for role, words in _MORE.items()]
    for language in LANGUAGES.values():
        lists += zip(language, (ANSWER, BEING, BEFORE, CONDITION), strict=True)
    for words, role in lists:
        for word in words.split():
            for spelling in (word, word.capitalize(), word.upper()):
                roles.setdefault(key_of(spelling), role)
    return roles


_ROLES = _roles()
# A table in which each word has a slot of its own, key % _SIZE. `_KINDS` has the role of each slot's word, and `_KEYS`
# the key of that word; an empty slot has OTHER and 0. Both are bytes, which compiled code reads in place.
_SIZE = next(size for size in range(1021, 1 << 16, 2) if len({key % size for key in _ROLES}) == len(_ROLES))
_KEY_AT = {key % _SIZE: key for key in _ROLES}
_KINDS = bytes(_ROLES[_KEY_AT[slot]] if slot in _KEY_AT else OTHER for slot in range(_SIZE))
_KEYS = b"".join(_KEY_AT.get(slot, 0).to_bytes(_KEY_BYTES, "little") for slot in range(_SIZE))


def _terms() -> list[tuple[bytes, int]]:
    """(a word as UTF-8, its role) for all words of `TERMS_OF`."""
    terms: list[tuple[bytes, int]] = []
    for language in TERMS_OF.values():
        for words, role in zip(language, (ANSWER, BEING, BEFORE, CONDITION), strict=True):
            terms += [(word.encode(), role) for word in words.split()]
    return terms


def _answer_names() -> tuple[bytes, ...]:
    """The words for an answer as UTF-8, with ASCII letters in lower case, sorted."""
    names: set[bytes] = set()
    for language in (*LANGUAGES.values(), *TERMS_OF.values()):
        for word in language.answer.split():
            spellings = (word, word.capitalize(), word.upper())
            # `lower` of bytes changes ASCII letters alone, as `key_of` does.
            names.update(spelling.encode().lower() for spelling in spellings)
    return tuple(sorted(names))


_TERMS = _terms()
ANSWER_NAMES = _answer_names()
# The terms, as one text, with the size and the role of each.
_TERM_BYTES = b"".join(term for term, _ in _TERMS)
_TERM_SIZES = bytes(len(term) for term, _ in _TERMS)
_TERM_KINDS = bytes(role for _, role in _TERMS)


def word_at(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(role of the word at i, position after it); the position is i if no word begins there."""
    byte = data[i] + 0  # + 0 makes an int64 of numba's uint8, here and below
    # From E2 on, a byte begins a character of three or four bytes. E2, E3 80 and all above ED begin marks, such as
    # dashes, stops and pictures; the others begin characters of Chinese, Japanese and Korean.
    if byte >= 0xE2:
        is_mark = byte < 0xE3 or byte > 0xED or (byte == 0xE3 and i + 1 < end and data[i + 1] == 0x80)
        return (OTHER, i) if is_mark else term_at(data, i, end)
    if byte == 0xC2:  # a sign of Latin-1, such as a fixed space
        return OTHER, i
    key, after = 0, i
    while after < end and (97 <= data[after] | 32 <= 122 or 0x80 <= data[after] < 0xE2):
        key = with_byte(key, data[after] | 32 if data[after] < 128 else data[after] + 0)
        after += 1
    slot = key % _SIZE
    kind = _KINDS[slot] + 0
    if kind != OTHER:  # the slot of most words is empty, so that their keys are not compared
        for place in range(_KEY_BYTES):
            if _KEYS[slot * _KEY_BYTES + place] != key & 255:
                return OTHER, after
            key >>= 8
    return kind, after


def term_at(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """`word_at` for a script without spaces between words; a character that begins no term is a word by itself."""
    begin = 0
    for k in range(len(_TERM_SIZES)):
        size = _TERM_SIZES[k] + 0
        if i + size <= end:
            offset = 0
            while offset < size and data[i + offset] == _TERM_BYTES[begin + offset]:
                offset += 1
            if offset == size:
                return _TERM_KINDS[k] + 0, i + size
        begin += size
    return OTHER, min(i + 3, end)
