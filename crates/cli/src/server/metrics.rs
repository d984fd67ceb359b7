//! What an operator's Prometheus reads: `--metrics ADDR:PORT`.

use super::departure::Departure;
use crate::failure::Failure;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use rdma_verbs::Device;
use secure_rdma::SessionError;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at a time: a Prometheus or two, and somebody who looks.
const READERS: usize = 8;

/// How long one may take to ask.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// And how long it may stay in all.
const STAY_LIMIT: Duration = Duration::from_secs(60);

/// What is counted.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    clients: Gauge,
    handshakes: Family<Outcome, Counter>,
    departures: Family<Outcome, Counter>,
    messages: Counter,
    bytes: Counter,
    file_bytes_read: Counter,
    file_bytes_written: Counter,
    refused_requests: Counter,
    forged: Counter,
    setup: Histogram,
    stay: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Metrics {
    pub(super) fn new(device: Arc<Device>) -> Arc<Self> {
        let mut registry = Registry::with_prefix("secure_rdma");
        let metrics = Self {
            clients: Gauge::default(),
            handshakes: Family::default(),
            departures: Family::default(),
            messages: Counter::default(),
            bytes: Counter::default(),
            file_bytes_read: Counter::default(),
            file_bytes_written: Counter::default(),
            refused_requests: Counter::default(),
            forged: Counter::default(),
            setup: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            stay: Histogram::new(exponential_buckets(0.1, 4.0, 12)),
            registry: Registry::default(),
        };
        registry.register("clients", "Sessions that are open", metrics.clients.clone());
        registry.register("handshakes", "Connections, by what became of them", metrics.handshakes.clone());
        registry.register("departures", "Sessions that have ended, by how", metrics.departures.clone());
        registry.register(
            "messages",
            "Messages echoed, of sessions that have ended",
            metrics.messages.clone(),
        );
        registry.register_with_unit(
            "messages",
            "Bytes of these messages",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        registry.register_with_unit(
            "files_read",
            "Bytes of files that clients got, of sessions that have ended",
            Unit::Bytes,
            metrics.file_bytes_read.clone(),
        );
        registry.register_with_unit(
            "files_written",
            "Bytes of files that clients put, of sessions that have ended",
            Unit::Bytes,
            metrics.file_bytes_written.clone(),
        );
        registry.register(
            "refused_requests",
            "Requests of clients that their queue pairs refused, of sessions that have ended",
            metrics.refused_requests.clone(),
        );
        registry.register(
            "authentication_failures",
            "Sealed sessions that ended because what came over the data path was not authentic, or not all of it came",
            metrics.forged.clone(),
        );
        registry.register_with_unit(
            "setup",
            "From the TCP connection to an open session",
            Unit::Seconds,
            metrics.setup.clone(),
        );
        registry.register_with_unit(
            "session",
            "How long sessions lasted",
            Unit::Seconds,
            metrics.stay.clone(),
        );
        registry.register_collector(Box::new(Counters(device)));
        Arc::new(Self { registry, ..metrics })
    }

    pub(super) fn arrived(&self, setup: Duration) {
        self.clients.inc();
        self.handshake("opened");
        self.setup.observe(setup.as_secs_f64());
    }

    pub(super) fn refused(&self, error: &SessionError) {
        self.handshake(match error {
            SessionError::Crowded => "crowded_out",
            SessionError::NoHello(_) => "silent",
            SessionError::Tls(_) => "tls_failed",
            SessionError::Full { .. } => "full",
            SessionError::Quota { .. } => "quota",
            SessionError::NotListed { .. } | SessionError::Withdrawn(_) => "not_allowed",
            SessionError::TimedOut { .. } => "timed_out",
            _ => "failed",
        });
    }

    /// Connections were refused that nobody had the time to hear of.
    pub(super) fn untold(&self, count: u64) {
        if count > 0 {
            self.handshakes.get_or_create(&Outcome { outcome: "untold" }).inc_by(count);
        }
    }

    pub(super) fn left(&self, departure: &Departure) {
        let Departure { stayed, visit, naks, .. } = departure;
        self.clients.dec();
        let outcome = departure.outcome();
        if outcome == "not_authentic" {
            self.forged.inc();
        }
        self.departures.get_or_create(&Outcome { outcome }).inc();
        self.messages.inc_by(visit.echoed.messages);
        self.bytes.inc_by(visit.echoed.bytes);
        let moved = visit.moved.unwrap_or_default();
        self.file_bytes_read.inc_by(moved.bytes_read);
        self.file_bytes_written.inc_by(moved.bytes_written);
        self.refused_requests.inc_by(*naks);
        self.stay.observe(stayed.as_secs_f64());
    }

    fn handshake(&self, outcome: &'static str) {
        self.handshakes.get_or_create(&Outcome { outcome }).inc();
    }

    fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// What the device counts, as it counts it: packets, bytes, retransmissions, what it refused and why.
#[derive(Debug)]
struct Counters(Arc<Device>);

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut encoder =
            encoder.encode_descriptor("device", "What the RDMA device counts", None, MetricType::Counter)?;
        for (name, count) in self.0.counters() {
            let labels = [("counter", name.as_ref())];
            ConstCounter::new(count).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Answers whoever asks at `address`; returns where that is.
pub(super) async fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> Result<SocketAddr, Failure> {
    const WHAT: &str = "listening for readers of metrics (--metrics)";
    let listener = TcpListener::bind(address).await.map_err(Failure::system(WHAT))?;
    let address = listener.local_addr().map_err(Failure::system(WHAT))?;
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(READERS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let metrics = Arc::clone(&metrics);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(&request, &metrics);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(ASK_LIMIT).max_buf_size(16 << 10);
                let connection = http.serve_connection(TokioIo::new(stream), service);
                // Whatever goes wrong is the reader's affair.
                let _ = tokio::time::timeout(STAY_LIMIT, connection).await;
                drop(place);
            });
        }
    });
    Ok(address)
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics" | "/") => match metrics.text() {
            Ok(text) => (StatusCode::OK, text),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        },
        (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, "it is at /metrics\n".into()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind =
        hyper::header::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::departure::End;
    use crate::server::visit::Visit;
    use rdma_verbs::DeviceSelector;
    use secure_rdma::SealedBy;

    #[test]
    fn what_is_missing_in_clear_is_no_failure_of_authentication() {
        let selector = DeviceSelector::Embedded { address: None, port: None };
        let metrics = Metrics::new(Device::open(&selector).unwrap());
        let cut_off = || SessionError::Truncated { who: "the peer", sent: 2, arrived: 1 };
        for sealed in [SealedBy::Nothing, SealedBy::Messages, SealedBy::Messages] {
            let (stayed, visit) = (Duration::ZERO, Visit::default());
            metrics.left(&Departure {
                number: 1,
                sealed,
                stayed,
                visit,
                naks: 0,
                end: End::Failed(cut_off()),
            });
        }
        let text = metrics.text().unwrap();
        for line in [
            "secure_rdma_departures_total{outcome=\"truncated\"} 1",
            "secure_rdma_departures_total{outcome=\"not_authentic\"} 2",
            "secure_rdma_authentication_failures_total 2",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
