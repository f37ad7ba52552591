#include "loop.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"

#define BATCH 128

struct loop {
    int epoll;
    int alarm;         /* a timerfd: epoll_wait alone is only good to the millisecond */
    int64_t alarm_due; /* what it is set to */
    bool stopped;
    struct timer **heap; /* 1-based */
    size_t timers;
    size_t heap_cap;
    void **garbage;
    size_t garbage_count;
    size_t garbage_cap;
};

struct loop *loop_new(void)
{
    struct loop *loop = must_calloc(1, sizeof *loop);
    /* Edge-triggered: setting it again is what silences it, so it is never read. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};

    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->alarm = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    loop->alarm_due = INT64_MAX;
    if (loop->epoll < 0 || loop->alarm < 0 ||
        epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->alarm, &event) < 0) {
        perror("coeload: epoll");
        exit(1);
    }
    return loop;
}

static void empty_garbage(struct loop *loop)
{
    for (size_t i = 0; i < loop->garbage_count; i++)
        free(loop->garbage[i]);
    loop->garbage_count = 0;
}

void loop_free(struct loop *loop)
{
    empty_garbage(loop);
    close(loop->epoll);
    close(loop->alarm);
    free(loop->garbage);
    free(loop->heap);
    free(loop);
}

void loop_free_later(struct loop *loop, void *memory)
{
    if (loop->garbage_count == loop->garbage_cap) {
        loop->garbage_cap = loop->garbage_cap ? loop->garbage_cap * 2 : 64;
        loop->garbage = must_realloc(loop->garbage, loop->garbage_cap * sizeof *loop->garbage);
    }
    loop->garbage[loop->garbage_count++] = memory;
}

int loop_add(struct loop *loop, struct source *source, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return errno;
    source->fd = fd;
    return 0;
}

void loop_modify(struct loop *loop, struct source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    epoll_ctl(loop->epoll, EPOLL_CTL_MOD, source->fd, &event);
}

void loop_close(struct loop *loop, struct source *source)
{
    if (source->fd < 0)
        return;
    /* Explicitly: a child that inherited the descriptor would keep it registered. */
    epoll_ctl(loop->epoll, EPOLL_CTL_DEL, source->fd, NULL);
    close(source->fd);
    source->fd = -1;
}

static void put(struct loop *loop, size_t place, struct timer *timer)
{
    loop->heap[place] = timer;
    timer->place = place;
}

static void sift_up(struct loop *loop, size_t place, struct timer *timer)
{
    for (; place > 1 && loop->heap[place / 2]->due > timer->due; place /= 2)
        put(loop, place, loop->heap[place / 2]);
    put(loop, place, timer);
}

static void sift_down(struct loop *loop, size_t place, struct timer *timer)
{
    for (size_t child; (child = place * 2) <= loop->timers; place = child) {
        if (child < loop->timers && loop->heap[child + 1]->due < loop->heap[child]->due)
            child++;
        if (loop->heap[child]->due >= timer->due)
            break;
        put(loop, place, loop->heap[child]);
    }
    put(loop, place, timer);
}

void timer_cancel(struct loop *loop, struct timer *timer)
{
    size_t place = timer->place;
    struct timer *last;

    if (!place)
        return;
    timer->place = 0;
    last = loop->heap[loop->timers--];
    if (last == timer)
        return;
    if (place > 1 && loop->heap[place / 2]->due > last->due)
        sift_up(loop, place, last);
    else
        sift_down(loop, place, last);
}

void timer_set(struct loop *loop, struct timer *timer, int64_t due)
{
    timer_cancel(loop, timer);
    if (loop->timers + 2 > loop->heap_cap) {
        loop->heap_cap = loop->heap_cap ? loop->heap_cap * 2 : 64;
        loop->heap = must_realloc(loop->heap, loop->heap_cap * sizeof(struct timer *));
    }
    timer->due = due;
    sift_up(loop, ++loop->timers, timer);
}

static void set_alarm(struct loop *loop)
{
    int64_t due = loop->timers ? loop->heap[1]->due : INT64_MAX;
    struct itimerspec when = {0};

    if (due == loop->alarm_due)
        return;
    loop->alarm_due = due;
    if (due != INT64_MAX) {
        if (due < 1)
            due = 1; /* zero would disarm it */
        when.it_value.tv_sec = due / NS_PER_S;
        when.it_value.tv_nsec = due % NS_PER_S;
    }
    timerfd_settime(loop->alarm, TFD_TIMER_ABSTIME, &when, NULL);
}

static void fire_timers(struct loop *loop)
{
    int64_t now;

    if (!loop->timers)
        return;
    now = clock_mono();
    while (loop->timers && loop->heap[1]->due <= now) {
        struct timer *timer = loop->heap[1];

        timer_cancel(loop, timer);
        timer->fire(timer);
    }
}

void loop_run(struct loop *loop)
{
    struct epoll_event events[BATCH];

    while (!loop->stopped) {
        int n;

        set_alarm(loop);
        n = epoll_wait(loop->epoll, events, BATCH, -1);
        for (int i = 0; i < n; i++) {
            struct source *source = events[i].data.ptr;

            if (!source)
                loop->alarm_due = -1; /* it rang: whatever is next must be set anew */
            else if (source->fd >= 0) /* else closed earlier in this very turn */
                source->ready(source, events[i].events);
        }
        fire_timers(loop);
        empty_garbage(loop);
    }
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}
