//! A key-value store in remote memory: the clients do all the work, one-sided, and the server's program none. It is a
//! hash table of 256-byte buckets with linear probing; a bucket is a key's and a value's length, the key, the value.

mod common;

use common::Pair;
use secure_rdma::{Session, SessionError};
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};

const BUCKET: usize = 256;

struct Store {
    session: Session,
    buckets: u64,
}

impl Store {
    fn new(session: Session) -> Self {
        Self { buckets: session.data_len() / BUCKET as u64, session }
    }

    /// Where `key` is, or would be, and its value.
    async fn find(&mut self, key: &str) -> Result<(u64, Option<String>), SessionError> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let mut bucket = hasher.finish() % self.buckets;
        loop {
            let at = bucket * BUCKET as u64;
            let bytes = self.session.read(at, BUCKET).await?;
            let (key_len, value_len) = (usize::from(bytes[0]), usize::from(bytes[1]));
            if key_len == 0 {
                return Ok((at, None));
            }
            let (found, rest) = bytes[2..].split_at(key_len);
            if found == key.as_bytes() {
                return Ok((at, Some(String::from_utf8_lossy(&rest[..value_len]).into_owned())));
            }
            bucket = (bucket + 1) % self.buckets;
        }
    }

    async fn put(&mut self, key: &str, value: &str) -> Result<(), Box<dyn Error>> {
        if key.is_empty() || key.len() + value.len() > BUCKET - 2 {
            return Err("a key and its value have 254 bytes at most".into());
        }
        let (at, _) = self.find(key).await?;
        let lengths = [u8::try_from(key.len())?, u8::try_from(value.len())?];
        Ok(self.session.write(at, &[&lengths, key.as_bytes(), value.as_bytes()].concat()).await?)
    }

    async fn get(&mut self, key: &str) -> Result<Option<String>, SessionError> {
        Ok(self.find(key).await?.1)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The server's end has to be there, and nothing else.
    let Pair { client, server: _served, .. } = Pair::new().await?;
    let mut store = Store::new(client);
    for number in 0..100 {
        store.put(&format!("key {number}"), &format!("value {number}")).await?;
    }
    store.put("key 7", "another value").await?;
    println!("{:?}", store.get("key 7").await?);
    println!("{:?}", store.get("key 99").await?);
    println!("{:?}", store.get("key 100").await?);
    Ok(())
}
