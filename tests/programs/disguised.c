/* disguised PROGRAM: through /proc/self/exe into itself, then PROGRAM out of a memfd, which has no name. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int count, char **names) {
    if (strcmp(names[0], "again")) {
        execl("/proc/self/exe", "again", names[1], (char *)0);
        return 1;
    }
    static char content[1 << 16];
    int from = open(names[1], O_RDONLY), to = memfd_create("nameless", MFD_CLOEXEC);
    for (ssize_t length; (length = read(from, content, sizeof content)) > 0;) if (write(to, content, length) != length) return 2;
    char *arguments[] = {"true", 0}, *none[] = {0};
    fexecve(to, arguments, none);
    return 3;
}
