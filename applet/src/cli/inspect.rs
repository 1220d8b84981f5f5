//! `secapp inspect`: what is on a card image, without its secrets.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use applet::{
    image::{self, Image},
    key_file::wrap_key,
    manager::{self, Overview},
    nvm::{BODY_CAPACITY, Examination, Finding, PAGE, Slot, Store, VERSION, Wear},
    runtime::LifeCycle,
    secapp::{self, Chain, Profile},
};
use clap::{Args, ValueHint};

use super::error::Error;

/// Show what is on a card image. No secret is printed, and nothing is written; the card may be in use.
#[derive(Args)]
#[command(after_help = "Example:\n  secapp inspect card.img")]
pub(super) struct Inspect {
    /// The card image.
    #[arg(value_hint = ValueHint::FilePath)]
    image: PathBuf,
    /// The key file that the image is wrapped under.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    wrap_key_file: Option<PathBuf>,
}

impl Inspect {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<(), Error> {
        let wrap = self.wrap_key_file.as_deref().map(wrap_key).transpose()?;
        let image = Image::examine(&self.image)?;
        let memory = Store::examine(Box::new(image), wrap);
        let mut memory = memory.map_err(|error| image::content(&self.image, error))?;
        show_memory(out, &memory.examination())?;
        show_manager(out, &manager::inspect(&mut memory))?;
        let (life_cycle, state) = secapp::inspect(&mut memory);
        show_secapp(out, life_cycle)?;
        if let Some((profile, chain)) = state {
            show_subscription(out, &profile, &chain)?;
        }
        Ok(())
    }
}

fn row(out: &mut dyn Write, name: &str, value: &dyn std::fmt::Display) -> io::Result<()> {
    writeln!(out, "{name:<18}{value}")
}

fn show_memory(out: &mut dyn Write, memory: &Examination) -> io::Result<()> {
    let wrapped = if memory.wrapped { ", wrapped" } else { "" };
    row(out, "format", &format_args!("version {VERSION}{wrapped}"))?;
    row(out, "commits", &memory.commits)?;
    row(
        out,
        "memory",
        &format_args!("{} of {BODY_CAPACITY} bytes used", memory.used),
    )?;
    let found = match memory.finding {
        Finding::Intact => "both slots are readable".to_owned(),
        Finding::OtherSlotUnreadable(slot) => {
            format!(
                "slot {slot} is unreadable (a write was cut short); the last committed state is whole"
            )
        }
    };
    row(out, "slots", &found)?;
    show_wear(out, &memory.wear)?;
    for aid in &memory.applications {
        row(out, "application", aid)?;
    }
    Ok(())
}

/// Writes per page; pages that were never written are left out.
fn show_wear(out: &mut dyn Write, wear: &Wear) -> io::Result<()> {
    row(
        out,
        "wear",
        &format_args!("writes of each page of {PAGE} bytes"),
    )?;
    row(out, "  marks", &counts(wear.marks()))?;
    row(out, "  slot 0", &counts(wear.slot(Slot::Even)))?;
    row(out, "  slot 1", &counts(wear.slot(Slot::Odd)))
}

fn counts(pages: &[u32]) -> String {
    let used = pages
        .iter()
        .rposition(|count| *count > 0)
        .map_or(0, |last| last + 1);
    let counts: Vec<String> = pages[..used].iter().map(u32::to_string).collect();
    counts.join(" ")
}

fn show_manager(out: &mut dyn Write, manager: &Overview) -> io::Result<()> {
    let state = match manager.life_cycle {
        LifeCycle::OP_READY => "OP_READY",
        LifeCycle::INITIALIZED => "INITIALIZED",
        LifeCycle::SECURED => "SECURED",
        LifeCycle::CARD_LOCKED => "CARD_LOCKED",
        LifeCycle::TERMINATED => "TERMINATED",
        _ => "unknown",
    };
    row(out, "card", &state)?;
    let versions = manager
        .versions
        .iter()
        .map(|version| format!("{version:02X}"));
    let versions = versions.collect::<Vec<_>>().join(" ");
    let versions = if versions.is_empty() {
        "none: nobody can open a secure channel"
    } else {
        &versions
    };
    row(out, "key versions", &versions)
}

fn show_secapp(out: &mut dyn Write, life_cycle: Option<LifeCycle>) -> io::Result<()> {
    let state = match life_cycle {
        None => "not on this card",
        Some(state) if state.is_locked() => "BLOCKED",
        Some(LifeCycle::PERSONALISED) => "PERSONALISED",
        Some(_) => "INSTALLED: without identity",
    };
    row(out, "SecApp", &state)
}

fn show_subscription(out: &mut dyn Write, profile: &Profile, chain: &Chain) -> io::Result<()> {
    let counted = &chain.statistics;
    row(out, "ICCID", &profile.iccid)?;
    row(out, "mode", &profile.mode.byte())?;
    row(
        out,
        "key length",
        &format_args!("{} bytes", chain.link.key().as_bytes().len()),
    )?;
    row(out, "first identity", &profile.uid_1)?;
    row(out, "identity", &chain.link.uid())?;
    row(out, "resends", &chain.resends)?;
    row(out, "recoveries (e)", &chain.recovery.e())?;
    row(out, "accepted", &counted.accepted)?;
    row(out, "refused", &counted.refused)?;
    row(out, "polls lost", &counted.polls_lost)?;
    row(out, "answers lost", &counted.answers_lost)?;
    row(out, "last message", &counted.last_message)
}
