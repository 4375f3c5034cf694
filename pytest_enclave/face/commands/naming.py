"""What users call an enclave, or a service of one, found among those that there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import pytest

from pytest_enclave.face.commands.known import Known, Standing


def no_enclave(name: str, known: Sequence[Known]) -> str:
    """What to say where there is no enclave of that name."""
    return _unknown(f"there is no enclave `{name}`", name, [each.name for each in known], "there are no enclaves")


def find_service(asked: str, known: Sequence[Known], flag: str) -> tuple[Known, str]:
    """The enclave and the service of it that `NAME/SERVICE` or `SERVICE` stands for.

    Of several enclaves with such a service, the one that is in use, or else the one that was kept last. Raises
    pytest.UsageError, beginning with the option's `flag`.
    """
    enclave, slash, service = asked.rpartition("/")
    if slash:
        return _named(enclave, service, known, f"{flag}={asked}"), service
    having = [each for each in known if service in each.services]
    if not having:
        raise pytest.UsageError(f"{flag}={asked}: {_no_service(service, known)}")
    best = _best(having)
    if len(best) > 1:
        names = ", ".join(f"`{each.name}/{service}`" for each in best)
        raise pytest.UsageError(f"{flag}={asked}: {len(best)} enclaves have such a service; say which: {names}")
    return best[0], service


def _named(enclave: str, service: str, known: Sequence[Known], given: str) -> Known:
    found = next((each for each in known if each.name == enclave), None)
    if found is None:
        raise pytest.UsageError(f"{given}: {no_enclave(enclave, known)}")
    # A journal that cannot be read tells of no services; the engine knows them.
    if service not in found.services and not found.trouble:
        message = f"there is no service `{service}` in enclave `{enclave}`"
        raise pytest.UsageError(f"{given}: {_unknown(message, service, found.services, 'it has none')}")
    return found


def _best(having: Sequence[Known]) -> Sequence[Known]:
    """Those in use; else the one that was kept last; else all."""
    used = [each for each in having if each.standing is Standing.IN_USE]
    kept = [each for each in having if each.standing is Standing.KEPT]
    latest = sorted(kept, key=lambda each: (each.entry.kept_until or 0.0, each.entry.created))[-1:]
    return used or latest or having


def _no_service(service: str, known: Sequence[Known]) -> str:
    if not known:
        return "there are no enclaves"
    names = [f"{each.name}/{name}" for each in known for name in sorted(each.services)]
    near = difflib.get_close_matches(service, {name.rpartition("/")[2] for name in names}, 1)
    message = f"no enclave has a service `{service}`"
    if near:
        return f"{message}; did you mean `{near[0]}`?"
    return _unknown(message, service, names, "there are no services")


def _unknown(message: str, name: str, names: Iterable[str], none: str) -> str:
    known = sorted(names)
    near = difflib.get_close_matches(name, known, 1)
    listed = ", ".join(f"`{each}`" for each in known)
    told = f"there are {listed}" if len(known) > 1 else f"there is {listed}" if known else none
    return f"{message}; {f'did you mean `{near[0]}`? ' if near else ''}{told}"
