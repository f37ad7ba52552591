/* The agent thread's event loop: descriptors and timers, nothing else. */
#ifndef COELOAD_LOOP_H
#define COELOAD_LOOP_H

#include <stddef.h>
#include <stdint.h>

struct loop;

/* Embedded in what owns a descriptor. */
struct source {
    int fd; /* -1 when not registered */
    void (*ready)(struct source *source, uint32_t events);
};

/* Embedded in what waits for a time. Zeroed is "not set". */
struct timer {
    void (*fire)(struct timer *timer);
    int64_t due;
    size_t place; /* 1-based place in the heap; 0 when not set */
};

struct loop *loop_new(void);
void loop_free(struct loop *loop);
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Returns 0 or an errno. */
int loop_add(struct loop *loop, struct source *source, int fd, uint32_t events);
void loop_modify(struct loop *loop, struct source *source, uint32_t events);
/* Unregisters and closes. */
void loop_close(struct loop *loop, struct source *source);

void timer_set(struct loop *loop, struct timer *timer, int64_t due);
void timer_cancel(struct loop *loop, struct timer *timer);

/* Frees memory that holds a source, once no event of this turn can refer to it. */
void loop_free_later(struct loop *loop, void *memory);

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#endif
