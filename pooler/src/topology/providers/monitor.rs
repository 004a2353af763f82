//! What the monitor of pg_auto_failover says. Pure.

use super::Told;
use crate::config::settings::HostAddress;
use crate::topology::snapshot::Sign;
use std::collections::BTreeSet;

/// Every node of every formation.
pub const NODES: &str = "SELECT formationid, groupid::text, nodehost, nodeport::text, reportedstate::text, goalstate::text \
FROM pgautofailover.node ORDER BY nodeid";

/// The channels on which it tells of every change.
pub const LISTEN: &str = "LISTEN state; LISTEN log";

/// States of a node that takes writes, or is about to.
const PRIMARY: &[&str] = &["single", "wait_primary", "primary", "join_primary", "apply_settings"];

/// States to which a primary is sent when another node takes over.
const LEAVING: &[&str] =
    &["draining", "demote_timeout", "demoted", "report_lsn", "prepare_maintenance", "maintenance", "dropped"];

/// Reads the rows of [`NODES`]. Of several groups the one counts that has a host which we know.
#[must_use]
pub fn read(rows: &[Vec<Option<String>>], known: &[HostAddress]) -> Option<Told> {
    let nodes: Vec<Node> = rows.iter().map(|row| Node::read(row)).collect::<Option<_>>()?;
    let groups: BTreeSet<(&str, &str)> = nodes.iter().map(Node::group).collect();
    let ours = nodes.iter().find(|node| known.contains(&node.address)).map(Node::group);
    let only = groups.first().copied().filter(|_| groups.len() == 1);
    let group = ours.or(only)?;
    let nodes: Vec<&Node> =
        nodes.iter().filter(|node| node.group() == group && node.goal != "dropped").collect();
    let is_primary = |node: &&&Node| PRIMARY.contains(&node.reported);
    let primary = nodes.iter().find(is_primary).map(|node| node.address.clone());
    let leaving = nodes.iter().find(|node| PRIMARY.contains(&node.reported) && LEAVING.contains(&node.goal));
    Some(Told {
        by: Sign::Monitor,
        hosts: nodes.iter().map(|node| node.address.clone()).collect(),
        primary,
        leaving: leaving.map(|node| node.address.clone()),
    })
}

struct Node<'a> {
    formation: &'a str,
    group: &'a str,
    address: HostAddress,
    reported: &'a str,
    goal: &'a str,
}

impl<'a> Node<'a> {
    fn read(row: &'a [Option<String>]) -> Option<Self> {
        let [formation, group, host, port, reported, goal] = row else { return None };
        Some(Self {
            formation: formation.as_deref()?,
            group: group.as_deref()?,
            address: HostAddress::Tcp(host.clone()?, port.as_deref()?.parse().ok()?),
            reported: reported.as_deref()?,
            goal: goal.as_deref()?,
        })
    }

    const fn group(&self) -> (&'a str, &'a str) {
        (self.formation, self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Vec<Option<String>>> {
        text.lines().map(|line| line.split('|').map(|column| Some(column.to_owned())).collect()).collect()
    }

    fn host(port: u16) -> HostAddress {
        HostAddress::Tcp("127.0.0.1".to_owned(), port)
    }

    #[test]
    fn a_primary_with_another_goal_is_leaving() {
        // A switchover of three nodes, as its monitor showed it step by step.
        let steps = [
            ("primary|primary", "secondary|secondary", Some(7501), None),
            ("primary|draining", "secondary|secondary", Some(7501), Some(7501)),
            ("draining|report_lsn", "secondary|report_lsn", None, None),
            ("report_lsn|join_secondary", "prepare_promotion|wait_primary", None, None),
            ("join_secondary|secondary", "wait_primary|primary", Some(7502), None),
            ("secondary|secondary", "primary|primary", Some(7502), None),
        ];
        for (first, second, primary, leaving) in steps {
            let text = format!("default|0|127.0.0.1|7501|{first}\ndefault|0|127.0.0.1|7502|{second}");
            let told = read(&rows(&text), &[]).unwrap();
            assert_eq!((told.primary, told.leaving), (primary.map(host), leaving.map(host)), "{text}");
        }
    }

    #[test]
    fn of_several_groups_ours_counts_and_without_one_of_ours_none() {
        let text = "default|0|127.0.0.1|7501|primary|primary\ndefault|1|127.0.0.1|7502|primary|primary\n\
                    default|1|127.0.0.1|7503|secondary|secondary\ndefault|1|127.0.0.1|7504|secondary|dropped";
        let told = read(&rows(text), &[host(7503)]).unwrap();
        assert_eq!(told.hosts, [host(7502), host(7503)]);
        assert_eq!(read(&rows(text), &[host(7600)]), None);
    }
}
