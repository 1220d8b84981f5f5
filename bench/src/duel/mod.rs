//! The server against the machine's own limit: what an answer costs in CPU time, beside what a bare echo of the
//! same datagrams costs.
//!
//! ```text
//! core of the targets        gts-mock serve     echo A     echo B        each runs only in its own slices
//!                                  ▲               ▲          ▲
//! core of the generator      volley ─▶ window ─▶ answers kept ─▶ clock read ─▶ all answers verified
//! ```
//!
//! [`contest`] runs the rounds; [`volley`] sends, [`devices`] knows what is to be sent and verifies what came, [`meter`]
//! reads the clocks, [`stats`] judges the series, [`report`] and [`chart`] tell of it. [`echo`] is the opponent, [`server`]
//! the one who is measured. What the figures mean: `docs/performance.md`, "The server".

pub mod chart;
pub mod contest;
pub mod devices;
pub mod echo;
pub mod meter;
pub mod order;
pub mod report;
pub mod server;
pub mod stats;
pub mod target;
pub mod volley;

/// Why a duel comes to no result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The system.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The server.
    #[error("the server: {0}")]
    Server(String),
    /// Answers that are not authentic, or not for whom they came to.
    #[error(
        "{wrong} of {answers} answers are wrong: what gives them is no server that can be measured"
    )]
    Wrong {
        /// How many.
        wrong: u64,
        /// Of so many.
        answers: u64,
    },
    /// Too many slices lost datagrams.
    #[error(
        "{0} rounds lost datagrams, which leaves too few: make --window smaller, or net.core.rmem_max greater"
    )]
    Lost(usize),
    /// The server did not do what the scenario takes for granted.
    #[error("{0}")]
    Unmeasured(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// SIGINT or SIGTERM.
    #[error("stopped")]
    Stopped,
}
