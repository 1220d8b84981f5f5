//! The way to OTA servers: HTTP/1.1 over TLS, one connection for each request.
//!
//! Owns sockets, names, certificates, time limits and sizes. Refuses to decide where to go or what an answer means:
//! redirects come back as they are. RFC 9112 by `hyper`, TLS 1.2 and 1.3 by `rustls`. All cards of a process share
//! one thread; how many requests are under way at once is bounded. Proxies of the environment are not used.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONNECTION, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use protocol::remote::MAX_BODY;
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    runtime::{self, Handle},
    sync::{Semaphore, oneshot},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::Url;

use super::call::{Request, Response};
use crate::trace::{CardTrace, HttpMessage};

/// Requests under way at once, for all cards.
const AT_ONCE: usize = 64;
/// How long one address of a server may take to answer a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Status line and header fields of an answer together, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// Header fields of an answer.
const MAX_FIELDS: usize = 100;
/// Threads for looking up names, at most.
const LOOKUPS: usize = 16;

/// Who vouches for servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The certificates in this PEM file only.
    Pinned(PathBuf),
    /// Those of the operating system.
    System,
    /// Nobody: no server with TLS is reached.
    Nobody,
}

/// Why there is no way to OTA servers.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of certificates.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system's certificates.
    #[error("the system's certificates cannot be read: {0}; --ota-ca FILE names others")]
    System(String),
    /// TLS.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The thread, or what it waits with.
    #[error("the thread for HTTP cannot be made: {0}")]
    Thread(#[from] io::Error),
}

/// The way, for all cards. Ends when dropped, with all that is under way.
#[derive(Debug)]
pub struct Http {
    handle: Handle,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    tls: Arc<ClientConfig>,
    timeout: Duration,
    slots: Semaphore,
}

impl Http {
    /// A way that takes `timeout` for one request and its whole answer at most.
    pub fn new(roots: &Roots, timeout: Duration) -> Result<Self, SetupError> {
        let tls = Arc::new(tls(roots)?);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LOOKUPS)
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("ota".into()).spawn(move || {
            // Told to stop, or nobody is there any more.
            let _ = runtime.block_on(stopped);
            // A look-up that hangs is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            handle,
            shared: Arc::new(Shared {
                tls,
                timeout,
                slots: Semaphore::new(AT_ONCE),
            }),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Sends a request. `reply` is called with the answer, or with why there is none, on another thread.
    pub fn send(
        &self,
        request: Request,
        trace: Option<CardTrace>,
        reply: impl FnOnce(Result<Response, String>) + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        self.handle.spawn(async move {
            // Never closed.
            let _slot = shared.slots.acquire().await;
            let limit = shared.timeout;
            let answer = timeout(limit, exchange(&shared.tls, request, trace)).await;
            reply(
                answer.unwrap_or_else(|_| {
                    Err(format!("no whole answer in {} s", limit.as_secs_f64()))
                }),
            );
        });
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn tls(roots: &Roots) -> Result<ClientConfig, SetupError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store(roots)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Nothing that ties one session to the next, for whoever watches.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn store(roots: &Roots) -> Result<RootCertStore, SetupError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::Nobody => {}
        Roots::Pinned(path) => pinned(&mut store, path).map_err(|why| SetupError::File {
            path: path.clone(),
            why,
        })?,
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                let why = found
                    .errors
                    .first()
                    .map_or("there are none".into(), ToString::to_string);
                return Err(SetupError::System(why));
            }
        }
    }
    Ok(store)
}

/// All certificates of the file, each of which must be good: a CA that is silently left out is found out too late.
fn pinned(store: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| format!("no PEM certificate: {error}"))?;
        store
            .add(certificate)
            .map_err(|error| format!("no CA certificate: {error}"))?;
    }
    if store.is_empty() {
        return Err(
            "no certificate in it; a PEM file with -----BEGIN CERTIFICATE----- is expected".into(),
        );
    }
    Ok(())
}

async fn exchange(
    tls: &Arc<ClientConfig>,
    request: Request,
    trace: Option<CardTrace>,
) -> Result<Response, String> {
    let host = request.url.host_str().unwrap_or_default();
    let port = request.url.port_or_known_default().unwrap_or(443);
    let (stream, at) = connect(host, port).await?;
    let here = stream.local_addr().map_err(|error| error.to_string())?;
    let wire = Wire {
        trace,
        here,
        there: at,
    };
    if request.url.scheme() == "http" {
        return speak(stream, request, wire).await;
    }
    // An IPv6 address has brackets in a URL only.
    let name = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(name).map_err(|error| format!("{host}: {error}"))?;
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| format!("TLS with {host}: {error}"))?;
    speak(stream, request, wire).await
}

/// The first address that answers.
async fn connect(host: &str, port: u16) -> Result<(TcpStream, SocketAddr), String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = lookup_host((bare, port)).await;
    let addresses = addresses.map_err(|error| format!("{host} cannot be looked up: {error}"))?;
    let mut last = format!("{host} has no address");
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small messages, each waited for.
                let _ = stream.set_nodelay(true);
                return Ok((stream, address));
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no connection in {} s", CONNECT.as_secs()),
        }
    }
    Err(last)
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request,
    wire: Wire,
) -> Result<Response, String> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| said(&error))?;
    let connection = tokio::spawn(connection);
    wire.sent(&request);
    let answer = answer(&mut sender, request).await;
    connection.abort();
    if let Ok(answer) = &answer {
        wire.received(answer);
    }
    answer
}

async fn answer(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    request: Request,
) -> Result<Response, String> {
    let response = sender.send_request(http_request(request)?).await;
    let response = response.map_err(|error| said(&error))?;
    let (head, body) = response.into_parts();
    Ok(Response {
        status: head.status.as_u16(),
        headers: fields(&head.headers),
        body: whole(body).await?,
    })
}

fn http_request(request: Request) -> Result<hyper::Request<Full<Bytes>>, String> {
    let url = &request.url;
    let wrong = |error: &dyn std::fmt::Display| format!("{url}: {error}");
    let mut http = hyper::Request::post(target(url))
        .header(HOST, authority(url))
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(request.body)))
        .map_err(|error| wrong(&error))?;
    for (name, value) in request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| wrong(&error))?;
        let value = HeaderValue::from_str(&value).map_err(|error| wrong(&error))?;
        http.headers_mut().append(name, value);
    }
    Ok(http)
}

/// Path and query (RFC 9112, 3.2.1).
fn target(url: &Url) -> String {
    let query = url
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    format!("{}{query}", url.path())
}

/// The value of `Host` (RFC 9110, 7.2).
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What is not text has no meaning here.
fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    headers.iter().filter_map(text).collect()
}

async fn whole(body: Incoming) -> Result<Vec<u8>, String> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(format!("the answer has more than {MAX_BODY} bytes"))
        }
        Err(error) => Err(format!("the answer was cut: {error}")),
    }
}

/// `hyper` keeps what happened behind what it was doing.
fn said(error: &hyper::Error) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Puts a call into the trace, with the addresses it really had.
struct Wire {
    trace: Option<CardTrace>,
    here: SocketAddr,
    there: SocketAddr,
}

impl Wire {
    fn sent(&self, request: &Request) {
        let Some(trace) = &self.trace else { return };
        let host = authority(&request.url);
        let mut headers = vec![("Host", host.as_bytes())];
        let own = request.headers.iter();
        headers.extend(own.map(|(name, value)| (*name, value.as_bytes())));
        let message = HttpMessage {
            start_line: &format!("POST {} HTTP/1.1", target(&request.url)),
            headers: &headers,
            body: &request.body,
        };
        trace.http(self.here, self.there, message);
    }

    fn received(&self, response: &Response) {
        let Some(trace) = &self.trace else { return };
        let headers: Vec<_> = response
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let message = HttpMessage {
            start_line: &format!("HTTP/1.1 {}", response.status),
            headers: &headers,
            body: &response.body,
        };
        trace.http(self.there, self.here, message);
    }
}
