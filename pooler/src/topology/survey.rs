//! Asks a new primary, once, what the probes do not ask: which timelines came before its own, and which standbys it
//! streams to. Standbys that nobody has named are suggested to the operator. They are never added unasked, for their
//! addresses are not those at which they take clients.

use super::ancestry;
use super::lsn::Lsn;
use crate::config::settings::{HostAddress, HostOrder, Target};
use crate::server::dial::{self, DialPlan, Local};
use crate::server::exchange::simple_query;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// So long after a promotion the standbys have found their new primary.
const DELAY: Duration = Duration::from_secs(10);

/// Streams to standbys, not to backups or archives. Users without `pg_monitor` see that there is one, and no more.
const STANDBYS: &str = "SELECT pg_catalog.concat_ws(' at ', s.application_name, s.client_addr::text) \
FROM pg_catalog.pg_stat_replication s WHERE s.state IS NULL OR s.state OPERATOR(pg_catalog.=) 'streaming'";

/// Asks a primary for the history of its timeline. `None`: it does not say.
pub(super) async fn history(
    address: HostAddress,
    mut plan: DialPlan,
    local: Rc<Local>,
    timeline: u32,
    found: mpsc::UnboundedSender<Past>,
) {
    // The command is one of the replication protocol; with a database, the usual rules let it in.
    plan.parameters.push(("replication".to_owned(), "database".to_owned()));
    let known = ask(address, plan, local, &format!("TIMELINE_HISTORY {timeline}")).await;
    let text = known.and_then(|rows| rows.into_iter().next()?.into_iter().nth(1)?);
    let _ = found.send(Past { timeline, history: text.and_then(|text| ancestry::read_history(&text)) });
}

/// What a primary told of the timelines before its own.
#[derive(Debug)]
pub(super) struct Past {
    /// Its own timeline.
    pub(super) timeline: u32,
    /// The others, if it says.
    pub(super) history: Option<Vec<(u32, Lsn)>>,
}

/// Tells the standbys of the primary at `address`, once; silent if it cannot.
pub(super) async fn survey(
    address: HostAddress,
    plan: DialPlan,
    local: Rc<Local>,
    found: mpsc::UnboundedSender<Vec<String>>,
) {
    tokio::time::sleep(DELAY).await;
    if let Some(rows) = ask(address, plan, local, STANDBYS).await {
        let _ = found.send(rows.into_iter().flatten().map(Option::unwrap_or_default).collect());
    }
}

/// Rows of one answer; `None` if there is none.
async fn ask(
    address: HostAddress,
    mut plan: DialPlan,
    local: Rc<Local>,
    question: &str,
) -> Option<Vec<Vec<Option<String>>>> {
    plan.hosts = vec![address];
    plan.order = HostOrder::InOrder;
    plan.target = Target::Any;
    plan.preferred = Arc::default();
    let timeout = plan.timeout;
    let asked = async {
        let mut server = dial::dial(&plan, &local, 0).await.ok()?;
        let answer = simple_query(&mut server, question).await.ok()?;
        server.close();
        Some(answer.rows)
    };
    tokio::time::timeout(timeout, asked).await.ok()?
}
