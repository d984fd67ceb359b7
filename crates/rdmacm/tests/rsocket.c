/* What programs rely on of rsockets, with the library under test in librdmacm's place. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <rdma/rsocket.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whatever waits longer than so many seconds waits for ever. */
enum { LIMIT = 300 };

static const char *address;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("line %d: %s (errno %d: %s)\n", __LINE__, #condition, errno, strerror(errno)); \
            exit(1); \
        } \
    } while (0)

#define REFUSED(call, error) \
    do { \
        errno = 0; \
        CHECK((call) == -1 && errno == (error)); \
    } while (0)

static struct sockaddr_in at(int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    CHECK(inet_pton(AF_INET, address, &in.sin_addr) == 1);
    return in;
}

static int listener(int port)
{
    struct sockaddr_in in = at(port);
    int fd = rsocket(AF_INET, SOCK_STREAM, 0), on = 1;
    CHECK(fd >= 0);
    CHECK(rsetsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    CHECK(rbind(fd, (struct sockaddr *)&in, sizeof in) == 0);
    CHECK(rlisten(fd, 4) == 0);
    return fd;
}

static short polled(int fd, short events, int timeout)
{
    struct pollfd fds = {.fd = fd, .events = events};
    CHECK(rpoll(&fds, 1, timeout) >= 0);
    return fds.revents;
}

/* Two connected ones: the side that has asked, and the one that was asked. */
static void connected(int port, int pair[2])
{
    struct sockaddr_in in = at(port), peer;
    socklen_t len = sizeof peer;
    int listening = listener(port), error;
    socklen_t error_len = sizeof error;
    CHECK((pair[0] = rsocket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP)) >= 0);
    CHECK(rfcntl(pair[0], F_GETFL) & O_NONBLOCK);
    REFUSED(rconnect(pair[0], (struct sockaddr *)&in, sizeof in), EINPROGRESS);
    REFUSED(rconnect(pair[0], (struct sockaddr *)&in, sizeof in), EALREADY);
    REFUSED(rrecv(pair[0], &error, 1, 0), EAGAIN);
    CHECK(polled(pair[0], POLLOUT | POLLIN, 0) == 0);
    CHECK(polled(listening, POLLIN, 60000) == POLLIN);
    CHECK((pair[1] = raccept(listening, (struct sockaddr *)&peer, &len)) >= 0);
    CHECK(len == sizeof peer && peer.sin_addr.s_addr == in.sin_addr.s_addr);
    CHECK(polled(pair[0], POLLOUT, 10000) == POLLOUT);
    CHECK(polled(pair[1], POLLOUT, 10000) == POLLOUT);
    CHECK(rgetsockopt(pair[0], SOL_SOCKET, SO_ERROR, &error, &error_len) == 0 && error == 0);
    CHECK(rfcntl(pair[0], F_SETFL, 0) == 0);
    REFUSED(rconnect(pair[0], (struct sockaddr *)&in, sizeof in), EISCONN);
    CHECK(rgetpeername(pair[0], (struct sockaddr *)&peer, &len) == 0 && peer.sin_port == htons(port));
    CHECK(rgetsockname(pair[1], (struct sockaddr *)&peer, &len) == 0 && peer.sin_port == htons(port));
    CHECK(rclose(listening) == 0);
    REFUSED(rclose(listening), EBADF);
}

/* What isn't a stream is refused, so that librspreload takes an ordinary socket. */
static void refused(void)
{
    struct sockaddr_in nobody = at(7400);
    struct pollfd fds = {.events = POLLOUT};
    int error, fd;
    socklen_t len = sizeof error;
    REFUSED(rsocket(AF_UNIX, SOCK_STREAM, 0), ENOTSUP);
    REFUSED(rsocket(AF_INET, SOCK_DGRAM, 0), ENOTSUP);
    REFUSED(rsocket(AF_INET, SOCK_STREAM, IPPROTO_UDP), ENOTSUP);
    REFUSED(rsend(12345, "x", 1, 0), EBADF);
    CHECK((fd = rsocket(AF_INET, SOCK_STREAM, 0)) >= 0);
    REFUSED(rsend(fd, "x", 1, 0), ENOTCONN);
    REFUSED(raccept(fd, NULL, NULL), EINVAL);
    REFUSED(rconnect(fd, (struct sockaddr *)&nobody, sizeof nobody), ECONNREFUSED);
    CHECK(rclose(fd) == 0);
    CHECK((fd = rsocket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0);
    /* The refusal may be there at once. */
    CHECK(rconnect(fd, (struct sockaddr *)&nobody, sizeof nobody) == -1);
    int told = errno;
    CHECK(told == EINPROGRESS || told == ECONNREFUSED);
    fds.fd = fd;
    CHECK(rpoll(&fds, 1, 60000) == 1 && fds.revents & POLLERR);
    CHECK(rgetsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0);
    CHECK(error == (told == EINPROGRESS ? ECONNREFUSED : 0));
    CHECK(rclose(fd) == 0);
}

static void options(void)
{
    int fd = rsocket(AF_INET6, SOCK_STREAM, 0), value = 20000;
    struct sockaddr_in6 in;
    socklen_t len = sizeof value, room = sizeof in;
    struct linger linger = {.l_onoff = 1, .l_linger = 3}, found;
    CHECK(fd >= 0);
    CHECK(rsetsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value) == 0);
    CHECK(rgetsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, &len) == 0 && value == 40000);
    value = 1;
    CHECK(rsetsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value) == 0);
    value = 7;
    CHECK(rgetsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len) == 0 && value == 1);
    CHECK(rsetsockopt(fd, SOL_RDMA, RDMA_IOMAPSIZE, &value, sizeof value) == 0);
    CHECK(rgetsockopt(fd, SOL_RDMA, RDMA_IOMAPSIZE, &value, &len) == 0 && value == 1);
    CHECK(rsetsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    len = sizeof found;
    CHECK(rgetsockopt(fd, SOL_SOCKET, SO_LINGER, &found, &len) == 0 && !memcmp(&found, &linger, sizeof found));
    REFUSED(rsetsockopt(fd, SOL_SOCKET, 9999, &value, sizeof value), ENOTSUP);
    REFUSED(rsetsockopt(fd, SOL_SOCKET, SO_SNDBUF, NULL, 4), EINVAL);
    CHECK(rgetsockname(fd, (struct sockaddr *)&in, &room) == 0 && room == sizeof in && in.sin6_family == AF_INET6);
    REFUSED(rgetsockname(fd, NULL, &room), EINVAL);
    room = 0;
    CHECK(rgetsockname(fd, NULL, &room) == 0 && room == sizeof in);
    REFUSED(rgetpeername(fd, (struct sockaddr *)&in, &room), ENOTCONN);
    CHECK(rclose(fd) == 0);
}

enum { SIZE = 3000000 };

static uint8_t pattern(size_t at, int salt)
{
    return (uint8_t)(at * 31 + (at >> 8) + salt);
}

struct direction {
    int fd, salt;
};

static void *sends(void *of)
{
    struct direction *direction = of;
    uint8_t *bytes = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = pattern(i, direction->salt);
    for (size_t done = 0, step = 1; done < SIZE; step = step * 3 % 70001 + 1) {
        ssize_t sent = rsend(direction->fd, bytes + done, step < SIZE - done ? step : SIZE - done, 0);
        CHECK(sent > 0);
        done += sent;
    }
    free(bytes);
    return NULL;
}

static void *receives(void *of)
{
    struct direction *direction = of;
    uint8_t bytes[40000];
    for (size_t done = 0, step = 1; done < SIZE; step = step * 7 % 39999 + 1) {
        ssize_t received = rrecv(direction->fd, bytes, step, 0);
        CHECK(received > 0);
        for (ssize_t i = 0; i < received; i++)
            CHECK(bytes[i] == pattern(done + i, direction->salt));
        done += received;
    }
    return NULL;
}

/* Both directions at once, each by two threads, of which each waits for what the other one takes. */
static void both_ways(void)
{
    int pair[2];
    pthread_t threads[4];
    connected(7401, pair);
    struct direction there = {.fd = pair[0], .salt = 1}, arrives = {.fd = pair[1], .salt = 1};
    struct direction back = {.fd = pair[1], .salt = 2}, returns = {.fd = pair[0], .salt = 2};
    CHECK(!pthread_create(&threads[0], NULL, sends, &there) && !pthread_create(&threads[1], NULL, receives, &arrives));
    CHECK(!pthread_create(&threads[2], NULL, sends, &back) && !pthread_create(&threads[3], NULL, receives, &returns));
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(rclose(pair[0]) == 0 && rclose(pair[1]) == 0);
}

static void ends(void)
{
    int pair[2];
    char bytes[16] = "", more[4] = "";
    struct iovec parts[] = {{.iov_base = bytes, .iov_len = 2}, {.iov_base = more, .iov_len = 2}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    connected(7402, pair);
    REFUSED(rrecv(pair[1], bytes, sizeof bytes, MSG_DONTWAIT), EAGAIN);
    CHECK(rwritev(pair[0], (struct iovec[]){{"ab", 2}, {"", 0}, {"cdef", 4}}, 3) == 6);
    CHECK(rrecv(pair[1], bytes, 6, MSG_PEEK | MSG_WAITALL) > 0 && bytes[0] == 'a');
    CHECK(polled(pair[1], POLLIN, 60000) == POLLIN);
    CHECK(rrecvmsg(pair[1], &message, MSG_WAITALL) == 4 && !memcmp(bytes, "ab", 2) && !memcmp(more, "cd", 2));
    CHECK(rsend(pair[0], "ghijklmnop", 10, 0) == 10);
    CHECK(rrecv(pair[1], bytes, 12, MSG_WAITALL) == 12 && !memcmp(bytes, "efghijklmnop", 12));
    /* One direction ends, the other doesn't. */
    CHECK(rsend(pair[0], "last", 4, 0) == 4 && rshutdown(pair[0], SHUT_WR) == 0);
    REFUSED(rsend(pair[0], "x", 1, 0), EPIPE);
    CHECK(rrecv(pair[1], bytes, 16, MSG_WAITALL) == 4 && rrecv(pair[1], bytes, 16, 0) == 0);
    CHECK(polled(pair[1], POLLIN | POLLOUT, 1000) == (POLLIN | POLLOUT));
    CHECK(rsend(pair[1], "answer", 6, 0) == 6);
    CHECK(rrecv(pair[0], bytes, 6, MSG_WAITALL) == 6 && !memcmp(bytes, "answer", 6));
    CHECK(rsend(pair[1], "bye", 3, 0) == 3 && rclose(pair[1]) == 0);
    CHECK(polled(pair[0], POLLIN, 60000) & POLLIN);
    CHECK(rrecv(pair[0], bytes, 16, MSG_WAITALL) == 3 && rrecv(pair[0], bytes, 16, 0) == 0);
    while (!(polled(pair[0], 0, 10000) & POLLHUP))
        ;
    CHECK(rclose(pair[0]) == 0);
    /* What can't be sent any more says so. */
    connected(7403, pair);
    CHECK(rclose(pair[1]) == 0);
    while (rsend(pair[0], bytes, sizeof bytes, 0) > 0)
        ;
    CHECK(errno == ECONNRESET);
    CHECK(rclose(pair[0]) == 0);
}

/* A process that was forked off doesn't have its parent's. */
static void forked(void)
{
    int pair[2], status;
    char byte;
    connected(7408, pair);
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        REFUSED(rsend(pair[0], "x", 1, 0), EBADF);
        REFUSED(rclose(pair[0]), EBADF);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(rsend(pair[0], "y", 1, 0) == 1 && rrecv(pair[1], &byte, 1, 0) == 1 && byte == 'y');
    CHECK(rclose(pair[0]) == 0 && rclose(pair[1]) == 0);
}

static void *closes(void *of)
{
    struct pollfd none;
    rpoll(&none, 0, 50);
    CHECK(rshutdown(*(int *)of, SHUT_RDWR) == 0);
    return NULL;
}

/* Ordinary descriptors and rsockets together, and a call that waits while another thread ends the stream. */
static void waits(void)
{
    int pair[2], ends[2];
    char byte;
    pthread_t other;
    fd_set readable, writable;
    struct timeval now = {0};
    connected(7404, pair);
    CHECK(pipe(ends) == 0);
    struct pollfd fds[] = {
        {.fd = pair[1], .events = POLLIN}, {.fd = ends[0], .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    CHECK(rpoll(fds, 3, 0) == 0 && rpoll(fds, 3, 20) == 0);
    CHECK(write(ends[1], "x", 1) == 1 && rpoll(fds, 3, -1) == 1 && fds[1].revents == POLLIN && !fds[0].revents);
    CHECK(rsend(pair[0], "x", 1, 0) == 1);
    while (rpoll(fds, 3, -1) != 2)
        ;
    CHECK(fds[0].revents == POLLIN && !fds[2].revents);
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(pair[1], &readable);
    FD_SET(pair[0], &readable);
    FD_SET(pair[0], &writable);
    CHECK(rselect(FD_SETSIZE, &readable, &writable, NULL, &now) == 2);
    CHECK(FD_ISSET(pair[1], &readable) && !FD_ISSET(pair[0], &readable) && FD_ISSET(pair[0], &writable));
    CHECK(rread(pair[1], &byte, 1) == 1);
    CHECK(!pthread_create(&other, NULL, closes, &pair[1]));
    CHECK(rread(pair[1], &byte, 1) == 0);
    CHECK(pthread_join(other, NULL) == 0);
    CHECK(rclose(pair[0]) == 0 && rclose(pair[1]) == 0 && close(ends[0]) == 0 && close(ends[1]) == 0);
}

/* Buffers that the peer writes directly. */
static void mapped(void)
{
    struct sockaddr_in in = at(7405);
    int listening = listener(7405), here, there, entries = 2;
    static char first[100], second[50000], from[50000];
    char byte;
    CHECK(rsetsockopt(listening, SOL_RDMA, RDMA_IOMAPSIZE, &entries, sizeof entries) == 0);
    CHECK((here = rsocket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0);
    CHECK(rsetsockopt(here, SOL_RDMA, RDMA_IOMAPSIZE, &entries, sizeof entries) == 0);
    REFUSED(riomap(here, first, sizeof first, PROT_WRITE, 0, 0), EINVAL);
    REFUSED(rconnect(here, (struct sockaddr *)&in, sizeof in), EINPROGRESS);
    CHECK((there = raccept(listening, NULL, NULL)) >= 0);
    CHECK(polled(here, POLLOUT, 10000) == POLLOUT && rfcntl(here, F_SETFL, 0) == 0);
    REFUSED(riomap(there, first, sizeof first, PROT_READ, 0, 0), EINVAL);
    CHECK(riomap(there, first, sizeof first, PROT_WRITE, 0, 1000) == 1000);
    CHECK(riomap(there, second, sizeof second, PROT_WRITE, 0, -1) == (off_t)(uintptr_t)second);
    REFUSED(riomap(there, from, sizeof from, PROT_WRITE, 0, 0), ENOMEM);
    CHECK(rsend(there, "m", 1, 0) == 1 && rrecv(here, &byte, 1, MSG_WAITALL) == 1);
    memset(from, 'z', sizeof from);
    CHECK(riowrite(here, from, 30, 1090, 0) == 10);
    CHECK(riowrite(here, from, 30, 5, 0) == 0);
    CHECK(riowrite(here, from, sizeof from, (off_t)(uintptr_t)second, 0) == sizeof from);
    /* What was written before a message is there when the message is. */
    CHECK(rsend(here, "w", 1, 0) == 1 && rrecv(there, &byte, 1, MSG_WAITALL) == 1);
    CHECK(first[89] == 0 && first[90] == 'z' && first[99] == 'z' && !memcmp(second, from, sizeof from));
    CHECK(riounmap(there, first, sizeof first) == 0);
    REFUSED(riounmap(there, first, sizeof first), EINVAL);
    CHECK(rclose(here) == 0 && rclose(there) == 0 && rclose(listening) == 0);
}

/* Who connects and is no rsocket is refused, and the next one is served. */
static void strangers(void)
{
    struct rdma_event_channel *channel = rdma_create_event_channel();
    struct sockaddr_in in = at(7406);
    struct rdma_conn_param param = {.private_data = "no rsocket", .private_data_len = 11, .qp_num = 0x4242};
    struct rdma_cm_id *id;
    struct rdma_cm_event *told;
    int listening = listener(7406), here, there;
    enum rdma_cm_event_type types[] = {RDMA_CM_EVENT_ADDR_RESOLVED, RDMA_CM_EVENT_ROUTE_RESOLVED};
    CHECK(rdma_create_id(channel, &id, NULL, RDMA_PS_TCP) == 0);
    CHECK(rdma_resolve_addr(id, NULL, (struct sockaddr *)&in, 2000) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK(rdma_get_cm_event(channel, &told) == 0 && told->event == types[i] && rdma_ack_cm_event(told) == 0);
        CHECK(i || rdma_resolve_route(id, 2000) == 0);
    }
    CHECK(rdma_connect(id, &param) == 0);
    CHECK((here = rsocket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)) >= 0);
    CHECK(polled(listening, POLLIN, 60000) == POLLIN);
    REFUSED(rconnect(here, (struct sockaddr *)&in, sizeof in), EINPROGRESS);
    CHECK((there = raccept(listening, NULL, NULL)) >= 0);
    CHECK(rdma_get_cm_event(channel, &told) == 0 && told->event == RDMA_CM_EVENT_REJECTED);
    CHECK(rdma_ack_cm_event(told) == 0 && rdma_destroy_id(id) == 0);
    rdma_destroy_event_channel(channel);
    CHECK(rclose(here) == 0 && rclose(there) == 0 && rclose(listening) == 0);
}

/* A peer that is killed has broken the stream off: that is no end of it. The child comes before the library is used. */
static void killed(void)
{
    struct sockaddr_in in = at(7407);
    int listening, there, status, byte;
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        struct pollfd none;
        alarm(LIMIT);
        int fd = rsocket(AF_INET, SOCK_STREAM, 0);
        CHECK(fd >= 0);
        while (rconnect(fd, (struct sockaddr *)&in, sizeof in)) {
            CHECK(errno == ECONNREFUSED && rclose(fd) == 0 && rpoll(&none, 0, 20) == 0);
            CHECK((fd = rsocket(AF_INET, SOCK_STREAM, 0)) >= 0);
        }
        CHECK(rsend(fd, "x", 1, 0) == 1);
        for (;;)
            pause();
    }
    listening = listener(7407);
    CHECK((there = raccept(listening, NULL, NULL)) >= 0);
    CHECK(rrecv(there, &byte, 1, 0) == 1);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
    REFUSED(rrecv(there, &byte, 1, 0), ECONNRESET);
    CHECK(polled(there, POLLIN, 1000) & POLLERR);
    REFUSED(rsend(there, "x", 1, 0), ECONNRESET);
    CHECK(rclose(there) == 0 && rclose(listening) == 0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    address = argv[1];
    alarm(LIMIT);
    killed();
    refused();
    options();
    /* Several times: a thread that isn't woken when another one takes its event shows only now and then. */
    for (int i = 0; i < 8; i++)
        both_ways();
    ends();
    waits();
    mapped();
    strangers();
    forked();
    return 0;
}
