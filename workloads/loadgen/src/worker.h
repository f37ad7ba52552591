/* One thread of a load: its share of the connections and of the arrivals, an epoll of
 * its own, and nothing shared on the way of a request.
 *
 * What it counts goes into a frame, one a second. The thread fills one frame while
 * the agent's thread reads the other; two counters pass them back and forth.
 */
#ifndef COELOAD_WORKER_H
#define COELOAD_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "frame.h"
#include "http.h"
#include "target.h"

struct worker;

struct worker *worker_new(const struct load_spec *spec, const struct timeline *timeline, int index,
                          struct target_set *set, const struct http_search *search, int bell,
                          struct complaint *c);
bool worker_start(struct worker *w, struct complaint *c);

/* From the agent's thread, at any time while the worker lives. */
void worker_retarget(struct worker *w, struct target_set *set);
void worker_stop(struct worker *w, int64_t at); /* `at` is the same for all threads */

/* The frame of this number, or NULL if it is not there (yet); it must be given back.
 * The worker rings the bell, an eventfd, for every new one. */
struct frame *worker_frame(struct worker *w, uint32_t seq);
void worker_frame_done(struct worker *w, uint32_t seq);
/* How many frames there will have been, once it has ended; 0 before that. */
uint32_t worker_frames(struct worker *w);

/* Waits for the thread to end, if it ever began. */
void worker_free(struct worker *w);

#endif
