"""A program of the Python package `ibverbs` (PyPI): two reliable connections of one process to each other, by which it
sends, writes, reads and adds, waits by a completion channel, and looks at every byte. Exits with 0 if all was right."""

import ctypes
import select

import ibverbs as ib

SIZE = 100_000
ACCESS = (
    ib.AccessFlags.LOCAL_WRITE
    | ib.AccessFlags.REMOTE_WRITE
    | ib.AccessFlags.REMOTE_READ
    | ib.AccessFlags.REMOTE_ATOMIC
)


class End:
    def __init__(self, context):
        self.domain = context.alloc_pd()
        self.channel = context.create_comp_channel()
        self.queue = context.create_cq(64, channel=self.channel)
        self.memory = ctypes.create_string_buffer(SIZE)
        self.region = self.domain.reg_mr(ctypes.addressof(self.memory), SIZE, ACCESS)
        self.pair = self.domain.create_qp(ib.QPInitAttr(send_cq=self.queue, recv_cq=self.queue, max_inline_data=64))
        self.address = ib.local_qp_info(self.pair, context.query_port(1), context.query_gid(1, 0), port=1, psn=7)

    def complete(self):
        """The next completion, waited for by the channel."""
        while True:
            self.queue.req_notify()
            found = self.queue.poll(1)
            if found:
                found[0].raise_for_status()
                return found[0]
            assert select.select([self.channel.fd], [], [], 60)[0], "nothing completes"
            self.channel.get_cq_event()
            self.queue.ack_events(1)

    def post(self, opcode, length=SIZE, **rest):
        element = ib.SGE(self.region, length)
        self.pair.post_send(
            ib.SendWR(wr_id=1, sg_list=[element], opcode=opcode, send_flags=ib.SendFlags.SIGNALED, **rest)
        )


def fill(end, seed):
    end.memory.raw = bytes((at * seed) % 251 for at in range(SIZE))
    return end.memory.raw


context = ib.get_device_list()[0].open()
one, other = End(context), End(context)
for end, peer in [(one, other), (other, one)]:
    ib.connect_rc(end.pair, peer.address, port=1, sgid_index=0, access=ACCESS, local_psn=7)
there = {"remote_addr": other.region.addr, "rkey": other.region.rkey}

message = fill(one, 3)
other.pair.post_recv(ib.RecvWR(wr_id=2, sg_list=[ib.SGE(other.region, SIZE)]))
one.post(ib.WROpcode.SEND_WITH_IMM, imm_data=77)
received = other.complete()
assert (received.wr_id, received.byte_len, received.imm_data) == (2, SIZE, 77), received
assert one.complete().wr_id == 1 and other.memory.raw == message

message = fill(one, 5)
one.post(ib.WROpcode.RDMA_WRITE, **there)
one.complete()
assert other.memory.raw == message

message = fill(other, 7)
one.post(ib.WROpcode.RDMA_READ, **there)
one.complete()
assert one.memory.raw == message

before = int.from_bytes(other.memory.raw[:8], "little")
one.post(ib.WROpcode.ATOMIC_FETCH_AND_ADD, 8, compare_add=41, **there)
one.complete()
assert int.from_bytes(one.memory.raw[:8], "little") == before
assert int.from_bytes(other.memory.raw[:8], "little") == (before + 41) % 2**64

one.post(ib.WROpcode.ATOMIC_CMP_AND_SWP, 8, compare_add=(before + 41) % 2**64, swap=12, **there)
one.complete()
assert int.from_bytes(other.memory.raw[:8], "little") == 12

# What isn't the peer's to reach ends the connection, and says so.
one.post(ib.WROpcode.RDMA_WRITE, remote_addr=other.region.addr + 1, rkey=other.region.rkey)
try:
    one.complete()
    raise AssertionError("it was written")
except ib.CompletionError as error:
    print("refused as it should be:", error)
