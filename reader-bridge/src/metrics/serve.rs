//! The address at which metrics and health are read: HTTP/1.1 (RFC 9112), GET only.
//!
//! Owns its thread and its bounds: a reader that says nothing loses its connection, and more readers than
//! [`MAX_CONNECTIONS`] wait. Refuses to know what is counted.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{Semaphore, oneshot},
    time,
};

use super::Metrics;

/// Readers at a time.
const MAX_CONNECTIONS: usize = 32;
/// For a request's header to come.
const HEADER: Duration = Duration::from_secs(5);
/// For a whole connection, however many requests it carries.
const CONNECTION: Duration = Duration::from_secs(300);
/// Between two foldings of what was measured.
const UPKEEP: Duration = Duration::from_secs(5);
/// After a connection could not be taken: out of descriptors, perhaps.
const RETRY: Duration = Duration::from_millis(500);

/// Prometheus's text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `address` (port 0: any), and serves what `metrics` has counted.
    pub fn start(address: SocketAddr, metrics: Arc<Metrics>) -> io::Result<Self> {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("metrics".into())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(listener, metrics, stopped)) {
                    tracing::error!(%error, "metrics are no longer served");
                }
            })?;
        tracing::info!("metrics are at http://{address}/metrics");
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Until the sender of `stopped` is dropped. What still runs then ends with the runtime.
async fn serve(
    listener: StdListener,
    metrics: Arc<Metrics>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    tokio::spawn(upkeep(Arc::clone(&metrics)));
    tokio::spawn(accept(listener, metrics));
    // An error says that the sender is gone: that is the sign.
    let _ = stopped.await;
    Ok(())
}

async fn upkeep(metrics: Arc<Metrics>) {
    loop {
        time::sleep(UPKEEP).await;
        metrics.upkeep();
    }
}

async fn accept(listener: TcpListener, metrics: Arc<Metrics>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = Arc::clone(&metrics);
                tokio::spawn(async move {
                    let _place = place;
                    converse(stream, metrics).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a reader of metrics is not taken");
                time::sleep(RETRY).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, metrics: Arc<Metrics>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .serve_connection(TokioIo::new(stream), service);
    match time::timeout(CONNECTION, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a reader of metrics"),
    }
}

fn answer(method: &Method, path: &str, metrics: &Metrics) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into());
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    match path {
        "/metrics" => with(StatusCode::OK, METRICS, metrics.render()),
        // Whoever reads this has shown it already: this process is alive.
        "/healthz" => plain(StatusCode::OK, "ok\n".into()),
        "/readyz" => readiness(metrics.working()),
        _ => plain(
            StatusCode::NOT_FOUND,
            "/metrics, /healthz or /readyz\n".into(),
        ),
    }
}

/// Ready is a bridge that serves a card.
fn readiness((working, all): (usize, usize)) -> Response<Full<Bytes>> {
    let status = if working > 0 {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    plain(status, format!("{working} of {all} cards work\n"))
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    with(status, TEXT, text)
}

fn with(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
