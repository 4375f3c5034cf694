"""What other threads read while a run writes."""

from __future__ import annotations

import threading

from tests.laboratory import Laboratory


def test_services_and_files_can_be_read_while_a_run_goes_on(lab: Laboratory):
    enclave = lab.enclave()
    script = "\n".join(
        f'plan.render_templates({{"f": struct(template = "{n}", data = {{}})}}, name = "a{n}")' for n in range(300)
    )
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                list(enclave.services), list(enclave.files)
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        lab.ok(script)
    finally:
        done.set()
        reader.join()
    assert not failures
    assert len(enclave.files) == 300
