"""The types that packages construct: what they accept, and what they say to the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import InterpretationError
from pytest_enclave.plan.rights import refused_rights
from tests.laboratory import Laboratory

CONFIG = 'ServiceConfig(image = "img", {})'


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ('StoreSpec("/f")', 'StoreSpec(src = "/f")'),
        ('StoreSpec(name = "n", src = "/f")', 'StoreSpec(src = "/f", name = "n")'),
        ("User(0)", "User(uid = 0)"),
        ("User(uid = 1, gid = 2)", "User(uid = 1, gid = 2)"),
        ('Toleration(operator = "Exists")', 'Toleration(operator = "Exists")'),
        ('Toleration("k", "Equal", "v", "NoSchedule", 5)', 'Toleration(key = "k", operator = "Equal", value = "v", '
         'effect = "NoSchedule", toleration_seconds = 5)'),
        ("GpuConfig()", "GpuConfig()"),
        ('GpuConfig(device_ids = ["0"], shm_size = 64, ulimits = {"memlock": -1}, driver = "nvidia")',
         'GpuConfig(device_ids = ["0"], shm_size = 64, ulimits = {"memlock": -1}, driver = "nvidia")'),
        ('GpuConfig(count = -1, driver = {"docker": "nvidia", "kubernetes": "nvidia.com/gpu"})',
         'GpuConfig(count = -1, driver = {"docker": "nvidia", "kubernetes": "nvidia.com/gpu"})'),
        ('Service("a", "b", "1.2.3.4", {"http": PortSpec(80)})',
         'Service(name = "a", hostname = "b", ip_address = "1.2.3.4", ports = {"http": PortSpec(number = 80)})'),
        ('PortSpec(80, url = "http://me:80/a%20b?x=1")', 'PortSpec(number = 80, url = "http://me:80/a%20b?x=1")'),
        (CONFIG.format('labels = {"example.com/a": "1", "b_c.d": ""}'),
         'ServiceConfig(image = "img", labels = {"example.com/a": "1", "b_c.d": ""})'),
        (CONFIG.format("bind_mounts = {}, host_pid_namespace = False, privileged = False, publish_udp = True"),
         'ServiceConfig(image = "img", publish_udp = True, privileged = False, host_pid_namespace = False, '
         "bind_mounts = {})"),
        (CONFIG.format('subnetwork = "x", min_cpu = 1'), 'ServiceConfig(image = "img", min_cpu = 1, subnetwork = "x")'),
        pytest.param("ConnectionConfig(5.5)", "ConnectionConfig(packet_loss_percentage = 5.5)", id="row-73-loss"),
        pytest.param("ConnectionConfig(packet_delay_distribution = UniformPacketDelayDistribution(500))",
                     "ConnectionConfig(packet_delay_distribution = UniformPacketDelayDistribution(ms = 500))",
                     id="row-73-delay"),
        pytest.param("ConnectionConfig(100.0, UniformPacketDelayDistribution(ms = 0))",
                     "ConnectionConfig(packet_loss_percentage = 100.0, "
                     "packet_delay_distribution = UniformPacketDelayDistribution(ms = 0))", id="row-73-both"),
        pytest.param("ConnectionConfig(packet_loss_percentage = 50)", "ConnectionConfig(packet_loss_percentage = 50)",
                     id="row-74-int"),
        pytest.param("NormalPacketDelayDistribution(150, 10)",
                     "NormalPacketDelayDistribution(mean_ms = 150, std_dev_ms = 10)", id="row-75"),
        pytest.param("NormalPacketDelayDistribution(std_dev_ms = 10, mean_ms = 150, correlation = 2.0)",
                     "NormalPacketDelayDistribution(mean_ms = 150, std_dev_ms = 10, correlation = 2.0)",
                     id="row-75-correlation"),
        ('UpdateServiceConfig("x")', 'UpdateServiceConfig(subnetwork = "x")'),
        ("kurtosis.connection.BLOCKED", "ConnectionConfig(packet_loss_percentage = 100.0)"),
        ("kurtosis.connection.ALLOWED", "ConnectionConfig(packet_loss_percentage = 0.0)"),
    ],
)  # fmt: skip
def test_it_is_made_and_shows_as_it_is_written(lab: Laboratory, expression: str, shown: str):
    assert lab.ok(f"return repr({expression})").output == shown


def test_a_type_has_its_name_its_fields_and_no_others(lab: Laboratory):
    finished = lab.ok("u = User(uid = 7)\nreturn [type(u), u.uid, hasattr(u, 'gid')]")
    assert finished.output == ["User", 7, False]


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("StoreSpec()", "StoreSpec: `src` is missing"),
        ('StoreSpec("")', 'StoreSpec: `src` must be a non-empty string, not "" (string)'),
        ('StoreSpec("/f", "a/b")', "StoreSpec: `name` must be a name of up to 255 characters, known before execution, "
         'without `/`, not "a/b" (string)'),
        ("User()", "User: `uid` is missing"),
        ("User(uid = -1)", "User: `uid` must be an integer between 0 and 4294967294, not -1 (int)"),
        ('User(1, "staff")', 'User: `gid` must be an integer between 0 and 4294967294, not "staff" (string)'),
        ("GpuConfig(count = 1.5)", "GpuConfig: `count` must be an integer of at least -1, not 1.5 (float)"),
        ('GpuConfig(count = 1, device_ids = ["0"])', "GpuConfig: `device_ids` cannot be given together with `count`"),
        ("GpuConfig(shm_size = 0)", "GpuConfig: `shm_size` must be an integer of megabytes of at least 1, not 0 (int)"),
        ('GpuConfig(driver = {"podman": "x"})',
         'GpuConfig: `driver` must be a string, or a dict of strings for "docker" and "kubernetes", '
         'not {"podman": "x"} (dict)'),
        ('Service("a", "b", "")',
         'Service: `ip_address` must be a non-empty string, not "" (string); `ports` is missing'),
        ('Service("a", "b", "c", {"p": 80})', 'Service: `ports["p"]` must be a PortSpec, not 80 (int)'),
        ('PortSpec(80, url = "")', 'PortSpec: `url` must be a URL, not "" (string)'),
        ('PortSpec(80, url = "http://a b/")', 'PortSpec: `url` must be a URL, not "http://a b/" (string)'),
        ('PortSpec(80, url = "http://a:port/")', 'PortSpec: `url` must be a URL, not "http://a:port/" (string)'),
        ('PortSpec(80, url = "http://a/%zz")', 'PortSpec: `url` must be a URL, not "http://a/%zz" (string)'),
        (CONFIG.format("user = 7"), "ServiceConfig: `user` must be a User, not 7 (int)"),
        (CONFIG.format('tolerations = ["x"]'),
         'ServiceConfig: `tolerations[0]` must be a Toleration, not "x" (string)'),
        (CONFIG.format('capabilities = [""]'),
         'ServiceConfig: `capabilities[0]` must be a non-empty string, not "" (string)'),
        (CONFIG.format('devices = "/dev/fuse"'),
         'ServiceConfig: `devices` must be a list, each item a non-empty string, not "/dev/fuse" (string)'),
        (CONFIG.format("gpu = True"), "ServiceConfig: `gpu` must be a GpuConfig, not True (bool)"),
        (CONFIG.format('labels = {"a": "b c"}'), 'ServiceConfig: `labels["a"]` must be the value of a label: up to 63 '
         'letters, digits, `-`, `_` and `.`, with a letter or digit at both ends, not "b c" (string)'),
        (CONFIG.format('labels = {"-a": ""}'), 'ServiceConfig: `labels key "-a"` must be the name of a label: up to 63 '
         "letters, digits, `-`, `_` and `.`, with a letter or digit at both ends; a domain and `/` may stand before, "
         'not "-a" (string)'),
        (CONFIG.format('subnetwork = ""'), "ServiceConfig: `subnetwork` must be a non-empty string, known before "
         'execution, not "" (string)'),
        pytest.param("ConnectionConfig(101.0)",
                     "ConnectionConfig: `packet_loss_percentage` must be a number between 0 and 100, not 101.0 (float)",
                     id="row-74-too-much"),
        ("ConnectionConfig(-1)",
         "ConnectionConfig: `packet_loss_percentage` must be a number between 0 and 100, not -1 (int)"),
        ("ConnectionConfig(True)",
         "ConnectionConfig: `packet_loss_percentage` must be a number between 0 and 100, not True (bool)"),
        ('ConnectionConfig(float("nan"))',
         "ConnectionConfig: `packet_loss_percentage` must be a number between 0 and 100, not nan (float)"),
        ("ConnectionConfig(packet_delay_distribution = 500)",
         "ConnectionConfig: `packet_delay_distribution` must be one of UniformPacketDelayDistribution, "
         "NormalPacketDelayDistribution, not 500 (int)"),
        ("UniformPacketDelayDistribution(1.5)", "UniformPacketDelayDistribution: `ms` must be an integer of "
         "milliseconds between 0 and 4294967295, not 1.5 (float)"),
        ("UniformPacketDelayDistribution(4294967296)", "UniformPacketDelayDistribution: `ms` must be an integer of "
         "milliseconds between 0 and 4294967295, not 4294967296 (int)"),
        ("NormalPacketDelayDistribution(1)", "NormalPacketDelayDistribution: `std_dev_ms` is missing"),
        ("NormalPacketDelayDistribution(1, 1, 100.5)", "NormalPacketDelayDistribution: `correlation` must be a number "
         "between 0 and 100, not 100.5 (float)"),
        ("UpdateServiceConfig()", "UpdateServiceConfig: `subnetwork` is missing"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(lab: Laboratory, expression: str, told: str):
    error = lab.error(f"plan.print({expression})")
    assert type(error) is InterpretationError
    assert error.message == told


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ('Toleration(operator = "Equal", value = "v")', '`key` has to be given, unless `operator` is "Exists"'),
        ("Toleration()", '`key` has to be given, unless `operator` is "Exists"'),
        ('Toleration("k", "Exists", "v")', '`value` cannot be given where `operator` is "Exists"'),
        ('Toleration("k", "Like")', '`operator` must be one of "Exists", "Equal", not "Like" (string)'),
        ('Toleration("k", effect = "Never")',
         '`effect` must be one of "NoSchedule", "NoExecute", "PreferNoSchedule", not "Never" (string)'),
    ],
    ids="row-81-{}".format,
)  # fmt: skip
def test_tolerations_are_what_kubernetes_would_take(lab: Laboratory, expression: str, told: str):
    assert lab.error(f"plan.print({expression})").message == f"Toleration: {told}"


RIGHTS = [
    ("bind_mounts", '{"/etc": "/host"}', "cannot be given: a package gets no directories of the machine that runs its "
     "services; store the files with `upload_files`, and mount them with `files`"),
    ("privileged", "True", "cannot be True: a package gets no rights on the machine that runs its services; "
     "leave it out, and name what the service needs in `capabilities`"),
    ("host_pid_namespace", "True", "cannot be True: a package does not get to see the processes of the machine that "
     "runs its services; leave it out"),
]  # fmt: skip


@pytest.mark.parametrize("settings", [
    'capabilities = ["NET_ADMIN", "cap_sys_ptrace"]',
    'devices = ["/dev/net/tun", "/dev/fuse:/dev/fuse:rw"]',
])  # fmt: skip
def test_rights_within_a_container_are_given(lab: Laboratory, settings: str):
    lab.ok(f'plan.print(ServiceConfig(image = "img", {settings}))')


@pytest.mark.parametrize(("settings", "told"), [
    ('capabilities = ["NET_ADMIN", "SYS_ADMIN"]', '`capabilities` "SYS_ADMIN" is a right on the machine that runs the '
     "services, which a package does not get; it can have AUDIT_WRITE, CHOWN, "),
    ('capabilities = ["ALL"]', '`capabilities` "ALL" is a right on the machine'),
    ('devices = ["/dev/sda:/dev/null"]', '`devices` "/dev/sda:/dev/null" belongs to the machine that runs the '
     "services; a package can have /dev/fuse, /dev/kvm, /dev/net/tun, /dev/null, /dev/random, /dev/urandom, /dev/zero"),
    ('devices = ["/dev/net/../sda"]', '`devices` "/dev/net/../sda" belongs'),
    ('capabilities = ["NET_ADMN", "SYS_ADMIN"]',
     '`capabilities` "NET_ADMN": there is no such capability; did you mean `NET_ADMIN`?'),
    ('capabilities = ["cap_sys_ptrac"]',
     '`capabilities` "cap_sys_ptrac": there is no such capability; did you mean `SYS_PTRACE`?'),
    ('capabilities = ["SYS_ADMN"]',
     '`capabilities` "SYS_ADMN": there is no such capability; a package can have AUDIT_WRITE, CHOWN, '),
    ('capabilities = ["root"]', '`capabilities` "root": there is no such capability; a package can have AUDIT_WRITE, '),
    ('capabilities = ["cap_bpf"]', '`capabilities` "cap_bpf" is a right on the machine'),
    ('devices = ["dev/fuse:/dev/fuse:rw"]', '`devices` "dev/fuse:/dev/fuse:rw": there is no such device, for its path '
     "has to begin with `/`; did you mean `/dev/fuse:/dev/fuse:rw`?"),
    ('devices = ["kvm"]', '`devices` "kvm": there is no such device, for its path has to begin with `/`; '
     "did you mean `/dev/kvm`?"),
    ('devices = ["dev/fuze"]', '`devices` "dev/fuze": there is no such device, for its path has to begin with `/`; '
     "did you mean `/dev/fuse`?"),
    ('devices = ["sda"]', '`devices` "sda": there is no such device, for its path has to begin with `/`; '
     "a package can have /dev/fuse, /dev/kvm, "),
])  # fmt: skip
def test_rights_that_lead_out_of_a_container_are_refused(lab: Laboratory, settings: str, told: str):
    message = lab.error(f'plan.print(ServiceConfig(image = "img", {settings}))').message
    assert message.startswith(f"ServiceConfig: {told}")


def test_every_capability_of_this_kernel_is_known():
    header = Path("/usr/include/linux/capability.h")
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    names = re.findall(r"^#define CAP_([A-Z_]+)\s+\d+$", header.read_text(), re.MULTILINE)
    assert len(names) > 30
    told = {name: refused_rights({"capabilities": [name]}).get("capabilities", "") for name in names}
    assert [name for name, reason in told.items() if "no such" in reason] == []


@pytest.mark.parametrize(("name", "value", "told"), RIGHTS, ids=["row-82", "row-83-privileged", "row-83-pids"])
@pytest.mark.parametrize("callee", ["ServiceConfig", "run_sh"])
def test_rights_on_the_machine_are_refused(lab: Laboratory, callee: str, name: str, value: str, told: str):
    call = {
        "ServiceConfig": f'plan.print(ServiceConfig(image = "img", {name} = {value}))',
        "run_sh": f'plan.run_sh(run = "true", {name} = {value})',
    }
    error = lab.error(call[callee])
    assert type(error) is InterpretationError
    assert error.message == f"{callee}: `{name}` {told}"
    assert lab.state.site.observe() == {}


@pytest.mark.parametrize(
    "call",
    [
        'plan.add_service("s", ServiceConfig(image = "img", user = User(1, description = "d"), description = "d"))',
        'plan.print("x")', 'plan.get_services()', 'plan.get_cluster_type()', 'plan.run_python(run = "1")',
        'plan.run_sh(run = "true", store = [StoreSpec("/f", description = "d")])',
    ],
)  # fmt: skip
@pytest.mark.parametrize(("description", "accepted"), [('"why"', True), ('""', False), ("1", False)])
def test_everything_takes_a_description(laboratory, call: str, description: str, accepted: bool):
    lab = laboratory(Script().service("*", files={"/f": ""}))
    script = call[:-1] + (", " if not call.endswith("()") else "") + f"description = {description})"
    if accepted:
        (step,) = lab.ok(script).instructions
        assert step.instruction.get("description") == "why"
        assert lab.outcomes(script.replace("why", "another reason")) == ["skipped"]
    else:
        shown = '"" (string)' if description == '""' else "1 (int)"
        message = f"{call[5:].partition('(')[0]}: `description` must be a non-empty string, not {shown}"
        assert lab.error(script).message == message
