/* What programs rely on of librdmacm, with the library under test in its place. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static struct sockaddr_in at(const char *name, int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    CHECK(inet_pton(AF_INET, name, &in.sin_addr) == 1);
    return in;
}

static struct rdma_cm_event *event(struct rdma_event_channel *channel, enum rdma_cm_event_type type)
{
    struct rdma_cm_event *event;
    CHECK(rdma_get_cm_event(channel, &event) == 0);
    if (event->event != type) {
        printf("%s instead of %s\n", rdma_event_str(event->event), rdma_event_str(type));
        exit(1);
    }
    return event;
}

static struct ibv_qp_init_attr attributes(void)
{
    return (struct ibv_qp_init_attr){
        .cap = {.max_send_wr = 4, .max_recv_wr = 4, .max_send_sge = 1, .max_recv_sge = 1},
        .qp_type = IBV_QPT_RC,
        .sq_sig_all = 1,
    };
}

/* Endpoints, whose calls wait: the server of one connection. */
static void *serve(void *listener)
{
    struct rdma_cm_id *id;
    static char message[64];
    struct ibv_mr *mr;
    struct ibv_wc wc;
    CHECK(rdma_get_request(listener, &id) == 0);
    CHECK(id->event->event == RDMA_CM_EVENT_CONNECT_REQUEST);
    CHECK(id->event->listen_id == listener);
    CHECK(id->event->param.conn.private_data_len == 56);
    CHECK(!strcmp(id->event->param.conn.private_data, "who"));
    CHECK(id->qp && id->verbs && id->pd && id->send_cq && id->recv_cq && id->port_num == 1);
    CHECK(id->channel != ((struct rdma_cm_id *)listener)->channel);
    CHECK(ntohs(rdma_get_src_port(id)) == 7174 && rdma_get_dst_port(id) != 0);
    CHECK((mr = rdma_reg_msgs(id, message, sizeof message)));
    CHECK(rdma_post_recv(id, NULL, message, sizeof message, mr) == 0);
    CHECK(rdma_accept(id, NULL) == 0);
    CHECK(id->event->event == RDMA_CM_EVENT_ESTABLISHED);
    CHECK(rdma_get_recv_comp(id, &wc) == 1 && wc.status == IBV_WC_SUCCESS);
    CHECK(!strcmp(message, "hello"));
    CHECK(rdma_disconnect(id) == 0);
    CHECK(rdma_dereg_mr(mr) == 0);
    rdma_destroy_ep(id);
    return NULL;
}

static void endpoints(void)
{
    struct rdma_addrinfo hints = {.ai_flags = RAI_PASSIVE, .ai_port_space = RDMA_PS_TCP}, *info;
    struct ibv_qp_init_attr attr = attributes();
    struct rdma_cm_id *listener, *id;
    static char message[64] = "hello";
    struct rdma_conn_param param = {.private_data = "who", .private_data_len = 4, .retry_count = 7};
    struct ibv_mr *mr;
    struct ibv_wc wc;
    pthread_t server;
    CHECK(rdma_getaddrinfo(address, "7174", &hints, &info) == 0);
    CHECK(info->ai_src_len == sizeof(struct sockaddr_in) && !info->ai_dst_addr && info->ai_qp_type == IBV_QPT_RC);
    CHECK(rdma_create_ep(&listener, info, NULL, &attr) == 0);
    rdma_freeaddrinfo(info);
    CHECK(rdma_listen(listener, 0) == 0);
    CHECK(pthread_create(&server, NULL, serve, listener) == 0);
    hints.ai_flags = 0;
    CHECK(rdma_getaddrinfo(address, "7174", &hints, &info) == 0);
    CHECK(!info->ai_src_addr && info->ai_dst_len == sizeof(struct sockaddr_in));
    attr = attributes();
    CHECK(rdma_create_ep(&id, info, NULL, &attr) == 0);
    rdma_freeaddrinfo(info);
    CHECK(id->route.num_paths == 1 && id->route.path_rec->hop_limit == 64);
    CHECK((mr = rdma_reg_msgs(id, message, sizeof message)));
    CHECK(rdma_connect(id, &param) == 0);
    CHECK(id->event->event == RDMA_CM_EVENT_ESTABLISHED && id->event->param.conn.private_data_len == 196);
    CHECK(rdma_post_send(id, NULL, message, sizeof message, mr, 0) == 0);
    CHECK(rdma_get_send_comp(id, &wc) == 1 && wc.status == IBV_WC_SUCCESS);
    CHECK(rdma_disconnect(id) == 0);
    CHECK(pthread_join(server, NULL) == 0);
    CHECK(rdma_dereg_mr(mr) == 0);
    rdma_destroy_ep(id);
    REFUSED(rdma_migrate_id(listener, NULL), EINVAL);
    rdma_destroy_ep(listener);
}

/* Where nobody listens; what an event channel's descriptor says; migration. */
static void channels(void)
{
    struct rdma_event_channel *channel = rdma_create_event_channel(), *other = rdma_create_event_channel();
    struct sockaddr_in to = at(address, 7175), away = at("192.0.2.1", 7175);
    struct ibv_qp_init_attr attr = attributes();
    struct rdma_conn_param param = {.retry_count = 7};
    struct rdma_cm_event *told;
    struct rdma_cm_id *id;
    struct pollfd fds[2];
    CHECK(channel && other);
    fds[0] = (struct pollfd){.fd = channel->fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = other->fd, .events = POLLIN};
    CHECK(fcntl(channel->fd, F_SETFL, fcntl(channel->fd, F_GETFL) | O_NONBLOCK) == 0);
    REFUSED(rdma_get_cm_event(channel, &told), EAGAIN);
    REFUSED(rdma_get_cm_event(channel, NULL), EINVAL);
    REFUSED(rdma_ack_cm_event(NULL), EINVAL);
    CHECK(rdma_create_id(channel, &id, &to, RDMA_PS_TCP) == 0);
    CHECK(id->context == &to && id->ps == RDMA_PS_TCP && id->qp_type == IBV_QPT_RC && !id->verbs);
    REFUSED(rdma_bind_addr(id, (struct sockaddr *)&away), EADDRNOTAVAIL);
    REFUSED(rdma_connect(id, &param), EINVAL);
    REFUSED(rdma_disconnect(id), EINVAL);
    CHECK(poll(fds, 2, 0) == 0);
    CHECK(rdma_resolve_addr(id, NULL, (struct sockaddr *)&to, 2000) == 0);
    CHECK(poll(fds, 2, 60000) == 1 && fds[0].revents == POLLIN);
    CHECK(rdma_migrate_id(id, other) == 0 && id->channel == other);
    CHECK(poll(fds, 2, 0) == 1 && fds[1].revents == POLLIN);
    told = event(other, RDMA_CM_EVENT_ADDR_RESOLVED);
    CHECK(told->id == id && told->status == 0 && id->verbs && id->pd);
    CHECK(rdma_ack_cm_event(told) == 0);
    CHECK(rdma_resolve_route(id, 2000) == 0);
    CHECK(rdma_ack_cm_event(event(other, RDMA_CM_EVENT_ROUTE_RESOLVED)) == 0);
    CHECK(rdma_create_qp(id, NULL, &attr) == 0);
    REFUSED(rdma_create_qp(id, NULL, &attr), EINVAL);
    CHECK(id->qp->state == IBV_QPS_INIT && attr.send_cq == id->send_cq);
    CHECK(rdma_connect(id, &param) == 0);
    told = event(other, RDMA_CM_EVENT_REJECTED);
    CHECK(told->status == 8); /* Invalid service ID. */
    CHECK(rdma_ack_cm_event(told) == 0);
    rdma_destroy_qp(id);
    CHECK(!id->qp && !id->send_cq && !id->recv_cq_channel);
    CHECK(rdma_destroy_id(id) == 0);
    /* Programs do name ids that they have destroyed. */
    REFUSED(rdma_destroy_id(id), EINVAL);
    REFUSED(rdma_resolve_addr(id, NULL, (struct sockaddr *)&to, 2000), EINVAL);
    REFUSED(rdma_connect((struct rdma_cm_id *)(uintptr_t)0x1234567, &param), EINVAL);
    REFUSED(rdma_disconnect(NULL), EINVAL);
    rdma_destroy_event_channel(channel);
    rdma_destroy_event_channel(other);
    rdma_destroy_event_channel(other);
    REFUSED(rdma_get_cm_event(other, &told), EINVAL);
}

/* A queue pair that the program makes and moves itself, as UCX does it, and a refusal with private data. */
static void by_hand(void)
{
    struct rdma_event_channel *channel = rdma_create_event_channel();
    struct sockaddr_in to = at(address, 7176);
    struct rdma_conn_param param = {.retry_count = 7, .qp_num = 0x123456, .responder_resources = 1};
    struct rdma_cm_id *listener, *id, *served;
    struct rdma_cm_event *told;
    struct ibv_qp_attr attr;
    int mask, reuse = 1;
    CHECK(rdma_create_id(channel, &listener, NULL, RDMA_PS_TCP) == 0);
    CHECK(rdma_set_option(listener, RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &reuse, sizeof reuse) == 0);
    REFUSED(rdma_set_option(listener, RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &reuse, 1), EINVAL);
    REFUSED(rdma_set_option(listener, RDMA_OPTION_IB, RDMA_OPTION_IB_PATH, &reuse, 4), ENOSYS);
    CHECK(rdma_bind_addr(listener, (struct sockaddr *)&to) == 0 && listener->verbs);
    CHECK(rdma_listen(listener, 1) == 0);
    for (int round = 0; round < 2; round++) {
        CHECK(rdma_create_id(channel, &id, NULL, RDMA_PS_TCP) == 0);
        CHECK(rdma_resolve_addr(id, NULL, (struct sockaddr *)&to, 2000) == 0);
        CHECK(rdma_ack_cm_event(event(channel, RDMA_CM_EVENT_ADDR_RESOLVED)) == 0);
        CHECK(rdma_resolve_route(id, 2000) == 0);
        CHECK(rdma_ack_cm_event(event(channel, RDMA_CM_EVENT_ROUTE_RESOLVED)) == 0);
        CHECK(rdma_connect(id, &param) == 0);
        told = event(channel, RDMA_CM_EVENT_CONNECT_REQUEST);
        served = told->id;
        CHECK(told->listen_id == listener && told->param.conn.qp_num == 0x123456);
        CHECK(rdma_ack_cm_event(told) == 0);
        if (round == 0) {
            CHECK(rdma_reject(served, "no", 3) == 0);
            told = event(channel, RDMA_CM_EVENT_REJECTED);
            CHECK(told->id == id && told->status == 28); /* By the consumer. */
            CHECK(!strcmp(told->param.conn.private_data, "no"));
            CHECK(rdma_ack_cm_event(told) == 0);
        } else {
            attr.qp_state = IBV_QPS_RTR;
            CHECK(rdma_init_qp_attr(served, &attr, &mask) == 0);
            CHECK((mask & IBV_QP_DEST_QPN) && attr.dest_qp_num == 0x123456 && attr.ah_attr.is_global);
            param.qp_num = 0x654321;
            CHECK(rdma_accept(served, &param) == 0);
            told = event(channel, RDMA_CM_EVENT_CONNECT_RESPONSE);
            CHECK(told->id == id && told->param.conn.qp_num == 0x654321);
            CHECK(rdma_ack_cm_event(told) == 0);
            attr.qp_state = IBV_QPS_RTS;
            CHECK(rdma_init_qp_attr(id, &attr, &mask) == 0 && (mask & IBV_QP_SQ_PSN));
            CHECK(rdma_establish(id) == 0);
            told = event(channel, RDMA_CM_EVENT_ESTABLISHED);
            CHECK(told->id == served && rdma_ack_cm_event(told) == 0);
            /* An id that goes takes its connection with it: its peer is told. */
            CHECK(rdma_destroy_id(id) == 0);
            id = served;
            CHECK(rdma_ack_cm_event(event(channel, RDMA_CM_EVENT_DISCONNECTED)) == 0);
            served = NULL;
        }
        CHECK(!served || rdma_destroy_id(served) == 0);
        CHECK(rdma_destroy_id(id) == 0);
    }
    CHECK(rdma_destroy_id(listener) == 0);
    rdma_destroy_event_channel(channel);
}

static void datagrams(void)
{
    struct rdma_event_channel *channel = rdma_create_event_channel();
    struct sockaddr_in to = at(address, 7177);
    struct ibv_qp_init_attr attr = attributes();
    struct rdma_conn_param param = {.private_data = "me", .private_data_len = 3};
    struct rdma_cm_id *listener, *id, *served;
    struct rdma_cm_event *told;
    struct ibv_ah *ah;
    CHECK(rdma_create_id(channel, &listener, NULL, RDMA_PS_UDP) == 0 && listener->qp_type == IBV_QPT_UD);
    CHECK(rdma_bind_addr(listener, (struct sockaddr *)&to) == 0 && rdma_listen(listener, 1) == 0);
    CHECK(rdma_create_id(channel, &id, NULL, RDMA_PS_UDP) == 0);
    CHECK(rdma_resolve_addr(id, NULL, (struct sockaddr *)&to, 2000) == 0);
    CHECK(rdma_ack_cm_event(event(channel, RDMA_CM_EVENT_ADDR_RESOLVED)) == 0);
    CHECK(rdma_resolve_route(id, 2000) == 0);
    CHECK(rdma_ack_cm_event(event(channel, RDMA_CM_EVENT_ROUTE_RESOLVED)) == 0);
    attr.qp_type = IBV_QPT_UD;
    CHECK(rdma_create_qp(id, NULL, &attr) == 0 && id->qp->state == IBV_QPS_RTS);
    CHECK(rdma_connect(id, &param) == 0);
    told = event(channel, RDMA_CM_EVENT_CONNECT_REQUEST);
    served = told->id;
    CHECK(told->param.ud.private_data_len == 180 && !strcmp(told->param.ud.private_data, "me"));
    CHECK(rdma_ack_cm_event(told) == 0);
    attr = attributes();
    attr.qp_type = IBV_QPT_UD;
    CHECK(rdma_create_qp(served, NULL, &attr) == 0);
    CHECK(rdma_accept(served, &param) == 0);
    told = event(channel, RDMA_CM_EVENT_ESTABLISHED);
    CHECK(told->param.ud.qp_num == served->qp->qp_num && told->param.ud.qkey == RDMA_UDP_QKEY);
    CHECK((ah = ibv_create_ah(id->pd, &told->param.ud.ah_attr)) && ibv_destroy_ah(ah) == 0);
    CHECK(rdma_ack_cm_event(told) == 0);
    rdma_destroy_qp(id);
    rdma_destroy_qp(served);
    CHECK(rdma_destroy_id(id) == 0 && rdma_destroy_id(served) == 0 && rdma_destroy_id(listener) == 0);
    rdma_destroy_event_channel(channel);
}

/* Has the event of a group taken, and looks at it. */
static struct ibv_ah *joined(struct rdma_event_channel *channel, struct rdma_cm_id *id, void *context)
{
    static const uint8_t mgid[16] = {[10] = 0xff, 0xff, 239, 1, 2, 3};
    struct rdma_cm_event *told = event(channel, RDMA_CM_EVENT_MULTICAST_JOIN);
    struct ibv_ah *ah;
    CHECK(told->id == id && told->status == 0 && told->param.ud.private_data == context);
    CHECK(told->param.ud.qp_num == 0xffffff && told->param.ud.qkey == RDMA_UDP_QKEY);
    CHECK(told->param.ud.ah_attr.is_global && !memcmp(told->param.ud.ah_attr.grh.dgid.raw, mgid, 16));
    CHECK((ah = ibv_create_ah(id->pd, &told->param.ud.ah_attr)));
    CHECK(rdma_ack_cm_event(told) == 0);
    return ah;
}

static int arrived(struct rdma_cm_id *id, int wait_ms)
{
    struct ibv_wc wc;
    for (int tries = 0; tries <= wait_ms; tries++) {
        int count = ibv_poll_cq(id->recv_cq, 1, &wc);
        CHECK(count >= 0 && (count == 0 || wc.status == IBV_WC_SUCCESS));
        if (count)
            return 1;
        usleep(1000);
    }
    return 0;
}

/* Groups: what a member gets, and what it doesn't when it has left. */
static void multicast(void)
{
    struct rdma_event_channel *channel = rdma_create_event_channel();
    struct sockaddr_in own = at(address, 0), group = at("239.1.2.3", 0), other = at("239.1.2.4", 0);
    struct rdma_cm_join_mc_attr_ex ex = {
        .comp_mask = RDMA_CM_JOIN_MC_ATTR_ADDRESS | RDMA_CM_JOIN_MC_ATTR_JOIN_FLAGS,
        .join_flags = RDMA_MC_JOIN_FLAG_FULLMEMBER,
        .addr = (struct sockaddr *)&group,
    };
    struct rdma_cm_id *sender, *member;
    struct rdma_cm_event *told;
    struct ibv_qp_init_attr attr;
    static char message[1024];
    struct ibv_mr *mr;
    struct ibv_ah *ah;
    struct ibv_wc wc;
    int context;
    for (struct rdma_cm_id **id = &sender; id; id = id == &sender ? &member : NULL) {
        CHECK(rdma_create_id(channel, id, NULL, RDMA_PS_UDP) == 0);
        REFUSED(rdma_join_multicast(*id, (struct sockaddr *)&group, NULL), EINVAL);
        CHECK(rdma_bind_addr(*id, (struct sockaddr *)&own) == 0);
        CHECK(rdma_resolve_addr(*id, NULL, (struct sockaddr *)&group, 2000) == 0);
        CHECK(rdma_ack_cm_event(event(channel, RDMA_CM_EVENT_ADDR_RESOLVED)) == 0);
        attr = attributes();
        attr.qp_type = IBV_QPT_UD;
        CHECK(rdma_create_qp(*id, NULL, &attr) == 0);
    }
    REFUSED(rdma_join_multicast(NULL, (struct sockaddr *)&group, NULL), EINVAL);
    REFUSED(rdma_join_multicast_ex(member, NULL, NULL), EINVAL);
    ex.comp_mask = RDMA_CM_JOIN_MC_ATTR_JOIN_FLAGS;
    REFUSED(rdma_join_multicast_ex(member, &ex, NULL), EINVAL);
    ex.comp_mask = 4;
    REFUSED(rdma_join_multicast_ex(member, &ex, NULL), ENOTSUP);
    ex.comp_mask = RDMA_CM_JOIN_MC_ATTR_ADDRESS | RDMA_CM_JOIN_MC_ATTR_JOIN_FLAGS;
    ex.join_flags = 77;
    REFUSED(rdma_join_multicast_ex(member, &ex, NULL), EINVAL);
    ex.join_flags = RDMA_MC_JOIN_FLAG_FULLMEMBER;
    REFUSED(rdma_leave_multicast(member, (struct sockaddr *)&group), EADDRNOTAVAIL);

    CHECK(rdma_join_multicast_ex(member, &ex, &context) == 0);
    ah = joined(channel, member, &context);
    CHECK((mr = rdma_reg_msgs(member, message, sizeof message)));
    CHECK(rdma_post_recv(member, NULL, message, 512, mr) == 0);
    CHECK(rdma_post_ud_send(sender, NULL, message + 512, 64, mr, 0, ah, 0xffffff) == 0);
    CHECK(rdma_get_send_comp(sender, &wc) == 1 && wc.status == IBV_WC_SUCCESS);
    CHECK(arrived(member, 60000));

    /* An address that is no group's: the queue pair can't be attached. */
    CHECK(rdma_join_multicast(member, (struct sockaddr *)&own, &context) == 0);
    told = event(channel, RDMA_CM_EVENT_MULTICAST_ERROR);
    CHECK(told->id == member && told->status < 0 && told->param.ud.private_data == &context);
    CHECK(rdma_ack_cm_event(told) == 0);
    CHECK(rdma_leave_multicast(member, (struct sockaddr *)&own) == 0);

    /* Of two memberships of one group one is left; of an event that nobody took nothing is heard. */
    CHECK(rdma_join_multicast(member, (struct sockaddr *)&group, &sender) == 0);
    ibv_destroy_ah(joined(channel, member, &sender));
    CHECK(rdma_join_multicast(member, (struct sockaddr *)&other, NULL) == 0);
    CHECK(rdma_leave_multicast(member, (struct sockaddr *)&other) == 0);
    CHECK(rdma_leave_multicast(member, (struct sockaddr *)&group) == 0);
    CHECK(rdma_post_recv(member, NULL, message, 512, mr) == 0);
    CHECK(rdma_post_ud_send(sender, NULL, message + 512, 64, mr, 0, ah, 0xffffff) == 0);
    CHECK(arrived(member, 60000));
    CHECK(rdma_leave_multicast(member, (struct sockaddr *)&group) == 0);
    REFUSED(rdma_leave_multicast(member, (struct sockaddr *)&group), EADDRNOTAVAIL);
    CHECK(rdma_post_recv(member, NULL, message, 512, mr) == 0);
    CHECK(rdma_post_ud_send(sender, NULL, message + 512, 64, mr, 0, ah, 0xffffff) == 0);
    CHECK(!arrived(member, 100));
    struct pollfd fd = {.fd = channel->fd, .events = POLLIN};
    CHECK(poll(&fd, 1, 0) == 0);

    /* A queue pair goes with its groups, and so does the id. */
    CHECK(rdma_join_multicast(member, (struct sockaddr *)&group, NULL) == 0);
    ibv_destroy_ah(joined(channel, member, NULL));
    CHECK(ibv_destroy_ah(ah) == 0 && rdma_dereg_mr(mr) == 0);
    rdma_destroy_qp(member);
    rdma_destroy_qp(sender);
    CHECK(rdma_destroy_id(member) == 0 && rdma_destroy_id(sender) == 0);
    rdma_destroy_event_channel(channel);
}

int main(int argc, char **argv)
{
    struct ibv_context **devices;
    struct rdma_addrinfo *info;
    int count;
    CHECK(argc == 2);
    address = argv[1];
    CHECK((devices = rdma_get_devices(&count)) && count == 1 && devices[0] && !devices[1]);
    rdma_free_devices(devices);
    CHECK(!strcmp(rdma_event_str(RDMA_CM_EVENT_TIMEWAIT_EXIT), "RDMA_CM_EVENT_TIMEWAIT_EXIT"));
    CHECK(!strcmp(rdma_event_str(99), "UNKNOWN EVENT"));
    REFUSED(rdma_getaddrinfo(NULL, NULL, NULL, &info), EINVAL);
    endpoints();
    channels();
    by_hand();
    datagrams();
    multicast();
    return 0;
}
