/* escapes [NAME=VALUE]...: ways out of a container, each tried by a process of its own, then again by an untraced one.
   Prints "WAY: denied ERRNO", "WAY: ESCAPED how", or "WAY: not tried" where a word is missing. ENODATA: nothing forbade
   it, and nothing of the host came of it. In an engine's container this program is to be pid 1: what is tried on pid 1 is
   tried on another program's only. The words tell what only the host knows:
     host_file=PATH         a file that everybody may see; the host has it, the image has not
     host_secret=TEXT       in the environment of the tool's own process
     host_pid=PID           a process that the test owns
     host_disk=MAJOR:MINOR  a disk of the host
     host_socket=NAME       an abstract Unix stream socket that listens
     host_port=PORT         a TCP port that listens on 127.0.0.1
     host_shm=KEY           a System V shared memory segment
     host_key=NAME          a key of type "user" in the tool's session keyring
     host_ns=LINK           a namespace that is to be another than this one's, as net:[4026531840]; any number
     image_node=PATH        a device node of the image that is not to open; any number
   With only=WAY, no other is tried. With report=FILE, it is written there instead of to stdout.
   Where all succeeds it does no harm: it opens but does not write, mounts in a namespace of its own, and leaves the
   machine's own pid 1 alone. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct { enum { NOT_TRIED, DENIED, ESCAPED } outcome; int error; char how[200]; } *result;  /* shared by all processes */
static char **words;

/* What a way returns: 0 is out, -1 is denied, with errno. */
static int escaped(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(result->how, sizeof result->how, format, arguments);
    va_end(arguments);
    return 0;
}
static int denied(int error) { errno = error; return -1; }
/* The value that a word has for the number-th time, null at the end. */
static const char *word(const char *name, int number) {
    size_t length = strlen(name);
    for (char **one = words; *one; one++)
        if (!strncmp(*one, name, length) && (*one)[length] == '=' && !number--) return *one + length + 1;
    return 0;
}
static const char *needed(const char *name) {
    const char *value = word(name, 0);
    if (!value) { result->outcome = NOT_TRIED; _exit(0); }
    return value;
}
/* The way for each path: a "*" in the pattern is any name. Of several errors a refusal is told. */
static int each(const char *pattern, int (*way)(const char *)) {
    const char *star = strchr(pattern, '*');
    if (!star) return way(pattern);
    char path[4096];
    int failed = -1, error = ENODATA;
    snprintf(path, sizeof path, "%.*s", (int)(star - pattern), pattern);
    DIR *directory = opendir(path);
    if (!directory) return -1;
    for (struct dirent *entry; failed && (entry = readdir(directory));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%.*s%s%s", (int)(star - pattern), pattern, entry->d_name, star + 1);
        failed = each(path, way);
        if (errno != ENOENT && errno != ENOTDIR && errno != ENODATA && error == ENODATA) error = errno;
    }
    closedir(directory);
    return failed ? denied(error) : 0;
}

/* Ways on a path. */
static int opens(const char *path, int flags) {
    int file = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return file < 0 ? -1 : escaped("%s opens", path);
}
static int readable(const char *path) { return opens(path, O_RDONLY); }
static int writable(const char *path) { return opens(path, O_WRONLY); }
static int reachable(const char *path) { return opens(path, O_PATH); }
static int has_content(const char *path) {
    char byte, below[64];
    int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, &byte, 1);
    snprintf(below, sizeof below, "%s/*", path);
    if (length < 0 && errno == EISDIR) return each(below, reachable);
    return length < 0 ? -1 : length ? escaped("%s has content", path) : denied(ENODATA);
}
static int has_secret(const char *path) {
    static char all[1 << 20];
    const char *secret = needed("host_secret");
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, all, sizeof all), error = errno;
    if (file >= 0) close(file);
    if (length < 0) return denied(error);
    return memmem(all, length, secret, strlen(secret)) ? escaped("%s has the host's secret", path) : denied(ENODATA);
}
/* Up beyond any root but this process's own, then down: from a directory of the host, the host's file is there. */
static int host_below(int directory, const char *path) {
    char name[4400] = "";
    struct stat info;
    for (int i = 0; i < 64; i++) strcat(name, "../");
    snprintf(name + strlen(name), 4096, "%s", needed("host_file") + 1);
    int failed = directory < 0 ? -1 : fstatat(directory, name, &info, 0), error = errno;
    if (directory >= 0) close(directory);
    return failed ? denied(error) : escaped("%s leads to %s", path, needed("host_file"));
}
static int leads_out(const char *path) { return host_below(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), path); }
static int is_inherited(const char *path) {
    char target[4096] = "";
    ssize_t length = readlink(path, target, sizeof target - 1);
    int listing = length > 3 && !strncmp(target, "/proc/", 6) && !strcmp(target + length - 3, "/fd");
    return listing || atoi(strrchr(path, '/') + 1) < 3 ? denied(ENODATA) : escaped("%s is %s", path, target);
}
static int is_disk(const char *path) {
    struct stat info;
    return stat(path, &info) ? -1 : S_ISBLK(info.st_mode) ? readable(path) : denied(ENODATA);
}
static int is_of_host(const char *path) {
    char target[64] = "";
    needed("host_ns");
    if (readlink(path, target, sizeof target - 1) < 0) return -1;
    for (int i = 0; word("host_ns", i); i++)
        if (!strcmp(word("host_ns", i), target)) return escaped("%s is the host's", target);
    return denied(ENODATA);
}
static int joins(const char *path) {
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    return namespace < 0 || setns(namespace, 0) ? -1 : escaped("%s is joined", path);
}

/* Roots, mounts and devices. */
static int walk_out(const char *directory) {
    int top = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);  /* keeps the way back out of the new root */
    if (mkdir(directory, 0700)) return -1;
    int failed = chroot(directory), error = errno;
    if (!failed && !fchdir(top)) {
        for (int i = 0; i < 64 && !chdir(".."); i++) {}
        failed = leads_out(".");
        error = errno;
    }
    unlinkat(top, directory + 1, AT_REMOVEDIR);
    return failed ? denied(error) : 0;
}
static int remount(const char *path) {
    struct statvfs info;
    if (statvfs(path, &info)) return -1;
    unsigned long kept = info.f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC);
    return mount(0, path, 0, MS_REMOUNT | MS_BIND | kept, 0) ? -1 : escaped("%s is mounted for writing", path);
}
static int mount_as_user(const char *place) {
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) || mount("none", place, "tmpfs", 0, 0) ? -1 : escaped("%s is a mount", place);
}
/* A node "b MAJOR:MINOR" or "c MAJOR:MINOR", or the host's disk, wherever one can be made. */
static int node(const char *device, int (*way)(const char *)) {
    const char *const places[] = {"/dev/shm", "/dev", "", "/tmp"};
    char path[64];
    int failed = -1, error = 0, numbers[2] = {0};
    sscanf(strcmp(device, "disk") ? device + 2 : needed("host_disk"), "%d:%d", &numbers[0], &numbers[1]);
    for (int i = 0; failed && i < 4; i++) {
        snprintf(path, sizeof path, "%s/escape-%d", places[i], getpid());
        int made = !mknod(path, (*device == 'c' ? S_IFCHR : S_IFBLK) | 0600, makedev(numbers[0], numbers[1]));
        if (made) failed = way(path);
        error = errno;
        if (made) unlink(path);
    }
    return failed ? denied(error) : 0;
}
static int is_mounted(const char *path) {
    const char *const kinds[][2] = {{"btrfs", "rescue=nologreplay"}, {"xfs", "norecovery"}, {"ext4", "noload"}};
    for (int i = 0; i < 3; i++)  /* EBUSY: the disk was reached, and is mounted for writing */
        if (!mount(path, "/tmp", kinds[i][0], MS_RDONLY, kinds[i][1]) || errno == EBUSY) return escaped("the disk by %s", path);
    return -1;
}
static int open_node(const char *device) { return node(device, readable); }
static int mount_node(const char *device) { return node(device, is_mounted); }
static int open_image_nodes(const char *unused) {
    needed("image_node");
    for (int i = 0; word("image_node", i); i++) if (!readable(word("image_node", i))) return 0;
    return -1;
}
/* For each line of proc_pid_mountinfo(5): its mount point, and the file system's options. */
static int each_mount(int (*way)(const char *, char *)) {
    static char line[1 << 16], point[4096];
    int failed = -1, error = ENODATA;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (failed && file && fgets(line, sizeof line, file) && sscanf(line, "%*s %*s %*s %*s %4095s", point) == 1) {
        failed = way(point, strrchr(line, ' ') + 1);
        if (errno != ENODATA) error = errno;
    }
    return failed ? denied(error) : 0;
}
static int has_open_layer(const char *point, char *options) {
    int failed = denied(ENODATA);
    for (char *option; failed && (option = strsep(&options, ",\n"));) {
        char *layer, *layers = strstr(option, "dir=");
        if (layers) strsep(&layers, "=");
        while (failed && (layer = strsep(&layers, ":"))) if (*layer) failed = reachable(layer);
    }
    return failed;
}
static int has_handle(const char *point, char *options) {
    struct { unsigned size; int type; unsigned inode, generation; } root = {8, 1 /* FILEID_INO32_GEN */, 2, 0};
    int place = open(point, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return place < 0 ? -1 : host_below(syscall(SYS_open_by_handle_at, place, &root, O_RDONLY | O_DIRECTORY | O_CLOEXEC), point);
}
static int is_unmounted(const char *point, char *options) {
    int failed = umount2(point, MNT_EXPIRE);  /* EAGAIN: it is only marked the first time */
    return failed && errno != EAGAIN && errno != EBUSY ? -1 : escaped("%s can be unmounted", point);
}
static int open_layers(const char *unused) { return each_mount(has_open_layer); }
static int forge_handles(const char *unused) { return each_mount(has_handle); }
static int unmount(const char *unused) { return each_mount(is_unmounted); }

/* Processes. */
static int take_descriptors(const char *unused) {
    int process = syscall(SYS_pidfd_open, 1, 0);
    for (int i = 0; process >= 0 && i < 20; i++)
        if (syscall(SYS_pidfd_getfd, process, i, 0) >= 0) return escaped("descriptor %d is taken", i);
    return -1;
}
/* It must neither stop nor end; when it ends, so does this program. */
static int signal_init(const char *unused) {
    const int signals[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGABRT, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
    char state = 0;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) if (kill(1, signals[i])) return -1;
    usleep(50000);
    FILE *file = fopen("/proc/1/stat", "re");
    if (!file || fscanf(file, "1 (%*[^)]) %c", &state) != 1 || !strchr("TtZX", state)) return denied(ENODATA);
    kill(1, SIGCONT);
    return escaped("pid 1 came into state %c", state);
}
static int see_process(const char *unused) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s", needed("host_pid"));
    return reachable(path);
}
static int signal_group(const char *unused) {
    return getpgrp() ? denied(ENODATA) : kill(0, 0) ? -1 : escaped("the process group is from outside of the pid namespace");
}
static int type_in_terminal(const char *path) {
    int terminal = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0 || (ioctl(terminal, TIOCSTI, 0) && errno != EFAULT)) return -1;  /* EFAULT: now the byte would be read */
    return getsid(0) ? denied(ENODATA) : escaped("the terminal's session is from outside of the pid namespace");
}

/* What all processes of a machine share, unless it is separated. */
static int connects(int family, const void *address, socklen_t size) {
    int made = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return made < 0 || connect(made, address, size) ? -1 : escaped("it is connected");
}
static int connect_abstract(const char *unused) {
    struct sockaddr_un address = {AF_UNIX, ""};
    strncpy(address.sun_path + 1, needed("host_socket"), sizeof address.sun_path - 2);
    return connects(AF_UNIX, &address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(needed("host_socket")));
}
static int connect_local(const char *unused) {
    struct sockaddr_in address = {AF_INET, htons(atoi(needed("host_port"))), {htonl(INADDR_LOOPBACK)}};
    return connects(AF_INET, &address, sizeof address);
}
static int ask_audit(const char *unused) {
    struct nlmsghdr question = {sizeof question, AUDIT_GET, NLM_F_REQUEST, 1, 0};
    struct { struct nlmsghdr header; int error; char rest[256]; } answer;
    int kernel = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);
    if (kernel < 0 || send(kernel, &question, sizeof question, 0) < 0 || recv(kernel, &answer, sizeof answer, 0) < 0) return -1;
    return answer.header.nlmsg_type == NLMSG_ERROR ? denied(-answer.error) : escaped("the audit system answers");
}
static int raise_limits(const char *unused) {
    struct rlimit limit;
    for (int i = 0; i < RLIMIT_NLIMITS; i++)
        if (!getrlimit(i, &limit) && limit.rlim_max++ != RLIM_INFINITY && !setrlimit(i, &limit)) return escaped("limit %d", i);
    return -1;
}

/* Among a call's arguments, the value of a word. */
enum { HOST_PID = 0x5e1f0000, HOST_SHM, HOST_KEY };
static long value(long argument) {
    if (argument == HOST_KEY) return (long)needed("host_key");
    return argument == HOST_PID ? atoi(needed("host_pid")) : argument == HOST_SHM ? atoi(needed("host_shm")) : argument;
}
static char buffer[4096];
static struct iovec here = {buffer, 8}, nowhere = {0, 8};
static struct sched_param lowest = {1};
static struct __user_cap_header_struct version = {_LINUX_CAPABILITY_VERSION_3, 0};
static struct __user_cap_data_struct admin[2] = {{1 << CAP_SYS_ADMIN, 1 << CAP_SYS_ADMIN, 0}};
static struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event, .config = PERF_COUNT_SW_CPU_CLOCK};
static struct bpf_insn program[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K}, {.code = BPF_JMP | BPF_EXIT}};
static union bpf_attr load = {
    .prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = 2, .insns = (long)program, .license = (long)"GPL"};

/* A way, and what it is tried on; or else a call, which is out when it succeeds, or when it fails with an errno that only
   comes after permission was given. */
struct attempt { const char *name; int (*way)(const char *); const char *on; long number, arguments[6]; int out; };
static const char on_init[] = "/proc/1/";
#define CALL(call, ...) .number = SYS_##call, .arguments = {__VA_ARGS__}
#define MOUNT(source, kind, flags) CALL(mount, (long)source, (long)"/tmp", (long)kind, flags)
static const struct attempt attempts[] = {
    {"chroot", walk_out, "/tmp/escape"}, {"working directory", leads_out, "."},
    {"mount tmpfs", MOUNT("", "tmpfs", 0)}, {"mount proc", MOUNT("", "proc", 0)}, {"mount sysfs", MOUNT("", "sysfs", 0)},
    {"mount devtmpfs", MOUNT("", "devtmpfs", 0)}, {"mount cgroup2", MOUNT("", "cgroup2", 0)},
    {"mount root", MOUNT("/", 0, MS_BIND | MS_REC)}, {"mount disk", mount_node, "disk"},
    {"mount in user namespace", mount_as_user, "/tmp"},
    {"fsopen", CALL(fsopen, (long)"tmpfs")}, {"open tree", CALL(open_tree, AT_FDCWD, (long)"/", 1 /* OPEN_TREE_CLONE */)},
    {"unmount", unmount}, {"remount root", remount, "/"}, {"remount sys", remount, "/sys"},
    {"remount proc sys", remount, "/proc/sys"}, {"remount cgroup", remount, "/sys/fs/cgroup"},
    {"overlay layers", open_layers}, {"forged handles", forge_handles},

    {"node of disk", open_node, "disk"}, {"node of mem", open_node, "c 1:1"}, {"node of port", open_node, "c 1:4"},
    {"node of kmsg", open_node, "c 1:11"}, {"node of kvm", open_node, "c 10:232"}, {"node of fuse", open_node, "c 10:229"},
    {"node of loop", open_node, "b 7:0"}, {"node of loop-control", open_node, "c 10:237"},
    {"disks in dev", is_disk, "/dev/*"}, {"image nodes", open_image_nodes},

    {"read kcore", has_content, "/proc/kcore"}, {"read keys", has_content, "/proc/keys"},
    {"read timer list", has_content, "/proc/timer_list"}, {"read sched debug", has_content, "/proc/sched_debug"},
    {"read firmware", has_content, "/sys/firmware"}, {"read kmsg", readable, "/proc/kmsg"},
    {"write core pattern", writable, "/proc/sys/kernel/core_pattern"}, {"write sysctl", writable, "/proc/sys/vm/swappiness"},
    {"write binfmt_misc", writable, "/proc/sys/fs/binfmt_misc/register"}, {"write sysrq", writable, "/proc/sysrq-trigger"},
    {"write irq", writable, "/proc/irq/default_smp_affinity"}, {"write uevent helper", writable, "/sys/kernel/uevent_helper"},
    {"write uevent", writable, "/sys/block/*/uevent"}, {"write power state", writable, "/sys/power/state"},
    {"write release agent", writable, "/sys/fs/cgroup/*/release_agent"},
    {"write devices.allow", writable, "/sys/fs/cgroup/*/devices.allow"},
    {"write cgroup.procs", writable, "/sys/fs/cgroup/*/cgroup.procs"},
    {"write unified cgroup.procs", writable, "/sys/fs/cgroup/cgroup.procs"},

    {"inherited descriptors", is_inherited, "/proc/self/fd/*"}, {"own namespaces", is_of_host, "/proc/self/ns/*"},
    {"environments", has_secret, "/proc/*/environ"}, {"command lines", has_secret, "/proc/*/cmdline"},
    {"roots", leads_out, "/proc/*/root"}, {"working directories", leads_out, "/proc/*/cwd"},
    {"descriptors", leads_out, "/proc/*/fd/*"}, {"see process", see_process}, {"signal process", CALL(kill, HOST_PID, 0)},
    {"trace process", CALL(ptrace, PTRACE_SEIZE, HOST_PID)},  /* it is not stopped, and let go when this process ends */
    {"signal process group", signal_group}, {"type in terminal", type_in_terminal, "/dev/tty"},

    {"init's descriptors", reachable, "/proc/1/fd/*"}, {"init's namespaces", joins, "/proc/1/ns/*"},
    {"init's program", readable, "/proc/1/exe"}, {"init's memory", readable, "/proc/1/mem"},
    {"write init's memory", writable, "/proc/1/mem"}, {"write init's oom score", writable, "/proc/1/oom_score_adj"},
    {"take init's descriptors", take_descriptors, on_init}, {"signal init", signal_init, on_init},
    {"trace init", 0, on_init, CALL(ptrace, PTRACE_SEIZE, 1)},
    {"copy from init", 0, on_init, CALL(process_vm_readv, 1, (long)&here, 1, (long)&nowhere, 1), EFAULT},
    {"copy to init", 0, on_init, CALL(process_vm_writev, 1, (long)&here, 1, (long)&nowhere, 1), EFAULT},
    {"init's limits", 0, on_init, CALL(prlimit64, 1, RLIMIT_NOFILE, 0, (long)buffer)},

    {"abstract socket", connect_abstract}, {"local port", connect_local}, {"shared memory", CALL(shmget, HOST_SHM)},
    {"session key", CALL(keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, (long)"user", HOST_KEY)},
    {"user keyring", CALL(keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING)},  /* one for a user's processes everywhere */
    {"audit", ask_audit}, {"limits", raise_limits}, {"capabilities", CALL(capset, (long)&version, (long)admin)},
    {"real-time priority", CALL(sched_setscheduler, 0, SCHED_FIFO, (long)&lowest)},
    {"init_module", CALL(init_module, (long)buffer, sizeof buffer, (long)""), ENOEXEC},
    {"finit_module", CALL(finit_module, -1, (long)""), EBADF},
    {"delete_module", CALL(delete_module, (long)"no-such", O_NONBLOCK), ENOENT},
    {"kexec_load", CALL(kexec_load, 0, 0, 0, -1), EINVAL}, {"reboot", CALL(reboot), EINVAL},
    {"swapon", CALL(swapon, (long)"/none"), ENOENT}, {"swapoff", CALL(swapoff, (long)"/none"), ENOENT},
    {"acct", CALL(acct, (long)""), ENOENT}, {"sethostname", CALL(sethostname, 0, -1), EINVAL},
    {"settimeofday", CALL(settimeofday)}, {"syslog", CALL(syslog, 3, (long)buffer, sizeof buffer)},
    {"bpf", CALL(bpf, BPF_PROG_LOAD, (long)&load, sizeof load)},
    {"perf_event_open", CALL(perf_event_open, (long)&event, -1, 0, -1)}, {"userfaultfd", CALL(userfaultfd)},
    {"fanotify_init", CALL(fanotify_init, 4 /* FAN_CLASS_CONTENT */)},
#ifdef __x86_64__
    {"iopl", CALL(iopl, 3)},
#endif
};

static int call(const struct attempt *attempt) {
    const long *a = attempt->arguments;
    long returned = syscall(attempt->number, value(a[0]), value(a[1]), value(a[2]), value(a[3]), value(a[4]), value(a[5]));
    if (returned == -1 && (!attempt->out || errno != attempt->out)) return -1;
    return escaped("the call says %s", returned == -1 ? strerrorname_np(errno) : "ok");
}
static int try(const struct attempt *attempt, pid_t first) {
    const char *on = attempt->on ? attempt->on : "";
    struct stat namespace;
    if (!strncmp(on, on_init, strlen(on_init))) {
        if (first == 1) return denied(ENODATA);
        if (!stat("/proc/self/ns/pid", &namespace) && namespace.st_ino == 0xeffffffc) return escaped("pid 1 is the machine's");
    }
    if (!unshare(CLONE_NEWNS)) mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
    return attempt->way ? each(on, attempt->way) : call(attempt);
}
static void report(const struct attempt *attempt, const char *how, unsigned long flags) {
    int status;
    if (word("only", 0) && strcmp(word("only", 0), attempt->name)) return;
    pid_t first = getpid(), child = syscall(SYS_clone, SIGCHLD | flags, 0, 0, 0, 0);
    if (!child) {
        alarm(5);
        result->outcome = DENIED;
        int failed = try(attempt, first);
        result->error = errno;
        if (!failed) result->outcome = ESCAPED;
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, __WALL) != child) exit(2);
    printf("%s%s: ", how, attempt->name);
    if (WIFSIGNALED(status)) printf("denied SIG%s\n", sigabbrev_np(WTERMSIG(status)));
    else if (result->outcome == NOT_TRIED) puts("not tried");
    else if (result->outcome == ESCAPED) printf("ESCAPED %s\n", result->how);
    else printf("denied %s\n", strerrorname_np(result->error) ?: "an unknown error");
    fflush(stdout);
}

/* The words are taken off the command line, which others may read. */
int main(int count, char **arguments) {
    words = calloc(count + 1, sizeof *words);
    for (int i = 1; i < count; i++) {
        words[i - 1] = strdup(arguments[i]);
        memset(arguments[i], 0, strlen(arguments[i]));
    }
    result = mmap(0, sizeof *result, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (result == MAP_FAILED || (word("report", 0) && !freopen(word("report", 0), "w", stdout))) return 1;
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) report(&attempts[i], "", 0);
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) report(&attempts[i], "untraced ", CLONE_UNTRACED);
    return 0;
}
