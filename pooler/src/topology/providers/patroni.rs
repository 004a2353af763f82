//! What Patroni's `/cluster` says. Pure.

use super::Told;
use crate::auth::lookup::parse_iso;
use crate::config::settings::HostAddress;
use crate::topology::snapshot::Sign;
use serde::Deserialize;

/// A switchover that is scheduled is waited for from so many seconds before its time on.
const BEFORE: i64 = 1;

/// And it is given up so many seconds after it.
const AFTER: i64 = 20;

#[derive(Debug, Deserialize)]
struct Cluster {
    members: Vec<Member>,
    scheduled_switchover: Option<Switchover>,
}

#[derive(Debug, Deserialize)]
struct Member {
    role: Option<String>,
    state: Option<String>,
    host: Option<String>,
    port: Option<Port>,
}

/// Some versions write it as a text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Port {
    Number(u16),
    Text(String),
}

#[derive(Debug, Deserialize)]
struct Switchover {
    at: Option<String>,
}

/// Reads the answer; `now` is in seconds since 1970. `None` if it cannot be understood.
#[must_use]
pub fn read(answer: &[u8], now: i64) -> Option<Told> {
    let cluster: Cluster = serde_json::from_slice(answer).ok()?;
    let primary = cluster.members.iter().find(|member| member.is_leader());
    let due = cluster.scheduled_switchover.and_then(|switchover| parse_iso(&switchover.at?));
    let is_due = due.is_some_and(|due| (due - BEFORE..due + AFTER).contains(&now));
    let stops =
        primary.is_some_and(|member| matches!(member.state.as_deref(), Some("stopping" | "demoting")));
    let primary = primary.and_then(Member::address);
    Some(Told {
        by: Sign::Patroni,
        hosts: cluster.members.iter().filter_map(Member::address).collect(),
        leaving: primary.clone().filter(|_| is_due || stops),
        primary,
    })
}

impl Member {
    fn is_leader(&self) -> bool {
        matches!(self.role.as_deref(), Some("leader" | "master" | "primary"))
    }

    fn address(&self) -> Option<HostAddress> {
        let port = match self.port.as_ref()? {
            Port::Number(port) => *port,
            Port::Text(text) => text.parse().ok()?,
        };
        Some(HostAddress::Tcp(self.host.clone()?, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"members": [
        {"name": "a", "role": "leader", "state": "running", "api_url": "http://127.0.0.1:8008/patroni",
         "host": "127.0.0.1", "port": 5501, "timeline": 1},
        {"name": "b", "role": "replica", "state": "streaming", "api_url": "http://127.0.0.1:8009/patroni",
         "host": "127.0.0.1", "port": 5502, "timeline": 1, "lag": 0},
        {"name": "c", "role": "replica", "state": "start failed", "lag": "unknown"}
        ]SWITCHOVER}"#;

    fn host(port: u16) -> HostAddress {
        HostAddress::Tcp("127.0.0.1".to_owned(), port)
    }

    #[test]
    fn members_with_an_address_are_hosts() {
        let told = read(ANSWER.replace("SWITCHOVER", "").as_bytes(), 0).unwrap();
        assert_eq!(told.hosts, [host(5501), host(5502)]);
        assert_eq!((told.primary, told.leaving), (Some(host(5501)), None));
    }

    #[test]
    fn a_scheduled_switchover_counts_around_its_time() {
        let switchover =
            r#", "scheduled_switchover": {"at": "2026-11-21T09:30:00+00:00", "from": "a", "to": "b"}"#;
        let answer = ANSWER.replace("SWITCHOVER", switchover);
        let due = 1_795_253_400;
        for (now, leaving) in [(due - 60, false), (due - 1, true), (due + 5, true), (due + 60, false)] {
            let told = read(answer.as_bytes(), now).unwrap();
            assert_eq!(told.leaving.is_some(), leaving, "{} s after its time", now - due);
        }
    }

    #[test]
    fn anything_else_is_not_understood() {
        for answer in ["", "{}", "[]", r#"{"members": 1}"#, "<html>"] {
            assert_eq!(read(answer.as_bytes(), 0), None, "{answer}");
        }
    }
}
