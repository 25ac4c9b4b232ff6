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
