/* How soon the kernel asks again who has an address on our own network.
 *
 * A prober asks an address before anything has it. The kernel then asks for its
 * owner once a second: an instance that comes up in between is seen up to a second
 * late, however often we try. On a network of our own that can be changed: it asks
 * every few milliseconds, and for a minute, so that what waits for the answer is sent
 * when it comes.
 */
#ifndef COELOAD_NEIGHBOUR_H
#define COELOAD_NEIGHBOUR_H

#include <stdint.h>

/* For IPv4 and IPv6 on every interface of this network namespace but lo. Takes
 * CAP_NET_ADMIN there. Returns how many settings were made (two an interface), or
 * minus an errno if none could be. */
int neighbour_retry(uint64_t ms);

#endif
