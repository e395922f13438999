r"""Mode `flexible`: the value that a completion of GSM8K or MATH ends with where it marks no answer.

"So, the ladders cost 96 dollars.", `= 18 eggs`. The mode is for files of other people's models. It judges the last
number or closed formula (`$...$`, `\(...\)`, `\[...\]`) of the last sentence that has one. `values` says where a value
begins and ends, `sentences` how much each counts in its sentence, `lists` which ones are one list, and `answer` which
one is judged. Their words are in `words`. Nothing is compiled; every scan is linear.
"""
