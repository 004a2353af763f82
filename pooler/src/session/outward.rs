//! What a session's statements mean for others: sessions that it ends or cancels, databases that it wants for itself,
//! and roles that it makes somebody else.
//!
//! `pg_terminate_backend` and `pg_cancel_backend` are given the number that the other's client was told at login, which
//! on a connection of its own is the number of its server process.

use super::Session;
use super::handle::Signal;
use super::services::Services;
use crate::mailbox::{Disturbance, Inhabitant, Location, Order, Whom};
use crate::notify::{HubOrder, Station};
use crate::pool::PoolPlan;
use crate::relay::{Outward, Relay};
use crate::server::connection::ServerConnection;
use hawser_sql_router::calls::Disturbs;
use std::sync::Arc;
use tokio::task::spawn_local;

impl Session {
    /// Tells the workers what the client's statements ask of them.
    #[cold]
    pub(super) fn act_outward(&self, relay: &mut Relay, server: &ServerConnection, plan: &PoolPlan) {
        let mailboxes = self.pool.mailboxes();
        for outward in relay.outward.drain(..) {
            match outward {
                Outward::Disturb(session, how) => {
                    if let Some(disturbance) = self.disturbance(Whom::Session(session), how, server) {
                        mailboxes.send(mailboxes.worker_of(session), Order::Disturb(Box::new(disturbance)));
                    }
                }
                Outward::EndProcess(number) => {
                    let whom = Whom::Process(server.cancel_key.address.clone(), number);
                    let Some(disturbance) = self.disturbance(whom, Disturbs::Ends, server) else { continue };
                    mailboxes.send_all(|| Order::Disturb(Box::new(disturbance.clone())));
                }
                // The server waits five seconds for the others to leave.
                Outward::NeedsAlone(database) => {
                    let station = Station { hosts: plan.dial.hosts.clone(), dbname: database.clone() };
                    mailboxes.send_hub(HubOrder::Vacate(Arc::new(station)));
                    self.vacate(plan, Inhabitant::Database(database));
                }
                Outward::Renames(role) => self.vacate(plan, Inhabitant::User(role)),
            }
        }
    }

    fn disturbance(&self, whom: Whom, how: Disturbs, server: &ServerConnection) -> Option<Disturbance> {
        let about = self.handle.about()?;
        let is_superuser = ("is_superuser".to_owned(), "on".to_owned());
        Some(Disturbance {
            whom,
            how,
            user: about.user.clone(),
            database: about.database.clone(),
            is_superuser: server.welcome.contains(&is_superuser),
        })
    }

    /// Tells the workers to leave connections that lead where this session's do.
    fn vacate(&self, plan: &PoolPlan, of: Inhabitant) {
        let mailboxes = self.pool.mailboxes();
        let location = Arc::new(Location { hosts: plan.dial.hosts.clone(), of });
        mailboxes.send_all(|| Order::Vacate(location.clone()));
    }
}

impl Services {
    /// Ends a session, or cancels what it runs, for another session that may do so: one of the same database whose user
    /// is the same or a superuser.
    pub fn disturb(&self, disturbance: &Disturbance) {
        let sessions: Vec<_> = match &disturbance.whom {
            Whom::Session(session) => self.session(*session).into_iter().collect(),
            Whom::Process(address, number) => self.sessions_of(address, *number),
        };
        for session in sessions {
            let may = session.about().is_some_and(|about| {
                // Numbers of sessions say nothing of where they are.
                let near =
                    matches!(disturbance.whom, Whom::Process(..)) || about.database == disturbance.database;
                near && (disturbance.is_superuser || about.user == disturbance.user)
            });
            match disturbance.how {
                Disturbs::Ends | Disturbs::EndsItself if may => session.raise(Signal::Kill),
                Disturbs::Cancels if may => drop(spawn_local(async move { session.cancel().await })),
                _ => {}
            }
        }
    }
}
