"""The `Service` value that scripts get: plain where the plan already knows, future references where it cannot."""

from __future__ import annotations

from functools import lru_cache

from pytest_enclave.engine.protocol import Address
from pytest_enclave.golang.duration import parse, render
from pytest_enclave.plan.canonical import without_descriptions
from pytest_enclave.plan.futures import producer_of_service, reference
from pytest_enclave.plan.service import field
from pytest_enclave.plan.values import Struct, Value, to_canonical


def service_object(name: str, config: Struct) -> Struct:
    """`Service(name, hostname, ip_address, ports)` of a service with that config (behaviour.md §1.2)."""
    producer = producer_of_service(name)
    return Struct(
        "Service",
        {
            "name": name,
            "hostname": reference(producer, "hostname"),
            "ip_address": reference(producer, "ip_address"),
            "ports": {port_id: _port(name, port) for port_id, port in config.get("ports", {}).items()},
        },
    )


def _port(service: str, spec: Struct) -> Struct:
    application_protocol = spec.get("application_protocol")
    url = spec.get("url")
    if url is None and application_protocol:
        url = f"{application_protocol}://{service}:{spec.fields['number']}"
    return _shown_port(
        spec.fields["number"], field(spec, "transport_protocol"), application_protocol, field(spec, "wait"), url
    )


@lru_cache(maxsize=256)
def _shown_port(
    number: int, transport_protocol: str, application_protocol: str | None, wait: str | None, url: str | None
) -> Struct:
    """The port as scripts see it. Equal ones are the same value, however many services have them."""
    fields: dict[str, Value] = {"number": number, "transport_protocol": transport_protocol}
    if application_protocol is not None:
        fields["application_protocol"] = application_protocol
    if wait is not None:
        fields["wait"] = _as_go_writes(wait)
    if url is not None:
        fields["url"] = url
    return Struct("PortSpec", fields)


@lru_cache(maxsize=64)
def _as_go_writes(duration: str) -> str:
    return render(parse(duration))


def service_values(name: str, address: Address) -> dict[str, dict[str, Value]]:
    """What adding the service has produced: its hostname and address, under its own producer."""
    return {producer_of_service(name): {"hostname": address.hostname, "ip_address": address.ip_address}}


def config_text(config: Struct) -> str:
    """The canonical text of a service's config: equal texts, equal services (but for what the text only names)."""
    return to_canonical(without_descriptions(config))
