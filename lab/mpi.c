/*
 * What MPI programs do, every byte of it checked: messages between two, collectives, one-sided operations on windows.
 * For lab/compatibility: built by a stock mpicc, run by its mpirun. Any rank that finds a wrong byte says which, and
 * ends the job. The last line of rank 0 says how many bytes were looked at.
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	GUARD = 64, /* bytes behind what is received, that must stay as they were */
	GUARD_BYTE = 0xA5,
	PAGE = 4096, /* windows of other lengths overlap in memory that MPICH 4.0 shares */
};

/* In elements or bytes: what implementations send at once, by their own buffers, and by RDMA, and what isn't even. */
static const int SIZES[] = { 0, 1, 63, 1024, 8193, 65536, 300007, 1048577 };
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

static int rank, ranks;
static long long checked;

static void fail(const char *what, long long at, long long found, long long expected)
{
	fprintf(stderr, "rank %d: %s: at %lld there is %lld, not %lld\n", rank, what, at, found, expected);
	MPI_Abort(MPI_COMM_WORLD, 1);
	exit(1);
}

static void check_value(const char *what, long long at, long long found, long long expected)
{
	checked += sizeof(int64_t);
	if (found != expected)
		fail(what, at, found, expected);
}

static void *allocate(size_t bytes)
{
	void *memory = malloc(bytes + GUARD);
	if (!memory) {
		fprintf(stderr, "rank %d: no memory\n", rank);
		MPI_Abort(MPI_COMM_WORLD, 1);
		exit(1);
	}
	memset(memory, GUARD_BYTE, bytes + GUARD);
	return memory;
}

/* The value at `index` of what `seed` names; splitmix64. */
static uint64_t value(uint64_t seed, uint64_t index)
{
	uint64_t mixed = seed * 0x9E3779B97F4A7C15u + (index + 1) * 0xD1B54A32D192ED03u;
	mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
	mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
	return mixed ^ (mixed >> 31);
}

/* What a number of things names: who sends, to whom, in which round. */
static uint64_t seed_of(int from, int to, int round)
{
	return value((uint64_t)from * 1000003 + (uint64_t)to, (uint64_t)round);
}

static void fill(uint8_t *bytes, size_t length, uint64_t seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(value(seed, i / 8) >> (i % 8 * 8));
}

static void check_bytes(const char *what, const uint8_t *bytes, size_t length, uint64_t seed)
{
	for (size_t i = 0; i < length; i++) {
		uint8_t expected = (uint8_t)(value(seed, i / 8) >> (i % 8 * 8));
		if (bytes[i] != expected)
			fail(what, (long long)i, bytes[i], expected);
	}
	checked += (long long)length;
}

static void check_guard(const char *what, const uint8_t *bytes)
{
	for (size_t i = 0; i < GUARD; i++)
		if (bytes[i] != GUARD_BYTE)
			fail(what, (long long)i, bytes[i], GUARD_BYTE);
}

/* Numbers small enough to be added up. */
static int64_t number(int from, int round, int index)
{
	return (int64_t)(value(seed_of(from, -1, round), (uint64_t)index) & 0xFFFFFFFFFF) - 0x7FFFFFFFFF;
}

static int right(void)
{
	return (rank + 1) % ranks;
}

static int left(void)
{
	return (rank + ranks - 1) % ranks;
}

/* Each rank to its neighbour, all at once. */
static void ring(void)
{
	for (int i = 0; i < SIZE_COUNT; i++) {
		size_t length = (size_t)SIZES[i];
		uint8_t *out = allocate(length), *in = allocate(length);
		fill(out, length, seed_of(rank, right(), i));
		MPI_Status status;
		MPI_Sendrecv(out, (int)length, MPI_BYTE, right(), i, in, (int)length, MPI_BYTE, left(), i,
			     MPI_COMM_WORLD, &status);
		int count;
		MPI_Get_count(&status, MPI_BYTE, &count);
		check_value("ring's length", i, count, (long long)length);
		check_bytes("ring", in, length, seed_of(left(), rank, i));
		check_guard("behind ring", in + length);
		free(out);
		free(in);
	}
}

/* Everyone to everyone, nothing waited for in between, received in the reverse order. */
static void everyone(size_t length)
{
	enum { ROUNDS = 4 };
	int count = ranks * ROUNDS;
	uint8_t **out = allocate((size_t)count * sizeof *out), **in = allocate((size_t)count * sizeof *in);
	MPI_Request *requests = allocate(2 * (size_t)count * sizeof *requests);
	for (int i = count - 1; i >= 0; i--) {
		in[i] = allocate(length);
		MPI_Irecv(in[i], (int)length, MPI_BYTE, i / ROUNDS, i % ROUNDS, MPI_COMM_WORLD, &requests[i]);
	}
	for (int i = 0; i < count; i++) {
		out[i] = allocate(length);
		fill(out[i], length, seed_of(rank, i / ROUNDS, i % ROUNDS));
		MPI_Isend(out[i], (int)length, MPI_BYTE, i / ROUNDS, i % ROUNDS, MPI_COMM_WORLD,
			  &requests[count + i]);
	}
	MPI_Waitall(2 * count, requests, MPI_STATUSES_IGNORE);
	for (int i = 0; i < count; i++) {
		check_bytes("everyone", in[i], length, seed_of(i / ROUNDS, rank, i % ROUNDS));
		check_guard("behind everyone", in[i] + length);
		free(in[i]);
		free(out[i]);
	}
	free(requests);
	free(in);
	free(out);
}

/* Messages of many senders, taken as they come: each sender's in its order. Nothing else may be under way. */
static void from_any_source(void)
{
	enum { EACH = 50 };
	if (rank) {
		for (int i = 0; i < EACH; i++) {
			size_t length = (size_t)(i * 97 % 2000);
			uint8_t *out = allocate(length);
			fill(out, length, seed_of(rank, 0, i));
			MPI_Send(out, (int)length, MPI_BYTE, 0, i, MPI_COMM_WORLD);
			free(out);
		}
		return;
	}
	int *next = allocate((size_t)ranks * sizeof *next);
	memset(next, 0, (size_t)ranks * sizeof *next);
	for (int i = 0; i < EACH * (ranks - 1); i++) {
		MPI_Status status;
		int length;
		MPI_Probe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
		MPI_Get_count(&status, MPI_BYTE, &length);
		int from = status.MPI_SOURCE, round = next[from]++;
		check_value("order of a source's messages", from, status.MPI_TAG, round);
		check_value("length by probe", from, length, round * 97 % 2000);
		uint8_t *in = allocate((size_t)length);
		MPI_Recv(in, length, MPI_BYTE, from, round, MPI_COMM_WORLD, &status);
		check_bytes("from any source", in, (size_t)length, seed_of(from, 0, round));
		check_guard("behind from any source", in + length);
		free(in);
	}
	free(next);
}

/* Many short ones that the receiver hasn't asked for yet, then one that waits until it is taken. */
static void unexpected(void)
{
	enum { EACH = 1000 };
	int64_t *out = allocate(EACH * sizeof *out), in;
	MPI_Request *requests = allocate(EACH * sizeof *requests);
	for (int i = 0; i < EACH; i++) {
		out[i] = number(rank, 7, i);
		MPI_Isend(&out[i], 1, MPI_INT64_T, right(), 7, MPI_COMM_WORLD, &requests[i]);
	}
	MPI_Barrier(MPI_COMM_WORLD);
	for (int i = 0; i < EACH; i++) {
		MPI_Recv(&in, 1, MPI_INT64_T, left(), 7, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		check_value("unexpected", i, in, number(left(), 7, i));
	}
	MPI_Waitall(EACH, requests, MPI_STATUSES_IGNORE);
	free(requests);
	free(out);
	int64_t mine = number(rank, 8, 0);
	MPI_Request request;
	MPI_Irecv(&in, 1, MPI_INT64_T, left(), 8, MPI_COMM_WORLD, &request);
	MPI_Ssend(&mine, 1, MPI_INT64_T, right(), 8, MPI_COMM_WORLD);
	MPI_Wait(&request, MPI_STATUS_IGNORE);
	check_value("synchronous", 0, in, number(left(), 8, 0));
}

/* A column of a matrix, which lies apart; the other columns stay as they were. */
static void columns(void)
{
	enum { ROWS = 3000, COLUMNS = 5, SENT = 1, RECEIVED = 3 };
	int64_t *out = allocate(ROWS * COLUMNS * sizeof *out), *in = allocate(ROWS * COLUMNS * sizeof *in);
	for (int i = 0; i < ROWS * COLUMNS; i++) {
		out[i] = number(rank, 9, i);
		in[i] = -i;
	}
	MPI_Datatype column;
	MPI_Type_vector(ROWS, 1, COLUMNS, MPI_INT64_T, &column);
	MPI_Type_commit(&column);
	MPI_Sendrecv(out + SENT, 1, column, right(), 9, in + RECEIVED, 1, column, left(), 9, MPI_COMM_WORLD,
		     MPI_STATUS_IGNORE);
	for (int i = 0; i < ROWS * COLUMNS; i++)
		check_value("columns", i, in[i],
			    i % COLUMNS == RECEIVED ? number(left(), 9, i - RECEIVED + SENT) : -i);
	MPI_Type_free(&column);
	free(out);
	free(in);
}

/* One has it, all get it: each rank in turn. */
static void broadcasts(void)
{
	for (int i = 0; i < SIZE_COUNT; i++) {
		size_t length = (size_t)SIZES[i];
		int root = i % ranks;
		uint8_t *bytes = allocate(length);
		if (rank == root)
			fill(bytes, length, seed_of(root, -2, i));
		MPI_Bcast(bytes, (int)length, MPI_BYTE, root, MPI_COMM_WORLD);
		check_bytes("Bcast", bytes, length, seed_of(root, -2, i));
		check_guard("behind Bcast", bytes + length);
		free(bytes);
	}
}

/* Sums, largest and running values of everybody's numbers. */
static void reductions(int length)
{
	size_t bytes = (size_t)length * sizeof(int64_t);
	int64_t *mine = allocate(bytes), *sum = allocate(bytes), *most = allocate(bytes), *running = allocate(bytes);
	int64_t *later = allocate(bytes), *part = allocate(bytes);
	int root = length % ranks;
	for (int i = 0; i < length; i++)
		mine[i] = number(rank, length, i);
	MPI_Request request;
	MPI_Iallreduce(mine, later, length, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD, &request);
	MPI_Allreduce(mine, sum, length, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
	MPI_Reduce(mine, most, length, MPI_INT64_T, MPI_MAX, root, MPI_COMM_WORLD);
	MPI_Scan(mine, running, length, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
	MPI_Wait(&request, MPI_STATUS_IGNORE);
	int block = length / ranks;
	MPI_Reduce_scatter_block(mine, part, block, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
	for (int i = 0; i < length; i++) {
		int64_t total = 0, largest = INT64_MIN, until = 0;
		for (int from = 0; from < ranks; from++) {
			int64_t its = number(from, length, i);
			total += its;
			largest = its > largest ? its : largest;
			until += from <= rank ? its : 0;
		}
		check_value("Allreduce", i, sum[i], total);
		check_value("Iallreduce", i, later[i], total);
		check_value("Scan", i, running[i], until);
		if (rank == root)
			check_value("Reduce", i, most[i], largest);
		if (i / (block ? block : 1) == rank && block)
			check_value("Reduce_scatter_block", i, part[i % block], total);
	}
	free(mine);
	free(sum);
	free(most);
	free(running);
	free(later);
	free(part);
}

/* A part for each, and a part of each. */
static void parts(int length)
{
	size_t all = (size_t)length * (size_t)ranks;
	uint8_t *out = allocate(all), *in = allocate(all), *part = allocate((size_t)length);
	for (int to = 0; to < ranks; to++)
		fill(out + to * length, (size_t)length, seed_of(rank, to, length));

	MPI_Alltoall(out, length, MPI_BYTE, in, length, MPI_BYTE, MPI_COMM_WORLD);
	for (int from = 0; from < ranks; from++)
		check_bytes("Alltoall", in + from * length, (size_t)length, seed_of(from, rank, length));
	check_guard("behind Alltoall", in + all);

	int root = length % ranks;
	MPI_Scatter(out, length, MPI_BYTE, part, length, MPI_BYTE, root, MPI_COMM_WORLD);
	check_bytes("Scatter", part, (size_t)length, seed_of(root, rank, length));
	check_guard("behind Scatter", part + length);

	memset(in, 0, all);
	MPI_Allgather(part, length, MPI_BYTE, in, length, MPI_BYTE, MPI_COMM_WORLD);
	for (int of = 0; of < ranks; of++)
		check_bytes("Allgather", in + of * length, (size_t)length, seed_of(root, of, length));

	memset(in, 0, all);
	MPI_Gather(out + root * length, length, MPI_BYTE, in, length, MPI_BYTE, root, MPI_COMM_WORLD);
	for (int from = 0; from < ranks && rank == root; from++)
		check_bytes("Gather", in + from * length, (size_t)length, seed_of(from, root, length));
	check_guard("behind Gather", in + all);
	free(out);
	free(in);
	free(part);
}

/* Each pair exchanges another length, none in some cases. */
static void uneven_parts(void)
{
	int *counts = allocate((size_t)ranks * sizeof *counts), *places = allocate((size_t)ranks * sizeof *places);
	int total = 0;
	for (int peer = 0; peer < ranks; peer++) {
		counts[peer] = (rank + peer) % 3 * 10007;
		places[peer] = total;
		total += counts[peer];
	}
	uint8_t *out = allocate((size_t)total), *in = allocate((size_t)total);
	for (int peer = 0; peer < ranks; peer++)
		fill(out + places[peer], (size_t)counts[peer], seed_of(rank, peer, 11));
	MPI_Alltoallv(out, counts, places, MPI_BYTE, in, counts, places, MPI_BYTE, MPI_COMM_WORLD);
	for (int peer = 0; peer < ranks; peer++)
		check_bytes("Alltoallv", in + places[peer], (size_t)counts[peer], seed_of(peer, rank, 11));
	check_guard("behind Alltoallv", in + total);
	free(out);
	free(in);
	free(counts);
	free(places);
}

/* Puts and gets between fences: everyone writes a part of everyone's memory, and reads it back. */
static void put_and_get(int length)
{
	size_t all = (size_t)length * (size_t)ranks;
	uint8_t *window, *out = allocate((size_t)length), *in = allocate((size_t)length);
	MPI_Win win;
	MPI_Aint room = (MPI_Aint)((all + GUARD + PAGE - 1) / PAGE * PAGE);
	MPI_Win_allocate(room, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &window, &win);
	memset(window, GUARD_BYTE, all + GUARD);
	MPI_Win_fence(0, win);
	for (int to = 0; to < ranks; to++) {
		fill(out, (size_t)length, seed_of(rank, to, length));
		MPI_Put(out, length, MPI_BYTE, to, (MPI_Aint)rank * length, length, MPI_BYTE, win);
		MPI_Win_fence(0, win);
	}
	for (int from = 0; from < ranks; from++)
		check_bytes("Put", window + from * length, (size_t)length, seed_of(from, rank, length));
	check_guard("behind Put", window + all);
	MPI_Win_fence(0, win);
	int of = right(), by = left();
	MPI_Get(in, length, MPI_BYTE, of, (MPI_Aint)by * length, length, MPI_BYTE, win);
	MPI_Win_fence(0, win);
	check_bytes("Get", in, (size_t)length, seed_of(by, of, length));
	check_guard("behind Get", in + length);
	MPI_Win_free(&win);
	free(out);
	free(in);
}

/* Accumulates of everyone into everyone's memory at once: none is lost. */
static void accumulate(int length)
{
	size_t bytes = (size_t)length * sizeof(int64_t);
	int64_t *window = allocate(bytes), *mine = allocate(bytes);
	for (int i = 0; i < length; i++) {
		window[i] = number(rank, 12, i);
		mine[i] = number(rank, 13, i);
	}
	MPI_Win win;
	MPI_Win_create(window, (MPI_Aint)bytes, sizeof(int64_t), MPI_INFO_NULL, MPI_COMM_WORLD, &win);
	MPI_Win_fence(0, win);
	for (int to = 0; to < ranks; to++)
		MPI_Accumulate(mine, length, MPI_INT64_T, to, 0, length, MPI_INT64_T, MPI_SUM, win);
	MPI_Win_fence(0, win);
	for (int i = 0; i < length; i++) {
		int64_t total = number(rank, 12, i);
		for (int from = 0; from < ranks; from++)
			total += number(from, 13, i);
		check_value("Accumulate", i, window[i], total);
	}
	check_guard("behind Accumulate", (uint8_t *)window + bytes);
	MPI_Win_free(&win);
	free(window);
	free(mine);
}

/* Locks, atomic counters and a compare-and-swap, while the target does nothing. */
static void passive_target(void)
{
	enum { TURNS = 50, COUNTER = 0, SHARED, CLAIMED };
	int64_t *window, one = 1, before, last = -1, none = 0, own = rank + 1, final;
	MPI_Win win;
	MPI_Win_allocate(PAGE, sizeof *window, MPI_INFO_NULL, MPI_COMM_WORLD, &window, &win);
	memset(window, 0, PAGE);
	MPI_Barrier(MPI_COMM_WORLD);
	for (int i = 0; i < TURNS; i++) {
		MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, win);
		MPI_Fetch_and_op(&one, &before, MPI_INT64_T, 0, COUNTER, MPI_SUM, win);
		MPI_Win_unlock(0, win);
		if (before <= last || before >= (int64_t)TURNS * ranks)
			fail("Fetch_and_op", i, before, last + 1);
		last = before;
		/* Read, add, write: whole only if the lock keeps the others out. */
		MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
		MPI_Get(&before, 1, MPI_INT64_T, 0, SHARED, 1, MPI_INT64_T, win);
		MPI_Win_flush(0, win);
		before += own;
		MPI_Put(&before, 1, MPI_INT64_T, 0, SHARED, 1, MPI_INT64_T, win);
		MPI_Win_unlock(0, win);
	}
	MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, win);
	MPI_Compare_and_swap(&own, &none, &before, MPI_INT64_T, 0, CLAIMED, win);
	MPI_Win_unlock(0, win);
	MPI_Barrier(MPI_COMM_WORLD);
	MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, win);
	MPI_Get(&final, 1, MPI_INT64_T, 0, COUNTER, 1, MPI_INT64_T, win);
	MPI_Win_flush(0, win);
	check_value("Fetch_and_op's sum", 0, final, (long long)TURNS * ranks);
	MPI_Get(&final, 1, MPI_INT64_T, 0, SHARED, 1, MPI_INT64_T, win);
	MPI_Win_flush(0, win);
	check_value("sum under exclusive locks", 0, final, (long long)TURNS * ranks * (ranks + 1) / 2);
	MPI_Get(&final, 1, MPI_INT64_T, 0, CLAIMED, 1, MPI_INT64_T, win);
	MPI_Win_unlock(0, win);
	check_value("Compare_and_swap", rank, before, before == 0 ? 0 : final);
	if (before == 0)
		check_value("Compare_and_swap's winner", rank, final, own);
	int64_t won = before == 0, winners;
	MPI_Allreduce(&won, &winners, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
	check_value("Compare_and_swap's winners", 0, winners, 1);
	MPI_Win_free(&win);
}

/* Only the neighbours agree on when memory is open. */
static void neighbours(void)
{
	enum { LENGTH = 20011, ROOM = 5 * PAGE };
	uint8_t *window, *out = allocate(LENGTH);
	MPI_Win win;
	MPI_Group world, source, target;
	int from = left(), to = right();
	MPI_Comm_group(MPI_COMM_WORLD, &world);
	MPI_Group_incl(world, 1, &from, &source);
	MPI_Group_incl(world, 1, &to, &target);
	MPI_Win_allocate(ROOM, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &window, &win);
	for (int round = 0; round < 3; round++) {
		memset(window, GUARD_BYTE, LENGTH + GUARD);
		fill(out, LENGTH, seed_of(rank, to, round));
		MPI_Win_post(source, 0, win);
		MPI_Win_start(target, 0, win);
		MPI_Put(out, LENGTH, MPI_BYTE, to, 0, LENGTH, MPI_BYTE, win);
		MPI_Win_complete(win);
		MPI_Win_wait(win);
		check_bytes("Put to a neighbour", window, LENGTH, seed_of(from, rank, round));
		check_guard("behind Put to a neighbour", window + LENGTH);
	}
	MPI_Win_free(&win);
	MPI_Group_free(&world);
	MPI_Group_free(&source);
	MPI_Group_free(&target);
	free(out);
}

int main(int count, char **words)
{
	MPI_Init(&count, &words);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &ranks);

	ring();
	everyone(1000);
	everyone(100003);
	from_any_source();
	MPI_Barrier(MPI_COMM_WORLD);
	unexpected();
	columns();

	broadcasts();
	reductions(1);
	reductions(1000);
	reductions(50021);
	parts(5);
	parts(4096);
	parts(100003);
	uneven_parts();

	put_and_get(8);
	put_and_get(100003);
	accumulate(1);
	accumulate(20011);
	passive_target();
	neighbours();

	long long all;
	MPI_Reduce(&checked, &all, 1, MPI_LONG_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
	if (rank == 0)
		printf("%d ranks: %lld bytes as they should be\n", ranks, all);
	MPI_Finalize();
	return 0;
}
