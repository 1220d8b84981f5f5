//! The command line's end of the admin socket.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use reqwest::blocking::{Client, RequestBuilder};
use serde::de::DeserializeOwned;

use super::api::{Imported, MessageView, NewMessage, Problem, Status, SubscriptionView};

/// Why the server did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no server answers on {path}: start one with `gts-mock serve`, or name its socket with --socket ({reason})"
    )]
    NoServer {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Somebody else's socket: keys would go to them.
    #[error("{path} belongs to another user: name the server's own socket with --socket")]
    Foreign {
        /// The socket.
        path: PathBuf,
    },
    /// The server says why not.
    #[error("{0}")]
    Refused(String),
    /// The answer cannot be understood.
    #[error(
        "the server on {path} answers in a way that this version does not understand: {reason}"
    )]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A connection to a running server.
pub struct AdminClient {
    http: Client,
    path: PathBuf,
}

impl AdminClient {
    /// Prepares to talk to the server behind this socket.
    pub fn new(path: &Path) -> Result<Self, ClientError> {
        let path = path.to_path_buf();
        if is_foreign(&path) {
            return Err(ClientError::Foreign { path });
        }
        // An import of millions of lines takes as long as it takes.
        let http = Client::builder()
            .unix_socket(path.clone())
            .timeout(None)
            .build();
        match http {
            Ok(http) => Ok(Self { http, path }),
            Err(error) => Err(ClientError::NoServer {
                path,
                reason: error.to_string(),
            }),
        }
    }

    /// How the server is doing.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.ask(self.http.get(url(&["status"])))
    }

    /// The references of all subscriptions, sorted.
    pub fn subscriptions(&self) -> Result<Vec<String>, ClientError> {
        self.ask(self.http.get(url(&["subscriptions"])))
    }

    /// Imports a CSV file.
    pub fn import(&self, csv: Vec<u8>) -> Result<Imported, ClientError> {
        self.ask(self.http.post(url(&["subscriptions", "import"])).body(csv))
    }

    /// One subscription with its messages.
    pub fn subscription(&self, reference: &str) -> Result<SubscriptionView, ClientError> {
        self.ask(self.http.get(url(&["subscriptions", reference])))
    }

    /// Queues a message.
    pub fn queue(&self, reference: &str, message: &NewMessage) -> Result<MessageView, ClientError> {
        let request = self
            .http
            .post(url(&["subscriptions", reference, "messages"]));
        self.ask(request.json(message))
    }

    /// Cancels a message.
    pub fn cancel(&self, reference: &str, id: u32) -> Result<MessageView, ClientError> {
        let id = id.to_string();
        self.ask(
            self.http
                .delete(url(&["subscriptions", reference, "messages", &id])),
        )
    }

    fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let path = || self.path.clone();
        let no_server = |error: &reqwest::Error| ClientError::NoServer {
            path: path(),
            reason: innermost(error),
        };
        let bad_answer = |reason: String| ClientError::Answer {
            path: path(),
            reason,
        };
        let response = request.send().map_err(|error| no_server(&error))?;
        let refused = response.status().is_client_error() || response.status().is_server_error();
        let body = response
            .bytes()
            .map_err(|error| bad_answer(error.to_string()))?;
        if refused {
            let problem: Problem = serde_json::from_slice(&body)
                .map_err(|_| bad_answer(String::from_utf8_lossy(&body).into()))?;
            return Err(ClientError::Refused(problem.detail));
        }
        serde_json::from_slice(&body).map_err(|error| bad_answer(error.to_string()))
    }
}

/// Whether the socket is neither ours nor root's. Root may talk to anybody.
fn is_foreign(path: &Path) -> bool {
    let us = nix::unistd::geteuid();
    let owner = std::fs::metadata(path).map(|metadata| metadata.uid());
    !us.is_root() && owner.is_ok_and(|owner| owner != us.as_raw() && owner != 0)
}

/// The URL of a resource; each segment is encoded, since a reference may hold any character.
fn url(segments: &[&str]) -> reqwest::Url {
    let mut url = BASE.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.push("v1").extend(segments);
    }
    url
}

static BASE: std::sync::LazyLock<reqwest::Url> = std::sync::LazyLock::new(|| {
    // The host is not looked up: the socket's path is the address.
    #[allow(clippy::expect_used, reason = "a constant that a test parses")]
    reqwest::Url::parse("http://gts-mock/").expect("a constant URL")
});

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
