/* The relay: one port for a harness that can reach no more, and for generators that can
 * be called by nobody and call here. It hands lines on, both ways, and knows nothing
 * of what they say: what it loses the generators send again.
 */
#ifndef COELOAD_RELAY_H
#define COELOAD_RELAY_H

#include <stdbool.h>
#include <stdint.h>

/* A generator's name is a word of the relay's own lines. */
bool relay_name_good(const char *name);

/* Serves until SIGTERM or SIGINT. Returns the exit code. */
int relay_run(uint16_t port);

#endif
