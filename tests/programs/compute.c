/* compute COUNT: two threads that only compute. */
#include <pthread.h>
#include <stdlib.h>
static long times;
static void *work(void *unused) {
    volatile unsigned long value = 1;
    for (long i = 0; i < times; i++) value = value * 6364136223846793005UL + 1;
    return 0;
}
int main(int count, char **arguments) {
    times = atol(arguments[1]);
    pthread_t other;
    pthread_create(&other, 0, work, 0);
    work(0);
    return pthread_join(other, 0);
}
