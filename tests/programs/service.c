/* service HOW PORT: answers HTTP requests with files of its root, from a process that it makes in this way: foreground; daemon,
   which forks twice; untraced, by clone(2) with CLONE_UNTRACED; stopped, which stops itself once it listens; stubborn, which
   opens /data/late half a second after SIGTERM and goes on. "/killed" is answered by SIGKILL to itself. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void late(int number) { usleep(500000); if (open("/data/late", O_RDONLY) < 0) _exit(9); }
static void answer(int client) {
    char request[4096] = "", content[4096], *path = request + strlen("GET ");
    if (read(client, request, sizeof request - 1) < 8) return;
    path[strcspn(path, " ")] = 0;
    if (!strcmp(path, "/killed")) kill(getpid(), SIGKILL);
    int file = open(path, O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, content, sizeof content);
    const char *status = file < 0 ? "404 None" : "200 Found";
    fprintf(stderr, "%s: %s\n", path, status);
    dprintf(client, "HTTP/1.0 %s\r\nContent-Length: %zd\r\n\r\n", status, length);
    if (write(client, content, length) != length) exit(8);
    close(file);
}
int main(int count, char **arguments) {
    const char *how = arguments[1];
    if (!strcmp(how, "daemon")) {
        if (fork()) return 0;
        setsid();
        if (fork()) return 0;
        if (chdir("/")) return 1;
        for (int i = 0; i < 3; i++) close(i);
        for (int i = 0; i < 3; i++) if (open("/dev/null", O_RDWR) != i) return 1;
    }
    if (!strcmp(how, "untraced") && syscall(SYS_clone, SIGCHLD | CLONE_UNTRACED, 0, 0, 0, 0)) return 0;
    if (!strcmp(how, "stubborn")) signal(SIGTERM, late);
    struct sockaddr_in address = {AF_INET, htons(atoi(arguments[2])), {INADDR_ANY}};
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 9)) return 2;
    if (!strcmp(how, "stopped")) raise(SIGSTOP);
    for (;;) {
        int client = accept(server, 0, 0);
        if (client < 0) continue;
        answer(client);
        shutdown(client, SHUT_WR);
        close(client);
    }
}
