"""Runs beside the judged program in the sealed interpreter: it calls the function, and reports what was returned.

Nothing imports this file: `judge` sends it into the guest as byte code. It has no expected value and no secret, because
the program can read and replace anything here. Its reports are only claims about returned values.
"""

import atexit
import io
import json
import os
import sys
import time
import types

from _host import call  # answered by interpreter.py, which also limits the guest's memory (MEMORY)

names = {"__builtins__": {}, "set": set, "frozenset": frozenset}  # the names that `repr` writes
names |= {"inf": float("inf"), "nan": float("nan"), "infj": complex("infj"), "nanj": complex("nanj")}
# Kept under names of our own, before the judged program can replace them.
quoted, evaluate = json.encoder.encode_basestring_ascii, eval


class Nowhere(io.RawIOBase):
    """A file that drops what is written to it; it stands for standard output and standard error."""

    def writable(self):
        return True

    def write(self, data):
        return len(data)


class Descriptor(io.BytesIO):
    """The bytes of standard input or output; `number` is the descriptor that programs read or write them by."""

    def fileno(self):
        return self.number


def start_at_once(thread):
    """Runs a thread to its end when it is started, since the interpreter has no threads."""
    thread._started.set()
    thread.run()


def encode(value, depth=40):
    """The value as the JSON of `values`, read only with the methods of the base classes."""
    kind = type(value)
    if value is None or kind is bool:
        return {None: "null", True: "true", False: "false"}[value]
    if not depth:
        raise RecursionError
    if issubclass(kind, str):
        return quoted(str.__str__(value))
    if issubclass(kind, int):
        return f'{{"$int":"{int.__int__(value):x}"}}'
    if issubclass(kind, float):
        return f'{{"$float":"{float.__repr__(value)}"}}'
    if issubclass(kind, complex):
        parts = complex.real.__get__(value), complex.imag.__get__(value)
        return f'{{"$complex":["{parts[0]!r}","{parts[1]!r}"]}}'
    if issubclass(kind, dict):
        pairs = [f"[{encode(name, depth - 1)},{encode(item, depth - 1)}]" for name, item in dict.items(value)]
        return f'{{"$dict":[{",".join(pairs)}]}}'
    for base, tag in ((list, ""), (tuple, "$tuple"), (set, "$set"), (frozenset, "$set")):
        if issubclass(kind, base):
            items = f"[{','.join([encode(item, depth - 1) for item in base.__iter__(value)])}]"
            return f'{{"{tag}":{items}}}' if tag else items
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.generic):
        return encode(numpy.generic.item(value), depth - 1)
    return '{"$other":true}' if value else '{"$other":false}'


def program(codes):
    """A function of a text, which runs a whole program with the text as its input, and returns what it printed."""

    real_open, real_read, real_write, real_fstat = open, os.read, os.write, os.fstat
    numbers = {0: 0, "/dev/stdin": 0, "/dev/fd/0": 0, 1: 1, "/dev/stdout": 1, "/dev/fd/1": 1}

    def run(text):
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        given, printed = Descriptor(text.encode("utf-8", "surrogatepass")), Descriptor()
        given.number, printed.number = 0, 1
        size = len(given.getbuffer())
        sys.stdin = sys.__stdin__ = io.TextIOWrapper(given, "utf-8")
        # Kept under a name, because it closes `printed` when nothing refers to it.
        sys.stdout = sys.__stdout__ = out = io.TextIOWrapper(
            printed, "utf-8", "surrogateescape", write_through=True
        )

        def opened(file, mode="r", *args, **kwargs):  # `open(0)` and `os.fdopen(0)` are standard input
            if file not in numbers:
                return real_open(file, mode, *args, **kwargs)
            stream = (sys.__stdin__, out)[numbers[file]]
            return stream.buffer if "b" in mode else stream

        def written(number, data):
            return (
                printed.write(data) if number == 1 else len(data) if number == 2 else real_write(number, data)
            )

        def state(number):
            return os.stat_result((0o100600, *[0] * 5, size, *[0] * 3)) if number == 0 else real_fstat(number)

        module.open = os.fdopen = opened
        os.read = lambda number, count: given.read(count) if number == 0 else real_read(number, count)
        os.write, os.fstat = written, state
        try:
            for code in codes:
                exec(code, module.__dict__)
        except SystemExit:  # as most programs end
            pass
        finally:
            own = sys.stdout  # perhaps a stream of the program's own, which closes `printed` like `out`
            try:
                atexit._run_exitfuncs()
                own.flush()
            finally:
                sys.stdout = sys.__stdout__ = sink
        out.flush()
        return printed.getvalue().decode("utf-8", "replace")

    return run


def compiled(sources):
    """The byte code of each source; None for a source that does not compile."""
    try:
        return [compile(source, "solution.py", "exec", dont_inherit=True) for source in sources]
    except BaseException:
        return None


def load(entry, ways):
    """(report, function) of a program; the function is None unless the report is L, for a program that is loaded.

    Other reports: S, the program does not compile; Q, it ends itself; M, it lacks a module; X, it raises; N, it does
    not define the function. entry: the function's name; "" for a whole program, `Class.method` for a method, for which
    each call makes an object. ways: lists of sources; the first list that compiles is run.
    """
    module = sys.modules["solution"] = types.ModuleType("solution")
    for sources in ways:
        codes = compiled(sources)
        if codes is not None:
            break
    else:
        return b"S", None
    if not entry:
        return b"L", program(codes)
    try:
        for code in codes:
            exec(code, module.__dict__)
    except SystemExit:
        return b"Q", None
    except ModuleNotFoundError:
        return b"M", None
    except BaseException:
        return b"X", None
    name, _, method = entry.partition(".")
    function = made = module.__dict__.get(name)
    if method and not getattr(made, method, None):
        return b"N", None
    if method:

        def function(*args, **kwargs):
            return getattr(made(), method)(*args, **kwargs)

    return (b"L", function) if callable(function) else (b"N", None)


def answer(function, text):
    """The reply to a call: V and the returned value; Q if the call ends the program, M if a module is missing, else E.

    text: the (args, kwargs) of the call, as Python. E: the call raises, or its value cannot be written.
    """
    try:
        args, kwargs = evaluate(text, names)
        return b"V" + encode(function(*args, **kwargs)).encode()
    except SystemExit:
        return b"Q"
    except ModuleNotFoundError:
        return b"M"
    except BaseException:
        return b"E"


os.close(1)
os.close(2)
sink = io.TextIOWrapper(io.BufferedWriter(Nowhere()), "utf-8", "surrogateescape")
sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = sink
time.sleep = lambda seconds: None  # the clock of the host must not decide
sys.set_int_max_str_digits(0)  # the fuel bounds how long a number can be written
entry, *ways = json.loads(call(b""))
if any("random" in source for sources in ways for source in sources):
    import random

    random.seed(0)
if any("threading" in source for sources in ways for source in sources):
    import threading

    threading.Thread.start = start_at_once
    threading.Thread.join = lambda thread, timeout=None: None
    threading.stack_size = lambda size=0: 0
report, function = load(entry, ways)
text = call(report)
while text:
    text = call(answer(function, text))
