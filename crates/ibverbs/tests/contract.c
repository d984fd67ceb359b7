/*
 * What verbs programs rely on, checked as such a program: written for libibverbs' header, linked with whatever
 * libibverbs.so.1 the loader finds. Prints a line for each check that fails; exits with their number.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;

#define CHECK(what) \
	do { \
		if (!(what)) { \
			failures++; \
			printf("line %d: %s (errno %d)\n", __LINE__, #what, errno); \
		} \
	} while (0)

#define REQUIRE(what) \
	do { \
		CHECK(what); \
		if (failures) \
			exit(1); \
	} while (0)

enum { SIZE = 8192, QKEY = 0x11223344 };

struct end {
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	union ibv_gid gid;
	char *buffer;
};

static const int ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
			  IBV_ACCESS_REMOTE_ATOMIC;

static struct ibv_context *open_device(void)
{
	int count = 0;
	struct ibv_device **list = ibv_get_device_list(&count);
	REQUIRE(list && count == 1 && list[0] && !list[1]);
	struct ibv_context *context = ibv_open_device(list[0]);
	REQUIRE(context);
	CHECK(ibv_get_device_index(list[0]) == 0);
	CHECK(ibv_get_device_guid(list[0]) != 0);
	ibv_free_device_list(list);
	return context;
}

static struct ibv_qp *make_qp(struct end *end, struct ibv_comp_channel *channel, int sig_all, int wrs)
{
	end->cq = ibv_create_cq(end->context, 64, end, channel, 0);
	REQUIRE(end->cq);
	struct ibv_qp_init_attr init = {
		.send_cq = end->cq,
		.recv_cq = end->cq,
		.cap = { .max_send_wr = wrs, .max_recv_wr = wrs, .max_send_sge = 2, .max_recv_sge = 2, .max_inline_data = 64 },
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = sig_all,
	};
	struct ibv_qp *qp = ibv_create_qp(end->pd, &init);
	REQUIRE(qp);
	CHECK(init.cap.max_send_wr >= (unsigned)wrs && init.cap.max_inline_data >= 64);
	return qp;
}

static void make_end(struct end *end, struct ibv_context *context, struct ibv_comp_channel *channel, int sig_all)
{
	memset(end, 0, sizeof *end);
	end->context = context;
	end->pd = ibv_alloc_pd(context);
	REQUIRE(end->pd);
	end->buffer = calloc(1, SIZE);
	end->mr = ibv_reg_mr(end->pd, end->buffer, SIZE, ACCESS);
	REQUIRE(end->mr);
	REQUIRE(!ibv_query_gid(context, 1, 0, &end->gid));
	end->qp = make_qp(end, channel, sig_all, 8);
}

static int to_init(struct end *end)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = 1, .qp_access_flags = ACCESS };
	return ibv_modify_qp(end->qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

static void connect_to(struct end *end, const struct end *peer)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = peer->qp->qp_num,
		.rq_psn = 7,
		.max_dest_rd_atomic = 4,
		.min_rnr_timer = 1,
		.ah_attr = { .is_global = 1, .grh = { .dgid = peer->gid, .hop_limit = 64 }, .port_num = 1 },
	};
	const int rtr = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	CHECK(ibv_modify_qp(end->qp, &attr, rtr & ~IBV_QP_RQ_PSN) == EINVAL);
	REQUIRE(!ibv_modify_qp(end->qp, &attr, rtr));
	struct ibv_qp_attr rts = {
		.qp_state = IBV_QPS_RTS, .timeout = 14, .retry_cnt = 3, .rnr_retry = 3, .sq_psn = 7, .max_rd_atomic = 4,
	};
	REQUIRE(!ibv_modify_qp(end->qp, &rts, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				       IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC));
}

static void make_pair(struct end *a, struct end *b, struct ibv_context *context, struct ibv_comp_channel *channel,
		      int sig_all)
{
	make_end(a, context, channel, sig_all);
	make_end(b, context, NULL, sig_all);
	REQUIRE(!to_init(a) && !to_init(b));
	connect_to(a, b);
	connect_to(b, a);
}

static void drop(struct end *end)
{
	if (end->qp)
		CHECK(!ibv_destroy_qp(end->qp));
	CHECK(!ibv_destroy_cq(end->cq));
	if (end->mr)
		CHECK(!ibv_dereg_mr(end->mr));
	CHECK(!ibv_dealloc_pd(end->pd));
	free(end->buffer);
}

static struct ibv_wc completion(struct ibv_cq *cq)
{
	struct ibv_wc wc = { .status = -1 };
	for (long tries = 0; tries < 200000000; tries++) {
		int count = ibv_poll_cq(cq, 1, &wc);
		if (count)
			break;
	}
	return wc;
}

static struct ibv_send_wr write_request(struct end *from, struct end *to, struct ibv_sge *sge)
{
	*sge = (struct ibv_sge){ .addr = (uintptr_t)from->buffer, .length = 100, .lkey = from->mr->lkey };
	return (struct ibv_send_wr){
		.wr_id = 1,
		.sg_list = sge,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = { .remote_addr = (uintptr_t)to->buffer, .rkey = to->mr->rkey },
	};
}

static void parents_with_children_are_busy(struct ibv_context *context)
{
	struct end end;
	struct ibv_comp_channel *channel = ibv_create_comp_channel(context);
	REQUIRE(channel);
	make_end(&end, context, channel, 0);
	CHECK(ibv_dealloc_pd(end.pd) == EBUSY);
	CHECK(ibv_destroy_cq(end.cq) == EBUSY);
	CHECK(ibv_destroy_comp_channel(channel) == EBUSY);
	drop(&end);
	CHECK(!ibv_destroy_comp_channel(channel));
}

static void what_cannot_be_is_refused(struct ibv_context *context)
{
	struct end end;
	make_end(&end, context, NULL, 0);
	CHECK(!ibv_reg_mr(end.pd, end.buffer, SIZE, IBV_ACCESS_REMOTE_WRITE) && errno == EINVAL);
	CHECK(!ibv_create_cq(context, 0, NULL, NULL, 0) && errno == EINVAL);
	CHECK(!ibv_create_cq(context, 1, NULL, NULL, 1) && errno == EINVAL);
	struct ibv_qp_init_attr raw = { .send_cq = end.cq, .recv_cq = end.cq, .qp_type = IBV_QPT_RAW_PACKET };
	CHECK(!ibv_create_qp(end.pd, &raw) && errno == EOPNOTSUPP);
	struct ibv_alloc_dm_attr dm = { .length = 64 };
	CHECK(!ibv_alloc_dm(context, &dm) && errno == EOPNOTSUPP);
	CHECK(!ibv_reg_dmabuf_mr(end.pd, 0, 4096, 0, 0, 0) && errno == EOPNOTSUPP);
	union ibv_gid gid;
	CHECK(ibv_query_gid(context, 1, 77, &gid) == -1);
	struct ibv_port_attr port;
	CHECK(ibv_query_port(context, 2, &port) == EINVAL);
	CHECK(!ibv_query_port(context, 1, &port) && port.state == IBV_PORT_ACTIVE &&
	      port.link_layer == IBV_LINK_LAYER_ETHERNET);
	struct ibv_sge sge;
	struct ibv_send_wr wr = write_request(&end, &end, &sge), *bad = NULL;
	CHECK(ibv_post_send(end.qp, &wr, &bad) == EINVAL && bad == &wr);
	drop(&end);
}

static void lists_are_posted_as_far_as_they_go(struct ibv_context *context)
{
	struct end a, b;
	make_pair(&a, &b, context, NULL, 0);
	struct ibv_sge sge[12];
	struct ibv_send_wr wr[12], *bad = NULL;
	for (int i = 0; i < 12; i++) {
		wr[i] = write_request(&a, &b, &sge[i]);
		wr[i].next = i < 11 ? &wr[i + 1] : NULL;
		wr[i].wr_id = i;
	}
	wr[3].num_sge = 3;
	CHECK(ibv_post_send(a.qp, &wr[0], &bad) == EINVAL && bad == &wr[3]);
	for (int i = 0; i < 3; i++) {
		struct ibv_wc wc = completion(a.cq);
		CHECK(wc.status == IBV_WC_SUCCESS && wc.wr_id == (unsigned)i && wc.qp_num == a.qp->qp_num);
	}
	struct ibv_recv_wr recv[10], *bad_recv = NULL;
	for (int i = 0; i < 10; i++)
		recv[i] = (struct ibv_recv_wr){ .wr_id = 100 + i, .next = i < 9 ? &recv[i + 1] : NULL };
	CHECK(ibv_post_recv(b.qp, recv, &bad_recv) == ENOMEM && bad_recv == &recv[8]);
	drop(&a);
	drop(&b);
}

static void inline_bytes_are_taken_when_posted(struct ibv_context *context)
{
	struct end a, b;
	make_pair(&a, &b, context, NULL, 0);
	char bytes[32] = "taken at once";
	struct ibv_sge sge = { .addr = (uintptr_t)bytes, .length = sizeof bytes, .lkey = 0xdead };
	struct ibv_send_wr wr = write_request(&a, &b, &(struct ibv_sge){ 0 }), *bad;
	wr.sg_list = &sge;
	wr.send_flags |= IBV_SEND_INLINE;
	CHECK(!ibv_post_send(a.qp, &wr, &bad));
	memset(bytes, 'x', sizeof bytes);
	CHECK(completion(a.cq).status == IBV_WC_SUCCESS);
	CHECK(!strcmp(b.buffer, "taken at once"));
	sge.length = 65;
	CHECK(ibv_post_send(a.qp, &wr, &bad) != 0);
	drop(&a);
	drop(&b);
}

static void an_error_flushes_what_is_left_with_its_numbers(struct ibv_context *context)
{
	struct end a, b;
	make_pair(&a, &b, context, NULL, 0);
	struct ibv_recv_wr recv = { .wr_id = 40 }, *bad_recv;
	CHECK(!ibv_post_recv(a.qp, &recv, &bad_recv));
	struct ibv_sge sge;
	struct ibv_send_wr wr = write_request(&a, &b, &sge), *bad;
	wr.send_flags = 0;
	wr.wr.rdma.rkey ^= 0x10000;
	wr.wr_id = 41;
	CHECK(!ibv_post_send(a.qp, &wr, &bad));
	struct ibv_wc wc = completion(a.cq);
	CHECK(wc.status == IBV_WC_REM_ACCESS_ERR && wc.wr_id == 41);
	wc = completion(a.cq);
	CHECK(wc.status == IBV_WC_WR_FLUSH_ERR && wc.wr_id == 40);
	wr.wr_id = 42;
	CHECK(!ibv_post_send(a.qp, &wr, &bad));
	wc = completion(a.cq);
	CHECK(wc.status == IBV_WC_WR_FLUSH_ERR && wc.wr_id == 42);
	struct ibv_qp_attr attr;
	struct ibv_qp_init_attr init;
	CHECK(!ibv_query_qp(a.qp, &attr, IBV_QP_STATE, &init) && attr.qp_state == IBV_QPS_ERR);
	/* The peer tells what happened to it, and its end waits for the acknowledgement. */
	struct ibv_async_event event;
	struct pollfd fd = { .fd = context->async_fd, .events = POLLIN };
	int access = 0;
	for (int i = 0; i < 2 && !access && poll(&fd, 1, 60000) == 1; i++) {
		CHECK(!ibv_get_async_event(context, &event));
		CHECK(event.element.qp == b.qp);
		access = event.event_type == IBV_EVENT_QP_ACCESS_ERR;
		ibv_ack_async_event(&event);
	}
	CHECK(access);
	drop(&a);
	drop(&b);
}

static void *acknowledge_later(void *cq)
{
	usleep(100000);
	ibv_ack_cq_events(cq, 1);
	return NULL;
}

static void channels_wait_and_count(struct ibv_context *context)
{
	struct end a, b;
	struct ibv_comp_channel *channel = ibv_create_comp_channel(context);
	REQUIRE(channel);
	CHECK(fcntl(channel->fd, F_GETFD) & FD_CLOEXEC);
	make_pair(&a, &b, context, channel, 1);
	struct ibv_cq *cq = NULL;
	void *cq_context = NULL;
	int flags = fcntl(channel->fd, F_GETFL);
	fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK);
	CHECK(ibv_get_cq_event(channel, &cq, &cq_context) == -1 && errno == EAGAIN);
	fcntl(channel->fd, F_SETFL, flags);
	CHECK(!ibv_req_notify_cq(a.cq, 0));
	struct ibv_sge sge;
	struct ibv_send_wr wr = write_request(&a, &b, &sge), *bad;
	/* Every request has a completion: sq_sig_all. */
	wr.send_flags = 0;
	CHECK(!ibv_post_send(a.qp, &wr, &bad));
	CHECK(!ibv_get_cq_event(channel, &cq, &cq_context) && cq == a.cq && cq_context == &a);
	CHECK(completion(a.cq).status == IBV_WC_SUCCESS);
	pthread_t thread;
	pthread_create(&thread, NULL, acknowledge_later, a.cq);
	drop(&a);
	pthread_join(thread, NULL);
	drop(&b);
	CHECK(!ibv_destroy_comp_channel(channel));
}

static void a_reset_queue_pair_begins_anew(struct ibv_context *context)
{
	struct end a, b;
	make_pair(&a, &b, context, NULL, 0);
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	struct ibv_recv_wr recv = { .wr_id = 50 }, *bad_recv;
	CHECK(!ibv_post_recv(a.qp, &recv, &bad_recv));
	CHECK(!ibv_modify_qp(a.qp, &attr, IBV_QP_STATE));
	attr.qp_state = IBV_QPS_RESET;
	CHECK(!ibv_modify_qp(a.qp, &attr, IBV_QP_STATE));
	struct ibv_wc wc;
	CHECK(ibv_poll_cq(a.cq, 1, &wc) == 0);
	CHECK(!ibv_modify_qp(b.qp, &attr, IBV_QP_STATE));
	REQUIRE(!to_init(&a) && !to_init(&b));
	connect_to(&a, &b);
	connect_to(&b, &a);
	struct ibv_sge sge;
	struct ibv_send_wr wr = write_request(&a, &b, &sge), *bad;
	CHECK(!ibv_post_send(a.qp, &wr, &bad));
	CHECK(completion(a.cq).status == IBV_WC_SUCCESS);
	drop(&a);
	drop(&b);
}

static void memory_may_be_registered_as_it_comes(struct ibv_context *context)
{
	struct end a, b;
	make_pair(&a, &b, context, NULL, 0);
	struct ibv_mr *none = ibv_reg_mr(a.pd, a.buffer, 0, ACCESS);
	CHECK(none && !ibv_dereg_mr(none));
	struct ibv_mr *optional = ibv_reg_mr(a.pd, a.buffer, SIZE, ACCESS | IBV_ACCESS_RELAXED_ORDERING | IBV_ACCESS_HUGETLB);
	CHECK(optional && !ibv_dereg_mr(optional));
	/* By another address than its own. */
	struct ibv_mr *moved = ibv_reg_mr_iova(b.pd, b.buffer, SIZE, 0x7000, ACCESS);
	REQUIRE(moved);
	struct ibv_sge sge;
	struct ibv_send_wr wr = write_request(&a, &b, &sge), *bad;
	strcpy(a.buffer, "moved");
	wr.wr.rdma.rkey = moved->rkey;
	wr.wr.rdma.remote_addr = 0x7010;
	CHECK(!ibv_post_send(a.qp, &wr, &bad));
	CHECK(completion(a.cq).status == IBV_WC_SUCCESS && !strcmp(b.buffer + 0x10, "moved"));
	CHECK(!ibv_dereg_mr(moved));
	/* Other rights, and the same keys: the peer has them. */
	uint32_t rkey = b.mr->rkey;
	CHECK(!ibv_rereg_mr(b.mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, IBV_ACCESS_LOCAL_WRITE));
	CHECK(!ibv_rereg_mr(b.mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, ACCESS) && b.mr->rkey == rkey);
	wr = write_request(&a, &b, &sge);
	wr.wr.rdma.rkey = rkey;
	CHECK(!ibv_post_send(a.qp, &wr, &bad));
	CHECK(completion(a.cq).status == IBV_WC_SUCCESS);
	CHECK(ibv_rereg_mr(b.mr, 0, NULL, NULL, 0, 0) == IBV_REREG_MR_ERR_INPUT);
	/* It may vanish while it is registered: the request fails, the process lives. */
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *vanishing = ibv_reg_mr(a.pd, page, 4096, ACCESS);
	REQUIRE(vanishing);
	munmap(page, 4096);
	wr = write_request(&a, &b, &sge);
	sge = (struct ibv_sge){ .addr = (uintptr_t)page, .length = 8, .lkey = vanishing->lkey };
	CHECK(!ibv_post_send(a.qp, &wr, &bad));
	CHECK(completion(a.cq).status == IBV_WC_LOC_PROT_ERR);
	CHECK(!ibv_dereg_mr(vanishing));
	drop(&a);
	drop(&b);
}

static void a_forked_process_opens_the_device_anew(struct ibv_context *context)
{
	CHECK(ibv_fork_init() == 0);
	fflush(stdout);
	pid_t child = fork();
	if (!child) {
		CHECK(!ibv_alloc_pd(context) && errno == ENODEV);
		struct ibv_context *own = open_device();
		struct end a, b;
		make_pair(&a, &b, own, NULL, 0);
		struct ibv_sge sge;
		struct ibv_send_wr wr = write_request(&a, &b, &sge), *bad;
		CHECK(!ibv_post_send(a.qp, &wr, &bad));
		CHECK(completion(a.cq).status == IBV_WC_SUCCESS);
		drop(&a);
		drop(&b);
		CHECK(!ibv_close_device(own));
		fflush(stdout);
		_exit(failures);
	}
	int status = -1;
	waitpid(child, &status, 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The signals that a thread of this process blocks, as the kernel shows them. */
static unsigned long long blocked(const char *thread)
{
	char path[64], line[256];
	unsigned long long mask = 0;
	snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
	FILE *file = fopen(path, "r");
	while (file && fgets(line, sizeof line, file))
		sscanf(line, "SigBlk: %llx", &mask);
	if (file)
		fclose(file);
	return mask;
}

static void only_the_programs_threads_take_signals(void)
{
	char own[16];
	snprintf(own, sizeof own, "%d", getpid());
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	int others = 0;
	while ((task = readdir(tasks))) {
		if (task->d_name[0] == '.' || !strcmp(task->d_name, own))
			continue;
		others++;
		CHECK(blocked(task->d_name) & (1ull << (SIGTERM - 1)));
	}
	closedir(tasks);
	CHECK(others > 0);
	CHECK(!(blocked(own) & (1ull << (SIGTERM - 1))));
}

/* A queue pair for datagrams, ready, with extended requests if asked for. */
static void make_datagram_end(struct end *end, struct ibv_context *context, int extended)
{
	make_end(end, context, NULL, 0);
	CHECK(!ibv_destroy_qp(end->qp));
	struct ibv_qp_init_attr_ex init = {
		.send_cq = end->cq,
		.recv_cq = end->cq,
		.cap = { .max_send_wr = 8, .max_recv_wr = 8, .max_send_sge = 1, .max_recv_sge = 1 },
		.qp_type = IBV_QPT_UD,
		.comp_mask = IBV_QP_INIT_ATTR_PD,
		.pd = end->pd,
	};
	if (extended) {
		init.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
		init.send_ops_flags = IBV_QP_EX_WITH_RDMA_WRITE;
		CHECK(!ibv_create_qp_ex(context, &init) && errno == EOPNOTSUPP);
		init.send_ops_flags = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM;
	}
	end->qp = ibv_create_qp_ex(context, &init);
	REQUIRE(end->qp);
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = QKEY };
	CHECK(ibv_modify_qp(end->qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS) == EINVAL);
	REQUIRE(!ibv_modify_qp(end->qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY));
	attr.qp_state = IBV_QPS_RTR;
	REQUIRE(!ibv_modify_qp(end->qp, &attr, IBV_QP_STATE));
	attr.qp_state = IBV_QPS_RTS;
	REQUIRE(!ibv_modify_qp(end->qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN));
	struct ibv_sge sge = { .addr = (uintptr_t)end->buffer, .length = SIZE / 2, .lkey = end->mr->lkey };
	struct ibv_recv_wr recv = { .wr_id = 60, .sg_list = &sge, .num_sge = 1 }, *bad;
	REQUIRE(!ibv_post_recv(end->qp, &recv, &bad));
}

/* A datagram there by ibv_post_send, and the answer by ibv_wr_*, to the address that the first one came with. */
static void datagrams_are_answered_by_the_header_that_they_came_with(struct ibv_context *context)
{
	struct end a, b;
	make_datagram_end(&a, context, 0);
	make_datagram_end(&b, context, 1);
	struct ibv_ah_attr to = { .is_global = 1, .grh = { .dgid = b.gid, .hop_limit = 1 }, .port_num = 1 };
	struct ibv_ah *ah = ibv_create_ah(a.pd, &to);
	REQUIRE(ah);
	CHECK(ibv_dealloc_pd(a.pd) == EBUSY);
	strcpy(a.buffer + SIZE / 2, "question");
	struct ibv_sge sge = { .addr = (uintptr_t)a.buffer + SIZE / 2, .length = 9, .lkey = a.mr->lkey };
	struct ibv_send_wr wr = {
		.wr_id = 61,
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_SEND_WITH_IMM,
		.send_flags = IBV_SEND_SIGNALED,
		.imm_data = htobe32(7),
		.wr.ud = { .ah = ah, .remote_qpn = b.qp->qp_num, .remote_qkey = QKEY },
	}, *bad;
	CHECK(!ibv_post_send(a.qp, &wr, &bad));
	CHECK(completion(a.cq).wr_id == 61);
	struct ibv_wc wc = completion(b.cq);
	CHECK(wc.status == IBV_WC_SUCCESS && wc.wr_id == 60 && wc.byte_len == 49 && wc.src_qp == a.qp->qp_num);
	CHECK(wc.wc_flags == (IBV_WC_GRH | IBV_WC_WITH_IMM) && wc.imm_data == htobe32(7));
	/* As network cards have it: a UDP header, and an IPv4 header before it. */
	CHECK(wc.sl == (1 << 3 | 2));
	CHECK(!strcmp(b.buffer + 40, "question"));
	struct ibv_ah *back = ibv_create_ah_from_wc(b.pd, &wc, (struct ibv_grh *)b.buffer, 1);
	REQUIRE(back);
	struct ibv_qp_ex *ex = ibv_qp_to_qp_ex(b.qp);
	REQUIRE(ex);
	ibv_wr_start(ex);
	ex->wr_id = 62;
	ex->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_send(ex);
	ibv_wr_set_ud_addr(ex, back, wc.src_qp, QKEY);
	strcpy(b.buffer + SIZE / 2, "answer");
	ibv_wr_set_sge(ex, b.mr->lkey, (uintptr_t)b.buffer + SIZE / 2, 7);
	CHECK(!ibv_wr_complete(ex));
	CHECK(completion(b.cq).wr_id == 62);
	wc = completion(a.cq);
	CHECK(wc.status == IBV_WC_SUCCESS && wc.byte_len == 47 && !strcmp(a.buffer + 40, "answer"));
	/* Without an address a datagram goes nowhere. */
	ibv_wr_start(ex);
	ibv_wr_send(ex);
	ibv_wr_set_sge(ex, b.mr->lkey, (uintptr_t)b.buffer, 1);
	CHECK(ibv_wr_complete(ex) == EINVAL);
	CHECK(!ibv_destroy_ah(ah) && !ibv_destroy_ah(back));
	drop(&a);
	drop(&b);
}

static void *acknowledge_event_later(void *event)
{
	usleep(100000);
	ibv_ack_async_event(event);
	return NULL;
}

static void a_shared_receive_queue_tells_its_limit_and_waits_for_the_acknowledgement(struct ibv_context *context)
{
	struct end a, b;
	make_end(&a, context, NULL, 0);
	make_end(&b, context, NULL, 0);
	CHECK(!ibv_destroy_qp(b.qp));
	struct ibv_srq_init_attr asked = { .srq_context = &b, .attr = { .max_wr = 4, .max_sge = 1 } };
	struct ibv_srq *srq = ibv_create_srq(b.pd, &asked);
	REQUIRE(srq && srq->srq_context == &b);
	struct ibv_qp_init_attr init = {
		.send_cq = b.cq, .recv_cq = b.cq, .srq = srq, .cap = { .max_send_wr = 1 }, .qp_type = IBV_QPT_RC,
	};
	b.qp = ibv_create_qp(b.pd, &init);
	REQUIRE(b.qp && b.qp->srq == srq);
	CHECK(ibv_destroy_srq(srq) == EBUSY);
	REQUIRE(!to_init(&a) && !to_init(&b));
	connect_to(&a, &b);
	connect_to(&b, &a);
	struct ibv_recv_wr recv[5], *bad_recv = NULL;
	for (int i = 0; i < 5; i++)
		recv[i] = (struct ibv_recv_wr){ .wr_id = 70 + i, .next = i < 4 ? &recv[i + 1] : NULL };
	CHECK(ibv_post_srq_recv(srq, recv, &bad_recv) == ENOMEM && bad_recv == &recv[4]);
	CHECK(ibv_post_recv(b.qp, recv, &bad_recv) == EINVAL && bad_recv == recv);
	struct ibv_srq_attr attr = { .max_wr = 3, .srq_limit = 5 };
	CHECK(ibv_modify_srq(srq, &attr, IBV_SRQ_MAX_WR) == EINVAL);
	CHECK(ibv_modify_srq(srq, &attr, IBV_SRQ_LIMIT) == EINVAL);
	attr.srq_limit = 4;
	CHECK(!ibv_modify_srq(srq, &attr, IBV_SRQ_LIMIT));
	CHECK(!ibv_query_srq(srq, &attr) && attr.max_wr == 4 && attr.max_sge == 1 && attr.srq_limit == 4);
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED }, *bad;
	CHECK(!ibv_post_send(a.qp, &wr, &bad));
	CHECK(completion(a.cq).status == IBV_WC_SUCCESS);
	struct ibv_wc wc = completion(b.cq);
	CHECK(wc.status == IBV_WC_SUCCESS && wc.wr_id == 70 && wc.qp_num == b.qp->qp_num);
	struct ibv_async_event event = { 0 };
	struct pollfd fd = { .fd = context->async_fd, .events = POLLIN };
	for (int i = 0; i < 3 && event.event_type != IBV_EVENT_SRQ_LIMIT_REACHED && poll(&fd, 1, 60000) == 1; i++) {
		REQUIRE(!ibv_get_async_event(context, &event));
		if (event.event_type != IBV_EVENT_SRQ_LIMIT_REACHED)
			ibv_ack_async_event(&event);
	}
	REQUIRE(event.event_type == IBV_EVENT_SRQ_LIMIT_REACHED && event.element.srq == srq);
	pthread_t thread;
	pthread_create(&thread, NULL, acknowledge_event_later, &event);
	CHECK(!ibv_destroy_qp(b.qp));
	CHECK(!ibv_destroy_srq(srq));
	pthread_join(thread, NULL);
	CHECK(!ibv_destroy_cq(b.cq) && !ibv_dereg_mr(b.mr) && !ibv_dealloc_pd(b.pd));
	free(b.buffer);
	drop(&a);
}

static void completion_queues_are_resized_but_not_below_what_they_hold(struct ibv_context *context)
{
	struct end a, b;
	make_pair(&a, &b, context, NULL, 0);
	struct ibv_sge sge;
	struct ibv_send_wr wr = write_request(&a, &b, &sge), *bad;
	for (int i = 0; i < 3; i++)
		CHECK(!ibv_post_send(a.qp, &wr, &bad));
	CHECK(completion(a.cq).status == IBV_WC_SUCCESS);
	CHECK(ibv_resize_cq(a.cq, 1 << 30) == EINVAL && ibv_resize_cq(a.cq, 0) == EINVAL);
	CHECK(!ibv_resize_cq(a.cq, 1000) && a.cq->cqe == 1000);
	CHECK(completion(a.cq).status == IBV_WC_SUCCESS && completion(a.cq).status == IBV_WC_SUCCESS);
	CHECK(!ibv_resize_cq(a.cq, 1) && a.cq->cqe == 1);
	struct ibv_recv_wr recv = { .wr_id = 1 }, *bad_recv;
	for (int i = 0; i < 2; i++)
		CHECK(!ibv_post_recv(a.qp, &recv, &bad_recv));
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	CHECK(!ibv_modify_qp(a.qp, &attr, IBV_QP_STATE));
	CHECK(ibv_resize_cq(a.cq, 1) == EINVAL && !ibv_resize_cq(a.cq, 2));
	drop(&a);
	drop(&b);
}

/* How a WRITE by that key completes. */
static enum ibv_wc_status write_by(struct end *from, struct end *to, uint32_t rkey, int offset)
{
	struct ibv_sge sge;
	struct ibv_send_wr wr = write_request(from, to, &sge), *bad;
	sge.length = 8;
	wr.wr.rdma.rkey = rkey;
	wr.wr.rdma.remote_addr += offset;
	CHECK(!ibv_post_send(from->qp, &wr, &bad));
	return completion(from->cq).status;
}

static void memory_windows_of_both_types_open_and_close(struct ibv_context *context)
{
	struct end a, b;
	make_pair(&a, &b, context, NULL, 0);
	struct ibv_mr *mr = ibv_reg_mr(b.pd, b.buffer, SIZE, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
	REQUIRE(mr);
	struct ibv_mw *one = ibv_alloc_mw(b.pd, IBV_MW_TYPE_1), *two = ibv_alloc_mw(b.pd, IBV_MW_TYPE_2);
	REQUIRE(one && two);
	CHECK(ibv_dealloc_pd(b.pd) == EBUSY);
	struct ibv_mw_bind_info info = {
		.mr = mr, .addr = (uintptr_t)b.buffer + 64, .length = 64, .mw_access_flags = IBV_ACCESS_REMOTE_WRITE,
	};
	struct ibv_mw_bind bind = { .wr_id = 80, .send_flags = IBV_SEND_SIGNALED, .bind_info = info };
	uint32_t before = one->rkey;
	CHECK(!ibv_bind_mw(b.qp, one, &bind) && one->rkey != before);
	struct ibv_wc wc = completion(b.cq);
	CHECK(wc.status == IBV_WC_SUCCESS && wc.opcode == IBV_WC_BIND_MW && wc.wr_id == 80);
	CHECK(write_by(&a, &b, one->rkey, 64) == IBV_WC_SUCCESS);
	CHECK(ibv_bind_mw(b.qp, two, &bind) == EINVAL);
	struct ibv_send_wr wr = {
		.wr_id = 81,
		.opcode = IBV_WR_BIND_MW,
		.send_flags = IBV_SEND_SIGNALED,
		.bind_mw = { .mw = two, .rkey = ibv_inc_rkey(two->rkey), .bind_info = info },
	}, *bad;
	CHECK(!ibv_post_send(b.qp, &wr, &bad));
	CHECK(completion(b.cq).status == IBV_WC_SUCCESS);
	CHECK(write_by(&a, &b, wr.bind_mw.rkey, 64) == IBV_WC_SUCCESS);
	struct ibv_send_wr invalidate = {
		.opcode = IBV_WR_LOCAL_INV, .send_flags = IBV_SEND_SIGNALED, .invalidate_rkey = wr.bind_mw.rkey,
	};
	CHECK(!ibv_post_send(b.qp, &invalidate, &bad));
	wc = completion(b.cq);
	CHECK(wc.status == IBV_WC_SUCCESS && wc.opcode == IBV_WC_LOCAL_INV);
	CHECK(write_by(&a, &b, wr.bind_mw.rkey, 64) == IBV_WC_REM_ACCESS_ERR);
	wr.bind_mw.rkey ^= 0x100;
	CHECK(ibv_post_send(b.qp, &wr, &bad) == EINVAL);
	CHECK(!ibv_dealloc_mw(one) && !ibv_dealloc_mw(two));
	CHECK(!ibv_dereg_mr(mr));
	drop(&a);
	drop(&b);
}

static struct ibv_qp *make_initiator(struct end *end)
{
	struct ibv_qp_init_attr init = {
		.send_cq = end->cq, .cap = { .max_send_wr = 4, .max_send_sge = 1 }, .qp_type = IBV_QPT_XRC_SEND, .sq_sig_all = 1,
	};
	struct ibv_qp *qp = ibv_create_qp(end->pd, &init);
	REQUIRE(qp);
	CHECK(!qp->recv_cq && init.cap.max_recv_wr == 0);
	return qp;
}

static struct ibv_qp *open_target(struct ibv_context *context, struct ibv_xrcd *xrcd, uint32_t number)
{
	struct ibv_qp_open_attr attr = {
		.comp_mask = IBV_QP_OPEN_ATTR_NUM | IBV_QP_OPEN_ATTR_XRCD | IBV_QP_OPEN_ATTR_TYPE,
		.qp_num = number,
		.xrcd = xrcd,
		.qp_type = IBV_QPT_XRC_RECV,
	};
	return ibv_open_qp(context, &attr);
}

/* A SEND of 8 bytes for that shared receive queue: how it completes. */
static enum ibv_wc_status send_to(struct end *from, uint32_t srq_number)
{
	struct ibv_sge sge = { .addr = (uintptr_t)from->buffer, .length = 8, .lkey = from->mr->lkey };
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_SEND, .sg_list = &sge, .num_sge = 1, .qp_type.xrc.remote_srqn = srq_number,
	}, *bad;
	REQUIRE(!ibv_post_send(from->qp, &wr, &bad));
	return completion(from->cq).status;
}

static void domains_of_a_file_are_one_and_their_targets_are_shared(struct ibv_context *context)
{
	struct ibv_device_attr caps;
	CHECK(!ibv_query_device(context, &caps) && caps.device_cap_flags & IBV_DEVICE_XRC);
	struct end a, b;
	make_end(&a, context, NULL, 1);
	make_end(&b, context, NULL, 1);
	CHECK(!ibv_destroy_qp(a.qp) && !ibv_destroy_qp(b.qp));
	FILE *file = tmpfile();
	REQUIRE(file);
	struct ibv_xrcd_init_attr attr = {
		.comp_mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS, .fd = fileno(file), .oflags = 0,
	};
	CHECK(!ibv_open_xrcd(context, &attr) && errno == EAGAIN);
	attr.oflags = O_CREAT;
	struct ibv_xrcd *one = ibv_open_xrcd(context, &attr);
	REQUIRE(one);
	attr.oflags = O_CREAT | O_EXCL;
	CHECK(!ibv_open_xrcd(context, &attr) && errno == EINVAL);
	attr.oflags = 0;
	struct ibv_xrcd *other = ibv_open_xrcd(context, &attr);
	attr.fd = -1;
	struct ibv_xrcd *apart = ibv_open_xrcd(context, &attr);
	REQUIRE(other && apart && other != one);
	attr.comp_mask = IBV_XRCD_INIT_ATTR_FD;
	CHECK(!ibv_open_xrcd(context, &attr) && errno == EINVAL);

	struct ibv_srq_init_attr_ex srq_attr = {
		.attr = { .max_wr = 4, .max_sge = 1 },
		.comp_mask = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD | IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ,
		.srq_type = IBV_SRQT_XRC,
		.pd = b.pd,
		.xrcd = other,
		.cq = b.cq,
	};
	struct ibv_srq *srq = ibv_create_srq_ex(context, &srq_attr);
	uint32_t number = 0;
	REQUIRE(srq);
	CHECK(!ibv_get_srq_num(srq, &number) && number != 0);
	CHECK(ibv_close_xrcd(other) == EBUSY && ibv_destroy_cq(b.cq) == EBUSY);
	struct ibv_srq_init_attr basic_attr = { .attr = { .max_wr = 1, .max_sge = 1 } };
	struct ibv_srq *basic = ibv_create_srq(b.pd, &basic_attr);
	CHECK(basic && ibv_get_srq_num(basic, &number) == EOPNOTSUPP && !ibv_destroy_srq(basic));

	struct ibv_qp_init_attr_ex init = {
		.qp_type = IBV_QPT_XRC_RECV, .comp_mask = IBV_QP_INIT_ATTR_XRCD, .xrcd = one,
	};
	b.qp = ibv_create_qp_ex(context, &init);
	REQUIRE(b.qp);
	CHECK(!b.qp->pd && !b.qp->send_cq && ibv_close_xrcd(one) == EBUSY);
	a.qp = make_initiator(&a);
	REQUIRE(!to_init(&a) && !to_init(&b));
	connect_to(&a, &b);
	connect_to(&b, &a);
	const uint32_t qpn = b.qp->qp_num;
	CHECK(!open_target(context, apart, qpn) && errno == EINVAL);
	struct ibv_qp *again = open_target(context, other, qpn);
	REQUIRE(again);
	CHECK(again->qp_num == qpn && again->state == IBV_QPS_RTS && again != b.qp);
	struct ibv_qp_attr told;
	struct ibv_qp_init_attr made;
	CHECK(!ibv_query_qp(again, &told, IBV_QP_STATE, &made) && made.qp_type == IBV_QPT_XRC_RECV);
	CHECK(told.qp_state == IBV_QPS_RTS && told.dest_qp_num == a.qp->qp_num);
	CHECK(!memcmp(&told.ah_attr.grh.dgid, &a.gid, sizeof a.gid));
	CHECK(!ibv_destroy_qp(b.qp) && !ibv_close_xrcd(one));

	struct ibv_sge sge = { .addr = (uintptr_t)b.buffer + 64, .length = 8, .lkey = b.mr->lkey };
	struct ibv_recv_wr recv = { .wr_id = 5, .sg_list = &sge, .num_sge = 1 }, *bad_recv;
	struct ibv_send_wr nothing = { .opcode = IBV_WR_SEND }, *bad;
	CHECK(ibv_post_recv(a.qp, &recv, &bad_recv) == EINVAL && bad_recv == &recv);
	CHECK(ibv_post_recv(again, &recv, &bad_recv) == EINVAL && bad_recv == &recv);
	CHECK(ibv_post_send(again, &nothing, &bad) == EINVAL && bad == &nothing);
	CHECK(!ibv_post_srq_recv(srq, &recv, &bad_recv));
	strcpy(a.buffer, "by xrc");
	CHECK(send_to(&a, number) == IBV_WC_SUCCESS);
	struct ibv_wc wc = completion(b.cq);
	CHECK(wc.status == IBV_WC_SUCCESS && wc.wr_id == 5 && wc.qp_num == qpn && wc.byte_len == 8);
	CHECK(!strcmp(b.buffer + 64, "by xrc"));

	CHECK(!ibv_destroy_srq(srq));
	CHECK(send_to(&a, number) == IBV_WC_REM_ACCESS_ERR);
	struct ibv_async_event event;
	do {
		REQUIRE(!ibv_get_async_event(context, &event));
		ibv_ack_async_event(&event);
	} while (event.event_type != IBV_EVENT_QP_ACCESS_ERR);
	CHECK(event.element.qp == again);
	CHECK(!ibv_destroy_qp(again) && !ibv_close_xrcd(other) && !ibv_close_xrcd(apart));
	fclose(file);
	b.qp = NULL;
	drop(&a);
	drop(&b);
}

static void multicasts_reach_who_is_attached(struct ibv_context *context)
{
	struct end a, b;
	make_datagram_end(&a, context, 0);
	make_datagram_end(&b, context, 0);
	union ibv_gid group = { .raw = { [10] = 255, 255, 239, 83, 86, 1 } };
	CHECK(ibv_attach_mcast(b.qp, &b.gid, 0) == EINVAL);
	CHECK(ibv_detach_mcast(b.qp, &group, 0) == EINVAL);
	REQUIRE(!ibv_attach_mcast(b.qp, &group, 0));
	CHECK(!ibv_attach_mcast(b.qp, &group, 0));
	CHECK(ibv_destroy_qp(b.qp) == EBUSY);
	struct ibv_ah_attr to = { .is_global = 1, .grh = { .dgid = group, .hop_limit = 1 }, .port_num = 1 };
	struct ibv_ah *ah = ibv_create_ah(a.pd, &to);
	REQUIRE(ah);
	strcpy(a.buffer + SIZE / 2, "to all");
	struct ibv_sge sge = { .addr = (uintptr_t)a.buffer + SIZE / 2, .length = 7, .lkey = a.mr->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.ud = { .ah = ah, .remote_qpn = 0xffffff, .remote_qkey = QKEY },
	}, *bad;
	CHECK(!ibv_post_send(a.qp, &wr, &bad));
	CHECK(completion(a.cq).status == IBV_WC_SUCCESS);
	struct ibv_wc wc = completion(b.cq);
	CHECK(wc.status == IBV_WC_SUCCESS && wc.byte_len == 47 && wc.src_qp == a.qp->qp_num);
	CHECK(!strcmp(b.buffer + 40, "to all") && !memcmp(b.buffer + 36, group.raw + 12, 4));
	CHECK(!ibv_detach_mcast(b.qp, &group, 0) && ibv_detach_mcast(b.qp, &group, 0) == EINVAL);
	CHECK(!ibv_destroy_ah(ah));
	drop(&a);
	drop(&b);
}

int main(void)
{
	alarm(600);
	struct ibv_context *context = open_device();
	CHECK(context->async_fd >= 0 && context->cmd_fd >= 0);
	CHECK(fcntl(context->async_fd, F_GETFD) & FD_CLOEXEC);
	parents_with_children_are_busy(context);
	what_cannot_be_is_refused(context);
	lists_are_posted_as_far_as_they_go(context);
	inline_bytes_are_taken_when_posted(context);
	an_error_flushes_what_is_left_with_its_numbers(context);
	channels_wait_and_count(context);
	a_reset_queue_pair_begins_anew(context);
	memory_may_be_registered_as_it_comes(context);
	datagrams_are_answered_by_the_header_that_they_came_with(context);
	a_shared_receive_queue_tells_its_limit_and_waits_for_the_acknowledgement(context);
	completion_queues_are_resized_but_not_below_what_they_hold(context);
	memory_windows_of_both_types_open_and_close(context);
	domains_of_a_file_are_one_and_their_targets_are_shared(context);
	multicasts_reach_who_is_attached(context);
	only_the_programs_threads_take_signals();
	a_forked_process_opens_the_device_anew(context);
	CHECK(!ibv_close_device(context));
	return failures;
}
