//! One request and its answer, and what follows from it.
//!
//! Governed by GlobalPlatform Card Specification 2.2, Amendment B 1.1.3, 3.4, and RFC 9110 for status codes.

use std::time::Duration;

use protocol::card::AID;
use protocol::remote::{
    Challenge, FROM, MESSAGE, NEXT_URI, PROTOCOL, PROTOCOL_VALUE, Proof, RESUME, SCRIPT_CUT,
    SCRIPT_STATUS, TARGET, is_media_type, media, target,
};
use url::Url;

use super::{
    agenda::{Carried, Hex, Running},
    agent::{Agent, State},
    attempt::Retry,
    call::{Request, Response},
    event::{Deed, Ended},
    io::{Action, Signed},
    policy,
};
use crate::session::Now;

/// A server may ask for proof so often before one request: at first, and because its challenge has grown too old.
const MAX_CHALLENGES: u8 = 2;
/// Answers that take one session further. A server that has more to say opens another one.
const MAX_STEPS: u32 = 1000;

impl Agent {
    /// Sends the request at hand. That it may have left is on disk before.
    pub(super) fn post(&mut self, now: Now) {
        let Some(journal) = self.journal() else {
            return;
        };
        let Some(url) = journal.url.clone() else {
            return self.end(Ended::Done, now);
        };
        let news = !std::mem::replace(&mut journal.sent, true);
        let url = policy::parse(&url).and_then(|url| self.options.policy.check(url));
        let request = match url {
            Ok(url) => self.request_to(url),
            Err(why) => return self.fail(why.to_string(), Retry::Never, now),
        };
        if news {
            self.save();
        }
        self.request += 1;
        self.state = State::Posting;
        self.push(Action::Post(self.request, request));
    }

    fn request_to(&self, url: Url) -> Request {
        let mut headers = vec![(PROTOCOL, PROTOCOL_VALUE.to_owned()), (FROM, self.name())];
        let mut body = Vec::new();
        if let Some(job) = self.agenda.jobs.first() {
            headers.push((MESSAGE, job.message.to_string()));
            if let Some(journal) = &job.journal {
                body = carry(&journal.body, &mut headers);
            }
        }
        if self.resume {
            headers.push((RESUME, "true".to_owned()));
        }
        if let Some((origin, proof)) = &self.proof
            && *origin == url.origin()
        {
            headers.push(("Authorization", proof.clone()));
        }
        Request { url, headers, body }
    }

    /// The server's answer.
    pub(super) fn http(&mut self, number: u64, result: Result<Response, String>, now: Now) {
        if number != self.request || !matches!(self.state, State::Posting) {
            return;
        }
        self.state = State::Idle;
        match result {
            Err(why) => self.fail(why, Retry::Later, now),
            Ok(response) => self.judge(&response, now),
        }
    }

    fn judge(&mut self, response: &Response, now: Now) {
        let protocol = response.header(PROTOCOL);
        if let Some(other) = protocol.filter(|value| *value != PROTOCOL_VALUE) {
            let why = format!("the server speaks {other:?}, this terminal {PROTOCOL_VALUE}");
            return self.fail(why, Retry::Never, now);
        }
        match response.status {
            200 | 204 => self.further(response, now),
            401 => self.challenged(response, now),
            300..=399 => {
                let to = response.header("Location").unwrap_or("nowhere");
                let why = format!(
                    "HTTP {}: redirects are not followed (to {to})",
                    response.status
                );
                self.fail(why, Retry::Later, now);
            }
            404 | 410 if self.resume => self.forgotten(response.status, now),
            408 | 429 | 500..=599 => {
                let why = format!("HTTP {}", response.status);
                self.fail(why, retry_after(response), now);
            }
            400..=499 => self.fail(format!("HTTP {}", response.status), Retry::Never, now),
            other => self.fail(
                format!("HTTP {other}, which means nothing here"),
                Retry::Later,
                now,
            ),
        }
    }

    /// The server knows nothing of the session that was cut. What the card has answered in it can go nowhere.
    fn forgotten(&mut self, status: u16, now: Now) {
        let Some(job) = self.job() else { return };
        let Some(journal) = &job.journal else { return };
        if journal.url.as_ref() == Some(&journal.start) {
            return self.fail(format!("HTTP {status}"), Retry::Never, now);
        }
        let deed = Deed::OtaFailed {
            message_id: job.message,
            url: journal.url.clone().unwrap_or_default(),
            why: format!(
                "HTTP {status}: the server has forgotten the session; it begins anew, without the answers of the old one"
            ),
            attempt: job.attempts,
            retry_in_ms: Some(0),
        };
        job.journal = None;
        self.tell(deed);
        self.go_on(now);
    }

    fn challenged(&mut self, response: &Response, now: Now) {
        let challenges = response.all("WWW-Authenticate");
        let read: Vec<_> = challenges.map(str::parse::<Challenge>).collect();
        let challenge = match read.iter().find_map(|read| read.ok()) {
            Some(challenge) => challenge,
            None => {
                let why = match read.first() {
                    Some(Err(error)) => error.to_string(),
                    _ => "no WWW-Authenticate".into(),
                };
                let why = format!("HTTP 401 without a challenge for the card: {why}");
                return self.fail(why, Retry::Later, now);
            }
        };
        self.challenges += 1;
        if self.challenges > MAX_CHALLENGES {
            let why = "HTTP 401: the server does not take the card's proof".to_owned();
            return self.fail(why, Retry::Never, now);
        }
        self.challenge = Some(challenge);
        if let Some(job) = self.job() {
            let message_id = job.message;
            self.tell(Deed::OtaChallenged { message_id });
        }
        self.sign();
    }

    /// Has the card answer the challenge.
    pub(super) fn sign(&mut self) {
        match self.challenge {
            Some(challenge) if self.card => {
                self.state = State::Signing;
                self.push(Action::Sign(challenge.0));
            }
            _ => self.state = State::NoCard,
        }
    }

    pub(super) fn signed(&mut self, signed: Signed, now: Now) {
        if !matches!(self.state, State::Signing) {
            return;
        }
        self.state = State::Idle;
        self.challenge = None;
        let response = match signed {
            Ok(response) => response,
            Err(why) => return self.fail(format!("SIGN-SESSION: {why}"), Retry::Later, now),
        };
        let url = self.journal().and_then(|journal| journal.url.clone());
        let url = url.and_then(|url| Url::parse(&url).ok());
        if let (Some(url), Some(iccid)) = (url, self.iccid) {
            let proof = Proof { iccid, response };
            self.proof = Some((url.origin(), proof.to_string()));
        }
        self.post(now);
    }

    /// 200 or 204: what the request carried has arrived.
    fn further(&mut self, response: &Response, now: Now) {
        let (next, running) = match (self.next_uri(response), running(response)) {
            (Ok(next), Ok(running)) => (next, running),
            (Err(why), _) | (_, Err(why)) => return self.fail(why, Retry::Never, now),
        };
        self.arrived();
        let Some(journal) = self.journal() else {
            return;
        };
        journal.url = next;
        journal.body = Carried::Nothing;
        journal.sent = false;
        journal.running = running;
        if journal.steps > MAX_STEPS {
            let why = format!("the server has no end after {MAX_STEPS} answers");
            return self.fail(why, Retry::Never, now);
        }
        self.go_on(now);
    }

    /// Takes note of progress.
    fn arrived(&mut self) {
        self.resume = false;
        self.challenges = 0;
        let Some(job) = self.job() else { return };
        job.attempts = 1;
        let Some(journal) = &mut job.journal else {
            return;
        };
        journal.steps = journal.steps.saturating_add(1);
        if matches!(journal.body, Carried::Keys(_)) {
            job.keys.clear();
        }
    }

    fn next_uri(&mut self, response: &Response) -> Result<Option<String>, String> {
        let Some(next) = response.header(NEXT_URI) else {
            return Ok(None);
        };
        let current = self.journal().and_then(|journal| journal.url.clone());
        let next = policy::parse(&current.unwrap_or_default())
            .and_then(|current| self.options.policy.next(&current, next));
        next.map(|url| Some(url.to_string()))
            .map_err(|why| format!("{NEXT_URI}: {why}"))
    }
}

/// The command string in an answer, if there is one. Without `X-Admin-Targeted-Application` it is for SecApp, which has
/// proved the session.
fn running(response: &Response) -> Result<Option<Running>, String> {
    if response.status != 200 || response.body.is_empty() {
        return Ok(None);
    }
    let content = response.header("Content-Type").unwrap_or("none");
    if !is_media_type(content, media::COMMANDS) {
        return Err(format!(
            "the content type is {content}, expected {}",
            media::COMMANDS
        ));
    }
    let target = match response.header(TARGET).map(target) {
        None => AID.to_vec(),
        Some(Ok(aid)) => aid.as_bytes().to_vec(),
        Some(Err(error)) => return Err(format!("{TARGET}: {error}")),
    };
    Ok(Some(Running {
        script: Hex(response.body.clone()),
        target: Hex(target),
        answers: Vec::new(),
        begun: false,
    }))
}

/// The body of a request, and the header fields that tell of it (Amendment B, 3.4.1).
fn carry(body: &Carried, headers: &mut Vec<(&'static str, String)>) -> Vec<u8> {
    match body {
        Carried::Nothing => Vec::new(),
        Carried::Keys(keys) => {
            headers.push(("Content-Type", media::PUBLIC_KEYS.to_owned()));
            keys.0.clone()
        }
        Carried::Answer { status, body, cut } => {
            headers.push((SCRIPT_STATUS, status.clone()));
            if !body.0.is_empty() {
                headers.push(("Content-Type", media::ANSWERS.to_owned()));
            }
            if let Some(cut) = cut {
                headers.push((SCRIPT_CUT, cut.to_string()));
            }
            body.0.clone()
        }
    }
}

/// RFC 9110, 10.2.3, in seconds; a date is not looked at.
fn retry_after(response: &Response) -> Retry {
    let seconds = response
        .header("Retry-After")
        .and_then(|value| value.parse().ok());
    seconds.map_or(Retry::Later, |seconds| {
        Retry::After(Duration::from_secs(seconds))
    })
}
