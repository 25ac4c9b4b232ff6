/* starts WAY...: executes /bin/WAY in each of these ways, with /data/WAY as its argument. By any other name it opens its last
   argument. "hidden" is a program whose file has each bit inverted, which is executed from memory; "untraced-WAY" is a process
   that was made with CLONE_UNTRACED. */
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static char program[256], file[256], *vector[] = {program, file, 0}, *none[] = {0};
static void *execute(void *unused) { execv(program, vector); _exit(20); }
static int nameless(char inverting) {
    static char content[1 << 16];
    int from = open(program, O_RDONLY), to = memfd_create("nameless", MFD_CLOEXEC);
    for (ssize_t length; (length = read(from, content, sizeof content)) > 0;) {
        for (int i = 0; i < length; i++) content[i] ^= inverting;
        if (write(to, content, length) != length) return -1;
    }
    return to;
}
static void execute_by(const char *way) {
    if (!strcmp(way, "thread")) {  /* exec makes the thread the leader */
        pthread_t thread;
        pthread_create(&thread, 0, execute, 0);
        pthread_join(thread, 0);
    } else if (!strcmp(way, "descriptor")) {
        syscall(SYS_execveat, open(program, O_RDONLY | O_CLOEXEC), "", vector, none, AT_EMPTY_PATH);
    } else if (!strcmp(way, "script-descriptor")) {  /* its interpreter reads it as /dev/fd/N */
        syscall(SYS_execveat, open(program, O_RDONLY), "", vector, none, AT_EMPTY_PATH);
    } else if (!strcmp(way, "directory")) {
        syscall(SYS_execveat, open("/bin", O_PATH | O_DIRECTORY | O_CLOEXEC), way, vector, none, 0);
    } else if (!strcmp(way, "memfd")) {
        fexecve(nameless(0), vector, none);
    } else if (!strcmp(way, "hidden")) {
        fexecve(nameless(-1), vector, none);
    } else if (!strcmp(way, "self")) {
        execv("/proc/self/exe", vector);
    } else {
        execute(0);
    }
    _exit(21);
}
static pid_t started_by(const char *way) {
    pid_t child = -1;
    if (!strcmp(way, "spawn")) return posix_spawn(&child, program, 0, 0, vector, none) ? -1 : child;
    if (!strcmp(way, "vfork")) {
        child = vfork();
        if (!child) execute(0);
        return child;
    }
    if (!strncmp(way, "untraced-", strlen("untraced-"))) {
        child = syscall(SYS_clone, SIGCHLD | CLONE_UNTRACED, 0, 0, 0, 0);
        if (!child) execute_by(way + strlen("untraced-"));
        return child;
    }
    struct clone_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.exit_signal = SIGCHLD;
    child = strcmp(way, "clone3") ? fork() : syscall(SYS_clone3, &arguments, sizeof arguments);
    if (!child) execute_by(way);
    return child;
}
int main(int count, char **names) {
    const char *base = strrchr(names[0], '/');
    if (strcmp(base ? base + 1 : names[0], "starts")) return open(names[count - 1], O_RDONLY) < 0;
    for (int i = 1, status = 0; i < count; i++) {
        snprintf(program, sizeof program, "/bin/%s", names[i]);
        snprintf(file, sizeof file, "/data/%s", names[i]);
        pid_t child = started_by(names[i]);
        if (child < 0 || waitpid(child, &status, 0) != child || status) {
            fprintf(stderr, "%s: %m, status %d\n", names[i], status);
            return i;
        }
    }
    return 0;
}
