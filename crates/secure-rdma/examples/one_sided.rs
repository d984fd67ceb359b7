//! Writing, reading and counting in the server's memory, of which the server's program notices nothing.

mod common;

use common::Pair;
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Pair { mut client, mut server, .. } = Pair::new().await?;
    println!("a region of {} bytes and {} counters", client.data_len(), client.counters());

    // One after the other: each has been acknowledged by the server's queue pair when it is done.
    client.write(0, b"one").await?;
    println!("{:?}", String::from_utf8(client.read(0, 3).await?));

    // Several under way at a time; they are carried out in this order.
    for number in 0..8_u8 {
        client.post_write(u64::from(number) * 4096, &[number; 4096]).await?;
    }
    for number in 0..8_u64 {
        client.post_read(number * 4096, 4096).await?;
    }
    while let Some(page) = client.next_read().await? {
        print!("{} ", page[4095]);
    }
    println!();

    // Atomic, and in clear: an RDMA device can't add to what is sealed.
    client.fetch_add(0, 5).await?;
    println!("{}", client.fetch_add(0, 5).await?);
    println!("{}", client.compare_swap(0, 10, 42).await?);

    // The server's program looks when it is told to, here by a message: a write that was withheld would be noticed.
    client.send(b"look").await?;
    server.recv().await?;
    println!("{}", server.read_local(7 * 4096, 1).await?[0]);
    Ok(())
}
