// Memory that a peer may write is never a Rust reference.
use rdma_verbs::MemoryRegion;

fn look(region: &MemoryRegion) -> u8 {
    let bytes: &[u8] = region.as_ref();
    bytes[0]
}

fn main() {}
