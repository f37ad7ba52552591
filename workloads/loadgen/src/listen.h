/* A listening TCP socket on every address, IPv4 and IPv6 alike. */
#ifndef COELOAD_LISTEN_H
#define COELOAD_LISTEN_H

#include <stdint.h>

#include "fault.h"

/* Returns the descriptor, or -1 with a complaint. A port of 0 becomes the one chosen. */
int listen_on(uint16_t *port, struct complaint *c);

#endif
