"""Docker's seccomp rules: what the engine's own filter says of every call, and what ours says."""

from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from tests.filters import filters_of, verdict
from tracestrip.observer import capabilities
from tracestrip.observer.client import Sandbox
from tracestrip.observer.profile import numbers, profile_filter
from tracestrip.observer.seccomp import architectures
from tracestrip.observer.syscalls import IO_URING, calls_of

SINCE_23 = "name_to_handle_at process_vm_readv process_vm_writev pkey_mprotect pkey_alloc pkey_free"
NEWER = (
    "uretprobe set_mempolicy_home_node statmount listmount open_tree_attr cachestat fchmodat2 map_shadow_stack futex_wake "
    "futex_wait futex_requeue lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat "
    "removexattrat"
)
DIFFERENT = {
    "io_uring": "Docker 25 and newer refuse it; a ring opens files unseen, so programs are to fall back",
    "socket": "Docker 23 and newer refuse AF_VSOCK, which reaches the host past all namespaces",
    "personality": "Docker compares all 64 bits, of which the kernel looks at 32",
    **dict.fromkeys(SINCE_23.split(), "Docker 23 and newer allow it"),
    **dict.fromkeys(NEWER.split(), "the engine may be older than the call, and then says ENOSYS, or EPERM"),
}
"""All calls on which they may differ, each with the reason."""

ARGUMENTS = [
    (0,) * 6, (2**64 - 1,) * 6, (1,) * 6, (40,) * 6, (0x11,) * 6, (0x10000000,) * 6, (0x20000,) * 6, (0x20008,) * 6,
    (0x40000000,) * 6, (0x02000000,) * 6, (8,) * 6, (0xFFFFFFFF,) * 6, (0x1200011,) * 6, (0x4000000,) * 6,
]  # fmt: skip


@pytest.mark.parametrize(
    ("add", "drop"), [([], []), (["SYS_ADMIN"], []), ([], ["ALL"]), (["SYS_PTRACE", "SYSLOG", "SYS_NICE"], [])]
)
def test_every_call_is_answered_as_docker_answers_it(
    add: list[str], drop: list[str], engine: docker.DockerClient, image: Callable[[str], str]
) -> None:
    container = engine.containers.run(image("bash"), "sleep 100", detach=True, cap_add=add, cap_drop=drop)
    try:
        container.reload()
        (dockers,) = filters_of(container.attrs["State"]["Pid"])
    finally:
        container.remove(force=True)
    ours = profile_filter(capabilities.chosen(add, drop))
    for architecture in architectures():
        names = {number: call.name for number, call in calls_of(architecture).items()} | dict.fromkeys(IO_URING, "io_uring")
        names |= {number: name for name, number in numbers(architecture).items()}
        different = {
            (names.get(number, number), arguments[0]): (theirs, says)
            for number in range(480)
            for arguments in ARGUMENTS
            if (says := verdict(ours, architecture, number, arguments))
            != (theirs := verdict(dockers, architecture, number, arguments))
        }
        assert {key: words for key, words in different.items() if key[0] not in DIFFERENT} == {}


def test_target_has_these_rules_beside_the_observers_filter(sandbox: Sandbox) -> None:
    sandbox.launch(["/bin/sleep", "100"])
    (target,) = Path(f"/proc/{sandbox.init}/task/{sandbox.init}/children").read_text().split()
    status = dict(line.split(":\t") for line in Path(f"/proc/{target}/status").read_text().splitlines() if ":\t" in line)
    assert (status["Seccomp"], status["Seccomp_filters"], status["NoNewPrivs"]) == ("2", "2", "0")


def test_clone3_and_io_uring_are_not_there_so_that_programs_fall_back() -> None:
    ours = profile_filter(capabilities.DEFAULT)
    for architecture in architectures():
        for number in (*IO_URING, 435):
            assert verdict(ours, architecture, number, (0,) * 6) == "ENOSYS"
