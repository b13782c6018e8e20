"""C folded by what is known: what goes, what stays as it was, and what is refused."""

from __future__ import annotations

import pytest

from stress.agent import find_sources
from stress.amalgam import Amalgam
from stress.cfold import fold
from stress.csource import Item, SourceError, read_asm, read_c
from stress.cvalue import Known

KNOWN = Known(
    constants={"PLAN_WINDOW": 0, "PLAN_N_PADS": 0, "PLAN_VIA": 2, "ONE": 1, "TWO": 2, "FEW": 3},
    zeros=frozenset({"never_set"}),
    unread=frozenset({"never_read"}),
    empty=frozenset({"nothing"}),
    pure=frozenset({"look"}),
    never=frozenset({"IMPOSSIBLE"}),
)


def folded(body: str, known: Known = KNOWN) -> str:
    """The body of a function, a level of tabs taken off, after folding."""
    lines = "".join(f"\t{line}\n" if line else "\n" for line in body.strip("\n").splitlines())
    text = fold(f"static int f(struct plan *plan, int x)\n{{\n{lines}}}", known)
    return "\n".join(line.removeprefix("\t") for line in text.splitlines()[2:-1])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if (plan->window)\n\ta();\nb();", "b();"),
        ("if (plan->window)\n\ta();\nelse\n\tb();", "b();"),
        ("if (!plan->window) {\n\ta();\n\tb();\n}", "a();\nb();"),
        ("if (x)\n\ta();\nelse if (plan->window)\n\tb();\nelse\n\tc();", "if (x)\n\ta();\nelse\n\tc();"),
        ("if (x)\n\ta();\nelse if (plan->window)\n\tb();", "if (x)\n\ta();"),
        ("if (x)\n\ta();\nelse if (ONE) {\n\tb();\n\tc();\n}", "if (x)\n\ta();\nelse {\n\tb();\n\tc();\n}"),
        ("while (x)\n\tif (ONE) {\n\t\tb();\n\t\tc();\n\t}", "while (x)\n\t{\n\t\tb();\n\t\tc();\n\t}"),
        ("while (x)\n\tif (ONE)\n\t\tb();", "while (x)\n\tb();"),
        ("while (x)\n\tfor (int i = 0; i < ONE; i++)\n\t\ta(i);", None),
        ("if (x && plan->window)\n\ta();", ""),
        ("if (x || plan->window)\n\ta();", "if (x)\n\ta();"),
        ("return plan->window ? x : y;", "return y;"),
        ("/* Why. */\nif (plan->window)\n\ta();\nb();", "b();"),
        ("/* Why. */\nif (!plan->window)\n\ta();", "/* Why. */\na();"),
        ("for (int i = 0; i < plan->n_pads; i++)\n\ta(i);\nb();", "b();"),
        ("for (int i = 0; i < ONE; i++)\n\ta(i);", "a(0);"),
        ("for (int i = 0; i < FEW; i++)\n\ta(i);", "for (int i = 0; i < FEW; i++)\n\ta(i);"),
        ("switch (plan->via) {\ncase ONE:\n\ta();\n\tbreak;\ncase TWO:\n\tb();\n\tbreak;\n}", "b();"),
        ("switch (plan->via) {\ncase ONE:\n\treturn 1;\ndefault:\n\treturn 2;\n}", "return 2;"),
        ("f->never_read = look();\na();", "a();"),
        ("f->never_read = a();", "f->never_read = a();"),
        ("f->never_set = 0;\nif (f->never_set)\n\ta();", ""),
        ("if (v == IMPOSSIBLE)\n\ta();", ""),
        ("nothing(x);\na();", "a();"),
        ("bool w = plan->window, y = x;\n\na(w, y);", "bool y = x;\n\na(0, y);"),
        ("return a();\nb();", "return a();"),
        ("if (x)\n\treturn 0;\nif (x)\n\ta();", "if (x)\n\treturn 0;"),
        ("n += 0;\na(n + 0);", "a(n);"),
        ("a(x);\t/* volatile: it changes */", "a(x);\t/* volatile: it changes */"),
    ],
)
def test_what_is_known_decides(before: str, after: str | None) -> None:
    assert folded(before).strip() == (before if after is None else after).strip()


def test_a_condition_with_an_effect_stays() -> None:
    assert "a()" in folded("if (a() && plan->window)\n\tb();")


def test_what_is_no_c_is_refused() -> None:
    with pytest.raises(SourceError, match="no C"):
        fold("static int f(void)\n{\n\tif (\n}", KNOWN)
    with pytest.raises(SourceError, match="not ASCII"):
        fold("static int f(void)\n{\n\t/* \N{MICRO SIGN} */\n}", KNOWN)


def program(*texts: str, known: Known = KNOWN) -> str:
    """What is left of a program that consists of these items."""
    items = []
    for text in texts:
        kind = "type" if text.startswith("struct") else "enum" if text.startswith("enum") else "function"
        name = text.split("(")[0].split()[-1].strip("*") if kind == "function" else " ".join(text.split()[:2])
        items.append(Item("x.c", kind, name, text))
    return "\n".join(item.text for item in Amalgam(items, known, frozenset()).run())


def test_only_what_main_reaches_is_taken() -> None:
    left = program(
        "static int a(void)\n{\n\treturn 1;\n}",
        "static int b(void)\n{\n\treturn 2;\n}",
        "int main(void)\n{\n\treturn b() + b();\n}",
    )
    assert "int b(" in left
    assert "int a(" not in left


def test_parameters_that_tell_nothing_go_with_their_arguments() -> None:
    left = program(
        "static int a(int used, int unused, int constant)\n{\n\tlook();\n\treturn used + constant;\n}",
        "int main(int n, char **v)\n{\n\treturn a(n, 5, TWO) + a(n + 1, 6, TWO);\n}",
    )
    assert "a(int used)" in left
    assert "return used + TWO;" in left
    assert "a(n) + a(n + 1)" in left


def test_members_and_constants_that_nobody_mentions_go() -> None:
    left = program(
        "struct s {\n\tint kept;\n\tint gone;\t/* with its comment */\n\tint zero;\n};",
        "enum e {\n\tA_ZERO,\n\tA_GONE,\n\tA_USED\n};",
        "int main(int n, char **v)\n{\n\tstruct s s = { .kept = n, .gone = A_GONE };\n\n"
        "\tif (s.zero)\n\t\treturn 3;\n\treturn s.kept == A_USED;\n}",
    )
    assert "int kept;" in left
    for word in ("gone", "zero;", "comment", "A_GONE", "return 3"):
        assert word not in left
    assert "A_ZERO" in left  # memory that nobody set holds it


def test_assembly_is_taken_by_label_and_with_what_it_falls_into() -> None:
    names = [item.name for item in read_asm(find_sources() / "arch" / "x86_64" / "loops.S", "loops.S")]
    assert names.index("loop_leave") == names.index("loop_news") + 1
    assert "xmc_arch_step_cpuid" in names


def test_every_source_of_the_core_can_be_read() -> None:
    found = [item for path in find_sources().glob("*.c") for item in read_c(path, path.name)]
    assert len(found) > 200
