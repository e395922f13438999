"""The words that reading knows: what names an answer, what casts doubt on it, what changes it, what takes it back."""

from __future__ import annotations

ANSWER = """answer answers ans result respuesta resultado réponse résultat antwort ergebnis risposta risultato resposta
    ответ"""
"""Words for an answer in languages with spaces between words."""
ANSWER_CJK = "答案 答え 解答 정답 답"
"""The same in Chinese, Japanese and Korean, where they are found inside a run of letters, too."""
BEING = "is equals es son est ist lautet è é равен это"
"""Verbs between a word for an answer and its value."""
BEING_CJK = "是 为 為 等于 は 은 는"
NEXT_TURN = "question q problem exercise instruction input user human"
"""Headings of another text, with which a completion goes on behind its answer: "Question:", "### Problem 2"."""
LEADING = frozenset(
    """the final and my our best correct corrected correction right total actual actually revised updated wait required
    exact numerical numeric simplified overall closest resulting only most likely so thus therefore hence then yes
    la el correcta por lo tanto entonces le finale correcte donc ainsi alors die das endgültige richtige also somit
    il quindi dunque a o portanto logo assim итак следовательно окончательный правильный""".split()
)
"""Words that may stand between the beginning of a clause and a word for an answer: "So the final answer"."""
ASSERTING = frozenset(
    """we i it this that which can now but us from have has found conclude concluded see find get got obtain means
    shows shown implies tells gives follows turns out say state know am m pretty sure confident certain
    simply just still""".split()
)
"""Words of a clause that says an answer outright: "we can conclude that the answer is 18"."""
CONDITIONS = frozenset(
    "if unless suppose assuming whether doubt nobody si supongamos supposons wenn falls ob se если".split()
)
"""Words that make the rest of their sentence a supposition: "If the answer is 18, ..."."""
CONDITIONS_CJK = ("如果", "若", "假设", "もし", "만약")
DOUBTS = frozenset("if unless suppose assuming nobody no not never doubt wrong incorrect or".split())
"""Words that cast doubt on a value beside them: "unless it is 18", "18 or 19"."""
NO_VALUE = frozenset(
    """unknown known found obtained given got calculated computed determined derived expressed rounded asked correct
    right final by in what""".split()
)
"""Words that begin no value behind "is": "The answer is found by adding."."""
DENIALS = frozenset("not never cannot isn wasn doesn don".split())
FORMS_OF_BEING = frozenset("s is was be been seems looks".split())
WRONG = frozenset("wrong incorrect mistaken false impossible extraneous".split())
CONTRADICTING = frozenset("contradicts violates".split())
RIGHT = frozenset("right correct true possible accurate answer work fit satisfy".split())
MISTAKES = frozenset("mistake mistakes error forgot misread miscalculated".split())
BEFORE_AGAIN = """wait actually hmm hold oh okay ok now so but and let me us let's let’s i we i'll we'll need have want
    should must can could will would like to on upon by after just quickly again my"""
"""Words before one for a check, as in "Wait, let me double-check"."""
PERSONS = frozenset("he she they".split())
"""Words for another who gave the answer: "My friend says 18. He is wrong."."""
POINTING = frozenset("that this it which there i we above answer result".split())
"""Words that mean what was said before, or its speaker: "That is wrong.", "I made a mistake."."""
NUMERALS = {
    word: value
    for words, values in (
        ("zero one two three four five six seven eight nine ten eleven twelve", range(13)),
        ("thirteen fourteen fifteen sixteen seventeen eighteen nineteen", range(13, 20)),
        ("twenty thirty forty fifty sixty seventy eighty ninety", range(20, 100, 10)),
    )
    for word, value in zip(words.split(), values, strict=True)
}
"""{a word for a number: its value}."""
SPOILING = frozenset(
    """not never cannot cant can't neither nor none wrong incorrect false incorrectly impossible untrue plus twice
    thrice doubled tripled halved factorial multiple multiples root pi half halves third thirds fourths fifths sixths
    sevenths eighths ninths tenths hundredths thousandths wait unlikely lt gt""".split()
)
"""Words that deny a number or change its value wherever they stand: "not 18", "18 doubled"."""
CHANGING_BEFORE = frozenset(
    """than times over under above below beyond exceeds exceeding nearly almost least most twice thrice half double
    triple quadruple dividing no without except excluding but between near unlike sqrt cbrt sin sine cos cosine tan
    tangent ln log exp""".split()
)
"""Words that change the value of the number right behind them: "almost 18"."""
NOT_THE_NUMBER = (
    *(["up", "to"], ["close", "to"], ["next", "to"], ["far", "from"], ["short", "of"], ["off", "by"]),
    *(["number", "before"], ["number", "after"], ["anything", "but"]),
)
"""Two words before a number that make it something else: "next to 18"."""
CHANGING_BEHIND = frozenset("squared cubed tens quintillion score reciprocal inverse".split())
"""Words that change the value of the number right before them: "18 squared"."""
FRACTIONS = frozenset(
    "quarter quarters fourth fifth sixth seventh eighth ninth tenth eleventh twelfth twentieth hundredth".split()
)
OPERATIONS = frozenset(
    "square cube opposite reciprocal inverse double half third multiple factor divisor".split()
)
"""Words that, with "of", make something else of the number behind them: "the square of 18"."""
DETERMINERS = frozenset("the these those all his her its their my our".split())
ARTICLES = frozenset("a an".split())
SPANNING = frozenset("in within for every".split())
"""Words behind a unit that let a further number count something else: the 3 of "18 miles in 3 days"."""
PREPOSITIONS = SPANNING | frozenset("per of at each after over during the".split())
"""Words behind which a number in words is no second value: the two of "18 miles in two days"."""
REASONS = frozenset("because since as if".split())
"""Words behind a number that begin a reason, in which a calculation has a value of its own."""
DEGREES = frozenset("degree degrees c f celsius fahrenheit".split())
MONTHS = {
    name: number
    for names in (
        "january february march april may june july august september october november december",
        "jan feb mar apr may jun jul aug sep oct nov dec",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "januar februar märz april mai juni juli august september oktober november dezember",
    )
    for number, name in enumerate(names.split(), 1)
} | {"sept": 9}
"""{the name of a month in English, Spanish, French or German, or its English abbreviation: its number}."""


def changes_number(before: list[str]) -> bool:
    """True if the words right before a number change its value: "almost", "up to", "a quarter of (the)"."""
    if not before:
        return False
    if before[-1] in CHANGING_BEFORE or before[-2:] in NOT_THE_NUMBER:
        return True
    place = len(before)
    while place and before[place - 1] in DETERMINERS:
        place -= 1
    *_, article, part, of = ["", "", "", *before[:place]]
    counted = article in ARTICLES or article in NUMERALS
    is_part = part in OPERATIONS or part in NUMERALS or (counted and part in {*FRACTIONS, "percent"})
    return of == "of" and is_part
