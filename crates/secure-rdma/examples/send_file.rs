//! A file, sent and verified: `send_file FILE COPY`. Sealing proves that each byte is the sender's; the digest, that
//! nothing was lost between the file and the session.

mod common;

use aws_lc_rs::digest::{Context, SHA256};
use common::Pair;
use secure_rdma::Session;
use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};

/// Bytes of a message.
const PIECE: usize = 256 << 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        return Err("send_file FILE COPY".into());
    };
    let Pair { client, server, .. } = Pair::new().await?;
    let (sent, received) = tokio::join!(send(client, &from), receive(server, &to));
    println!("{} bytes, verified", received?);
    sent
}

/// An empty message ends the file; the digest of all comes behind it. The answer says that it was right.
async fn send(mut session: Session, path: &str) -> Result<(), Box<dyn Error>> {
    let (mut file, mut digest, mut piece) = (File::open(path)?, Context::new(&SHA256), vec![0; PIECE]);
    loop {
        let len = file.read(&mut piece)?;
        digest.update(&piece[..len]);
        // Several are under way at a time.
        session.post_send(&piece[..len]).await?;
        if len == 0 {
            break;
        }
    }
    session.send(digest.finish().as_ref()).await?;
    session.recv().await?.ok_or("the receiver has left")?;
    Ok(session.close().await?)
}

/// What isn't whole doesn't get the file's name.
async fn receive(mut session: Session, path: &str) -> Result<u64, Box<dyn Error>> {
    let part = format!("{path}.part");
    let (mut file, mut digest, mut bytes) = (File::create(&part)?, Context::new(&SHA256), 0);
    loop {
        let piece = session.recv().await?.ok_or("the sender has left")?;
        if piece.is_empty() {
            break;
        }
        digest.update(&piece);
        file.write_all(&piece)?;
        bytes += piece.len() as u64;
    }
    let expected = session.recv().await?.ok_or("the sender has left")?;
    if expected != digest.finish().as_ref() {
        return Err("the file was changed".into());
    }
    file.sync_all()?;
    fs::rename(part, path)?;
    session.send(b"verified").await?;
    while session.recv().await?.is_some() {}
    session.close().await?;
    Ok(bytes)
}
