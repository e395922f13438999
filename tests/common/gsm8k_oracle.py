        texts, gold = {right: text, edited: changed}, f"{value.numerator}/{value.denominator}"
        yield Case(
            right, edited, {"answer": gold}, lambda said, texts=texts, value=value: oracle(texts[said], value)
        )
