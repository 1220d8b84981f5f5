//! What `insert` and `rack` share: the protocol, the events in words, the signal that ends them.

use std::{io, sync::Arc, thread};

use applet::{
    Protocol,
    vpcd::{Event, Socket, Stop},
};
use clap::ValueEnum;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// The transmission protocol on the command line.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Transmission {
    T0,
    T1,
}

impl From<Transmission> for Protocol {
    fn from(transmission: Transmission) -> Self {
        match transmission {
            Transmission::T0 => Self::T0,
            Transmission::T1 => Self::T1,
        }
    }
}

/// An event in words.
pub(super) fn line(reader: &Socket, event: &Event) -> String {
    match event {
        Event::Connected => format!("in the reader at {reader}"),
        Event::PoweredOn(Protocol::T0) => "powered on, T=0".to_owned(),
        Event::PoweredOn(Protocol::T1) => "powered on, T=1".to_owned(),
        Event::Reset => "reset".to_owned(),
        Event::PoweredOff => "powered off".to_owned(),
        Event::Fault(error) => format!("a command was refused with 6581: {error}"),
        Event::Disconnected { why, again_in } => format!(
            "no reader at {}: {why}; is pcscd with vpcd, or the bridge, running? Trying again in {} ms",
            reader,
            again_in.as_millis()
        ),
    }
}

/// A stop that comes with SIGINT or SIGTERM.
pub(super) fn stop_on_signal() -> io::Result<Arc<Stop>> {
    let stop = Arc::new(Stop::default());
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let told = Arc::clone(&stop);
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            told.stop();
        }
    });
    Ok(stop)
}
