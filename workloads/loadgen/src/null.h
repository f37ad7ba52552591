/* The null server: answers at once and does nothing else, so that what is measured
 * against it is the generator. */
#ifndef COELOAD_NULL_H
#define COELOAD_NULL_H

#include <stdint.h>

int null_run(uint16_t port);

#endif
