"""The names that a package's files find without defining them (behaviour.md §3.1, §3.2)."""

from __future__ import annotations

from pytest_enclave.plan.config_types import CONFIG_TYPES

NATIVE = (
    *("abs", "all", "any", "bool", "chr", "dict", "enumerate", "float", "getattr", "hasattr", "hash", "len"),
    *("list", "max", "min", "ord", "reversed", "sorted", "struct", "tuple", "zip"),
)
"""The interpreter's own, which behave as in Go."""

REPLACED = ("dir", "fail", "int", "json", "kurtosis", "print", "range", "repr", "str", "time", "type")
"""Provided by the prelude, the same for every file."""

PER_FILE = ("import_module", "read_file")
"""Provided by the prelude, knowing the file they are called from."""

PREDECLARED = frozenset((*NATIVE, *REPLACED, *PER_FILE, *CONFIG_TYPES))
