//! An OTA server as `docs/ota.md` has it: steps with a URI each, the same answer to the same step whenever it comes.

use std::collections::BTreeMap;

use protocol::{
    chain::SessionKey,
    remote::{
        Agent, Answer, Challenge, FROM, MESSAGE, NEXT_URI, PROTOCOL, PROTOCOL_VALUE, Proof,
        PublicKey, RESUME, SCRIPT_CUT, SCRIPT_STATUS, Script, TARGET, is_media_type, media,
    },
};
use reader_bridge::ota::{Request, Response};

pub(crate) const CHALLENGE: [u8; 16] = [0xC5; 16];

/// What a terminal has delivered for one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) status: String,
    pub(crate) answer: Option<Answer>,
    pub(crate) cut: Option<String>,
}

pub(crate) struct Server {
    key: SessionKey,
    /// Bodies of command strings, in their order.
    pub(crate) scripts: Vec<Vec<u8>>,
    /// AID in `//aid/…` form for all of them.
    pub(crate) target: Option<String>,
    pub(crate) delivered: BTreeMap<usize, Delivered>,
    pub(crate) keys: Vec<PublicKey>,
    /// URLs that were asked for, whether with X-Admin-Resume.
    pub(crate) seen: Vec<(String, bool)>,
    pub(crate) proved: usize,
    /// Answers instead of its own, by number of the request from 0.
    pub(crate) instead: BTreeMap<usize, Response>,
    pub(crate) wants_proof: bool,
}

impl Server {
    pub(crate) fn new(key: SessionKey, scripts: &[Script]) -> Self {
        Self {
            key,
            scripts: scripts.iter().map(Script::encode).collect(),
            target: None,
            delivered: BTreeMap::new(),
            keys: Vec::new(),
            seen: Vec::new(),
            proved: 0,
            instead: BTreeMap::new(),
            wants_proof: true,
        }
    }

    pub(crate) fn handle(&mut self, request: &Request) -> Response {
        let header = |name: &str| {
            let mut all = request
                .headers
                .iter()
                .filter(|(field, _)| field.eq_ignore_ascii_case(name));
            let value = all.next().map(|(_, value)| value.clone());
            assert!(all.next().is_none(), "{name} twice");
            value
        };
        let number = self.seen.len();
        let resumed = header(RESUME).as_deref() == Some("true");
        self.seen.push((request.url.path().to_owned(), resumed));
        assert_eq!(header(PROTOCOL).unwrap(), PROTOCOL_VALUE);
        let from: Agent = header(FROM).unwrap().parse().unwrap();
        assert!(header(MESSAGE).unwrap().parse::<u32>().unwrap() > 0);
        if let Some(response) = self.instead.get(&number) {
            return response.clone();
        }
        match header("Authorization").map(|value| value.parse::<Proof>().unwrap()) {
            _ if !self.wants_proof => {}
            None => return challenged(),
            Some(proof) => {
                assert!(
                    proof.iccid == from.iccid && proof.verify(&self.key, &Challenge(CHALLENGE))
                );
                self.proved += 1;
            }
        }
        let step: usize = request
            .url
            .path()
            .trim_start_matches('/')
            .parse()
            .unwrap_or(0);
        self.take(step, request, &header);
        self.next(step)
    }

    fn take(&mut self, step: usize, request: &Request, header: &dyn Fn(&str) -> Option<String>) {
        let content = header("Content-Type").unwrap_or_default();
        if is_media_type(&content, media::PUBLIC_KEYS) {
            self.keys = PublicKey::parse_all(&request.body).unwrap();
            return;
        }
        let Some(status) = header(SCRIPT_STATUS) else {
            assert_eq!((step, request.body.len()), (0, 0));
            return;
        };
        let answer =
            is_media_type(&content, media::ANSWERS).then(|| Answer::parse(&request.body).unwrap());
        let cut = header(SCRIPT_CUT);
        let delivered = Delivered {
            status,
            answer,
            cut,
        };
        let before = self.delivered.insert(step - 1, delivered.clone());
        assert!(
            before.is_none_or(|before| before == delivered),
            "another answer to the same step"
        );
    }

    fn next(&self, step: usize) -> Response {
        let Some(script) = self.scripts.get(step) else {
            return answer(204, &[]);
        };
        let mut response = answer(
            200,
            &[
                (NEXT_URI, &format!("/{}", step + 1)),
                ("Content-Type", media::COMMANDS),
            ],
        );
        if let Some(target) = &self.target {
            response.headers.push((TARGET.into(), target.clone()));
        }
        response.body.clone_from(script);
        response
    }
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)]) -> Response {
    let mut all = vec![(PROTOCOL.to_owned(), PROTOCOL_VALUE.to_owned())];
    all.extend(
        headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    Response {
        status,
        headers: all,
        body: Vec::new(),
    }
}

pub(crate) fn challenged() -> Response {
    answer(
        401,
        &[("WWW-Authenticate", &Challenge(CHALLENGE).to_string())],
    )
}
