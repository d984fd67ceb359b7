//! HTTP over sealed RDMA: hyper's server and client, as they are, on both ends of a session.

mod common;

use common::Pair;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::error::Error;

/// How long the body is that was sent.
async fn measure(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(format!("{} bytes for {path}", body.len()).into()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Pair { client, server, .. } = Pair::new().await?;
    let server = TokioIo::new(server.into_stream());
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(server, service_fn(measure)));

    let client = TokioIo::new(client.into_stream());
    let (mut requests, connection) = hyper::client::conn::http1::handshake(client).await?;
    let connection = tokio::spawn(connection);
    for len in [0, 1, 3_000_000] {
        let body: Full<Bytes> = vec![7; len].into();
        let request = Request::post("/upload").header("host", "localhost").body(body)?;
        let answer = requests.send_request(request).await?.into_body().collect().await?.to_bytes();
        println!("{}", String::from_utf8(answer.to_vec())?);
    }
    drop(requests);
    connection.await??;
    Ok(())
}
