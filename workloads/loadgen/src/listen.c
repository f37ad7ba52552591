#include "listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"

static int listen_family(int family, uint16_t *port)
{
    static const int on = 1;
    static const int off = 0;
    struct address a = {0};
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        a.sock.v6.sin6_family = AF_INET6;
        a.sock.v6.sin6_port = htons(*port);
        a.len = sizeof a.sock.v6;
    } else {
        a.sock.v4.sin_family = AF_INET;
        a.sock.v4.sin_port = htons(*port);
        a.len = sizeof a.sock.v4;
    }
    if (bind(fd, &a.sock.any, a.len) || listen(fd, 1024) ||
        getsockname(fd, &a.sock.any, &a.len)) {
        error = errno;
        close(fd);
        return -error;
    }
    *port = ntohs(family == AF_INET6 ? a.sock.v6.sin6_port : a.sock.v4.sin_port);
    return fd;
}

int listen_on(uint16_t *port, struct complaint *c)
{
    int fd = listen_family(AF_INET6, port);

    /* No IPv6 in this kernel or this container: IPv4 alone will do. */
    if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL || fd == -EPROTONOSUPPORT)
        fd = listen_family(AF_INET, port);
    if (fd < 0) {
        complain(c, "cannot listen on port %u: %s", *port, strerror(-fd));
        return -1;
    }
    return fd;
}
