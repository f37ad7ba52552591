#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "attempt.h"
#include "clock.h"

#define SPARE_FDS 64 /* ours besides the connections: epolls, timers, control */
#define PATIENCE (500 * NS_PER_MS) /* with an address of a name that has others */

/* A name of the load and what it stands for. */
struct place {
    struct load *load;
    struct target_name name;
    bool numeric;
    struct address *addresses; /* those that the load goes to */
    size_t count;
    struct idle_address *idle; /* those that took no connection when the name was first looked up */
    size_t idle_count;
    struct address *joining; /* as of the newest answer: those that need not be tried */
    size_t joining_count;
    struct question *question;
    struct attempts *attempts;
};

struct load {
    struct loop *loop;
    struct resolver *resolver;
    struct load_spec spec;
    struct load_listener listener;
    struct timeline timeline;
    struct http_search search;
    uint16_t *search_table;

    struct place *places;
    size_t place_count;
    size_t unanswered;
    struct timer resolve_timer;

    struct target **targets; /* all there ever were, so that their counts are kept */
    size_t target_count;
    struct target **current;
    size_t current_count;

    struct source bell;
    struct worker **workers;
    bool running;
    bool over;
    bool stopped;
    int64_t stop_at;
    uint32_t seq; /* of the second that is gathered */
    struct effort {
        int64_t cpu; /* as of the last frame */
        int64_t spun;
        int64_t cpu_measured; /* in the measured phase */
        int64_t work_measured;
    } *efforts; /* a thread */
    int64_t process_cpu_seen;
    int64_t process_cpu_measured;
    struct throttle *throttle; /* from when the load begins */
    int64_t measured_time;
    uint64_t ok_in_time;
    struct second *second;
    struct part *parts;
};

const struct load_spec *load_spec_of(const struct load *load)
{
    return &load->spec;
}

static int64_t process_cpu(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
           (int64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US;
}

/* ---- targets ---- */

static struct target *target_at(struct load *load, const struct place *place,
                                const struct address *address)
{
    struct target *target;

    for (size_t i = 0; i < load->target_count; i++)
        if (address_equal(&load->targets[i]->address, address))
            return load->targets[i];
    target = target_new(&load->spec, place->name.host, place->name.port, address);
    load->targets = must_realloc(load->targets, (load->target_count + 1) * sizeof *load->targets);
    load->targets[load->target_count++] = target;
    return target;
}

/* The addresses of all names, each once. true if they are not what they were. */
static bool gather_targets(struct load *load)
{
    struct target **list = NULL;
    size_t count = 0;
    bool same;

    for (size_t i = 0; i < load->place_count; i++) {
        for (size_t k = 0; k < load->places[i].count; k++) {
            struct place *place = &load->places[i];
            struct target *target = target_at(load, place, &place->addresses[k]);
            size_t at = 0;

            while (at < count && list[at] != target)
                at++;
            if (at < count)
                continue;
            list = must_realloc(list, (count + 1) * sizeof(struct target *));
            list[count++] = target;
        }
    }
    if (!count)
        return false; /* none of the new names is known yet: better the old ones than none */
    same = count == load->current_count;
    /* In another order they are the same: a name server that rotates its answers must
     * not make us connect anew. */
    for (size_t i = 0; i < count && same; i++) {
        size_t at = 0;

        while (at < count && load->current[at] != list[i])
            at++;
        same = at < count;
    }
    if (same) {
        free(list);
        return false;
    }
    free(load->current);
    load->current = list;
    load->current_count = count;
    return true;
}

static void spread(struct load *load)
{
    struct target_set *set =
        target_set_new(load->current, load->current_count, load->spec.threads);

    for (int i = 0; i < load->spec.threads; i++)
        worker_retarget(load->workers[i], set);
}

static void begin(struct load *load);
static void fail(struct load *load, const char *why);

static void places_known(struct load *load)
{
    bool changed = gather_targets(load);

    for (size_t i = 0; i < load->place_count; i++)
        if (!load->places[i].numeric && load->spec.resolve && !load->resolve_timer.place)
            timer_set(load->loop, &load->resolve_timer, clock_mono() + load->spec.resolve);
    if (!load->running)
        begin(load);
    else if (changed)
        spread(load);
}

static void place_add(struct place *place, const struct address *address)
{
    place->joining = must_realloc(place->joining, (place->joining_count + 1) * sizeof *address);
    place->joining[place->joining_count++] = *address;
}

static void place_known(struct place *place)
{
    free(place->addresses);
    place->addresses = place->joining;
    place->count = place->joining_count;
    place->joining = NULL;
    place->joining_count = 0;
    if (!place->load->unanswered)
        places_known(place->load);
}

/* The load goes to the addresses that serve. If none does it goes to all: that is what it has to tell. */
static void place_tried(void *arg, const struct address *list, const int *errors, size_t count)
{
    struct place *place = arg;
    bool all = !place->joining_count;

    place->attempts = NULL;
    place->load->unanswered--;
    for (size_t i = 0; i < count; i++)
        all &= errors[i] != 0;
    place->idle_count = 0;
    place->idle = must_realloc(place->idle, (count + 1) * sizeof *place->idle);
    for (size_t i = 0; i < count; i++) {
        if (all || !errors[i])
            place_add(place, &list[i]);
        else
            place->idle[place->idle_count++] =
                (struct idle_address){list[i], fault_of_errno(errors[i])};
    }
    place_known(place);
}

/* Whether an address is to take a connection before the load goes there. When a name is looked up first, each is; later
 * only those that took none before: what comes new or fails while the load runs is for the load to find. */
static bool unproven(const struct place *place, const struct address *address)
{
    for (size_t i = 0; i < place->idle_count; i++)
        if (address_equal(&place->idle[i].address, address))
            return true;
    if (place->count)
        return false;
    for (size_t i = 0; i < place->load->target_count; i++)
        if (address_equal(&place->load->targets[i]->address, address))
            return false;
    return true;
}

static void place_resolved(void *arg, const struct address *list, size_t count, const char *why)
{
    struct place *place = arg;
    struct load *load = place->load;
    struct address *untried = must_alloc((count + 1) * sizeof *list);
    size_t untried_count = 0;

    place->question = NULL;
    for (size_t i = 0; i < count; i++) {
        if (count > 1 && unproven(place, &list[i]))
            untried[untried_count++] = list[i];
        else
            place_add(place, &list[i]);
    }
    if (untried_count)
        place->attempts = attempts_begin(
            load->loop, untried, untried_count,
            load->spec.timeout < PATIENCE ? load->spec.timeout : PATIENCE, place_tried, place);
    free(untried);
    if (untried_count)
        return;
    load->unanswered--;
    if (count) {
        place->idle_count = 0;
        place_known(place);
        return;
    }
    if (!place->count && !load->running) {
        struct complaint c = {0};

        complain(&c, "cannot resolve %.100s: %s", place->name.host, why);
        fail(load, c.text);
        return;
    }
    if (!load->unanswered)
        places_known(load);
}

static void ask_names(struct load *load)
{
    load->unanswered = 0;
    for (size_t i = 0; i < load->place_count; i++) {
        struct place *place = &load->places[i];

        if (place->numeric)
            continue;
        load->unanswered++;
        place->question = resolver_ask(load->resolver, place->name.host, place->name.port,
                                       place_resolved, place);
    }
    if (!load->unanswered)
        places_known(load);
}

static void resolve_again(struct timer *timer)
{
    ask_names(container_of(timer, struct load, resolve_timer));
}

static void forget_places(struct load *load)
{
    timer_cancel(load->loop, &load->resolve_timer);
    for (size_t i = 0; i < load->place_count; i++) {
        if (load->places[i].question)
            resolver_forget(load->places[i].question);
        if (load->places[i].attempts)
            attempts_forget(load->places[i].attempts);
        free(load->places[i].name.host);
        free(load->places[i].idle);
        free(load->places[i].joining);
        free(load->places[i].addresses);
    }
    free(load->places);
    load->places = NULL;
    load->place_count = 0;
}

/* Takes the names over. */
static void set_places(struct load *load, struct target_names *names)
{
    forget_places(load);
    load->places = must_calloc(names->count, sizeof *load->places);
    load->place_count = names->count;
    for (size_t i = 0; i < names->count; i++) {
        struct place *place = &load->places[i];
        struct address address;

        place->load = load;
        place->name = names->list[i];
        place->numeric = address_numeric(&address, place->name.host, place->name.port);
        if (place->numeric) {
            place->addresses = must_alloc(sizeof address);
            place->addresses[0] = address;
            place->count = 1;
        }
    }
    free(names->list);
    *names = (struct target_names){0};
}

bool load_retarget(struct load *load, const char *targets, struct complaint *c)
{
    struct target_names names;

    if (load->over || load->stopped)
        return complain(c, "the load has ended");
    if (!target_names_read(&names, targets, c))
        return false;
    set_places(load, &names);
    ask_names(load);
    return true;
}

/* ---- seconds ---- */

static void add_frame(struct load *load, int thread, const struct frame *frame)
{
    struct second *second = load->second;
    struct effort *effort = &load->efforts[thread];
    int64_t cpu = frame->cpu - effort->cpu;
    int64_t spun = frame->spun - effort->spun;
    /* The polling is timed by the clock on the wall, and may have been preempted. */
    int64_t work = cpu > spun ? cpu - spun : 0;
    int64_t length = frame->to - frame->from;

    effort->cpu = frame->cpu;
    effort->spun = frame->spun;
    if (frame->kind == FRAME_MEASURED) {
        effort->cpu_measured += cpu;
        effort->work_measured += work;
    }
    if (length > 0) {
        double busy = (double)work / (double)length;

        second->cpu += (double)cpu / (double)length;
        second->cpu_busiest = busy > second->cpu_busiest ? busy : second->cpu_busiest;
    }
    second->kind = frame->kind;
    second->from = frame->from;
    second->to = frame->to > second->to ? frame->to : second->to;
    second->in_flight += frame->in_flight;
    buf_add(&second->mishaps, frame->mishaps.data, frame->mishaps.len);
    second->untold += frame->untold;
    second->backlog += frame->backlog;
    for (int i = 0; i < PHASES; i++) {
        const struct part *part = &frame->parts[i];

        counts_add(&second->counts, &part->counts);
        histogram_add(&second->latency, &part->latency);
        histogram_add(&second->raw, &part->raw);
        histogram_add(&second->lag, &part->lag);
        if ((i == WARMUP) != (frame->kind == FRAME_WARMUP)) {
            counts_add(&second->other.counts, &part->counts);
            histogram_add(&second->other.latency, &part->latency);
            histogram_add(&second->other.raw, &part->raw);
            histogram_add(&second->other.lag, &part->lag);
        }
        counts_add(&load->parts[i].counts, &part->counts);
        histogram_add(&load->parts[i].latency, &part->latency);
        histogram_add(&load->parts[i].raw, &part->raw);
        histogram_add(&load->parts[i].lag, &part->lag);
    }
}

static void clear_second(struct second *second)
{
    histogram_clear(&second->latency);
    histogram_clear(&second->raw);
    histogram_clear(&second->lag);
    histogram_clear(&second->other.latency);
    histogram_clear(&second->other.raw);
    histogram_clear(&second->other.lag);
    second->counts = second->other.counts = (struct counts){0};
    second->mishaps.len = 0;
    second->untold = 0;
    second->in_flight = second->backlog = 0;
    second->cpu = second->cpu_busiest = second->cpu_process = 0;
    second->to = 0;
}

static void tell_second(struct load *load)
{
    struct second *second = load->second;
    int64_t cpu = process_cpu();
    int64_t length = second->to - second->from;

    second->seq = load->seq;
    if (length > 0)
        second->cpu_process = (double)(cpu - load->process_cpu_seen) / (double)length;
    second->throttled = throttle_second(load->throttle, second->kind == FRAME_MEASURED);
    if (second->kind == FRAME_MEASURED) {
        load->process_cpu_measured += cpu - load->process_cpu_seen;
        load->ok_in_time += second->counts.ok;
        load->measured_time += length > 0 ? length : 0;
    }
    load->process_cpu_seen = cpu;
    /* A closed loop has no plan to be late for: its latency is the raw one. */
    if (!load->spec.open) {
        histogram_add(&second->latency, &second->raw);
        histogram_add(&second->other.latency, &second->other.raw);
    }
    load->listener.second(load->listener.arg, load, second);
    clear_second(second);
}

static void finish(struct load *load)
{
    struct load_total total = {.start = load->timeline.start,
                               .measured = load->timeline.measured,
                               .end = load->timeline.end,
                               .seconds = load->seq,
                               .parts = load->parts,
                               .ok_in_time = load->ok_in_time,
                               .target_count = load->target_count,
                               .targets = load->targets,
                               .stopped = load->stopped};
    struct idle_address *idle = NULL;
    double length;

    load->over = true;
    timer_cancel(load->loop, &load->resolve_timer);
    for (int i = 0; i < load->spec.threads; i++)
        worker_free(load->workers[i]);
    free(load->workers);
    load->workers = NULL;
    loop_close(load->loop, &load->bell);
    if (load->stopped && load->stop_at < total.end)
        total.end = load->stop_at;
    if (load->current_count > (size_t)load->spec.connections)
        total.uncovered = load->current_count - (size_t)load->spec.connections;
    length = (double)(total.end - total.measured) / 1e9;
    if (length > 0) {
        total.offered_rps = (double)load->parts[MEASURED].counts.planned / length;
        total.achieved_rps = (double)load->ok_in_time / length;
    }
    if (load->measured_time > 0) {
        double time = (double)load->measured_time;

        for (int i = 0; i < load->spec.threads; i++) {
            double busy = (double)load->efforts[i].work_measured / time;

            total.cpu += (double)load->efforts[i].cpu_measured / time;
            total.cpu_busiest = busy > total.cpu_busiest ? busy : total.cpu_busiest;
        }
        total.cpu_process = (double)load->process_cpu_measured / time;
    }
    total.throttled = throttle_measured(load->throttle);
    if (!load->spec.open)
        for (int i = 0; i < PHASES; i++)
            histogram_add(&load->parts[i].latency, &load->parts[i].raw);
    for (size_t i = 0; i < load->place_count; i++) {
        const struct place *place = &load->places[i];

        for (size_t k = 0; k < place->idle_count; k++) {
            idle = must_realloc(idle, (total.idle_count + 1) * sizeof *idle);
            idle[total.idle_count++] = place->idle[k];
        }
    }
    total.idle = idle;
    load->listener.over(load->listener.arg, &total, NULL);
    free(idle);
}

/* Gathers every second that all threads are done with. */
static void bell_rang(struct source *source, uint32_t events)
{
    struct load *load = container_of(source, struct load, bell);
    uint64_t rings;

    (void)events;
    if (read(source->fd, &rings, sizeof rings) < 0)
        return;
    for (;;) {
        int ended = 0;

        for (int i = 0; i < load->spec.threads; i++) {
            uint32_t all = worker_frames(load->workers[i]);

            if (all && all <= load->seq)
                ended++;
            else if (!worker_frame(load->workers[i], load->seq))
                return;
        }
        if (ended == load->spec.threads) {
            finish(load);
            return;
        }
        for (int i = 0; i < load->spec.threads; i++) {
            struct frame *frame = worker_frame(load->workers[i], load->seq);

            /* A thread that has ended has published all that it ever will. */
            if (!frame || frame->seq != load->seq)
                continue;
            add_frame(load, i, frame);
            worker_frame_done(load->workers[i], load->seq);
        }
        tell_second(load);
        load->seq++;
    }
}

/* ---- beginning and end ---- */

static bool enough_descriptors(const struct load_spec *spec, struct complaint *c)
{
    rlim_t want = (rlim_t)spec->connections + (rlim_t)spec->threads * 3 + SPARE_FDS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= want)
        return true;
    if (limit.rlim_max >= want) {
        limit.rlim_cur = limit.rlim_max;
        if (!setrlimit(RLIMIT_NOFILE, &limit))
            return true;
    }
    return complain(c,
                    "connections=%d: they need %llu file descriptors, and the hard limit "
                    "(ulimit -Hn) is %llu",
                    spec->connections, (unsigned long long)want,
                    (unsigned long long)limit.rlim_max);
}

static void set_timeline(struct load *load, int64_t *late)
{
    int64_t now = clock_mono();
    /* What opening the connections may take; later ones open while the load runs. */
    int64_t lead = 20 * NS_PER_MS + load->spec.connections * 20 * NS_PER_US;
    int64_t start = load->spec.start ? clock_mono_of(load->spec.start) : 0;

    if (lead > NS_PER_S)
        lead = NS_PER_S;
    *late = 0;
    if (start < now) {
        /* A start that has passed is missed, not caught up with. */
        if (start)
            *late = now + lead - start;
        start = now + lead;
    }
    load->timeline.start = start;
    load->timeline.measured = start + load->spec.warmup;
    load->timeline.end =
        load->spec.duration ? load->timeline.measured + load->spec.duration : INT64_MAX;
}

static void begin(struct load *load)
{
    struct complaint c = {0};
    struct target_set *set = target_set_new(load->current, load->current_count, load->spec.threads);
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int64_t late;
    int made;

    load->running = true;
    load->bell.ready = bell_rang;
    if (fd < 0 || loop_add(load->loop, &load->bell, fd, EPOLLIN))
        complain(&c, "cannot set up the load: %s", strerror(errno));
    set_timeline(load, &late);
    for (made = 0; made < load->spec.threads; made++)
        load->workers[made] =
            worker_new(&load->spec, &load->timeline, made, set,
                       load->search.text ? &load->search : NULL, load->bell.fd, &c);
    load->process_cpu_seen = process_cpu();
    load->throttle = throttle_open();
    for (int i = 0; i < made && !c.text[0]; i++)
        worker_start(load->workers[i], &c);
    if (c.text[0]) {
        for (int i = 0; i < made; i++) {
            worker_stop(load->workers[i], clock_mono());
            worker_free(load->workers[i]);
        }
        free(load->workers);
        load->workers = NULL;
        fail(load, c.text);
        return;
    }
    load->listener.started(load->listener.arg, load, load->timeline.start, late);
}

static void fail(struct load *load, const char *why)
{
    load->over = true;
    timer_cancel(load->loop, &load->resolve_timer);
    load->listener.over(load->listener.arg, NULL, why);
}

struct load *load_new(struct loop *loop, struct resolver *resolver, struct load_spec *spec,
                      const struct load_listener *listener, struct complaint *c)
{
    struct load *load;

    if (!enough_descriptors(spec, c)) {
        load_spec_free(spec);
        return NULL;
    }
    load = must_calloc(1, sizeof *load);
    load->loop = loop;
    load->resolver = resolver;
    load->spec = *spec;
    *spec = (struct load_spec){0};
    load->listener = *listener;
    load->bell.fd = -1;
    load->resolve_timer.fire = resolve_again;
    load->workers = must_calloc((size_t)load->spec.threads, sizeof(struct worker *));
    load->efforts = must_calloc((size_t)load->spec.threads, sizeof *load->efforts);
    load->second = must_calloc(1, sizeof *load->second);
    load->parts = must_calloc(PHASES, sizeof *load->parts);
    if (load->spec.expect_body) {
        load->search.text = load->spec.expect_body;
        load->search.len = strlen(load->spec.expect_body);
        load->search_table = http_search_prepare(load->search.text, load->search.len);
        load->search.fallback = load->search_table;
    }
    set_places(load, &load->spec.names);
    return load;
}

void load_go(struct load *load)
{
    ask_names(load);
}

void load_stop(struct load *load)
{
    if (load->over || load->stopped)
        return;
    load->stopped = true;
    load->stop_at = clock_mono();
    if (!load->running) {
        fail(load, "stopped before it began");
        return;
    }
    for (int i = 0; i < load->spec.threads; i++)
        worker_stop(load->workers[i], load->stop_at);
}

void load_free(struct load *load)
{
    loop_close(load->loop, &load->bell);
    forget_places(load);
    for (size_t i = 0; i < load->target_count; i++)
        target_free(load->targets[i]);
    free(load->targets);
    free(load->current);
    free(load->workers);
    free(load->efforts);
    free(load->search_table);
    buf_free(&load->second->mishaps);
    throttle_close(load->throttle);
    free(load->second);
    free(load->parts);
    load_spec_free(&load->spec);
    loop_free_later(load->loop, load); /* it holds a source */
}
