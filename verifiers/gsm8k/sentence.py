"""The plain sentence "The answer is 3." on the last line of a completion without an answer block.

Plain Python over UTF-8 bytes that numba also compiles as it stands; one pass.
"""

from verifiers.characters import is_one_of, read_word
from verifiers.extract import Bytes, is_space, read_tags, strip, word_key, word_keys

_ANSWER, _IS = word_key("answer"), word_key("is")
_BEFORE = word_keys("the final so thus therefore hence then and my our correct")  # "if", "doubt", ... are not
_STOPS = tuple(b".!?")


def answer_sentence(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of what follows "the answer is" on the last line before an end-of-text token, or -1s."""
    end, block, _, unclosed, _ = read_tags(data, start, end)
    if block >= 0 or unclosed >= 0:
        return -1, -1
    start, end = strip(data, start, end)
    line = end
    while line > start and data[line - 1] != 10:
        line -= 1
    plain, named = True, False  # only such words in this sentence so far; the last of them is "answer"
    i = line
    while i < end:
        key, after = read_word(data, i, end, True)
        if key:
            if named and key == _IS:
                return strip(data, after, end)
            named = plain and key == _ANSWER
            plain = named or (plain and is_one_of(key, _BEFORE))
            i = after
            continue
        if data[i] in _STOPS and (i + 1 == end or is_space(data[i + 1])):
            plain, named = True, False
        elif 48 <= data[i] <= 57:
            plain = named = False
        i += 1
    return -1, -1
