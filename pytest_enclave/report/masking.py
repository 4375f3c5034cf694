"""Secrets are never shown.

What is a secret: the value of an environment variable (`env_vars` of a `ServiceConfig`, of `run_sh` and the like, and
`build_args`) whose name has a word ending in KEY, TOKEN, PASSWORD, PASSWD, PASSPHRASE, SECRET or CREDENTIAL, or the
same in the plural: `API_KEY`, `PGPASSWORD`, `accessToken`; KEY must be the whole word, so `KEYBOARD` and `MONKEY` are
none. And the `password` of an `ImageSpec`, and that in a URL of `upload_files`, encoded or not. The name in such a URL
is a token where there is no password, or GitHub's word for none: `https://TOKEN@host/`.

How it is masked: from 8 characters on wherever it occurs, shorter ones (from 4) only as whole words, so that a password
`pass` does not garble `password`. Its forms inside string literals, JSON and URLs are masked too.

What is left readable although its name says otherwise: values of up to 3 characters, plain words such as `true`, and
words that the plan shows anyway as a service's or an image's name. The password `postgres` of the image `postgres:16`
is nobody's secret, and masking it would take the report's nouns away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from urllib.parse import quote as url_quote
from urllib.parse import unquote

import msgspec

from pytest_enclave.plan.futures import Future, find
from pytest_enclave.plan.instruction import Instruction, Plan
from pytest_enclave.plan.record import Origin
from pytest_enclave.plan.values import Struct, Value, quote
from pytest_enclave.report.text import written

MASK = "••••"
SHORTEST = 4
ANYWHERE = 8

# Compiled where they are used first: most sessions have neither secrets nor failures.
_WORDS = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"
_TELLING = r"(?i)(?:API)?KEYS?|\w*(?:TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIAL)S?"
_ENTRY = r"""["']([A-Z][A-Z0-9_]*)["']\s*:\s*["']([^"'\n]+)["']"""
_USER_IN_URL = r"(?i)https?://([^/?#]+)@"
_USER_IN_SOURCE = r"""(?i)https?://([^/?#\s"'{}]+)@"""
_PASSWORD_IN_URL = r"(\w://[^/?#\s:@]*:)[^/?#\s@]+@"
_NO_PASSWORDS = ("", "x-oauth-basic")
_PASSWORD = r"""\bpassword\s*=\s*["']([^"'\n]+)["']"""
_IMAGE = r"""\bimage\s*=\s*["']([^"'\n]+)["']"""
_ORDINARY = frozenset({"true", "false", "none", "null", "auto", "default", "enabled", "disabled", "required"})


def is_secret_name(name: str) -> bool:
    """Whether a variable of that name holds a secret."""
    return any(re.fullmatch(_TELLING, word) for word in re.findall(_WORDS, name))


class Secrets(msgspec.Struct, frozen=True, dict=True):
    """Texts not to be shown, and future references whose values are not to be shown."""

    texts: frozenset[str] = frozenset()
    futures: frozenset[Future] = frozenset()

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        return _pattern_of(self.texts)

    @classmethod
    def of_plan(cls, plan: Plan) -> Secrets:
        """Every secret in the plan's environment variables."""
        return cls.of_instructions(plan.instructions)

    @classmethod
    def of_instructions(cls, instructions: Iterable[Instruction]) -> Secrets:
        """Every secret in these instructions' environment variables."""
        return cls._of_values([dict(call.arguments) for call in instructions])

    @classmethod
    def of_configs(cls, services: Mapping[str, Value]) -> Secrets:
        """Every secret in the environment variables of services with these configs, by name."""
        return cls._of_values([{"configs": dict(services)}])

    @classmethod
    def _of_values(cls, given: Sequence[Value]) -> Secrets:
        values = {value for each in given for value in _secret_values(each)}
        if not values:
            return cls()
        shown = {name for each in given for name in _shown_names(each)}
        futures = frozenset(future for value in values for future in find(value))
        literals = {text for value in values for text in _without_futures(value)}
        return cls(frozenset(text for text in literals if _worth_masking(text) and text not in shown), futures)

    @classmethod
    def of_sources(cls, sources: Mapping[str, str]) -> Secrets:
        """Secrets in source text, for a package that yields no plan: `"DB_PASSWORD": "…"`, names in capitals only.

        And `password = "…"`, and what is secret in URLs.
        """
        shown = {part for text in sources.values() for match in re.finditer(_IMAGE, text) for part in _parts(match[1])}
        pairs = (match for text in sources.values() for match in re.finditer(_ENTRY, text))
        found = {match[2] for match in pairs if is_secret_name(match[1])}
        found |= {match[1] for text in sources.values() for match in re.finditer(_PASSWORD, text)}
        found |= {part for text in sources.values() for part in _secrets_of_users(re.findall(_USER_IN_SOURCE, text))}
        return cls(frozenset(text for text in found if _worth_masking(text) and text not in shown))

    def __or__(self, other: Secrets) -> Secrets:
        if other.texts <= self.texts and other.futures <= self.futures:
            return self
        return Secrets(self.texts | other.texts, self.futures | other.futures)

    def with_origins(self, origins: Iterable[Origin]) -> Secrets:
        """These, and the values that became known for secret references, or under a secret's name."""
        known = {
            origin.value if isinstance(origin.value, str) else written(origin.value)
            for origin in origins
            if Future(origin.step.instruction.producer, origin.field) in self.futures or is_secret_name(origin.field)
        }
        return Secrets(self.texts | {text for text in known if _worth_masking(text)}, self.futures)

    def mask(self, text: str) -> str:
        """The text with `••••` in place of every secret."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def shown_arguments(args: str) -> str:
    """Arguments of a package, as JSON, without what a name tells to be secret, nor passwords in URLs."""
    return json.dumps(_without_secrets(json.loads(args)), ensure_ascii=False)


def _without_secrets(value: object) -> object:
    if isinstance(value, dict):
        return {
            name: MASK if inner and is_secret_name(name) else _without_secrets(inner) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    if not isinstance(value, str):
        return value
    tokens = Secrets(frozenset(_secrets_of_users(re.findall(_USER_IN_URL, value))))
    return re.sub(_PASSWORD_IN_URL, rf"\1{MASK}@", tokens.mask(value))


def _worth_masking(text: str) -> bool:
    return len(text.strip()) >= SHORTEST and text.strip().lower() not in _ORDINARY


def _secret_values(value: Value) -> Iterator[str]:
    """Passwords for registries and in URLs, and values of secret variables, at any depth."""
    for name, item in _named_items(value):
        if isinstance(item, Struct) and item.kind == "ImageSpec" and isinstance(item.get("password"), str):
            yield item.fields["password"]
        if name == "src" and isinstance(item, str):
            yield from _secrets_of_users(re.findall(_USER_IN_URL, item))
        if name in ("env_vars", "build_args") and isinstance(item, Mapping):
            for key, text in item.items():
                if is_secret_name(str(key)):
                    yield text if isinstance(text, str) else written(text)
        yield from _secret_values(item)


def _secrets_of_users(users: Iterable[str]) -> Iterator[str]:
    """The password of each `user:password`, or the user where that is the secret: as it is written, and decoded."""
    for user in users:
        name, _, password = user.partition(":")
        secret = name if password in _NO_PASSWORDS else password
        yield from (secret, unquote(secret))


def _shown_names(value: Value) -> Iterator[str]:
    """Names that reports are full of: of services, and each part of an image's reference."""
    for name, item in _named_items(value):
        if name in ("name", "service_name") and isinstance(item, str):
            yield item
        elif name in ("image", "image_name") and isinstance(item, str):
            yield from _parts(item)
        elif name == "configs" and isinstance(item, Mapping):
            yield from item
        yield from _shown_names(item)


def _parts(reference: str) -> list[str]:
    return [reference, *re.split(r"[/:@]", reference)]


def _named_items(value: Value) -> Iterator[tuple[str, Value]]:
    if isinstance(value, Struct):
        yield from value.fields.items()
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from (("", item) for item in value)


def _without_futures(text: str) -> list[str]:
    """The text, or the pieces between the future references in it."""
    pieces = [text]
    for future in find(text):
        pieces = [part for piece in pieces for part in piece.split(str(future))]
    return pieces


def _pattern_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    forms = {form for text in texts for form in _forms(text)}
    if not forms:
        return None
    # The longest first: a secret may begin with another one.
    return re.compile("|".join(map(_as_pattern, sorted(forms, key=lambda form: (-len(form), form)))))


def _forms(text: str) -> set[str]:
    """The ways a secret may be written: raw, in literals, in literals within texts, in URLs, and line by line."""
    in_literal = quote(text)[1:-1]
    in_url = url_quote(text, safe="", errors="replace")
    lines = {part.strip() for part in text.splitlines()} if "\n" in text else set()
    found = {text, text.strip(), in_literal, quote(in_literal)[1:-1], repr(text)[1:-1], in_url, *lines}
    return {form for form in found if len(form) >= SHORTEST}


def _as_pattern(form: str) -> str:
    if len(form) >= ANYWHERE:
        return re.escape(form)
    return rf"(?<![^\W_]){re.escape(form)}(?![^\W_])"
