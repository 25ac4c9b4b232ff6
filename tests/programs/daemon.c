#include <fcntl.h>
#include <unistd.h>
int main(int count, char **names) {
    if (fork()) return 0;
    setsid();
    if (fork()) return 0;
    usleep(200000);
    return open(names[1], O_RDONLY) < 0;
}
