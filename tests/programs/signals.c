/* signals FILE: every signal with its value, one that is blocked, and a storm of timer signals while FILE is opened, a FIFO that waits. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile int got, value, code, sender, ticks;
static void on(int number, siginfo_t *info, void *context) {
    got = number; value = info->si_value.sival_int; code = info->si_code; sender = info->si_pid;
}
static void tick(int number) { ticks++; }
int main(int count, char **names) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on;
    action.sa_flags = SA_SIGINFO;
    for (int number = 1; number <= SIGRTMAX; number++) {
        if (number == SIGKILL || number == SIGSTOP || (number > 31 && number < SIGRTMIN)) continue;
        if (sigaction(number, &action, 0)) return 1;
        union sigval sent = {.sival_int = 1000 + number};
        if (sigqueue(getpid(), number, sent)) return 2;
        if (got != number || value != 1000 + number || code != SI_QUEUE || sender != getpid()) return 3;
    }
    sigset_t set;
    sigemptyset(&set); sigaddset(&set, SIGUSR1); sigprocmask(SIG_BLOCK, &set, 0);
    got = 0; kill(getpid(), SIGUSR1);
    if (access(names[1], R_OK) || got) return 4;
    sigprocmask(SIG_UNBLOCK, &set, 0);
    if (got != SIGUSR1) return 5;
    pid_t child = fork();
    if (!child) { signal(SIGTRAP, SIG_DFL); raise(SIGTRAP); _exit(0); }
    int status;
    if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status) || WTERMSIG(status) != SIGTRAP) return 6;
    memset(&action, 0, sizeof action);
    action.sa_handler = tick;  /* no SA_RESTART: a call that is interrupted says so */
    sigaction(SIGALRM, &action, 0);
    struct itimerval often = {{0, 300}, {0, 300}};
    setitimer(ITIMER_REAL, &often, 0);
    for (int i = 0; i < 3000; i++) {
        int file = open(names[1], O_RDONLY);
        if (file < 0) return errno == EINTR ? 7 : 8;
        close(file);
    }
    if (ticks < 10) return 9;
    struct itimerval once = {{0, 0}, {0, 50000}};
    setitimer(ITIMER_REAL, &once, 0);
    if (mkfifo("/tmp/fifo", 0600)) return 10;
    if (open("/tmp/fifo", O_RDONLY) >= 0 || errno != EINTR) return 11;  /* this one does wait, and is interrupted */
    return 0;
}
