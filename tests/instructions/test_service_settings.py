"""Fields of `ServiceConfig` that few services need: what engines make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.engine.docker.containers import extras, host_extras
from pytest_enclave.engine.embedded.limits import problems_of
from pytest_enclave.engine.moved import moved_files
from pytest_enclave.engine.protocol import Address, ServiceSpec
from pytest_enclave.errors import ServiceError, ValidationError
from pytest_enclave.plan.facts import Capacity
from pytest_enclave.plan.service import Gpu
from tests.laboratory import Laboratory

BUSYBOX = "enclave-test/busybox:local"


def added(settings: str, image: str = "img") -> str:
    """A plan that adds a service with these fields."""
    return f'plan.add_service("s", ServiceConfig(image = "{image}", {settings}))\n'


def told(lab: Laboratory) -> list[str]:
    """The warnings of the runs so far."""
    return [event.problem.message for event in lab.events if hasattr(event, "problem")]


def started(lab: Laboratory) -> ServiceSpec:
    """The service that was started last."""
    return lab.engine.sites["lab-0"].asked("start")[-1]["specs"][-1]


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        ("user = User(uid = 1000)", "user", "1000"),
        ("user = User(uid = 0, gid = 5)", "user", "0:5"),
        ('devices = ["/dev/fuse"]', "devices", ("/dev/fuse",)),
        ('capabilities = ["NET_ADMIN"]', "capabilities", ("NET_ADMIN",)),
        ("tini_enabled = True", "init", True),
        ("tini_enabled = False", "init", False),
        ("tty_enabled = True", "terminal", True),
        ("gpu = GpuConfig(count = 2)", "gpu", Gpu(2, (), None, {}, "")),
        ('gpu = GpuConfig(device_ids = ["a"], shm_size = 64, ulimits = {"core": 0}, driver = {"docker": "nvidia"})',
         "gpu", Gpu(None, ("a",), 64, {"core": 0}, "nvidia")),
    ],
)  # fmt: skip
def test_engines_are_told(lab: Laboratory, settings: str, name: str, value: Any):
    lab.ok(added(settings))
    assert getattr(started(lab), name) == value


def test_another_value_replaces_the_service(lab: Laboratory):
    lab.ok(added("user = User(uid = 1)"))
    assert lab.outcomes(added("user = User(uid = 1)")) == ["skipped"]
    assert lab.outcomes(added("user = User(uid = 2)")) == ["updated"]


@pytest.mark.parametrize("field", ['tolerations = [Toleration(operator = "Exists")]', 'node_selectors = {"a": "b"}'])
def test_what_only_kubernetes_knows_is_warned_of(lab: Laboratory, field: str):
    assert lab.outcomes(added(field)) == ["executed"]
    assert told(lab) == [f"`{field.partition(' ')[0]}` has no effect: there is no Kubernetes here"]


def test_empty_fields_are_not_warned_of(lab: Laboratory):
    lab.ok(added("tolerations = [], node_selectors = {}, devices = [], capabilities = [], files_to_be_moved = {}"))
    assert told(lab) == []


# Docker


def spec(**settings: Any) -> ServiceSpec:
    """A service for an engine."""
    return ServiceSpec("s", "img", Address("s", "10.0.0.2"), **settings)


@pytest.mark.parametrize(
    ("settings", "container", "host"),
    [
        ({}, {}, {}),
        ({"user": "7:8"}, {"User": "7:8"}, {}),
        ({"terminal": True}, {"Tty": True}, {}),
        ({"init": True}, {}, {"Init": True}),
        ({"capabilities": ("NET_ADMIN",)}, {}, {"CapAdd": ["NET_ADMIN"]}),
        ({"gpu": Gpu(None, (), None, {}, "")}, {},
         {"DeviceRequests": [{"Driver": "", "Capabilities": [["gpu"]], "Count": -1}]}),
        ({"gpu": Gpu(0, (), 1, {"core": 5}, "")}, {},
         {"ShmSize": 1 << 20, "Ulimits": [{"Name": "core", "Soft": 5, "Hard": 5}]}),
        ({"gpu": Gpu(None, ("a", "b"), None, {}, "nvidia")}, {},
         {"DeviceRequests": [{"Driver": "nvidia", "Capabilities": [["gpu"]], "DeviceIDs": ["a", "b"]}]}),
    ],
)  # fmt: skip
def test_docker_is_told_in_its_own_words(settings: Any, container: Any, host: Any):
    assert (extras(spec(**settings)), host_extras(spec(**settings))) == (container, host)


@pytest.mark.parametrize(
    ("text", "outside", "inside", "rights"),
    [
        ("/dev/fuse", "/dev/fuse", "/dev/fuse", "rwm"),
        ("/dev/fuse:/dev/x", "/dev/fuse", "/dev/x", "rwm"),
        ("/dev/fuse:/dev/x:r", "/dev/fuse", "/dev/x", "r"),
        ("/dev/fuse:rw", "/dev/fuse", "/dev/fuse", "rw"),
    ],
)
def test_devices_are_named_as_docker_run_has_them(text: str, outside: str, inside: str, rights: str):
    wanted = {"PathOnHost": outside, "PathInContainer": inside, "CgroupPermissions": rights}
    assert host_extras(spec(devices=(text,))) == {"Devices": [wanted]}


# The embedded engine


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"capabilities": ("NET_ADMIN",)}, "`capabilities` has no effect with the embedded engine: "
         "it gets the capabilities that Docker gives by default, and no others"),
        ({"devices": ("/dev/fuse",)}, "`devices` has no effect with the embedded engine: "
         "it gets the devices that Docker gives by default, and no others"),
        ({"gpu": Gpu(1, (), None, {}, "")},
         "`gpu` has no effect with the embedded engine: it gets no graphics processors"),
        ({"init": True}, "`tini_enabled` has no effect with the embedded engine: its own program is its first process"),
        ({"terminal": True},
         "`tty_enabled` has no effect with the embedded engine: it writes to a file, not to a terminal"),
    ],
)  # fmt: skip
def test_the_embedded_engine_warns_of_what_it_has_not(settings: Any, message: str):
    (problem,) = problems_of(spec(**settings), Capacity(1000, 1000), groups=True)
    assert (problem.message, problem.severity, problem.remedy) == (
        message,
        "warning",
        "run on Docker if it needs that: --enclave-engine=docker",
    )


# Files that are moved

CONF = 'f = plan.render_templates({"a/app.conf": struct(template = "mine", data = {})}, name = "conf")\n'
MOVED = 'files = {"/conf": f}, files_to_be_moved = {"/conf/a/app.conf": "/etc/app/app.conf"}'


@pytest.mark.parametrize(
    ("moved", "messages"),
    [
        ('{"/conf/x": "relative"}', ['"relative" in `files_to_be_moved` cannot be the path of a file']),
        ('{"/conf/x": "/"}', ['"/" in `files_to_be_moved` cannot be the path of a file']),
        ('{"/other/x": "/x"}', ['"/other/x" in `files_to_be_moved` is not in a files artifact']),
        ('{"/conf/../x": "/x"}', ['"/conf/../x" in `files_to_be_moved` is not in a files artifact']),
        ('{"/confx": "/x/"}', ['"/confx" in `files_to_be_moved` is not in a files artifact',
                               '"/x/" in `files_to_be_moved` cannot be the path of a file']),
    ],
)  # fmt: skip
def test_files_that_cannot_be_moved_are_told_before_anything_starts(lab: Laboratory, moved: str, messages: list[str]):
    error = lab.error(CONF + added(f'files = {{"/conf": f}}, files_to_be_moved = {moved}'))
    assert type(error) is ValidationError
    assert [problem.message for problem in error.problems] == messages


def test_a_link_out_of_an_artifact_is_no_file_to_be_moved(tmp_path: Path):
    (tmp_path / "secret").write_text("s")
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "inside").write_text("i")
    (tmp_path / "artifact" / "link").symlink_to("inside")
    (tmp_path / "artifact" / "out").symlink_to(tmp_path / "secret")

    def moved(path: str) -> list[tuple[Path, str]]:
        return moved_files(spec(files={"/conf": "f"}, moved={path: "/x//y"}), {"f": tmp_path / "artifact"})

    assert moved("/conf/link") == [((tmp_path / "artifact" / "inside").resolve(), "/x/y")]
    for path in ("/conf/out", "/conf/nothing"):
        with pytest.raises(ServiceError) as caught:
            moved(path)
        assert caught.value.message == f'service "s" did not start: there is no file "{path}" to be moved'


# With real services


def sh(command: str) -> str:
    """What a command in the service says."""
    return f'return plan.exec("s", ExecRecipe(command = ["sh", "-c", "{command}"]))["output"]'


FOREVER = 'cmd = ["sleep", "1000000"]'


def test_a_service_runs_as_its_user(real: Laboratory):
    finished = real.ok(
        added(f"{FOREVER}, user = User(uid = 1234, gid = 4321)", BUSYBOX) + sh("id -u; id -g; cat /proc/1/status")
    )
    uid, gid, *status = finished.output.splitlines()
    assert (uid, gid) == ("1234", "4321")
    assert [line.split()[1:] for line in status if line.startswith("Uid")] == [["1234"] * 4]


def test_a_user_may_be_given_without_a_group(real: Laboratory):
    assert real.ok(added(f"{FOREVER}, user = User(uid = 99)", BUSYBOX) + sh("id -u; id -g")).output == "99\n0\n"


def test_files_are_moved_into_what_the_image_has(real: Laboratory):
    finished = real.ok(
        CONF
        + added(
            f'{FOREVER}, files = {{"/conf": f}}, files_to_be_moved = {{"/conf/a/app.conf": "/etc/app/app.conf", '
            '"/conf/a//app.conf": "/etc/shells"}',
            BUSYBOX,
        )
        + sh(
            "cat /etc/app/app.conf /etc/shells; test -f /etc/passwd && echo more >> /etc/shells; tail -c 5 /etc/shells"
        )
    )
    assert finished.output == "mineminemore\n"


def test_a_moved_file_is_as_it_was_left_when_the_service_starts_again(real: Laboratory):
    real.ok(CONF + added(f"{FOREVER}, {MOVED}", BUSYBOX))
    again = 'plan.exec("s", ExecRecipe(command = ["sh", "-c", "echo -n yours > /etc/app/app.conf"]))\n'
    finished = real.ok(again + 'plan.stop_service("s")\nplan.start_service("s")\n' + sh("cat /etc/app/app.conf"))
    assert finished.output == "yours"


def test_a_file_that_is_not_there_ends_the_start(real: Laboratory):
    error = real.error(CONF + added('files = {"/conf": f}, files_to_be_moved = {"/conf/no": "/x"}', BUSYBOX))
    assert error.message == 'service "s" did not start: there is no file "/conf/no" to be moved'
    assert real.state.site.observe() == {}


def test_capabilities_a_terminal_and_an_init_process_where_there_are_such(real: Laboratory):
    finished = real.ok(
        added('entrypoint = ["sh", "-c", "test -t 1 && echo terminal; echo a b; exec sleep 1000000"], '
              'tty_enabled = True, tini_enabled = True, capabilities = ["NET_ADMIN"]', BUSYBOX)
        + sh("ip link add dummy type bridge && echo added; cat /proc/1/comm")
        .replace('"]))["output"]', '"]), skip_code_check = True)["output"]')
    )  # fmt: skip
    lines = [line.text for line in real.state.site.logs("s")]
    if real.state.engine.name == "docker":
        assert finished.output == "added\ndocker-init\n"
        assert lines == ["terminal", "a b"]
        assert told(real) == []
    else:
        assert finished.output.endswith("\nsleep\n")
        assert "added" not in finished.output
        assert lines == ["a b"]
        warned = {message.split()[0] for message in told(real) if message.startswith("`")}
        assert warned == {"`capabilities`", "`tini_enabled`", "`tty_enabled`"}
