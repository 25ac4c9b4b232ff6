/* sockets DIRECTORY: Unix sockets by every call that names one; where 32-bit, as socketcall(2) too. Addresses by each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
static struct sockaddr_un address(const char *name) {
    struct sockaddr_un made = {AF_UNIX, ""};
    strcpy(made.sun_path, name);
    return made;
}
static int server(const char *name) {
    struct sockaddr_un own = address(name);
    int made = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (bind(made, (struct sockaddr *)&own, sizeof own)) { perror(name); exit(1); }
    return made;
}
int main(int count, char **names) {
    if (chdir(names[1])) return 1;
    server("connected"); server("sent"); server("message"); server("first"); server("second"); server("old");
    int from = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr_un to = address("connected"), second;
    if (connect(socket(AF_UNIX, SOCK_DGRAM, 0), (struct sockaddr *)&to, sizeof to)) return 2;
    to = address("sent");
    if (sendto(from, "x", 1, 0, (struct sockaddr *)&to, sizeof to) != 1) return 3;
    struct iovec content = {"x", 1};
    struct msghdr message = {&to, sizeof to, &content, 1, 0, 0, 0};
    to = address("message");
    if (sendmsg(from, &message, 0) != 1) return 4;
    struct mmsghdr both[2] = {{message, 0}, {message, 0}};
    to = address("first"); second = address("second");
    both[1].msg_hdr.msg_name = &second;
    if (sendmmsg(from, both, 2, 0) != 2) return 5;
#ifdef __i386__
    to = address("old");
    unsigned long arguments[] = {from, (unsigned long)&message, 0};
    if (syscall(SYS_socketcall, 16, arguments) != 1) return 6;
    unsigned long connecting[] = {from, (unsigned long)&to, sizeof to};
    if (syscall(SYS_socketcall, 3, connecting)) return 7;
#endif
    return 0;
}
