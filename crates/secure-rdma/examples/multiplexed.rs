//! Several streams in one session, each with flow control of its own: yamux, on a session's stream.

mod common;

use common::Pair;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use secure_rdma::SessionStream;
use std::error::Error;
use std::future::poll_fn;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, ConnectionError, Mode, Stream};

const STREAMS: usize = 4;

fn connection(stream: SessionStream, mode: Mode) -> Connection<Compat<SessionStream>> {
    Connection::new(stream.compat(), Config::default(), mode)
}

/// Answers on each stream that the peer opens, until it closes the connection.
async fn serve(stream: SessionStream) -> Result<(), ConnectionError> {
    let mut connection = connection(stream, Mode::Server);
    // yamux makes progress while it waits for the next stream.
    while let Some(stream) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
        tokio::spawn(answer(stream?));
    }
    Ok(())
}

async fn answer(mut stream: Stream) -> std::io::Result<()> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    stream.write_all(format!("{} bytes", all.len()).as_bytes()).await?;
    stream.close().await
}

async fn ask(mut stream: Stream, len: usize) -> std::io::Result<String> {
    stream.write_all(&vec![7; len]).await?;
    stream.close().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Pair { client, server, .. } = Pair::new().await?;
    let serving = tokio::spawn(serve(server.into_stream()));
    let mut connection = connection(client.into_stream(), Mode::Client);
    let mut asking = Vec::new();
    for number in 0..STREAMS {
        let stream = poll_fn(|cx| connection.poll_new_outbound(cx)).await?;
        asking.push(tokio::spawn(ask(stream, (number + 1) * 1_000_000)));
    }
    let progress = tokio::spawn(async move {
        // None is opened by the peer: this only makes progress.
        tokio::select! {
            _ = poll_fn(|cx| connection.poll_next_inbound(cx)) => {}
            answers = answers(asking) => for answer in answers? { println!("{answer}") },
        }
        // Whichever side is the last one finds the session ended.
        let _ = poll_fn(|cx| connection.poll_close(cx)).await;
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    });
    progress.await?.map_err(|error| error.to_string())?;
    let _ = serving.await?;
    Ok(())
}

async fn answers(
    asking: Vec<tokio::task::JoinHandle<std::io::Result<String>>>,
) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
    let mut answers = Vec::new();
    for asked in asking {
        answers.push(asked.await??);
    }
    Ok(answers)
}
