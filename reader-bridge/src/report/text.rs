//! Events as lines for people: who → whom, and what it means.

use std::time::Duration;

use crate::session::{Asked, Because, Done, Event, ExchangeEvent, Message, Via};

/// One line or several, without the last line's end. `time` is RFC 3339.
pub(super) fn lines(time: &str, card: &str, event: &Event) -> String {
    // The time of day: people look at it as it happens.
    let clock = time.get(11..23).unwrap_or(time);
    sentences(card, event)
        .iter()
        .map(|sentence| format!("{clock}  {}", printable(sentence)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Texts of servers and cards may hold what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn sentences(card: &str, event: &Event) -> Vec<String> {
    let one = match event {
        Event::ExchangeDone(exchange) => return exchange_done(card, exchange),
        Event::Message(message) => return self::message(card, message),
        Event::WaitingForCard { why } => format!("{card}  waiting: {why}"),
        Event::CardReady { .. } => card_ready(card, event),
        Event::StateDamaged { kept, why } => {
            format!("{card}  what was remembered is damaged ({why}); kept as {kept}, starting anew")
        }
        Event::CardRefused { why } => format!("{card}  refused: {why}"),
        Event::CardGone { why } => format!("{card}  {why}"),
        Event::CardFailed { command, why } => {
            format!("{card}  the card failed at {command}: {why}")
        }
        Event::PollSent { .. } => poll_sent(card, event),
        Event::AnswerReceived { exchange, bytes } => {
            format!("server → {card}  #{exchange} answer of {bytes} bytes")
        }
        Event::AnswerRefused {
            exchange,
            status,
            meaning,
            ..
        } => format!(
            "{card}  #{exchange} the card refuses this answer: {status} ({meaning}); still waiting"
        ),
        Event::AnswerDropped { exchange, why } => {
            format!("{card}  #{exchange} answer dropped: {why}")
        }
        Event::ScheduleChanged { .. } => schedule(card, event),
        Event::ServerChanged {
            to, because, via, ..
        } => format!(
            "{card}  from now on {to} is asked: {}",
            reason(*because, *via)
        ),
        Event::NextPoll { in_ms } => format!("{card}  next poll in {}", seconds(*in_ms)),
        Event::NoAnswer { polls, to } => format!("{card}  no answer from {to} to {polls} polls"),
        Event::LinkFailed { to, why } => format!("{card}  the way to {to} fails: {why}"),
        Event::RequestRefused { why } => format!("{card}  no poll: {why}"),
        Event::Fault { what } => format!("{card}  fault on request: {what}"),
        Event::TraceFailed { why } => format!("{card}  the trace ends here: {why}"),
        Event::Deed(deed) => format!("{card}  {deed}"),
        Event::Stopped { why } => format!("{card}  stopped: {why}"),
    };
    vec![one]
}

fn card_ready(card: &str, event: &Event) -> String {
    let Event::CardReady {
        iccid,
        mode,
        statistics,
        ..
    } = event
    else {
        return String::new();
    };
    let counted = statistics.map_or_else(String::new, |counted| {
        format!(
            "; {} responses accepted so far, {} polls lost, {} answers lost",
            counted.accepted, counted.polls_lost, counted.answers_lost
        )
    });
    format!("{card}  card {iccid}, mode {mode}, is there{counted}")
}

fn poll_sent(card: &str, event: &Event) -> String {
    let Event::PollSent {
        exchange,
        identity,
        resend_counter,
        authenticated,
        bytes,
        to,
        timeout_ms,
        ..
    } = event
    else {
        return String::new();
    };
    let kind = if *authenticated {
        "authenticated poll"
    } else {
        "poll"
    };
    format!(
        "{card} → {to}  #{exchange} {kind} of {bytes} bytes, identity {identity}, Resend_Counter {resend_counter}; waiting {}",
        seconds(*timeout_ms)
    )
}

fn exchange_done(card: &str, done: &ExchangeEvent) -> Vec<String> {
    let identity = |uid: &Option<String>| uid.clone().unwrap_or_else(|| "unknown".into());
    let mut first = format!(
        "{card}  #{} accepted: Sent {}, Resend_Counter {}, identity {} → {}: {}",
        done.exchange,
        done.sent,
        done.resend_counter,
        identity(&done.identity_before),
        identity(&done.identity_after),
        // What it asks for follows, with what becomes of it.
        done.message_id
            .map_or_else(|| done.message.clone(), |id| format!("message {id}"))
    );
    if done.polls_lost > 0 || done.answers_lost > 0 {
        let link = done.link;
        first += &format!(
            " (lost: {} up, {} down; so far {} of {} up, {} of {} down)",
            done.polls_lost,
            done.answers_lost,
            link.polls_lost,
            link.polls,
            link.answers_lost,
            link.answers,
        );
    }
    let mut lines = vec![first];
    if done.others_polled {
        lines.push(format!(
            "{card}  somebody else has polled with this identity"
        ));
    }
    if done.not_done {
        lines.push(format!(
            "{card}  the card could not do all that the message asks"
        ));
    }
    lines
}

fn message(card: &str, message: &Message) -> Vec<String> {
    if let Some(error) = &message.error {
        return vec![format!("{card}  the message cannot be acted on: {error}")];
    }
    let id = message.id.unwrap_or_default();
    let found = if message.pending {
        " (found on the card)"
    } else {
        ""
    };
    message
        .objects
        .iter()
        .map(|asked| {
            format!(
                "{card}  message {id}{found}: {}, {}",
                asked.text,
                became(asked)
            )
        })
        .collect()
}

fn became(asked: &Asked) -> String {
    match (asked.done, &asked.why) {
        (Done::Acted, _) => "done".into(),
        (Done::Queued, _) => "it will be done".into(),
        (Done::Reported, _) => "reported".into(),
        (Done::ByCard, _) => "done by the card".into(),
        (Done::CardFailed, _) => "the card could not do it".into(),
        (Done::Before, _) => "done before, not again".into(),
        (Done::NotFollowed, Some(why)) => format!("not followed: {why}"),
        (Done::NotFollowed, None) => "not followed".into(),
    }
}

fn schedule(card: &str, event: &Event) -> String {
    let Event::ScheduleChanged {
        interval,
        jitter,
        floor,
        ceiling,
        quiet,
        ..
    } = event
    else {
        return String::new();
    };
    let quiet = quiet.map_or_else(String::new, |(start, length)| {
        format!(
            ", quiet from {:02}:{:02} UTC for {length} min",
            start / 60,
            start % 60
        )
    });
    format!(
        "{card}  polling every {interval} s ± {jitter} % (between {floor} s and {ceiling} s){quiet}"
    )
}

fn reason(because: Because, via: Via) -> &'static str {
    match (because, via) {
        (Because::Asked, _) => "home said so",
        (Because::Silence, Via::Home) => "the other one does not answer",
        (Because::Silence, Via::Away) => "home does not answer",
        (Because::LifetimeEnded, _) => "the time at the other one is over",
        (Because::FirstAgain, _) => "it comes first, and it is time to try it again",
    }
}

fn seconds(millis: u64) -> String {
    match millis {
        0..10_000 => format!("{:.1} s", Duration::from_millis(millis).as_secs_f64()),
        _ => humantime::format_duration(Duration::from_secs(millis / 1000)).to_string(),
    }
}
