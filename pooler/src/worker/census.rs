//! What a worker tells the control thread when it asks, gathered a piece at a time: between two pieces clients are served.

use crate::ids::SessionId;
use crate::pins::PinReason;
use crate::report::{Wanted, WorkerReport};
use crate::session::services::Services;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// Pools, or sessions, that are looked at before clients have a turn: some 20 us.
const PIECE: usize = 64;

/// Gathers what is wanted and sends it.
pub(super) async fn report(services: Rc<Services>, wanted: Wanted, reply: oneshot::Sender<WorkerReport>) {
    let mut report = WorkerReport {
        sessions: services.session_count(),
        logins: services.login_count(),
        free_blocks: services.shared.buffers.kept(),
        routes: services.router.counts.told(),
        ..WorkerReport::default()
    };
    let mut places = HashMap::new();
    for piece in services.pools.all().chunks(PIECE) {
        for pool in piece {
            places.insert(pool.number, report.pools.len());
            report.pools.push(pool.report());
            report.tls.1 += pool.count_tls();
            if wanted.servers {
                report.servers.extend(pool.servers().into_iter().map(|server| (pool.key.clone(), server)));
            }
        }
        yield_now().await;
    }
    let sessions = if wanted.sessions || wanted.clients { services.session_ids() } else { Vec::new() };
    for piece in sessions.chunks(PIECE) {
        for id in piece {
            look_at(&services, *id, wanted, &places, &mut report);
        }
        yield_now().await;
    }
    report.shapes = services.shared.shapes.busiest(wanted.shapes);
    let _ = reply.send(report);
}

/// Adds one session, if it is still there.
fn look_at(
    services: &Services,
    id: SessionId,
    wanted: Wanted,
    places: &HashMap<u32, usize>,
    report: &mut WorkerReport,
) {
    let Some(session) = services.session(id) else { return };
    if let Some((pool, pins)) = session.pinned()
        && let Some(known) = places.get(&pool.number).and_then(|place| report.pools.get_mut(*place))
    {
        for (reason, count) in PinReason::ALL.into_iter().zip(&mut known.pinned) {
            *count += u64::from(pins.has(reason));
        }
    }
    report.tls.0 += usize::from(session.about().is_some_and(|about| about.ends.tls.is_some()));
    if wanted.clients {
        report.clients.extend(session.report());
    }
}
