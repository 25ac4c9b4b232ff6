"""What a target does to reach a file, and that the observer saw it: small programs, a real kernel."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracestrip.observer.client import Sandbox
from tracestrip.observer.wire import Job, Observation

Compile = Callable[..., Path]


def observed(sandbox: Sandbox, *arguments: object, status: int = 0) -> Observation:
    number = sandbox.launch([str(argument) for argument in arguments])
    while sandbox.ended(number) is None:
        sandbox.poll(5)
    result = sandbox.ended(number)
    assert result is not None
    assert result.status == status, result.output
    while sandbox.alive:
        sandbox.poll(5)
    return sandbox.stop(15, 5)


def kinds(observation: Observation, path: Path | str | bytes) -> set[str]:
    wanted = path if isinstance(path, bytes) else os.fsencode(path)
    return {use.kind for use in observation.uses if use.path == wanted}


def resolved(observation: Observation) -> set[bytes | None]:
    return {use.resolved for use in observation.uses}


def test_dynamic_program_and_what_the_kernel_opens(sandbox: Sandbox) -> None:
    observation = observed(sandbox, "/bin/true")
    assert kinds(observation, "/bin/true") == {"executed"}
    interpreter = subprocess.run(["readelf", "-l", "/bin/true"], capture_output=True, text=True, check=True).stdout
    loader = interpreter.split("interpreter: ")[1].split("]")[0]
    assert kinds(observation, loader) == {"interpreted"}
    assert any(path and b"/libc.so.6" in path for path in resolved(observation))


def test_strace_sees_nothing_more(sandbox: Sandbox, host_job: Job, tmp_path: Path) -> None:
    """Every path that strace shows as used with success is in the observation: a shell, and Python with imports."""
    script = "import json, sqlite3, ssl; open('/etc/passwd').read()"
    arguments = ["/bin/sh", "-c", f'/usr/bin/python3 -c "{script}"; ls -l /usr/lib >/dev/null; git --version']
    log = tmp_path / "strace.log"
    subprocess.run(
        ["strace", "-f", "-z", "-e", "trace=%file", "-s", "4096", "-o", log, "--", *arguments],
        check=True, cwd="/", capture_output=True, env=dict(pair.split("=", 1) for pair in host_job.environment),
    )  # fmt: skip
    seen = {use.path for use in observed(sandbox, *arguments).uses}
    missed = set()
    for line in log.read_bytes().splitlines():
        call, quote, rest = line.partition(b'"')
        path = rest.partition(b'"')[0]
        if quote and b"AT_FDCWD" in call + b"AT_FDCWD" and path.startswith(b"/"):
            missed |= {path} - seen
    assert not {path for path in missed if not path.startswith((b"/proc/", b"/sys/", b"/tmp/"))}


THREAD_EXEC = r"""
#include <pthread.h>
#include <unistd.h>
static void *run(void *path) { execl(path, "true", (char *)0); return 0; }
int main(int count, char **names) {
    pthread_t thread;
    pthread_create(&thread, 0, run, names[1]);
    pthread_join(thread, 0);
    return 1;
}
"""


def test_exec_from_a_thread_that_is_not_the_leader(sandbox: Sandbox, compiled: Compile) -> None:
    observation = observed(sandbox, compiled("thread-exec", THREAD_EXEC, "-pthread"), "/bin/true")
    assert kinds(observation, "/bin/true") == {"executed"}


MANY = r"""
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static const char *top;
static void touch(const char *kind, long number) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s%ld", top, kind, number);
    if (open(path, O_RDONLY) < 0) exit(9);
}
static void *thread(void *number) { touch("thread", (long)number); return 0; }
int main(int count, char **names) {
    top = names[1];
    pthread_t threads[200];
    for (long i = 0; i < 200; i++) pthread_create(&threads[i], 0, thread, (void *)i);
    for (long i = 0; i < 200; i++) pthread_join(threads[i], 0);
    for (long i = 0; i < 200; i++) if (!fork()) { touch("fork", i); _exit(0); }
    while (wait(0) > 0);
    pid_t child = vfork();
    if (!child) { execl("/bin/cat", "cat", names[2], (char *)0); _exit(1); }
    waitpid(child, 0, 0);
    char *arguments[] = {"cat", names[3], 0};
    posix_spawn(&child, "/bin/cat", 0, 0, arguments, 0);
    waitpid(child, 0, 0);
    return 0;
}
"""


def test_threads_forks_vfork_and_spawn(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    files = [tmp_path / f"{kind}{number}" for kind in ("thread", "fork") for number in range(200)]
    files += [tmp_path / "vfork", tmp_path / "spawn"]
    for file in files:
        file.touch()
    observation = observed(sandbox, compiled("many", MANY, "-pthread"), tmp_path, files[-2], files[-1])
    assert all("opened" in kinds(observation, file) for file in files)


DAEMON = r"""
#include <fcntl.h>
#include <unistd.h>
int main(int count, char **names) {
    if (fork()) return 0;
    setsid();
    if (fork()) return 0;
    usleep(200000);
    return open(names[1], O_RDONLY) < 0;
}
"""


def test_daemon_that_forks_twice(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    (tmp_path / "late").touch()
    assert kinds(observed(sandbox, compiled("daemon", DAEMON), tmp_path / "late"), tmp_path / "late") == {"opened"}


STOPS = r"""
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile int got;
static void on(int number) { got = number; }
int main(int count, char **names) {
    pid_t child = fork();
    if (!child) { raise(SIGSTOP); _exit(open(names[1], O_RDONLY) < 0); }
    int status;
    waitpid(child, &status, WUNTRACED);
    if (!WIFSTOPPED(status)) return 1;
    usleep(200000);
    if (waitpid(child, &status, WNOHANG)) return 5;  /* it went on without SIGCONT */
    kill(child, SIGCONT);
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) return 2;
    signal(SIGUSR1, on); signal(SIGTRAP, on);
    raise(SIGUSR1); if (got != SIGUSR1) return 3;
    raise(SIGTRAP); if (got != SIGTRAP) return 4;
    return 0;
}
"""


def test_stopped_targets_and_signals_behave_as_untraced(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert kinds(observed(sandbox, compiled("stops", STOPS), tmp_path / "file"), tmp_path / "file") == {"opened"}


PATHS = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
int main(int count, char **names) {
    int top = open(names[1], O_RDONLY | O_DIRECTORY);
    if (openat(top, "at", O_RDONLY) < 0) return 1;
    if (chdir(names[1])) return 2;
    if (open("relative", O_RDONLY) < 0) return 3;
    if (symlink("linked", "made")) return 4;
    if (open("made", O_RDONLY) < 0) return 5;
    if (open("caf\xe9\n", O_RDONLY) < 0) return 6;
    char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + 4096, 4096);
    char *edge = strcpy(pages + 4096 - sizeof "edge", "edge");
    if (access(edge, R_OK)) return 7;
    struct { unsigned long long flags, mode, resolve; } how = {O_RDONLY, 0, 0x10};
    if (syscall(437, top, "/how", &how, sizeof how) < 0) return 8;
    struct sockaddr_un address = {AF_UNIX, "socket"};
    bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address);
    if (mkdir("directory/new", 0700)) return 9;
    if (rename("renamed", "other")) return 10;
    if (chroot("jail") || open("/inside", O_RDONLY) < 0) return 11;
    return 0;
}
"""


def test_paths_are_what_the_process_means(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    names = (b"at", b"relative", b"linked", b"caf\xe9\n", b"edge", b"how", b"renamed")
    top = os.fsencode(tmp_path / "top")
    os.mkdir(top)
    os.mkdir(top + b"/directory")
    os.mkdir(top + b"/jail")
    for name in (*names, b"jail/inside"):
        with open(top + b"/" + name, "wb"):
            pass
    observation = observed(sandbox, compiled("paths", PATHS), tmp_path / "top")
    for name in (b"at", b"relative", b"made", b"caf\xe9\n", b"how", b"jail/inside"):
        assert "opened" in kinds(observation, top + b"/" + name), name
    assert top + b"/linked" in resolved(observation)
    assert kinds(observation, top + b"/edge") == {"checked"}
    assert kinds(observation, top + b"/socket") == {"created"}
    assert kinds(observation, top + b"/directory/new") == {"created"}
    assert kinds(observation, top + b"/renamed") == {"renamed"}


OLD_CALLS = r"""
#include <unistd.h>
int main(int count, char **names) {
    static char path[] = "/etc/passwd";
    long result;
    char *low = names[0];
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(5), "b"(path), "c"(0), "d"(0) : "memory");
    return result < 0;
}
"""


MOVING = r"""
#include <fcntl.h>
#include <unistd.h>
int main(int count, char **names) {
    if (chdir(names[1])) return 1;
    for (int i = 0; i < 2; i++) {
        unlink("current");
        if (symlink(i ? "b" : "a", "current")) return 2;
        if (open("current", O_RDONLY) < 0) return 3;
        if (chdir(i ? "y" : "x")) return 4;
        if (open("/proc/self/cwd/file", O_RDONLY) < 0) return 5;
        if (chdir("..")) return 6;
    }
    return 0;
}
"""


def test_one_name_that_leads_to_one_file_after_the_other(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "x/file", "y/file")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    observation = observed(sandbox, compiled("moving", MOVING), tmp_path)
    assert {os.fsencode(file) for file in files} <= resolved(observation)


ODD = r"""
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char **names) {
    char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + 4096, 4096);
    syscall(437, AT_FDCWD, "/etc/passwd", pages + 4088, 24);
    open((char *)8, O_RDONLY);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {4, filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    syscall(SYS_getpid);
    return open("/etc/group", O_RDONLY) < 0;
}
"""


def test_bad_pointers_and_a_filter_of_its_own(sandbox: Sandbox, compiled: Compile) -> None:
    assert "opened" in kinds(observed(sandbox, compiled("odd", ODD)), "/etc/group")


def test_calls_of_32_bit_programs(sandbox: Sandbox, compiled: Compile) -> None:
    """int 0x80 with i386 numbers; the text lies below 4 GiB in a program that is not position-independent."""
    program = compiled("old-calls", OLD_CALLS, "-static", "-no-pie")
    assert "opened" in kinds(observed(sandbox, program), "/etc/passwd")


MEMFD = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char **names) {
    char *arguments[] = {"true", 0}, *none[] = {0};
    if (syscall(425, 8, 0) >= 0) return 3;
    int program = open("/bin/true", O_RDONLY | O_CLOEXEC);
    syscall(SYS_execveat, program, "", arguments, none, AT_EMPTY_PATH);
    return 1;
}
"""


def test_execveat_of_a_descriptor_and_no_io_uring(sandbox: Sandbox, compiled: Compile) -> None:
    observation = observed(sandbox, compiled("memfd", MEMFD))
    assert b"/usr/bin/true" in resolved(observation)
    assert "executed" in kinds(observation, "/usr/bin/true") | kinds(observation, "/bin/true")


def test_interpreters_of_scripts_in_chains(sandbox: Sandbox, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("#!/bin/sh\nexit 0\n")
    outer.write_text(f"#! {inner} argument\n")
    inner.chmod(0o755)
    outer.chmod(0o755)
    observation = observed(sandbox, outer)
    assert kinds(observation, outer) >= {"executed"}
    assert "interpreted" in kinds(observation, inner)
    assert "interpreted" in kinds(observation, "/bin/sh")


def test_nothing_of_the_sandbox_reaches_the_host(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    observed(sandbox, "/bin/sh", "-c", f"echo after > {tmp_path}/file; hostname sandboxed; kill -9 {os.getpid()}; true")
    assert (tmp_path / "file").read_text() == "before"


def test_capabilities_and_descriptors_are_dockers(sandbox: Sandbox) -> None:
    number = sandbox.launch(["/bin/sh", "-c", "grep CapEff /proc/self/status; ls /proc/self/fd | wc -l; mount -t tmpfs x /mnt"])
    while (result := sandbox.ended(number)) is None:
        sandbox.poll(5)
    lines = result.output.decode().split("\n")
    assert lines[0].split() == ["CapEff:", "00000000a80425fb"]
    assert lines[1] == "4"  # the three standard ones, and ls's own of the directory
    assert "permission denied" in lines[2].lower()


def test_only_loopback_is_there_and_the_host_joins_it(sandbox: Sandbox) -> None:
    result = sandbox.run_beside(["/bin/sh", "-c", "ip -o link; ps ax | wc -l"], 10)
    assert result.status == 0
    *links, processes = result.output.decode().splitlines()
    assert len(links) == 1
    assert "lo:" in links[0]
    assert "UP" in links[0]
    assert int(processes) < 8


def test_command_beside_is_killed_with_its_children(sandbox: Sandbox, tmp_path: Path) -> None:
    result = sandbox.run_beside(["/bin/sh", "-c", f"(sleep 1; touch {tmp_path}/alive) & sleep 30"], 0.3)
    assert result.status == -9
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["sleep", "5"], timeout=1.2, check=False)
    assert not (tmp_path / "alive").exists()


def test_target_that_ignores_its_stop_signal_is_killed(sandbox: Sandbox) -> None:
    sandbox.launch(["/bin/sh", "-c", "trap '' TERM; sleep 100; sleep 100"])
    sandbox.poll(0.2)
    sandbox.stop(15, 0.3)
    assert sandbox.alive is False


def test_much_output_keeps_memory_bounded(sandbox: Sandbox) -> None:
    number = sandbox.launch(["/bin/sh", "-c", "head -c 300000000 /dev/zero; echo end"])
    while (result := sandbox.ended(number)) is None:
        sandbox.poll(10)
    assert len(result.output) == 1 << 16
    assert result.output.endswith(b"end\n")


FIND = r"""
#include <unistd.h>
int main(void) { return access("/file0", R_OK) || access("/file299", R_OK); }
"""


def test_many_layers_are_stacked(tmp_path: Path, compiled: Compile) -> None:
    """More of them than fit a page by their full names."""
    program = compiled("find", FIND, "-static")
    layers = []
    for number in range(300):
        layer = tmp_path / ("a-rather-long-directory-name-for-a-layer" * 3) / str(number)
        layer.mkdir(parents=True)
        (layer / f"file{number}").touch()
        layers.append(str(layer))
    scratch = tmp_path / "sandbox"
    scratch.mkdir()
    (Path(layers[7]) / "find").hardlink_to(program)
    job = Job(tuple(layers), (), str(scratch), "sandbox", ("PATH=/bin",), 0, 0, (), "/")
    with Sandbox(job) as sandbox:
        assert sandbox.run(["/find"]).status == 0
