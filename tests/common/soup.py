"""Texts made of the pieces that answers are made of, valid references, and right answers, for each built-in task."""

import string

from hypothesis import strategies as st

from tests.common.command_cases import PUZZLE, SOLUTION
from verifiers import Verdicts, batch, registry, verify_batch

MODES = ("lenient", "strict")


def use_kernels(monkeypatch, ever: bool = True) -> None:
    """Has batches of any size judged by kernels first, where the task has one, or never."""

    def loaded(kernel: batch.Kernel, num_rows: int):
        if ever:
            kernel.load()
        return kernel.function if ever else None

    monkeypatch.setattr(batch.Kernel, "worth_using", loaded)


# Valid references of each task, and right answers to the first of them.
REFERENCES = {
    "sudoku": [
        {"puzzle": PUZZLE}, {"puzzle": "0" * 81}, {"puzzle": " ".join(["0"] * 256)},
        {"puzzle": "530070000600195000098000060800060003400803001700020006060000280000419005000080079"},
    ],
    "gsm8k": [
        {"answer": answer}
        for answer in (*"1250 -3/4 0.5 18 0 1e3 -18 1/2 36/2".split(), "9" * 20, "1" + "0" * 25, "a\n#### 18")
    ] + [{"answer": "1.250,5 ml", "decimal": ",", "unit": "ml"}],
    "countdown": [
        {"numbers": [25, 5, 3, 2], "target": 42}, {"numbers": [1], "target": 1},
        {"numbers": [99, 3, 7], "target": 336}, {"numbers": [3, 5, 7], "target": 22},
    ],
    "math500": [
        {"answer": answer}
        for answer in (r"\frac{3}{4}", "(2, 3]", r"16\sqrt{3}", "x^2 + 2x + 1", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}")
    ] + [
        {"answer": answer}
        for answer in r"5 \frac12 x^2+1 (1,2) \sqrt{2} x=5 \{1,2\} (0,\infty) 2516_8 \text{(C)} \cot{x}".split()
    ],
    "text": [{"answer": "spam"}, {"answer": "spam", "choices": "spam,ham", "case": "exact"}],
    "choice": [
        {"answer": "B"}, {"answer": "Rome", "choices": ["Paris", "Rome"]}, {"answer": "(B)", "problem": "(A) 1 (B) 2"},
    ],
    "json": [{"answer": {"a": [1, 0.5], "b": None}}, {"answer": '{"a": "x", "b": 2}', "keys": "a"}, {"answer": 1}],
}  # fmt: skip
RIGHT = {
    "sudoku": [SOLUTION, "4321\n1243\n3412\n2134", "[[4,3,2,1],[1,2,4,3],[3,4,1,2],[2,1,3,4]]"],
    "gsm8k": ["1250", "1,250", "\\$1250.00", "x = 1250", "2500/2", "1.25 \\times 10^3", "1250 apples"],
    "countdown": ["25*2-5-3", r"25 \times 2 - (5 + 3)", "-(5 + 3) + 2.0 * 25", "25*2-5-3 = 42", "(25 - 5/2) * 2 - 3"],
    "math500": [r"\frac{3}{4}", "0.75", "3/4", r"\dfrac34", r"75\%", r"1 - \frac{1}{4}", r"\frac{\sqrt{9}}{4}"],
    "text": ["spam", "SPAM", " Spam. ", "**spam**", r"\text{spam}", "ｓｐａｍ"],
    "choice": ["B", "(B)", "B)", "b.", "B. Rome", r"\textbf{(B)}\ 12", "Option B"],
    "json": ['{"a": [1, 0.5], "b": null}', '{"b":null,"a":[1.0,5e-1]}', '```json\n{"a": [1, 0.50], "b": null}\n```'],
}  # fmt: skip
PIECES = (
    *("<answer>", "</answer>", "\\boxed{", "\\boxed", "{", "}", "####", "<|eot_id|>", "<|endoftext|>", "<", "\\"),
    *("\\frac{", "\\sqrt{", "\\text{", "^{", "_{", "\\left(", "\\right)", "\\begin{pmatrix}", "\\end{pmatrix}", "\\\\"),
    *("(", ")", "[", "]", "|", ",", ".", ";", "=", "+", "-", "*", "/", "**", "//", "%", "^", "!", "&", "$", "~", "#"),
    *("\u2212", "\u00d7", "\u00f7", "\u00a0", "\u200b", "\u0664", "\uff15", "\u00b2", "\u2463", "\U0001d7ce", "\u2500"),
    *("\x00", "\ud800", "\udfff", "\n", "\t", " ", " or ", "per", "and", "\\pi", "\\infty", "\\cup", "\\sin", "i", "x"),
    *("9^{9^{9^{9}}}", "9**9**9", "1e400", "0.1", "1/0", "0/0", "\\binom{9}{3}", "99!", "10^{-9999}", "1" * 40, "__"),
)  # fmt: skip
# More of what each reader knows.
OWN_PIECES = {
    "gsm8k": (
        *("18", "0", "9" * 20, "1,250", ".5", "1.", "...", "−", "\\$", "1/2", " 1/2", "\\frac", "\\frac{1}{2}", "{18}"),
        *("½", "^2", "^{2}", "^\\circ", "\\times 10^", "×10", "e", "e5", "E-3", "10", " = ", "≈", "\\approx", ">"),
        *("!=", "\\,", "\\!", "\u2009", " per ", " minus ", "eggs", " million", "k", "th", "not ", "\\pm", "\\neq"),
        *("\\circ", "\\quad", "\\dots", "\\sqrt", "±", "≠", "…", "\N{REPLACEMENT CHARACTER}", "€", "①", "é", "万"),
    ),
    "countdown": (
        *("3", "5", "7", "22", "0", "-3", "3.0", "4611686018427387904", "9" * 19, "9" * 18, "1.5", "3*5+7", "(3)"),
        *("\\frac{", "}{", "\\times", "\\left", "\\,", "The answer is ", "Answer: ", "not ", "`", "“", "”", "é"),
        *("\\frac{3}{5}", "1/3037000501", "\U0001d7d1"),
    ),
    "sudoku": (
        *("1", "12 ", "\\text{ or }", " " * 70, "x" * 70, "\\begin{array}{cc}", "\\hline", "\\end{array}", "\\frac"),
        "534678912672195348198342567859761423426853791713924856961537284287419635345286179",
    ),
    "math500": (
        r"( ) [ ] ^ _ 1 2 99 x y i e \pi \infty \pm \{ \} < \le \cup \sin \log \ln \binom \left \right ^\circ 0 \in cm "
        r"\$ \over \overline units or and \arcsin \lfloor \rfloor ' \mathbf _{ \sqrt[3] 10^ \exp ² ½ ٣"
    ).split(),
    "text": ("ham", "é", "ß", "İ", "ﬃ", "ﷺ"),
    "choice": ("A", "(A)", "c)", "Rome", "2", "Option ", "answer is ", "I", " - ", "\\textbf{", ".", "}"),
    "json": (
        *('"', '\\"', '{"a":', "[1,", "null", "true", "NaN", "1e9", "```json\n", "```\n", "```python\n", ": ", "-1"),
        "1e" + "9" * 30,
    ),
}  # fmt: skip


def judge(task: str, texts: list, references: list[dict], mode: str = "lenient") -> Verdicts:
    """One batch of completions, each with its reference."""
    names = dict.fromkeys(name for reference in references for name in reference)
    columns = {name: [reference.get(name) for reference in references] for name in names}
    return verify_batch(task, texts, mode=mode, **columns)


def built_in() -> list[str]:
    """The names of our own tasks but code, which runs in a guest; a new one needs a line in REFERENCES and in RIGHT."""
    names = {registry.find(name).name for name in registry._BUILT_IN} - {"code"}  # "math" is "math500"
    assert names <= set(REFERENCES), "give the new task references to be fuzzed with"
    return sorted(names)


def soup(task: str = "") -> st.SearchStrategy[str]:
    """Texts of a few pieces, bare, in a block, or in a box."""
    piece = (
        st.sampled_from((*PIECES, *RIGHT.get(task, ()), *OWN_PIECES.get(task, ())))
        | st.text(max_size=4)
        | st.characters(codec=None)
        | st.sampled_from(string.digits + "٣١𝟖")
        | st.text("0123456789.,/-= ", max_size=6)
    )
    body = st.lists(piece, max_size=15).map("".join)
    block = body.map("<answer>{}</answer>".format)
    return body | block | body.map(lambda text: f"<answer>\\boxed{{{text}}}</answer>")
