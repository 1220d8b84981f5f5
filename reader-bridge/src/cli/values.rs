//! Values on the command line: durations and servers.

use std::{net::Ipv6Addr, time::Duration};

use protocol::{DEFAULT_PORT, msg::QuietWindow};

/// Seconds (`2`, `0.5`), or with units (`500ms`, `2s`, `1h 30m`).
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is no duration; write seconds (2, 0.5) or units (500ms, 2s, 5m, 1h)");
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| wrong()),
        Err(_) => humantime::parse_duration(text).map_err(|_| wrong()),
    }
}

/// A duration of whole seconds, at least one.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    let seconds = duration(text)?.as_secs_f64().ceil();
    // Saturates, and is checked on both ends first.
    if (1.0..=f64::from(u32::MAX)).contains(&seconds) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number within u32, as just checked"
        )]
        Ok(seconds as u32)
    } else {
        Err(format!("{text:?} is not between 1 s and {} s", u32::MAX))
    }
}

/// `22:00-06:30`, UTC.
pub(super) fn quiet_window(text: &str) -> Result<QuietWindow, String> {
    let window = || {
        let (from, to) = text.split_once('-')?;
        let (start, end) = (minute(from)?, minute(to)?);
        let length = (end + DAY_MINUTES - start) % DAY_MINUTES;
        Some(QuietWindow { start, length })
    };
    window().ok_or_else(|| {
        format!(
            "{text:?} is no window of the day; write HH:MM-HH:MM in UTC, for example 22:00-06:30"
        )
    })
}

const DAY_MINUTES: u16 = 24 * 60;

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

/// host:port; without a port the method's own.
pub(super) fn server(text: &str) -> Result<String, String> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]:{DEFAULT_PORT}"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None => DEFAULT_PORT,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => {
            return Err(format!(
                "{text:?}: the port is not a number from 1 to 65535"
            ));
        }
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    let plain = !host.is_empty() && !host.contains([':', '[', ']', ' ', '/']);
    if bracketed || plain {
        Ok(format!("{host}:{port}"))
    } else {
        Err(format!(
            "{text:?} is no server; write host:port, for example 127.0.0.1:{DEFAULT_PORT}, gts.example:{DEFAULT_PORT} or [::1]:{DEFAULT_PORT}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_get_the_default_port() {
        for (text, expected) in [
            ("gts.example", "gts.example:4753"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("[::1]:9", "[::1]:9"),
            ("[::1]", "[::1]:4753"),
            ("::1", "[::1]:4753"),
        ] {
            assert_eq!(server(text).unwrap(), expected);
        }
        for text in [
            "",
            ":1",
            "a:0",
            "a:b",
            "[a]:1",
            "a b:1",
            "http://a:1",
            "[::1",
        ] {
            assert!(server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quiet_windows_may_run_over_midnight() {
        let window = |start, length| Ok(QuietWindow { start, length });
        assert_eq!(quiet_window("22:00-06:30"), window(1320, 510));
        assert_eq!(quiet_window("00:00-01:00"), window(0, 60));
        for text in ["", "22:00", "24:00-01:00", "1:60-2:00", "a:b-c:d", "22-06"] {
            assert!(quiet_window(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        assert_eq!(duration("0.5").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1h 30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(seconds("1m").unwrap(), 60);
        for text in ["", "-1", "NaN", "inf", "1 fortnight", "1e300"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(seconds("0").is_err());
    }
}
