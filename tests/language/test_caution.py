"""Which code is evaluated in a process of its own: all that might build values the interpreter breaks on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_enclave.errors import InterpretationError
from pytest_enclave.language import caution
from pytest_enclave.language.normalise import normalise
from pytest_enclave.language.syntax import parse


def risky(text: str) -> bool:
    return caution.risky(parse(normalise(text), "main.star"))


def function(body: str, given: str = "plan, x = None") -> str:
    return f"def run({given}):\n" + "".join(f"    {line}\n" for line in body.splitlines())


INTO_ITSELF = {
    "append": function("l = []\nl.append(l)"),
    "extend": function("l = []\nl.extend([l])"),
    "insert": function("l = []\nl.insert(0, l)"),
    "index": function("l = [1]\nl[0] = l"),
    "key": function("d = {}\nd['d'] = d"),
    "setdefault": function("d = {}\nd.setdefault('d', d)"),
    "update": function("d = {}\nd.update({'d': d})"),
    "update by keyword": function("d = {}\nd.update(d = d)"),
    "added in place": function("l = []\nl += [l]"),
    "wrapped": function("l = []\nl.append({'l': (1, l)})"),
    "alias": function("l = []\nm = l\nm.append(l)"),
    "two aliases": function("l = []\nm = l\nn = l\nm.append(n)"),
    "alias of several": function("l, m = [], []\nn = l\nn.append(m)\nm.append(n)"),
    "by each other": function("a = []\nb = []\na.append(b)\nb.append(a)"),
    "inside": function("c = {}\nd = {'c': c}\nd['c']['d'] = d"),
    "in a list of itself": function("l = [[]]\nl[0].append(l)"),
    "while iterated": function("l = [[]]\nfor e in l:\n    e.append(l)"),
    "unpacked": function("l = [[]]\n[e] = l\ne.append(l)"),
    "assigned with others": function("l = [1]\na, l[0] = 1, l"),
    "by a loop's target": function("l = [1]\nfor l[0] in [l]:\n    pass"),
    "by a helper": "def put(l, v):\n    l.append(v)\n" + function("l = []\nput(l, l)"),
    "by a helper with keys": "def put(d, v):\n    d['d'] = v\n" + function("d = {}\nput(d, d)"),
    "by a helper's alias": "def put(l, v):\n    m = l\n    m.append(v)\n" + function("l = []\nput(l, l)"),
    "by what a helper gives back": "def same(v):\n    return v\n" + function("l = []\nl.append(same(l))"),
    "by a helper's list": "def same(v):\n    return v\n" + function("l = []\nsame(l).append(l)"),
    "by an inner function": function("l = []\ndef it():\n    return l\nl.append(it())"),
    "by two inner functions": function("l = []\ndef a():\n    return l\ndef b():\n    return a()\nl.append(b())"),
    "by an inner function that puts": function("l = []\ndef put(v):\n    l.append(v)\nput(l)"),
    "by a lambda": function("l = []\nput = lambda v: l.append(v)\nput(l)"),
    "by a lambda that gives": function("l = []\nf = lambda: l\nl.append(f())"),
    "in a comprehension": function("l = []\n[l.append(e) for e in [l]]"),
    "by a default": "def put(v, l = []):\n    l.append(v)\n    return l\n" + function("put(put(1))"),
    "global": "L = []\ndef put(v):\n    L.append(v)\nput(L)\n" + function("pass"),
    "at the top": "L = []\nL.append(L)\n" + function("pass"),
    "at the top, by a function": "L = []\ndef it():\n    return [L]\nL.append(it())\n" + function("pass"),
    "kept method": function("l = []\nf = l.append\nf(l)"),
    "kept insert": function("l = []\nf = l.insert\nf(0, l)"),
    "kept update": function("d = {}\nf = d.update\nf({'d': d})"),
    "method in a list": function("l = []\n[l.append][0](l)"),
    "method as an argument": "def do(f, v):\n    f(v)\n" + function("l = []\ndo(l.append, l)"),
    "method by name": function("l = []\ngetattr(l, 'append')(l)"),
    "method by another name": function("l = []\nn = 'app' + 'end'\ngetattr(l, n)(l)"),
    "getattr by another name": function("l = []\ng = getattr\ng(l, 'append')(l)"),
    "getattr as an argument": "def do(g, l):\n    g(l, 'append')(l)\n" + function("do(getattr, [])"),
    "a builtin's name": "def len(v):\n    return v\n" + function("l = []\nl.append(len(l))"),
    "a builtin's name in a loop": "def str(v):\n    return [v]\n" + function("for i in range(9):\n    x = str(x)"),
    "a type's name": "def PortSpec(v):\n    return [v]\n" + function("l = []\nl.append(PortSpec(l))"),
    "a method of a module": function("l = []\nl.append(x.format(l))"),
    "what was given": function("x.append(x)"),
    "what was given, inside": function("x['a']['b'] = x['c']"),
}

DEEP = {
    "list": function("for i in range(100000):\n    x = [x]"),
    "struct": function("for i in range(100000):\n    x = struct(x = x)"),
    "by another": function("for i in range(100000):\n    y = [x]\n    x = y"),
    "appended": function("for i in range(100000):\n    y = [1]\n    y.append(x)\n    x = y"),
    "assigned": function("for i in range(100000):\n    y = {}\n    y['x'] = x\n    x = y"),
    "helper": "def wrap(v):\n    return [v]\n" + function("for i in range(100000):\n    x = wrap(x)"),
    "zipped": function("for i in range(100000):\n    x = zip(x)"),
    "enumerated": function("for i in range(100000):\n    x = enumerate(x)"),
    "items": function("for i in range(100000):\n    x = {'x': x}.items()"),
    "in a dict": function("d = {'x': 1}\nfor i in range(100000):\n    d['x'] = [d['x']]"),
    "as keys": function("d = {(): 1}\nfor i in range(100000):\n    for k in list(d):\n        d[(k,)] = 1"),
    "popped": function("w = [1]\nfor i in range(100000):\n    w.append([w.pop()])"),
    "going down": function("r = {}\nc = r\nfor i in range(100000):\n    c['n'] = {}\n    c = c['n']"),
    "going down by another": function("c = {}\nfor i in range(100000):\n    c['n'] = {}\n    n = c['n']\n    c = n"),
    "going down, set by default": function("c = {}\nfor i in range(100000):\n    c = c.setdefault('n', {})"),
    "going down with a helper": (
        "def more(v):\n    v['n'] = {}\n" + function("c = {}\nfor i in range(9999):\n    more(c)\n    c = c['n']")
    ),
    "going down with an inner function": function(
        "c = {}\ndef more():\n    c['n'] = {}\nfor i in range(9999):\n    more()\n    c = c['n']"
    ),
    "appending and going down": function("c = []\nfor i in range(9999):\n    c.append([])\n    c = c[0]"),
    "closure": function("for i in range(9999):\n    x = (lambda y: lambda: y)(x)"),
    "inner function": function("for i in range(9999):\n    def f():\n        return f\n    x = f"),
    "line by line": function("x = [x]\n" * 5000),
    "line by line, appended": function("\n".join(f"l{i} = []\nl{i}.append(l{i - 1})" for i in range(1, 900))),
    "doubled calls": "def f0(v):\n    return [v]\n"
    + "".join(f"def f{i}(v):\n    return f{i - 1}(f{i - 1}(v))\n" for i in range(1, 18))
    + function("return f17(1)"),
}

SHARED = {
    "twice": function("for i in range(60):\n    x = [x, x]"),
    "line by line": function("x = [x, x]\n" * 60),
    "line by line, attributes": function("x = struct(a = x.a, b = x.b)\n" * 60),
    "by two names": function("y = x\nx = [x, y]\n" * 60),
    "appended twice": function("".join(f"l{i} = []\n" + f"l{i}.append(l{i - 1})\n" * 2 for i in range(1, 60))),
    "repeated": function("x = [x] * 2\n" * 60),
    "of a comprehension": function("x = [x for i in range(1000)]\n" * 9),
    "doubled calls": "def f0(v):\n    return [v, v]\n"
    + "".join(f"def f{i}(v):\n    return f{i - 1}(f{i - 1}(v))\n" for i in range(1, 8))
    + function("return f7(1)"),
}

PLAIN = {
    "services": function(
        "for number in range(10):\n    ports = {'http': PortSpec(number)}\n    for name in ['a', 'b']:\n"
        "        ports[name] = PortSpec(80 + number)\n"
        "    service = plan.add_service('s%d' % number, ServiceConfig('i', ports = ports))\n"
        "    plan.print(service.ip_address)"
    ),
    "lists of results": function(
        "all = []\nfor name in x:\n    all.append(plan.add_service(name, ServiceConfig('i')))\nreturn all"
    ),
    "environment": function("env = {}\nfor k, v in x.items():\n    env['APP_%s' % k] = str(v)\nreturn env"),
    "environment of others": function("x['A'] = 'b'\nx['C'] = str(x)\nx['D'] = '{}'.format(x)"),
    "ports of others": function("x['http'] = PortSpec(number = 80)"),
    "command": function("cmd = ['run']\nif x:\n    cmd.append('--x=' + x)\n    cmd += ['--y', x]\n    cmd.extend(x)"),
    "texts": function("text = ''\nfor line in x:\n    text = text + line\n    text += '\\n'\nreturn text"),
    "counts": function("n = 0\nfor i in x:\n    n += 1\n    plan.print(n)\nreturn n"),
    "nested": function("c = {'a': {'b': []}}\nc['a']['b'] = 'c'\nc['a']['d'] = {}\nreturn c"),
    "sorted": function("return sorted(x, key = lambda item: item.name)"),
    "merged": "def merged(a, b):\n    c = dict(a)\n    c.update(b)\n    return c\n" + function("return merged(x, {})"),
    "templates": function("return plan.render_templates({'/a': struct(template = 'b', data = {'x': x})})"),
    "constants": "A = {'b': ['c']}\nB = struct(a = A, c = [A])\n" + function("return [B.a, A]"),
    "many functions": "".join(f"def f{i}(plan, v):\n    return struct(a = v, b = [v])\n" for i in range(50))
    + function("\n".join(f"a{i} = f{i}(plan, x)" for i in range(50))),
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in INTO_ITSELF.items()])
def test_values_that_may_hold_themselves(text: str) -> None:
    assert risky(text)


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in DEEP.items()])
def test_values_that_may_be_deep(text: str) -> None:
    assert risky(text)


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in SHARED.items()])
def test_values_that_may_be_shared_too_often(text: str) -> None:
    assert risky(text)


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in PLAIN.items()])
def test_what_packages_do_needs_no_care(text: str) -> None:
    assert not risky(text)


USES = {
    "shown": "str(made())",
    "formatted": "'%s' % made()",
    "compared": "made() == made()",
    "ordered": "sorted([made(), made()])",
    "looked for": "made() in [made()]",
    "encoded": "json.encode(made())",
    "decoded": "json.decode(made())",
    "indented": "json.indent(made())",
    "hashed": "{made(): 1}",
    "in a message": "'a'.startswith(made())",
    "printed": "plan.print(made())",
    "put into a service": "plan.add_service('a', ServiceConfig('i', env_vars = made()))",
    "failed with": "fail(made())",
}

MADE = {
    "a list in itself": "def made():\n    l = []\n    l.append(l)\n    return l\n",
    "a list twice in itself": "def made():\n    l = []\n    l.append(l)\n    l.append(l)\n    return l\n",
    "a dict in itself": "def made():\n    d = {}\n    d['d'] = d\n    return d\n",
    "deep": "def made():\n    x = ()\n    for i in range(100000):\n        x = (x,)\n    return x\n",
    "shared": "def made():\n    x = ()\n    for i in range(60):\n        x = (x, x)\n    return x\n",
}


def error_of(plan_of: Callable[..., Any], text: str, timeout: float) -> InterpretationError | None:
    try:
        plan_of(text, timeout=timeout)
    except InterpretationError as error:
        return error
    return None


@pytest.mark.parametrize("use", [pytest.param(text, id=name) for name, text in USES.items()])
@pytest.mark.parametrize("made", [pytest.param(text, id=name) for name, text in MADE.items()])
def test_whatever_is_done_with_them_ends_in_an_error_or_a_value(
    plan_of: Callable[..., Any], made: str, use: str
) -> None:
    started = time.monotonic()
    error = error_of(plan_of, f"{made}def run(plan):\n    x = {use}\n", 0.5)
    assert error is None or (error.location and error.location.file == "<source>")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in MADE.items()])
def test_freezing_them_ends_in_an_error_or_a_value(plan_of: Callable[..., Any], text: str) -> None:
    error = error_of(plan_of, f"{text}X = made()\nF = lambda: X\ndef run(plan, x = X):\n    pass\n", 2)
    assert error is None or "nested too deeply" in error.message


def test_a_process_that_broke_down_is_told_as_what_it_is(plan_of: Callable[..., Any]) -> None:
    with pytest.raises(InterpretationError) as caught:
        plan_of(f"{MADE['deep']}X = made()\ndef run(plan):\n    pass\n")
    assert caught.value.message == (
        "the interpreter broke down over this file: a value in it is nested too deeply, or contains itself"
    )
    assert caught.value.remedy == "look for a loop that puts a value into its own successor, as `x = [x]` does"
    assert str(caught.value.location) == "<source>"


STATEMENTS = [
    *("a = [b]", "a = b", "b = a", "a.append(b)", "b['k'] = a", "a[0] = c", "c = {'a': a}", "b = dict(a)", "a += [c]"),
    *("c = f(a)", "f(a, b)", "a = c['k']", "c.setdefault('k', a)", "b = a[0]", "c = [a, b]", "a = []", "b = {}"),
    *("c = (a,)", "a = c.get('k')", "c = [a for i in b]", "a.insert(0, c)", "b.update(c)", "c['k'] = {}", "a = 1"),
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=6), st.booleans())
def test_no_code_found_harmless_nests_deeper_than_it_is_long(statements: list[str], loop: bool) -> None:
    """As Python, which has the same statements: what is made then is looked at."""
    text = "def f(*v):\n    return list(v)\n" + function(
        "a, b, c = [], {}, []\n"
        + ("for i in range(50):\n" if loop else "")
        + "\n".join(f"{'    ' if loop else ''}{statement}" for statement in statements),
        "plan",
    )
    if not risky(text):
        for value in _as_python(statements, 50 if loop else 1):
            assert _depth(value) < 30


def _as_python(statements: list[str], times: int) -> list[Any]:
    names: dict[str, Any] = {"a": [], "b": {}, "c": [], "f": lambda *v: list(v)}
    for _ in range(times):
        for statement in statements:
            try:
                exec(statement, names)
            except Exception:
                break
    return [names["a"], names["b"], names["c"]]


def _depth(value: Any, limit: int = 40) -> int:
    if limit and isinstance(value, (list, tuple, dict)):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max((_depth(each, limit - 1) for each in list(inner)[:3]), default=0)
    return 0
