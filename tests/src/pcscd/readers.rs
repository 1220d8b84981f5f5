//! The readers of a private pcscd: what its configuration says, and what it then calls them.
//!
//! `DEVICENAME /dev/null:0xPORT` makes vpcd's first slot listen on PORT and its second on PORT + 1.
//! The files are those of reader.conf(5); every file in the directory is read as one, so the copies
//! of the driver are kept elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Slot, StartError, io};
use crate::card_client::CardClient;
use crate::ports::Reservation;

/// Where Debian's package vsmartcard-vpcd puts the driver.
const DRIVER: &str = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so";
pub(super) const SLOTS_OF_A_DRIVER: usize = 2;

/// Writes the configuration of `pairs` pairs of slots; returns their ports.
pub(super) fn configure(directory: &Path, pairs: usize) -> Result<Reservation, StartError> {
    if !Path::new(DRIVER).exists() {
        return Err(StartError::NoDriver(DRIVER));
    }
    let configurations = configurations_in(directory);
    fs::create_dir(&configurations).map_err(io("making the directory of reader configurations"))?;
    let count = pairs * SLOTS_OF_A_DRIVER;
    let ports = Reservation::of(u16::try_from(count).map_err(|_| StartError::Slots(count))?);
    for (pair, port) in ports.ports().step_by(SLOTS_OF_A_DRIVER).enumerate() {
        let driver = directory.join(format!("libvpcd-{pair}.so"));
        fs::copy(DRIVER, &driver).map_err(io("copying vpcd's driver"))?;
        let configuration = entry(pair, port, &driver);
        fs::write(configurations.join(format!("pair-{pair}")), configuration)
            .map_err(io("writing a reader's configuration"))?;
    }
    Ok(ports)
}

/// Leaves only the first `pairs` of all pairs of slots attached; pcscd sees that when it starts.
pub(super) fn attach(directory: &Path, all: usize, pairs: usize) -> std::io::Result<()> {
    for pair in 0..all {
        let on = configurations_in(directory).join(format!("pair-{pair}"));
        let off = directory.join(format!("pair-{pair}.off"));
        let (from, to) = if pair < pairs {
            (&off, &on)
        } else {
            (&on, &off)
        };
        if from.exists() {
            fs::rename(from, to)?;
        }
    }
    Ok(())
}

/// The directory for pcscd's `--config`.
pub(super) fn configurations_in(directory: &Path) -> PathBuf {
    directory.join("readers")
}

/// Asks pcscd for its readers, and finds the names of the first `count` ports' slots.
pub(super) fn discover(
    client: &mut CardClient,
    ports: &Reservation,
    count: usize,
) -> Result<Vec<Slot>, String> {
    let names = client.try_readers()?;
    let slots = ports.ports().take(count).enumerate().map(|(number, port)| {
        let (pair, slot) = (number / SLOTS_OF_A_DRIVER, number % SLOTS_OF_A_DRIVER);
        let (start, end) = (format!("{} ", friendly(pair)), format!(" {slot:02X}"));
        let reader = names
            .iter()
            .find(|name| name.starts_with(&start) && name.ends_with(&end));
        let reader = reader.ok_or_else(|| format!("no reader for port {port} among {names:?}"))?;
        Ok(Slot {
            reader: reader.clone(),
            port,
        })
    });
    slots.collect()
}

fn entry(pair: usize, port: u16, driver: &Path) -> String {
    format!(
        "FRIENDLYNAME \"{}\"\nDEVICENAME /dev/null:{port:#06X}\nLIBPATH {}\nCHANNELID {port:#06X}\n",
        friendly(pair),
        driver.display()
    )
}

fn friendly(pair: usize) -> String {
    format!(
        "Virtual PCD {}",
        char::from(b'A' + u8::try_from(pair).unwrap_or(25))
    )
}
