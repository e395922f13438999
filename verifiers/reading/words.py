"""The words that reading knows: what names an answer, what casts doubt on it, what takes it back."""

from __future__ import annotations

ANSWER = """answer answers ans result respuesta resultado réponse résultat antwort ergebnis risposta risultato resposta
    ответ"""
"""Words for an answer in languages with spaces between words."""
ANSWER_CJK = "答案 答え 解答 정답 답"
"""The same in Chinese, Japanese and Korean, where they are found inside a run of letters, too."""
BEING = "is equals es son est ist lautet è é равен это"
"""Verbs between a word for an answer and its value."""
BEING_CJK = "是 为 為 等于 は 은 는"
LEADING = frozenset(
    """the final and my our best correct corrected correction right total actual actually revised updated wait required
    exact numerical numeric simplified overall closest resulting only most likely so thus therefore hence then yes
    la el correcta por lo tanto entonces le finale correcte donc ainsi alors die das endgültige richtige also somit
    il quindi dunque a o portanto logo assim итак следовательно окончательный правильный""".split()
)
"""Words that may stand between the beginning of a clause and a word for an answer: "So the final answer"."""
CONDITIONS = frozenset(
    "if unless suppose assuming whether doubt nobody si supongamos supposons wenn falls ob se если".split()
)
"""Words that make the rest of their sentence a supposition: "If the answer is 18, ..."."""
DOUBTS = frozenset("if unless suppose assuming nobody no not never doubt wrong incorrect or".split())
"""Words that cast doubt on a value beside them: "unless it is 18", "18 or 19"."""
NO_VALUE = frozenset(
    """unknown known found obtained given got calculated computed determined derived expressed rounded asked correct
    right final by in what""".split()
)
"""Words that begin no value behind "is": "The answer is found by adding."."""
DENIALS = frozenset("not never cannot isn wasn doesn don aren can't".split())
WRONG = frozenset("wrong incorrect mistake mistaken error false impossible".split())
RIGHT = frozenset("right correct true possible".split())
POINTING = frozenset("that this it which i my we our above previous earlier answer".split())
"""Words that mean what was said before, or its speaker: "That is wrong.", "I made a mistake."."""
