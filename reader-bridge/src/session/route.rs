//! Whom to ask: the home servers in order, or for a time the server that home has named (`A9`).
//!
//! Owns the choice and the way home. Refuses to resolve names. An edge can never keep a card: only
//! home is followed elsewhere, for 24 hours at most, and silence leads home.

use std::time::Duration;

use protocol::msg::TransportUpdate;
use serde::{Deserialize, Serialize};

use super::memory::Transport;

/// The terminal's own limit of a transport update's life.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// After the first poll and so many resends without an answer, another server is asked.
pub const RESENDS_BEFORE_CHANGE: u32 = 4;
/// After so long with a server that is not the first, the first is tried again.
const BACK_TO_FIRST: Duration = Duration::from_secs(3600);

/// Where a poll went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// To a home server.
    Home,
    /// To a server that home has named.
    Away,
}

/// Why another server is asked from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// Home said so.
    Asked,
    /// The server did not answer.
    Silence,
    /// The transport update's life has ended.
    LifetimeEnded,
    /// It is time to try the first server again.
    FirstAgain,
}

/// Why a transport update is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFollowed {
    /// It came from elsewhere than home, or nobody knows from where.
    #[error("it did not come from the home server")]
    NotFromHome,
    /// A lifetime of 0 s.
    #[error("its lifetime is over")]
    Over,
}

/// The choice of a server.
#[derive(Clone, Debug)]
pub struct Route {
    homes: Vec<String>,
    current: usize,
    since: Duration,
    away: Option<Away>,
    unanswered: u32,
}

#[derive(Clone, Debug)]
struct Away {
    endpoint: String,
    until: Duration,
}

impl Route {
    /// `homes`, at least one, in order of preference; `transport` as remembered, forgotten if it came
    /// from other homes. `mono` and `wall` (POSIX seconds) are the time now.
    pub fn new(
        homes: Vec<String>,
        transport: Option<&Transport>,
        mono: Duration,
        wall: u64,
    ) -> Self {
        let away = transport
            .filter(|transport| transport.home == homes && transport.until > wall)
            .map(|transport| {
                // However the clock was set meanwhile, never for longer than the limit.
                let left = Duration::from_secs(transport.until - wall).min(MAX_LIFETIME);
                Away {
                    endpoint: transport.endpoint.clone(),
                    until: mono + left,
                }
            });
        Self {
            homes,
            current: 0,
            since: mono,
            away,
            unanswered: 0,
        }
    }

    /// host:port of the server to ask, and which kind it is.
    pub fn endpoint(&self) -> (&str, Via) {
        match &self.away {
            Some(away) => (&away.endpoint, Via::Away),
            // There is at least one home and `current` is always taken modulo their number.
            None => (&self.homes[self.current], Via::Home),
        }
    }

    /// An accepted answer came.
    pub fn answered(&mut self) {
        self.unanswered = 0;
    }

    /// A poll went unanswered.
    pub fn silence(&mut self, now: Duration) -> Option<Because> {
        self.unanswered += 1;
        if self.unanswered <= RESENDS_BEFORE_CHANGE {
            return None;
        }
        self.unanswered = 0;
        if self.away.take().is_none() {
            if self.homes.len() == 1 {
                return None;
            }
            self.current = (self.current + 1) % self.homes.len();
        }
        self.since = now;
        Some(Because::Silence)
    }

    /// To be asked before each poll: whether time alone leads to another server.
    pub fn expire(&mut self, now: Duration) -> Option<Because> {
        let because = if self.away.as_ref().is_some_and(|away| away.until <= now) {
            self.away = None;
            Because::LifetimeEnded
        } else if self.away.is_none() && self.current != 0 && now >= self.since + BACK_TO_FIRST {
            self.current = 0;
            Because::FirstAgain
        } else {
            return None;
        };
        self.unanswered = 0;
        self.since = now;
        Some(because)
    }

    /// Follows a transport update that came in the answer to a poll to `via`; `None` where nobody
    /// knows. Returns for how long.
    pub fn follow(
        &mut self,
        update: &TransportUpdate<'_>,
        via: Option<Via>,
        now: Duration,
    ) -> Result<Duration, NotFollowed> {
        if via != Some(Via::Home) {
            return Err(NotFollowed::NotFromHome);
        }
        let lifetime = update
            .lifetime
            .map_or(MAX_LIFETIME, |seconds| Duration::from_secs(seconds.into()))
            .min(MAX_LIFETIME);
        if lifetime.is_zero() {
            return Err(NotFollowed::Over);
        }
        self.away = update.endpoint.map(|endpoint| Away {
            endpoint: endpoint.to_owned(),
            until: now + lifetime,
        });
        self.unanswered = 0;
        Ok(lifetime)
    }

    /// What is to be remembered.
    pub fn transport(&self, mono: Duration, wall: u64) -> Option<Transport> {
        let away = self.away.as_ref()?;
        Some(Transport {
            endpoint: away.endpoint.clone(),
            home: self.homes.clone(),
            until: wall.saturating_add(away.until.saturating_sub(mono).as_secs()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(1000);
    const WALL: u64 = 1_700_000_000;

    fn home() -> Route {
        Route::new(vec!["home:1".into()], None, T0, WALL)
    }

    fn to_edge(lifetime: Option<u32>) -> TransportUpdate<'static> {
        TransportUpdate {
            endpoint: Some("edge:2"),
            lifetime,
        }
    }

    fn away() -> Route {
        let mut route = home();
        route
            .follow(&to_edge(Some(600)), Some(Via::Home), T0)
            .unwrap();
        route
    }

    #[test]
    fn an_edge_is_left_after_the_first_poll_and_four_resends_without_an_answer() {
        let mut route = away();
        for _ in 0..4 {
            assert_eq!(route.silence(T0), None);
            assert_eq!(route.endpoint(), ("edge:2", Via::Away));
        }
        assert_eq!(route.silence(T0), Some(Because::Silence));
        assert_eq!(route.endpoint(), ("home:1", Via::Home));
    }

    #[test]
    fn an_answer_from_the_edge_starts_the_count_anew() {
        let mut route = away();
        for _ in 0..20 {
            assert_eq!(route.silence(T0), None);
            route.answered();
        }
        assert_eq!(route.endpoint().1, Via::Away);
    }

    #[test]
    fn the_lifetime_ends_in_any_case_and_after_a_day_at_the_latest() {
        let mut route = away();
        assert_eq!(route.expire(T0 + Duration::from_secs(599)), None);
        assert_eq!(
            route.expire(T0 + Duration::from_secs(600)),
            Some(Because::LifetimeEnded)
        );
        for lifetime in [None, Some(u32::MAX)] {
            let mut route = home();
            let given = route
                .follow(&to_edge(lifetime), Some(Via::Home), T0)
                .unwrap();
            assert_eq!(given, MAX_LIFETIME);
            assert_eq!(
                route.expire(T0 + MAX_LIFETIME),
                Some(Because::LifetimeEnded)
            );
        }
    }

    #[test]
    fn only_home_is_followed_elsewhere() {
        for via in [Some(Via::Away), None] {
            let mut route = away();
            let further = TransportUpdate {
                endpoint: Some("trap:3"),
                lifetime: None,
            };
            assert_eq!(
                route.follow(&further, via, T0),
                Err(NotFollowed::NotFromHome)
            );
            assert_eq!(route.endpoint().0, "edge:2");
        }
    }

    #[test]
    fn home_can_call_back() {
        let mut route = away();
        let back = TransportUpdate {
            endpoint: None,
            lifetime: None,
        };
        route.follow(&back, Some(Via::Home), T0).unwrap();
        assert_eq!(route.endpoint().0, "home:1");
    }

    #[test]
    fn a_restart_keeps_the_edge_for_what_is_left_of_its_lifetime() {
        let kept = away()
            .transport(T0 + Duration::from_secs(100), WALL + 100)
            .unwrap();
        let fresh = Duration::from_secs(5);
        let mut route = Route::new(vec!["home:1".into()], Some(&kept), fresh, WALL + 200);
        assert_eq!(route.endpoint().0, "edge:2");
        assert_eq!(route.expire(fresh + Duration::from_secs(399)), None);
        assert_eq!(
            route.expire(fresh + Duration::from_secs(400)),
            Some(Because::LifetimeEnded)
        );
    }

    #[test]
    fn a_clock_set_back_does_not_keep_a_card_at_an_edge_for_more_than_a_day() {
        let kept = away().transport(T0, WALL).unwrap();
        let mut route = Route::new(vec!["home:1".into()], Some(&kept), T0, WALL - 1_000_000);
        assert_eq!(
            route.expire(T0 + MAX_LIFETIME),
            Some(Because::LifetimeEnded)
        );
    }

    #[test]
    fn another_home_forgets_the_edge_of_the_old_one() {
        let kept = away().transport(T0, WALL).unwrap();
        let route = Route::new(vec!["other:1".into()], Some(&kept), T0, WALL);
        assert_eq!(route.endpoint(), ("other:1", Via::Home));
    }

    #[test]
    fn several_servers_are_asked_in_order_and_the_first_again_after_a_while() {
        let mut route = Route::new(vec!["a:1".into(), "b:1".into()], None, T0, WALL);
        for _ in 0..4 {
            assert_eq!(route.silence(T0), None);
        }
        assert_eq!(route.silence(T0), Some(Because::Silence));
        assert_eq!(route.endpoint(), ("b:1", Via::Home));
        assert_eq!(route.expire(T0 + BACK_TO_FIRST), Some(Because::FirstAgain));
        assert_eq!(route.endpoint(), ("a:1", Via::Home));
    }
}
