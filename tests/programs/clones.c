/* clones DIRECTORY: processes made by raw clone(2) and clone3(2), an untraced one among them; each opens a file. */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static int opened(const char *top, const char *name) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", top, name);
    return open(path, O_RDONLY) < 0;
}
int main(int count, char **names) {
    const char *kinds[] = {"clone", "untraced", "ptrace"};
    long flags[] = {SIGCHLD, SIGCHLD | CLONE_UNTRACED, SIGCHLD | CLONE_PTRACE};
    int status;
    for (int i = 0; i < 3; i++) {
        pid_t child = syscall(SYS_clone, flags[i], 0, 0, 0, 0);
        if (child < 0) return 1;
        if (!child) _exit(opened(names[1], kinds[i]));
        if (waitpid(child, &status, __WALL) != child || status) return 2;
    }
    struct clone_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.flags = CLONE_UNTRACED;
    arguments.exit_signal = SIGCHLD;
    pid_t child = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (!child) _exit(opened(names[1], "clone3"));
    if (child > 0 && (waitpid(child, &status, __WALL) != child || status)) return 3;
    if (child < 0 && opened(names[1], "clone3")) return 4;
    child = syscall(SYS_clone, SIGCHLD | CLONE_UNTRACED, 0, 0, 0, 0);
    if (!child) { execl("/bin/cat", "cat", names[2], (char *)0); _exit(1); }
    if (waitpid(child, &status, __WALL) != child || status) return 5;
    child = syscall(SYS_clone, SIGCHLD | CLONE_UNTRACED, 0, 0, 0, 0);
    if (!child) { daemon(0, 0); pause(); }  /* stays, out of the tracer's hold */
    return 0;
}
