#include <fcntl.h>
#include <unistd.h>
int main(int count, char **names) {
    for (int i = 1; i < count; i++) if (open(names[i], O_RDONLY) < 0) return i;
    return 0;
}
