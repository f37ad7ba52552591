/* Socket addresses, and turning names into them without holding up the loop. */
#ifndef COELOAD_ADDRESS_H
#define COELOAD_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "fault.h"
#include "loop.h"

struct address {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } sock;
};

#define ADDRESS_TEXT 64 /* room for [v6%scope]:port */

/* A numeric IPv4 or IPv6 address; false when host is something else. */
bool address_numeric(struct address *a, const char *host, uint16_t port);
bool address_equal(const struct address *a, const struct address *b);
/* "10.0.0.5" or "fd00::5"; with_port adds ":80" and the brackets. */
void address_text(const struct address *a, bool with_port, char out[ADDRESS_TEXT]);

/* Takes IP:PORT, [v6]:PORT or name:PORT apart, in place. */
bool hostport_split(char *text, char **host, uint16_t *port, struct complaint *c);

/* A TCP socket that is connecting: its descriptor, or -errno. */
int address_connect(const struct address *a);

/* All addresses of a name, blocking. Returns how many (the caller frees *list), 0
 * with a reason in *why when there are none. */
size_t resolve_now(const char *name, uint16_t port, struct address **list, const char **why);

/* The same from the loop: a thread asks, the loop is told. */
struct resolver;
struct question;

typedef void resolver_answer(void *arg, const struct address *list, size_t count, const char *why);

struct resolver *resolver_new(struct loop *loop);
void resolver_free(struct resolver *resolver);
struct question *resolver_ask(struct resolver *resolver, const char *name, uint16_t port,
                              resolver_answer *answer, void *arg);
/* The answer will not be called. A question is forgotten by itself once answered. */
void resolver_forget(struct question *question);

#endif
