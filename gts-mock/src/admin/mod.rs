//! The operator's door: HTTP with JSON on a local socket that only its owner may open.
//!
//! What is said through it is [`api`]; who answers is `handlers`; the command line speaks through
//! [`client`].

pub mod api;
pub mod client;
mod handlers;
mod socket;

use std::{os::unix::net::UnixStream, sync::Arc};

pub use socket::{AdminSocket, default_path};

use crate::server::Core;

/// Answers operators until `stop` is closed; requests under way are finished.
pub(crate) fn serve(core: Arc<Core>, socket: &AdminSocket, stop: UnixStream) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "admin socket"),
    };
    let served = runtime.block_on(async {
        let listener = socket.listener()?;
        let app = handlers::router(core);
        axum::serve(listener, app)
            .with_graceful_shutdown(closed(stop))
            .await
    });
    if let Err(error) = served {
        tracing::error!(%error, "admin socket");
    }
}

async fn closed(stop: UnixStream) {
    let stream = stop
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixStream::from_std(stop));
    if let Ok(stream) = stream {
        // Readable without data: the other end is gone.
        let _ = stream.readable().await;
    }
}
