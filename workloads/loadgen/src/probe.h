/* Watches: what a client of a service would see, and when.
 *
 * Each address is asked at a steady rate. Told are the first good answer, every
 * change of answer, and every failure after the first good answer.
 */
#ifndef COELOAD_PROBE_H
#define COELOAD_PROBE_H

#include "address.h"
#include "job.h"
#include "request.h"

/* Begins a watch, or returns NULL with a complaint. */
struct job *watch_begin(struct loop *loop, struct resolver *resolver, struct request *request,
                        struct complaint *c);

/* After the agent has made the job known: from here on it may send. */
void watch_go(struct job *job);

#endif
