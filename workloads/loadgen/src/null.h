/* The null server: answers at once and does nothing else, so that what is measured
 * against it is the generator. */
#ifndef COELOAD_NULL_H
#define COELOAD_NULL_H

#include <stdbool.h>
#include <stdint.h>

/* With `tell`, SIGTERM ends it, and it prints its longest pauses as [[from,to],…], wall ns. */
int null_run(uint16_t port, bool tell);

#endif
