//! Asks a new primary which standbys it streams to: those that nobody has named are suggested to the operator. They are
//! never added unasked, for their addresses are not those at which they take clients.

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

/// Tells the standbys of the primary at `address`, once; silent if it cannot.
pub(super) async fn survey(
    address: HostAddress,
    mut plan: DialPlan,
    local: Rc<Local>,
    found: mpsc::UnboundedSender<Vec<String>>,
) {
    tokio::time::sleep(DELAY).await;
    plan.hosts = vec![address];
    plan.order = HostOrder::InOrder;
    plan.target = Target::Any;
    plan.preferred = Arc::default();
    let timeout = plan.timeout;
    let ask = async {
        let mut server = dial::dial(&plan, &local, 0).await.ok()?;
        let answer = simple_query(&mut server, STANDBYS).await.ok()?;
        server.close();
        Some(answer.rows.into_iter().flatten().map(Option::unwrap_or_default).collect())
    };
    if let Ok(Some(standbys)) = tokio::time::timeout(timeout, ask).await {
        let _ = found.send(standbys);
    }
}
