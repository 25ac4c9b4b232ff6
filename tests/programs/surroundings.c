/* surroundings [FILE]: what a process finds around itself, as lines "KEY: VALUE", sorted by keys that are unique, on stdout
   or in FILE. It changes nothing, whatever is allowed: files are opened for writing but not written, calls get arguments
   that are of no effect, and the device nodes that it makes in /tmp are removed. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#define EACH(array) (size_t i = 0; i < sizeof array / sizeof *array; i++)

static struct { char *key, *value; } lines[1 << 14];
static int line_count;

/* Strings are made and never freed: the program is short. */
static char *text(const char *format, ...) {
    char *made = 0;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&made, format, arguments) < 0) exit(2);
    va_end(arguments);
    return made;
}
static char *joined(char *all, const char *separator, const char *next) {
    return *all ? text("%s%s%s", all, separator, next) : text("%s", next);
}
static char *outcome(long result) { return result >= 0 ? "ok" : text("%s", strerrorname_np(errno) ?: "unknown error"); }
static void say(char *key, char *value) {
    for (int i = 0; i < line_count; i++) if (!strcmp(lines[i].key, key)) key = text("%s again", key), i = -1;
    if (line_count == sizeof lines / sizeof *lines) exit(3);
    lines[line_count].key = key;
    lines[line_count++].value = value;
}
static int by_key(const void *one, const void *other) { return strcmp(*(char *const *)one, *(char *const *)other); }
static void print_escaped(FILE *to, const char *value) {
    for (; *value; value++) {
        if (*value == '\n') fputs("\\n", to);
        else if (*value == '\t') fputs("\\t", to);
        else if (*value < ' ' || *value == '\\' || *value == 127) fprintf(to, "\\x%02x", (unsigned char)*value);
        else fputc(*value, to);
    }
}

/* Files: what they are, and what can be done with them. */
static char *target(const char *path) {
    static char name[4096];
    ssize_t length = readlink(path, name, sizeof name - 1);
    return length < 0 ? outcome(-1) : text("%.*s", (int)length, name);
}
static char *described(const char *path, const struct stat *info) {
    const char *types[16] = {
        [1] = "fifo", [2] = "char", [4] = "directory", [6] = "block", [8] = "file", [10] = "link", [12] = "socket"};
    char *all = text("%s %04o %d:%d", types[info->st_mode >> 12], info->st_mode & 07777, info->st_uid, info->st_gid);
    if (info->st_rdev) return text("%s %d:%d", all, major(info->st_rdev), minor(info->st_rdev));
    return S_ISLNK(info->st_mode) ? text("%s %s", all, target(path)) : all;
}
static char *opened(const char *path, int flags) {
    int file = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    char *result = outcome(file);
    if (file >= 0) close(file);
    return result;
}
static char *listed(const char *path) {
    int count = 0;
    DIR *directory = opendir(path);
    if (!directory) return outcome(-1);
    while (readdir(directory)) count++;
    closedir(directory);
    return count > 2 ? "entries" : "empty";
}
static char *content(const char *path) {
    static char all[1 << 16];
    FILE *file = fopen(path, "re");
    size_t length = file ? fread(all, 1, sizeof all, file) : 0;
    char *result = !file || ferror(file) ? outcome(-1) : text("%.*s", (int)length, all);
    if (file) fclose(file);
    return result;
}
static char *first_byte(const char *path) {
    char byte;
    int file = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, &byte, 1);
    char *result = length < 0 ? outcome(-1) : length ? "data" : "empty";
    if (file >= 0) close(file);
    return result;
}
static char *reached(const char *path) {
    struct stat info;
    if (lstat(path, &info)) return outcome(-1);
    char *all = described(path, &info);
    if (S_ISLNK(info.st_mode)) return all;
    if (S_ISDIR(info.st_mode)) return text("%s, read %s, write %s", all, listed(path), outcome(access(path, W_OK)));
    char *read = S_ISCHR(info.st_mode) ? opened(path, O_RDONLY) : first_byte(path);
    return text("%s, read %s, write %s", all, read, opened(path, O_WRONLY));
}
static char *of_proc(const char *path) {
    struct stat info;
    if (lstat(path, &info)) return outcome(-1);
    char *all = described(path, &info);
    return S_ISLNK(info.st_mode) ? all : text("%s, read %s", all, S_ISDIR(info.st_mode) ? listed(path) : opened(path, O_RDONLY));
}
static int of_dev(const char *path, const struct stat *info, int kind, struct FTW *unused) {
    if (path[4]) say(text("dev %s", path + 5), kind == FTW_NS ? "unreachable" : described(path, info));
    return 0;
}
static char *of_descriptor(const char *path) {
    struct stat info;
    const char *ways[] = {"reads", "writes", "reads and writes", "path"};
    int number = atoi(strrchr(path, '/') + 1), flags = fcntl(number, F_GETFL);
    char *what = target(path), *bracket = strstr(what, ":[");
    if (bracket) *bracket = 0;  /* pipe:[1234] */
    if (fstat(number, &info)) return outcome(-1);
    return text("%s %s, %s%s%s", what, described(path, &info), ways[flags & O_ACCMODE],
                flags & O_APPEND ? ", appends" : "", flags & O_NONBLOCK ? ", does not block" : "");
}
/* Processes are counted, not shown; the directory's own descriptor is left out. */
static void say_directory(const char *kind, const char *path, char *(*about)(const char *)) {
    int processes = 0;
    DIR *directory = opendir(path);
    if (!directory) return say(text("%s", kind), outcome(-1));
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (about == of_proc && atoi(entry->d_name) > 0) processes++;
        else if (entry->d_name[0] != '.' && (about != of_descriptor || atoi(entry->d_name) != dirfd(directory)))
            say(text("%s %s", kind, entry->d_name), about(text("%s/%s", path, entry->d_name)));
    }
    if (processes) say("processes", text("%d", processes));
    closedir(directory);
}
static const char *const contents[] = {
    "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc/net/if_inet6", "/proc/net/route", "/proc/self/attr/current",
    "/proc/self/cgroup", "/proc/self/coredump_filter", "/proc/self/gid_map", "/proc/self/loginuid",
    "/proc/self/oom_score_adj", "/proc/self/setgroups", "/proc/self/timens_offsets", "/proc/self/uid_map",
    "/proc/sys/fs/mqueue/msg_max", "/proc/sys/kernel/msgmax", "/proc/sys/kernel/sem", "/proc/sys/kernel/shmmax",
    "/proc/sys/net/core/somaxconn", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/ip_local_port_range",
    "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/net/ipv4/ping_group_range",
    "/proc/sys/net/ipv6/conf/all/disable_ipv6", "/proc/sys/net/ipv6/conf/default/disable_ipv6",
    "/proc/sys/net/ipv6/conf/lo/disable_ipv6"};
static const char *const paths[] = {
    "/", "/.dockerenv", "/dev", "/dev/console", "/dev/mqueue", "/dev/pts", "/dev/shm", "/etc/hostname", "/etc/hosts",
    "/etc/mtab", "/etc/resolv.conf", "/proc", "/proc/acpi", "/proc/asound", "/proc/bus", "/proc/bus/pci", "/proc/driver",
    "/proc/fs", "/proc/interrupts", "/proc/irq", "/proc/irq/default_smp_affinity", "/proc/kallsyms", "/proc/kcore",
    "/proc/key-users", "/proc/keys", "/proc/latency_stats", "/proc/mtrr", "/proc/sched_debug", "/proc/scsi",
    "/proc/self/attr/exec", "/proc/self/comm", "/proc/self/fd", "/proc/self/oom_score_adj", "/proc/self/setgroups",
    "/proc/self/uid_map", "/proc/sys", "/proc/sys/fs/binfmt_misc", "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/shmmax",
    "/proc/sys/net/ipv4/ip_forward", "/proc/sys/vm/drop_caches", "/proc/sys/vm/swappiness", "/proc/sysrq-trigger",
    "/proc/timer_list", "/proc/timer_stats", "/proc/tty", "/proc/uptime", "/proc/vmallocinfo", "/sys", "/sys/block",
    "/sys/class/net", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/bpf", "/sys/fs/cgroup",
    "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/devices", "/sys/fs/cgroup/devices/devices.allow",
    "/sys/fs/cgroup/memory/release_agent", "/sys/fs/pstore", "/sys/fs/selinux", "/sys/kernel", "/sys/kernel/debug",
    "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/security", "/sys/kernel/tracing",
    "/sys/kernel/uevent_helper", "/sys/module", "/sys/power/state", "/tmp"};
static const struct { char *name; int kind, major, minor; } devices[] = {
    {"device console", S_IFCHR, 5, 1}, {"device fuse", S_IFCHR, 10, 229}, {"device kmsg", S_IFCHR, 1, 11},
    {"device loop-control", S_IFCHR, 10, 237}, {"device loop0", S_IFBLK, 7, 0}, {"device mem", S_IFCHR, 1, 1},
    {"device null", S_IFCHR, 1, 3}, {"device tty", S_IFCHR, 5, 0}, {"device tun", S_IFCHR, 10, 200},
    {"device zero", S_IFCHR, 1, 5}};
static void say_files(void) {
    for EACH(contents) say(text("content %s", contents[i]), content(contents[i]));
    for EACH(paths) say(text("path %s", paths[i]), reached(paths[i]));
    for EACH(devices) {
        char *path = text("/tmp/.surroundings-%d", getpid());
        int failed = mknod(path, devices[i].kind | 0600, makedev(devices[i].major, devices[i].minor));
        say(devices[i].name, failed ? text("mknod %s", outcome(-1)) : text("mknod ok, open %s", opened(path, O_RDONLY)));
        if (!failed) unlink(path);
    }
    nftw("/dev", of_dev, 32, FTW_PHYS);
    say_directory("proc", "/proc", of_proc);
    say_directory("cgroup", "/sys/fs/cgroup", reached);
}
/* proc_pid_mountinfo(5), without what differs from run to run. */
static char *without_layers(char *options) {
    char *all = "", *option;
    while ((option = strsep(&options, ","))) {
        char *value = strstr(option, "dir=") ?: strstr(option, "dir+=");  /* lowerdir, upperdir, workdir */
        if (value) strchr(value, '=')[1] = 0;
        all = joined(all, ",", option);
    }
    return all;
}
static void say_mounts(void) {
    char *fields[32], *line = 0;
    size_t size = 0;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file && getline(&line, &size, file) > 0) {
        char *rest = line, *tags = "";
        int count = 0, dash;
        line[strcspn(line, "\n")] = 0;
        while (count < 32 && (fields[count] = strsep(&rest, " "))) count++;
        for (dash = 6; strcmp(fields[dash], "-"); dash++)  /* shared:1 */
            tags = text("%s %.*s", tags, (int)strcspn(fields[dash], ":"), fields[dash]);
        char *source = *fields[dash + 2] == '/' ? "" : text(" of %s", fields[dash + 2]);
        char *options = without_layers(fields[dash + 3]);
        say(text("mount %s", fields[4]), text("%s %s %s%s%s", fields[dash + 1], fields[5], options, source, tags));
    }
    struct statfs root;
    say("root file system", statfs("/", &root) ? outcome(-1) : text("type 0x%lx", (long)root.f_type));
    if (file) fclose(file);
}

/* The process itself. SELF stands for its pid among a call's arguments. */
enum { SELF = 0x5e1f5e1f };
struct call { char *name; long number, arguments[6]; };
static long made(const struct call *call) {
    long a[6];
    for (int i = 0; i < 6; i++) a[i] = call->arguments[i] == SELF ? getpid() : call->arguments[i];
    return syscall(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
static const char *const status_fields[] = {
    "Cap", "Cpus_allowed_list", "Gid", "Groups", "Mems_allowed_list", "NoNewPrivs", "NSpid", "Seccomp", "ShdPnd", "SigBlk",
    "SigCgt", "SigIgn", "SigPnd", "Spec", "THP_enabled", "TracerPid", "Uid", "Umask"};
#define LIMIT(name) {"rlimit " #name, RLIMIT_##name}
static const struct { char *name; int number; } limits[] = {
    LIMIT(AS), LIMIT(CORE), LIMIT(CPU), LIMIT(DATA), LIMIT(FSIZE), LIMIT(LOCKS), LIMIT(MEMLOCK), LIMIT(MSGQUEUE), LIMIT(NICE),
    LIMIT(NOFILE), LIMIT(NPROC), LIMIT(RSS), LIMIT(RTPRIO), LIMIT(RTTIME), LIMIT(SIGPENDING), LIMIT(STACK)};
static int death_signal, reaper;
static const struct call numbers[] = {
    {"pid", SYS_getpid}, {"parent", SYS_getppid}, {"process group", SYS_getpgid}, {"session", SYS_getsid},
    {"personality", SYS_personality, {0xffffffff}}, {"20 - nice", SYS_getpriority, {PRIO_PROCESS}},
    {"scheduler", SYS_sched_getscheduler}, {"ioprio", SYS_ioprio_get, {1}}, {"timer slack", SYS_prctl, {PR_GET_TIMERSLACK}},
    {"dumpable", SYS_prctl, {PR_GET_DUMPABLE}}, {"securebits", SYS_prctl, {PR_GET_SECUREBITS}},
    {"keeps capabilities", SYS_prctl, {PR_GET_KEEPCAPS}}, {"machine check policy", SYS_prctl, {PR_MCE_KILL_GET}}};
static void say_status(void) {
    char *line = 0;
    size_t size = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file && getline(&line, &size, file) > 0)
        for EACH(status_fields) if (!strncmp(line, status_fields[i], strlen(status_fields[i]))) {
            char *rest = line, *name = strsep(&rest, ":"), *all = "", *value;
            while ((value = strsep(&rest, " \t\n"))) if (*value) all = joined(all, " ", value);
            say(text("status %s", name), all);
        }
    if (file) fclose(file);
}
static char *limit_value(rlim_t value) { return value == RLIM_INFINITY ? "unlimited" : text("%llu", (unsigned long long)value); }
static void say_process(void) {
    struct rlimit limit;
    struct utsname names;
    char *order = "", here[4096];
    say_status();
    say_directory("ns", "/proc/self/ns", target);
    for EACH(numbers) {
        long value = made(&numbers[i]);
        say(numbers[i].name, value == -1 ? outcome(-1) : text("%ld", value));
    }
    say("session leader", getsid(0) == getpid() ? "yes" : "no");
    say("group leader", getpgrp() == getpid() ? "yes" : "no");
    say("controlling terminal", opened("/dev/tty", O_RDWR));
    for (int i = 0; i < 3; i++) say(text("isatty %d", i), isatty(i) ? "yes" : "no");
    say("parent death signal", prctl(PR_GET_PDEATHSIG, &death_signal) ? outcome(-1) : text("%d", death_signal));
    say("child subreaper", prctl(PR_GET_CHILD_SUBREAPER, &reaper) ? outcome(-1) : text("%d", reaper));
    say("working directory", getcwd(here, sizeof here) ? text("%s", here) : outcome(-1));
    for (char **variable = environ; *variable; variable++) {
        char *value = text("%s", *variable), *name = strsep(&value, "=");
        say(text("env %s", name), value ?: "(no =)");
        order = joined(order, " ", name);
    }
    say("environment order", order);
    for EACH(limits) {
        getrlimit(limits[i].number, &limit);
        say(limits[i].name, text("%s:%s", limit_value(limit.rlim_cur), limit_value(limit.rlim_max)));
    }
    uname(&names);
    say("hostname", text("%s", names.nodename));
    say("domainname", text("%s", names.domainname));
}
static void say_interfaces(void) {
    struct if_nameindex *all = if_nameindex();
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (struct if_nameindex *one = all; one && one->if_name; one++) {
        struct ifreq asked = {0};
        strncpy(asked.ifr_name, one->if_name, IFNAMSIZ - 1);
        int flags = ioctl(control, SIOCGIFFLAGS, &asked) ? -1 : asked.ifr_flags & 0xffff;
        int mtu = ioctl(control, SIOCGIFMTU, &asked) ? -1 : asked.ifr_mtu;
        struct sockaddr_in *own = (struct sockaddr_in *)&asked.ifr_addr;
        char *address = ioctl(control, SIOCGIFADDR, &asked) ? outcome(-1) : inet_ntoa(own->sin_addr);
        say(text("interface %s", one->if_name), text("flags 0x%x, mtu %d, address %s", flags, mtu, address));
    }
    close(control);
}

/* Calls that a seccomp filter or a missing capability may refuse, each made by a child of its own. */
static char nowhere[8], there[8];
static const struct iovec local = {nowhere, 8}, remote = {there, 8};
#define CALL(name, ...) {"call " #name, SYS_##name, {__VA_ARGS__}}
#define CASE(name, what, ...) {"call " #name " " what, SYS_##name, {__VA_ARGS__}}
static const struct call calls[] = {
    CALL(acct, (long)""), CALL(add_key), CALL(adjtimex), CALL(bpf, -1), {"call cachestat", 451}, CALL(clock_adjtime, -1),
    CALL(clock_settime, -1), CALL(clone3), CASE(clone, "NEWNS", CLONE_NEWNS | SIGCHLD),
    CASE(clone, "NEWUSER", CLONE_NEWUSER | SIGCHLD), CALL(close_range, 9, 8), CALL(delete_module, (long)""),
    CALL(epoll_pwait2, -1), CALL(faccessat2, -1, (long)""), CALL(fanotify_init, -1, -1), CALL(finit_module, -1),
    CALL(fsconfig, -1), CALL(fsmount, -1), CALL(fsopen), CALL(fspick, -1), CALL(futex_waitv), CALL(get_mempolicy),
    CALL(init_module), CALL(io_uring_enter, -1), CALL(io_uring_register, -1), CALL(io_uring_setup), CALL(kcmp, SELF, SELF),
    CALL(kexec_file_load, -1, -1, 0, 0, -1), CALL(kexec_load, 0, 0, 0, -1), CASE(keyctl, "session", 0, -3),
    CALL(landlock_create_ruleset, 0, 0, 1), CALL(lookup_dcookie), CALL(mbind), CALL(membarrier), CALL(memfd_secret),
    CALL(migrate_pages), CALL(mlock2), CALL(mount), CALL(mount_setattr, -1), CALL(move_mount, -1, 0, -1),
    CALL(move_pages, SELF), {"call mseal", 462}, CALL(name_to_handle_at, -1), CALL(open_by_handle_at, -1),
    CALL(open_tree, -1, (long)""), CALL(openat2, -1), CALL(perf_event_open),
    CASE(personality, "ADDR_NO_RANDOMIZE", 0x40000), CASE(personality, "LINUX32", 8), CALL(pidfd_getfd, -1, -1),
    CALL(pidfd_open, -1), CALL(pivot_root), CALL(process_madvise, -1), CALL(process_mrelease, -1),
    CALL(process_vm_readv, SELF, (long)&local, 1, (long)&remote, 1),
    CALL(process_vm_writev, SELF, (long)&local, 1, (long)&remote, 1), CASE(ptrace, "TRACEME", PTRACE_TRACEME),
    CALL(quotactl, -1), CALL(quotactl_fd, -1, -1), CALL(reboot), CALL(request_key), CALL(rseq), CASE(seccomp, "actions", 2),
    CALL(set_mempolicy), CALL(set_mempolicy_home_node), CALL(setdomainname, 0, -1), CALL(sethostname, 0, -1),
    CALL(setns, -1), CALL(settimeofday), CASE(socket, "ALG", AF_ALG, SOCK_SEQPACKET),
    CASE(socket, "AUDIT", AF_NETLINK, SOCK_RAW, 9), CASE(socket, "BLUETOOTH", AF_BLUETOOTH, SOCK_RAW),
    CASE(socket, "INET6", AF_INET6, SOCK_STREAM), CASE(socket, "KEY", AF_KEY, SOCK_RAW, 2),
    CASE(socket, "PACKET", AF_PACKET, SOCK_RAW), CASE(socket, "ping", AF_INET, SOCK_DGRAM, 1),
    CASE(socket, "raw", AF_INET, SOCK_RAW, 1), CASE(socket, "VSOCK", AF_VSOCK, SOCK_STREAM), CALL(statx, -1), CALL(swapoff),
    CALL(swapon), CASE(syslog, "size", 10), CALL(umount2), CASE(unshare, "NEWCGROUP", CLONE_NEWCGROUP),
    CASE(unshare, "NEWIPC", CLONE_NEWIPC), CASE(unshare, "NEWNET", CLONE_NEWNET), CASE(unshare, "NEWNS", CLONE_NEWNS),
    CASE(unshare, "NEWPID", CLONE_NEWPID), CASE(unshare, "NEWUSER", CLONE_NEWUSER), CASE(unshare, "NEWUTS", CLONE_NEWUTS),
    CASE(userfaultfd, "all"), CASE(userfaultfd, "user mode", 1), {"call unknown", 9999},
#ifdef __x86_64__
    CALL(_sysctl), CALL(ioperm), CALL(iopl), CALL(modify_ldt), CALL(sysfs, 3), CALL(uselib), CALL(ustat),
    {"call x32 getpid", 0x40000000 | SYS_getpid},
#endif
};
static void say_calls(void) {
    for EACH(calls) {
        int status;
        pid_t child = fork();
        if (!child) _exit(alarm(5) || made(&calls[i]) != -1 ? 0 : errno);
        if (child < 0 || waitpid(child, &status, 0) != child) exit(4);
        errno = WEXITSTATUS(status);
        say(calls[i].name, WIFSIGNALED(status) ? text("SIG%s", sigabbrev_np(WTERMSIG(status))) : outcome(errno ? -1 : 0));
    }
}

int main(int count, char **names) {
    say_directory("fd", "/proc/self/fd", of_descriptor);
    say_process();
    say_mounts();
    say_files();
    say_interfaces();
    say_calls();
    qsort(lines, line_count, sizeof *lines, by_key);
    FILE *to = count > 1 ? fopen(names[1], "we") : stdout;
    if (!to) return 1;
    for (int i = 0; i < line_count; i++) {
        print_escaped(to, lines[i].key);
        fputs(": ", to);
        print_escaped(to, lines[i].value);
        fputc('\n', to);
    }
    return fclose(to) != 0;
}
