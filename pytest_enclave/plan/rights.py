"""What a package may ask for of the machine that runs its services: nothing that leads out of a container.

Kurtosis grants all of this, some of it only where users allow it. Here nobody is asked.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pytest_enclave.plan import checks
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Value

RIGHTS = (
    Parameter("privileged", checks.BOOL, default=False),
    Parameter("host_pid_namespace", checks.BOOL, default=False),
    Parameter("bind_mounts", checks.STRING_DICT, default={}),
)
"""Parameters that exist to be refused: see `refused_rights`."""

CAPABILITIES = frozenset(
    (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE"),
        *("MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP"),
        *("SETUID", "SYS_CHROOT", "SYS_NICE", "SYS_PTRACE", "SYS_RESOURCE"),
    )
)
"""Capabilities that act inside of a container's own namespaces only."""

_REFUSED_CAPABILITIES = frozenset(
    (
        *("ALL", "AUDIT_CONTROL", "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH"),
        *("LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "PERFMON", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE"),
        *("SYS_PACCT", "SYS_RAWIO", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"),
    )
)

DEVICES = frozenset(f"/dev/{name}" for name in ("fuse", "kvm", "net/tun", "null", "random", "urandom", "zero"))
"""Devices that anybody may open who is let near them."""

_REFUSED = {
    "privileged": "cannot be True: a package gets no rights on the machine that runs its services; "
    "leave it out, and name what the service needs in `capabilities`",
    "host_pid_namespace": "cannot be True: a package does not get to see the processes of the machine that runs its "
    "services; leave it out",
    "bind_mounts": "cannot be given: a package gets no directories of the machine that runs its services; "
    "store the files with `upload_files`, and mount them with `files`",
}


_ASKING = frozenset((*_REFUSED, "capabilities", "devices"))


def refused_rights(fields: Mapping[str, Value]) -> Mapping[str, str]:
    """Why the package cannot have the rights that it asks for: argument name → reason."""
    if _ASKING.isdisjoint(fields):
        return {}
    refused = {name: reason for name, reason in _REFUSED.items() if fields.get(name)}
    wrong = [reason for name in fields.get("capabilities") or () if (reason := _wrong_capability(name))]
    refused |= {"capabilities": wrong[0]} if wrong else {}
    wrong = [reason for device in fields.get("devices") or () if (reason := _wrong_device(device))]
    refused |= {"devices": wrong[0]} if wrong else {}
    return refused


def _wrong_capability(name: str) -> str:
    capability = name.upper().removeprefix("CAP_")
    if capability in CAPABILITIES:
        return ""
    choice = ", ".join(sorted(CAPABILITIES))
    if capability in _REFUSED_CAPABILITIES:
        return (
            f'"{name}" is a right on the machine that runs the services, which a package does not get; '
            f"it can have {choice}"
        )
    near = difflib.get_close_matches(capability, sorted(CAPABILITIES | _REFUSED_CAPABILITIES), 1)
    meant = f"did you mean `{near[0]}`?" if near and near[0] in CAPABILITIES else f"a package can have {choice}"
    return f'"{name}": there is no such capability; {meant}'


def _wrong_device(device: str) -> str:
    path, colon, rest = device.partition(":")
    if path in DEVICES:
        return ""
    choice = f"a package can have {', '.join(sorted(DEVICES))}"
    if path.startswith("/"):
        return f'"{device}" belongs to the machine that runs the services; {choice}'
    near = [f"{parent}{path}" for parent in ("/", "/dev/") if f"{parent}{path}" in DEVICES]
    near = near or difflib.get_close_matches(f"/{path}", sorted(DEVICES), 1, 0.8)
    meant = f"did you mean `{near[0]}{colon}{rest}`?" if near else choice
    return f'"{device}": there is no such device, for its path has to begin with `/`; {meant}'
