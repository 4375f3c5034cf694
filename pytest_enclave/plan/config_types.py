"""The named types that packages construct: their fields, and what each field may be (behaviour.md §2).

One table, read by the language room (constructors), by `service.py` and `recipes.py` (typed views), and by the docs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec

from pytest_enclave.plan import checks
from pytest_enclave.plan.comparison import ASSERTIONS
from pytest_enclave.plan.image_sources import ANY_IMAGE, BUILD_FILE, wrong_image_spec
from pytest_enclave.plan.parameters import DESCRIPTION, Parameter, Substitution
from pytest_enclave.plan.rights import RIGHTS, refused_rights
from pytest_enclave.plan.values import Struct, Value

RECIPES = ("ExecRecipe", "GetHttpRequestRecipe", "PostHttpRequestRecipe")
HTTP_RECIPES = RECIPES[1:]
TRANSPORT_PROTOCOLS = ("TCP", "UDP", "SCTP")

EXTRACT = Parameter("extract", checks.STRING_DICT)
PORT_ID = Parameter("port_id", checks.NON_EMPTY_STRING, required=True)
ENDPOINT = Parameter("endpoint", checks.STRING, required=True)
HEADERS = Parameter("headers", checks.dict_of(checks.HEADER_VALUE, key=checks.HEADER_NAME))


STORED_NAME = checks.matching(
    r"(?!.*\{\{kurtosis:)[^/\x00-\x1f\x7f]{1,255}",
    "a name of up to 255 characters, known before execution, without `/`",
)
"""What a files artifact can be called."""

SUBNETWORK = checks.matching(r"(?s)(?!.*\{\{kurtosis:).+", "a non-empty string, known before execution")
"""What a subnetwork can be called."""


class ConfigType(msgspec.Struct, frozen=True):
    """A constructor: its fields in declared order, and a check of the whole beyond those of the fields.

    `defaults` has what holds for each field that is not given, `deprecated` what should be used instead of a field.
    `names_context`: whether a field names the directory that an image is built from.
    """

    name: str
    fields: tuple[Parameter, ...]
    deprecated: Mapping[str, str]
    check: Callable[[Mapping[str, Value]], Mapping[str, str]]
    defaults: Mapping[str, Value]
    names_context: bool


def _no_further_check(_: Mapping[str, Value]) -> Mapping[str, str]:
    return {}


def _iterable_target(fields: Mapping[str, Value]) -> Mapping[str, str]:
    """IN and NOT_IN need something to look in; told at once, not at every try (behaviour.md §1.7 [D])."""
    if fields["assertion"] in ("IN", "NOT_IN") and not isinstance(fields["target_value"], (list, tuple, dict)):
        return {"target_value": f"must be a list for `{fields['assertion']}`"}
    return {}


def _type(
    name: str,
    *fields: Parameter,
    deprecated: Mapping[str, str] | None = None,
    check: Callable[[Mapping[str, Value]], Mapping[str, str]] = _no_further_check,
) -> ConfigType:
    declared = (*fields, DESCRIPTION)
    return ConfigType(
        name,
        declared,
        deprecated or {},
        check,
        defaults={field.name: field.default for field in declared},
        names_context=any(field.context for field in fields),
    )


def _one_content(fields: Mapping[str, Value]) -> Mapping[str, str]:
    """A directory has the files of artifacts, or what services wrote (behaviour.md §2.6)."""
    if "artifact_names" in fields and "persistent_key" in fields:
        return {
            "persistent_key": "cannot be given together with `artifact_names`: a directory has the one or the other"
        }
    if "artifact_names" not in fields and "persistent_key" not in fields:
        return {"Directory": "one of `artifact_names` and `persistent_key` has to be given"}
    return {}


def _toleration(fields: Mapping[str, Value]) -> Mapping[str, str]:
    """As Kubernetes has it: only `Exists` does without a key, and it compares with no value."""
    if fields.get("operator") != "Exists":
        return {} if fields.get("key") else {"key": 'has to be given, unless `operator` is "Exists"'}
    return {"value": 'cannot be given where `operator` is "Exists"'} if fields.get("value") else {}


def _gpu(fields: Mapping[str, Value]) -> Mapping[str, str]:
    """Engines are told either how many, or which."""
    if "count" in fields and "device_ids" in fields:
        return {"device_ids": "cannot be given together with `count`"}
    return {}


def _parts(url: str) -> bool:
    """Whether the text can be taken apart as a URL."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return re.search(r"[\x00-\x20\x7f]|%(?![0-9A-Fa-f]{2})|^:", url) is None


_TEXT = Substitution.TEXT
_URL = checks.simple("a URL", lambda value: isinstance(value, str) and value != "" and _parts(value))
_ID = checks.integer(0, 2**32 - 2)
_WORD = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_LABELS = checks.dict_of(
    checks.matching(
        f"({_WORD})?",
        "the value of a label: up to 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
    ),
    key=checks.matching(
        rf"(?=[^/]{{0,253}}(/|$))({_DOMAIN}(\.{_DOMAIN})*/)?{_WORD}",
        "the name of a label: up to 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends; "
        "a domain and `/` may stand before",
    ),
)
_DRIVER = checks.simple(
    'a string, or a dict of strings for "docker" and "kubernetes"',
    lambda value: (
        isinstance(value, str) or (checks.STRING_DICT.accepts(value) and value.keys() <= {"docker", "kubernetes"})
    ),
)
_MOUNTED = checks.simple(
    "the name of a files artifact or a Directory",
    lambda value: isinstance(value, str) or (isinstance(value, Struct) and value.kind == "Directory"),
)
_MILLICORES = checks.integer(0, unit="millicores")
_MEGABYTES = checks.integer(6, unit="megabytes")
_MILLISECONDS = checks.integer(0, 2**32 - 1, unit="milliseconds")
_PERCENTAGE = checks.number(0, 100)
DELAYS = ("UniformPacketDelayDistribution", "NormalPacketDelayDistribution")

CONFIG_TYPES: Mapping[str, ConfigType] = {
    config_type.name: config_type
    for config_type in (
        _type(
            "PortSpec",
            Parameter("number", checks.integer(1, 65535), required=True),
            Parameter("transport_protocol", checks.one_of(TRANSPORT_PROTOCOLS), default="TCP"),
            Parameter(
                "application_protocol",
                checks.matching(r"[a-zA-Z0-9+.-]*", "a protocol name of letters, digits, `+`, `.` and `-`"),
            ),
            Parameter("wait", checks.optional(checks.duration()), default="2m"),
            Parameter("url", _URL),
        ),
        _type("ExecRecipe", Parameter("command", checks.NON_EMPTY_STRINGS, required=True, substitution=_TEXT), EXTRACT),
        _type("GetHttpRequestRecipe", PORT_ID, ENDPOINT, EXTRACT, HEADERS),
        _type(
            "PostHttpRequestRecipe",
            PORT_ID,
            ENDPOINT,
            Parameter("body", checks.STRING, default="", substitution=_TEXT),
            Parameter("content_type", checks.STRING, default="application/json"),
            EXTRACT,
            HEADERS,
        ),
        _type(
            "ReadyCondition",
            Parameter("recipe", checks.instance(*RECIPES), required=True),
            Parameter("field", checks.NON_EMPTY_STRING, required=True),
            Parameter("assertion", checks.one_of(ASSERTIONS), required=True),
            Parameter("target_value", checks.COMPARABLE, required=True),
            Parameter("interval", checks.duration(positive=True), default="1s"),
            Parameter("timeout", checks.duration(), default="15m"),
            check=_iterable_target,
        ),
        _type(
            "Directory",
            Parameter("artifact_names", checks.list_of(checks.NON_EMPTY_STRING, non_empty=True)),
            Parameter("persistent_key", checks.NON_EMPTY_STRING),
            Parameter("size", checks.integer(1, unit="megabytes"), default=1024),
            check=_one_content,
        ),
        _type(
            "ImageSpec",
            Parameter("image", checks.NON_EMPTY_STRING, required=True),
            Parameter("registry", checks.NON_EMPTY_STRING),
            Parameter("username", checks.NON_EMPTY_STRING, identity=False),
            Parameter("password", checks.NON_EMPTY_STRING, identity=False),
            check=wrong_image_spec,
        ),
        _type(
            "ImageBuildSpec",
            Parameter("image_name", checks.NON_EMPTY_STRING, required=True),
            Parameter("build_context_dir", checks.NON_EMPTY_STRING, required=True, context=True),
            Parameter("build_file", checks.NON_EMPTY_STRING, default=BUILD_FILE),
            Parameter("target_stage", checks.NON_EMPTY_STRING),
            Parameter("build_args", checks.STRING_DICT),
        ),
        _type(
            "NixBuildSpec",
            Parameter("flake_location_dir", checks.NON_EMPTY_STRING, required=True),
            Parameter("build_context_dir", checks.NON_EMPTY_STRING, required=True),
            Parameter("image_name", checks.NON_EMPTY_STRING, required=True),
            Parameter("flake_output", checks.NON_EMPTY_STRING),
        ),
        _type(
            "ServiceConfig",
            Parameter("image", ANY_IMAGE, required=True, image=True),
            Parameter("ports", checks.dict_of(checks.instance("PortSpec"))),
            Parameter("public_ports", checks.dict_of(checks.instance("PortSpec"))),
            Parameter("files", checks.dict_of(_MOUNTED)),
            Parameter("entrypoint", checks.STRINGS, substitution=_TEXT),
            Parameter("cmd", checks.STRINGS, substitution=_TEXT),
            Parameter("env_vars", checks.STRING_DICT, substitution=_TEXT),
            Parameter(
                "private_ip_address_placeholder", checks.NON_EMPTY_STRING, default="KURTOSIS_IP_ADDR_PLACEHOLDER"
            ),
            Parameter("cpu_allocation", _MILLICORES),
            Parameter("memory_allocation", _MEGABYTES),
            Parameter("max_cpu", _MILLICORES),
            Parameter("min_cpu", _MILLICORES),
            Parameter("max_memory", _MEGABYTES),
            Parameter("min_memory", checks.integer(0, unit="megabytes")),
            Parameter("ready_conditions", checks.instance("ReadyCondition")),
            Parameter("labels", _LABELS),
            Parameter("user", checks.instance("User")),
            Parameter("tolerations", checks.list_of(checks.instance("Toleration"))),
            Parameter("node_selectors", checks.STRING_DICT),
            Parameter("files_to_be_moved", checks.STRING_DICT),
            Parameter("tini_enabled", checks.BOOL),
            Parameter("tty_enabled", checks.BOOL, default=False),
            Parameter("devices", checks.list_of(checks.NON_EMPTY_STRING)),
            Parameter("publish_udp", checks.BOOL, default=False),
            Parameter("capabilities", checks.list_of(checks.NON_EMPTY_STRING)),
            Parameter("gpu", checks.instance("GpuConfig")),
            *RIGHTS,
            Parameter("subnetwork", SUBNETWORK),
            deprecated={"cpu_allocation": "max_cpu", "memory_allocation": "max_memory"},
            check=refused_rights,
        ),
        _type("User", Parameter("uid", _ID, required=True), Parameter("gid", _ID)),
        _type(
            "Toleration",
            Parameter("key", checks.STRING),
            Parameter("operator", checks.one_of(("Exists", "Equal"))),
            Parameter("value", checks.STRING),
            Parameter("effect", checks.one_of(("NoSchedule", "NoExecute", "PreferNoSchedule"))),
            Parameter("toleration_seconds", checks.integer()),
            check=_toleration,
        ),
        _type(
            "GpuConfig",
            Parameter("count", checks.integer(-1)),
            Parameter("device_ids", checks.list_of(checks.NON_EMPTY_STRING)),
            Parameter("shm_size", checks.integer(1, unit="megabytes")),
            Parameter("ulimits", checks.dict_of(checks.integer(-1))),
            Parameter("driver", _DRIVER),
            check=_gpu,
        ),
        _type(
            "ConnectionConfig",
            Parameter("packet_loss_percentage", _PERCENTAGE, default=0.0),
            Parameter("packet_delay_distribution", checks.instance(*DELAYS)),
        ),
        _type("UniformPacketDelayDistribution", Parameter("ms", _MILLISECONDS, required=True)),
        _type(
            "NormalPacketDelayDistribution",
            Parameter("mean_ms", _MILLISECONDS, required=True),
            Parameter("std_dev_ms", _MILLISECONDS, required=True),
            Parameter("correlation", _PERCENTAGE, default=0.0),
        ),
        _type("UpdateServiceConfig", Parameter("subnetwork", SUBNETWORK, required=True)),
        _type("StoreSpec", Parameter("src", checks.NON_EMPTY_STRING, required=True), Parameter("name", STORED_NAME)),
        _type(
            "Service",
            Parameter("name", checks.NON_EMPTY_STRING, required=True),
            Parameter("hostname", checks.NON_EMPTY_STRING, required=True),
            Parameter("ip_address", checks.NON_EMPTY_STRING, required=True),
            Parameter("ports", checks.dict_of(checks.instance("PortSpec")), required=True),
        ),
    )
}
"""Every type a package can construct, by name."""


def construct(name: str, given: Mapping[str, Value]) -> Struct:
    """A value of a named type from checked arguments, as `bind` gave them."""
    return Struct(name, dict(given))
