//! gRPC over sealed RDMA: tonic's health service and its client, as they are, on both ends of a session.

mod common;

use common::Pair;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::error::Error;
use std::io;
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tonic_health::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Pair { client, server, .. } = Pair::new().await?;

    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("storage", ServingStatus::Serving).await;
    let service = TowerToHyperService::new(Routes::new(health).prepare());
    let serving = tokio::spawn(async move {
        let connection = TokioIo::new(server.into_stream());
        auto::Builder::new(TokioExecutor::new()).http2_only().serve_connection(connection, service).await
    });

    // A program that connects anew after a failure makes another session here.
    let mut session = Some(client);
    let connector = tower::service_fn(move |_| {
        let session = session.take().ok_or_else(|| io::Error::other("there is one session only"));
        async { session.map(|session| TokioIo::new(session.into_stream())) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await?;
    let mut health = HealthClient::new(channel);
    for service in ["storage", "network"] {
        match health.check(HealthCheckRequest { service: service.into() }).await {
            Ok(answer) => println!("{service}: {:?}", answer.into_inner().status()),
            Err(status) => println!("{service}: {:?}", status.code()),
        }
    }
    drop(health);
    // The client has gone, without a word to the session: all that matters was said.
    let _ = serving.await?;
    Ok(())
}
