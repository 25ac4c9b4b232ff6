#include <pthread.h>
#include <unistd.h>
static void *run(void *path) { execl(path, "true", (char *)0); return 0; }
int main(int count, char **names) {
    pthread_t thread;
    pthread_create(&thread, 0, run, names[1]);
    pthread_join(thread, 0);
    return 1;
}
