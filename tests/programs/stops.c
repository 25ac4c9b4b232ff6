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
