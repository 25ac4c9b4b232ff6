#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char **names) {
    char *arguments[] = {"true", 0}, *none[] = {0};
    if (syscall(425, 8, 0) >= 0) return 3;
    int program = open("/bin/true", O_RDONLY | O_CLOEXEC);
    syscall(SYS_execveat, program, "", arguments, none, AT_EMPTY_PATH);
    return 1;
}
