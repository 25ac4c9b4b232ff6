"""What the user can give the target beside what the image says: mounts, network, capabilities, limits."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import TOP, Command, fails
from tests.images import stripped_layer
from tests.observing import observed
from tracestrip.observer.client import Sandbox
from tracestrip.observer.job import Job


@pytest.fixture
def output(tmp_path: Path) -> str:
    return f"docker-archive:{tmp_path}/out.tar"


@pytest.fixture
def inside(tracestrip: Command, output: str, tmp_path: Path) -> Command:
    """Runs a shell script in a sandbox over this machine's root, with further options; what it wrote is in its log."""

    def run(script: str, *options: object) -> str:
        place = tmp_path / "log"
        place.mkdir(exist_ok=True)
        mount = f"type=bind,src={place},dst=/log"
        command = f"/bin/sh -c '{script}'"
        finished = tracestrip("run", "dir:/", "-e", command, "--mount", mount, "-o", output, "--force", *options)
        assert finished.code == 0, finished.stderr
        return "".join(file.read_text() for file in sorted(place.iterdir()))

    return run


def test_bind_mounts_are_the_hosts(inside: Command, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("of the host")
    (tmp_path / "one").write_text("one file")
    said = inside(
        "cat /new/place/file /etc/one > /log/said; touch /new/place/x 2>> /log/said || echo refused >> /log/said",
        "--mount", f"type=bind,source={tmp_path}/source,target=/new/place,readonly",
        "--mount", f"src={tmp_path}/one,dst=/etc/one,type=bind",
    )  # fmt: skip
    assert said.startswith("of the hostone file")
    assert said.endswith("refused\n")
    assert "Read-only file system" in said
    assert os.listdir(tmp_path / "source") == ["file"]


def test_read_only_holds_for_mounts_below(inside: Command, tmp_path: Path) -> None:
    """What is mounted below the source comes with it, and is read-only too."""
    below = tmp_path / "source/below"
    below.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", below], check=True)
    try:
        (below / "file").write_text("deep ")
        said = inside(
            "cat /new/below/file > /log/said; touch /new/below/x 2>/dev/null || echo refused >> /log/said",
            "--mount", f"type=bind,src={tmp_path}/source,dst=/new,ro",
        )  # fmt: skip
        assert said == "deep refused\n"
    finally:
        subprocess.run(["umount", below], check=True)


def test_files_below_a_mount_are_not_the_images(tracestrip: Command, output: str, tmp_path: Path) -> None:
    """The image has such names too, at a place that a symlink leads to; its files there were covered."""
    for name in ("image/here/file", "image/here/other", "mine/file"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "image/way").symlink_to("here")
    finished = tracestrip(
        "run", "dir:/", "-e", f"/bin/cat {tmp_path}/image/way/file {tmp_path}/image/here/file",
        "--mount", f"type=bind,src={tmp_path}/mine,dst={tmp_path}/image/way", "-o", output,
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    kept = stripped_layer(tmp_path / "out.tar")
    assert f"{tmp_path}/image/here".lstrip("/") in kept
    assert f"{tmp_path}/image/here/file".lstrip("/") not in kept


def test_nothing_is_made_in_a_mounted_etc(inside: Command, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    said = inside("ls /etc > /log/said", "--mount", f"type=bind,src={tmp_path}/etc,dst=/etc")
    assert said == "passwd\n"
    assert os.listdir(tmp_path / "etc") == ["passwd"]


def test_tmpfs(inside: Command) -> None:
    said = inside(
        'grep -E " /(a|b|var/tmp) " /proc/self/mountinfo | cut -d" " -f 5,6,9- > /log/said; '
        "stat -c %a /a /b /var/tmp >> /log/said; ls -A /var/tmp >> /log/said",
        "--tmpfs", "/a", "--tmpfs", "/b:size=1m,exec,mode=700,uid=33", "--tmpfs", "/var/tmp",
    )  # fmt: skip
    assert said.splitlines()[-3:] == ["1777", "700", "1777"]
    mounts = {line.split()[0]: line for line in said.splitlines() if line.startswith("/")}
    assert all(flag in mounts["/a"].split()[1].split(",") for flag in ("rw", "nosuid", "nodev", "noexec"))
    assert "noexec" not in mounts["/b"]
    assert "size=1024k" in mounts["/b"]
    assert "uid=33" in mounts["/b"]


def test_size_of_shared_memory(inside: Command) -> None:
    assert inside("df --output=size -k /dev/shm | tail -n 1 > /log/said").split() == ["65536"]
    assert inside("df --output=size -k /dev/shm | tail -n 1 > /log/said", "--shm-size", "1M").split() == ["1024"]


def test_hosts_network(tracestrip: Command, output: str) -> None:
    """The probe and everybody else reach the target; ports of others don't make it ready."""
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        assert other.getsockname()[1] != port
        free.close()
        server = f"/bin/sh -c 'sleep 0.5; exec python3 -m http.server -b 127.0.0.1 {port}'"
        probe = f"curl -fsS 127.0.0.1:{port} > /dev/null"
        options = ("--network", "host", "--probe", probe, "--format", "json", "-o", output)
        finished = tracestrip("run", "dir:/", "-e", server, *options)
    assert finished.code == 0, finished.stderr
    assert '"attempts": 1' in finished.stdout


def test_hosts_network_changes_nothing_of_the_host(inside: Command) -> None:
    sysctl = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    before = sysctl.read_text()
    said = inside("cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls -l /proc/self/ns/net > /log/said", "--network", "host")
    assert os.readlink("/proc/self/ns/net") in said
    assert sysctl.read_text() == before


def test_no_network(tracestrip: Command, output: str, tmp_path: Path) -> None:
    """The target has a loopback interface only; the probe has the host's network, and does not reach it."""
    (tmp_path / "shared").mkdir()
    finished = tracestrip(
        "run", "dir:/", "--network", "none", "--wait", "0.5", "--mount", f"type=bind,src={tmp_path}/shared,dst=/shared",
        "-e", "/bin/sh -c 'readlink /proc/self/ns/net > /shared/net; ls /sys/class/net > /shared/links; exec sleep 100'",
        "--probe", f"cd {tmp_path}/shared && test $(cat links) = lo && test $(cat net) != $(readlink /proc/self/ns/net) && "
        f"test $(readlink /proc/self/ns/net) = '{os.readlink('/proc/self/ns/net')}'",
        "-o", output,
    )  # fmt: skip
    assert finished.code == 0, finished.stderr


def test_capabilities(inside: Command) -> None:
    def effective(*options: str) -> int:
        return int(inside("grep CapEff /proc/self/status > /log/said", *options).split()[1], 16)

    assert effective() == 0xA80425FB
    assert effective("--cap-drop", "chown", "--cap-add", "CAP_NET_ADMIN") == 0xA80425FB & ~1 | 1 << 12
    assert effective("--cap-drop", "ALL", "--cap-add", "chown") == 1
    status = Path("/proc/self/status").read_text()
    bounding = int(status.partition("CapBnd:")[2].split()[0], 16)
    assert effective("--cap-add", "all", "--cap-drop", "kill") == bounding & ~(1 << 5)


def test_seccomp_rules_can_be_left_out(inside: Command) -> None:
    script = "unshare --user true && echo made > /log/said; true"
    assert inside(script) == ""
    assert inside(script, "--security-opt", "seccomp=unconfined") == "made\n"


def test_target_that_needs_more_memory_than_its_limit(tracestrip: Command, output: str) -> None:
    hungry = "python3 -c 'import os; os.getpid(); a = bytearray(80_000_000); print(len(a))'"
    fails(tracestrip("run", "dir:/", "-e", hungry, "--memory", "40M", "-o", output), 4, "memory", "--memory")
    assert tracestrip("run", "dir:/", "-e", hungry, "--memory", "400M", "-o", output).code == 0


def test_what_is_written_counts_as_disk_not_as_memory(
    tracestrip: Command, output: str, archive: Callable[[str], Path]
) -> None:
    write = "/bin/sh -c 'head -c 30000000 /dev/zero > /written'"
    finished = tracestrip("run", f"docker-archive:{archive('bash')}", "-e", write, "--memory", "20M", "-o", output)
    assert finished.code == 0, finished.stderr


FORKS = """
import os, time
made = []
try:
    while len(made) < 40:
        made.append(os.fork())
        if made[-1] == 0:
            time.sleep(60)
except BlockingIOError:
    open("/log/said", "w").write(str(len(made)))
for child in made:
    os.kill(child, 9)
"""


def test_limit_of_processes(tracestrip: Command, output: str, tmp_path: Path) -> None:
    """Of the target's, itself among them; the sandbox's own don't count."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log/forks.py").write_text(FORKS)
    mount = ("--mount", f"type=bind,src={tmp_path}/log,dst=/log")
    command = "/usr/bin/env python3 /log/forks.py"
    finished = tracestrip("run", "dir:/", "-e", command, *mount, "--pids-limit", "20", "-o", output)
    assert finished.code == 0, finished.stderr
    assert (tmp_path / "log/said").read_text() == "19"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--mount", "type=volume,src=/tmp,dst=/x"), ("--mount", "type=bind")),
        (("--mount", "type=bind,src=/tmp"), ("--mount",)),
        (("--mount", "type=bind,src=/tmp,dst=x"), ("--mount",)),
        (("--mount", "type=bind,src=/tmp,dst=/x,nonsense"), ("nonsense",)),
        (("--mount", "type=bind,src=/nonexistent,dst=/x"), ("/nonexistent",)),
        (("--mount", "type=bind,src=/tmp,dst=/proc/x"), ("/proc/x",)),
        (("--tmpfs", "/"), ("--tmpfs",)),
        (("--tmpfs", "/x:lowerdir=/"), ("lowerdir=/",)),
        (("--cap-add", "NONSENSE"), ("NONSENSE",)),
        (("--memory", "1M"), ("--memory",)),
        (("--memory", "much"), ("much",)),
        (("--shm-size", "x"), ("x",)),
        (("--network", "bridge"), ("bridge",)),
        (("--security-opt", "apparmor=x"), ("apparmor=x",)),
    ],
)
def test_wrong_usage(tracestrip: Command, output: str, options: tuple[str, ...], words: tuple[str, ...]) -> None:
    fails(tracestrip("run", "dir:/", "-e", "/bin/true", "-o", output, *options), 2, *words)


def test_capability_that_root_lacks(tracestrip: Command, output: str) -> None:
    drop = "import ctypes; ctypes.CDLL(None).prctl(24, 12, 0, 0, 0)"  # PR_CAPBSET_DROP of NET_ADMIN
    call = f"{drop}; import os, sys; os.execv(sys.executable, [sys.executable, '-m', 'tracestrip', *sys.argv[1:]])"
    finished = subprocess.run(
        [sys.executable, "-c", call, "run", "dir:/", "-e", "/bin/true", "-o", output, "--cap-add", "NET_ADMIN"],
        env=os.environ | {"PYTHONPATH": str(TOP)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 7
    assert "NET_ADMIN" in finished.stderr


NODE = "/bin/sh -c 'mknod /tmp/disk b 254 0 && mknod /tmp/null c 1 3 && cat /tmp/null && ! head -c 1 /tmp/disk'"


def on_changed_machine(change: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run in a mount namespace in which the shell command *change* was carried out first."""
    script = f'{change}; exec {sys.executable} -m tracestrip "$@"'
    command = ["unshare", "-m", "sh", "-e", "-c", script, "sh", *arguments]
    environment = os.environ | {"PYTHONPATH": str(TOP)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


ONLY_V1 = "umount -l $(grep ' cgroup2 ' /proc/mounts | cut -d' ' -f 2 | sort -r)"
ONLY_V2 = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup"


@pytest.mark.parametrize("change", [":", ONLY_V1, ONLY_V2])
def test_devices_of_the_host_are_out_of_reach_in_either_version_of_cgroups(change: str, output: str) -> None:
    """Where this machine has v2 alone, there is no version to hide."""
    if change == ONLY_V1 and "cgroup cgroup " not in Path("/proc/mounts").read_text():
        change = ":"
    finished = on_changed_machine(change, "run", "dir:/", "-e", NODE, "-o", output)
    assert finished.returncode == 0, finished.stderr


def test_cgroup_v2_is_seen_inside_and_holds_limits_where_it_has_the_controller(output: str) -> None:
    command = "/bin/sh -c 'grep -q . /sys/fs/cgroup/cgroup.procs && ! mkdir /sys/fs/cgroup/x && grep -x 0::/ /proc/self/cgroup'"
    arguments = ("run", "dir:/", "-e", command, "-o", output, "--force")
    assert on_changed_machine(ONLY_V2, *arguments).returncode == 0
    controllers = subprocess.run(
        ["unshare", "-m", "sh", "-e", "-c", f"{ONLY_V2}; cat /sys/fs/cgroup/cgroup.controllers"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    limited = on_changed_machine(ONLY_V2, *arguments, "--pids-limit", "50")
    assert limited.returncode == (0 if "pids" in controllers else 7), limited.stderr
    assert "pids" in controllers or "the pids controller" in limited.stderr


def test_machine_without_control_groups(output: str) -> None:
    finished = on_changed_machine("umount -R /sys/fs/cgroup", "run", "dir:/", "-e", "/bin/true", "-o", output)
    assert finished.returncode == 7, finished.stderr
    assert "control groups" in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_volume_is_a_mount_of_its_own(host_job: Job, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/there").touch()
    job = replace(host_job, volumes=(f"{tmp_path}/volume", "/made/for/it"))
    script = (
        f"test -e {tmp_path}/volume/there && touch /made/for/it/x {tmp_path}/x && mountpoint -q /made/for/it && "
        f"! ln {tmp_path}/x {tmp_path}/volume/y && mv {tmp_path}/x {tmp_path}/volume/y && stat -c %a:%u /made/for/it"
    )
    with Sandbox(job) as sandbox:
        result = sandbox.run(["/bin/sh", "-c", script])
    assert result.status == 0, result.output
    assert result.output.endswith(b"755:0\n")
    assert os.listdir(tmp_path / "volume") == ["there"]


def test_command_line_and_environment_of_the_host_are_not_in_pid_1(sandbox: Sandbox) -> None:
    shown = "tr -d '\\0' </proc/1/cmdline"
    observed(sandbox, "/bin/sh", "-c", f'! cat /proc/1/environ 2>/dev/null && test "$({shown})" = tracestrip-init')
