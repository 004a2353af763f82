//! What clients are told at login: learned from a server once, and then known on every worker.

use super::{Member, Pool};
use crate::parameters::ParameterSet;
use crate::server::exchange::{self, simple_query};
use dashmap::DashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Startup parameters, as the key of what a client is told for them.
pub type Welcoming = Vec<(String, String)>;

/// What clients of a pool were told at login, by what they asked for: a worker need not ask a server again for what
/// another knows.
pub type Told = DashMap<Welcoming, Arc<ToldOnce>>;

/// A [`Welcome`] between workers.
#[derive(Debug)]
pub struct ToldOnce {
    /// The connections from which it was learned.
    generation: u64,
    reported: Vec<(String, String)>,
    settings: ParameterSet,
}

/// What a client is told at login, and what it wants set from then on.
#[derive(Debug)]
pub struct Welcome {
    generation: u64,
    /// ParameterStatus, in order.
    pub reported: Vec<(String, String)>,
    /// What must be set on a server for this client.
    pub settings: Rc<ParameterSet>,
}

/// Welcomes that are kept per pool.
const MOST_WELCOMES: usize = 256;

impl Pool {
    /// What a client with these startup parameters is told, if that is known of the connections of today: where they were
    /// all to be made anew, the server may have other defaults.
    #[must_use]
    pub fn welcome(&self, wanted: &Welcoming) -> Option<Rc<Welcome>> {
        let generation = self.budget.generation();
        if let Some(known) = self.welcomes.borrow().get(wanted)
            && known.generation == generation
        {
            return Some(known.clone());
        }
        let told = self.told.get(wanted).filter(|told| told.generation == generation)?.clone();
        let settings = self.surroundings.interner().intern(told.settings.clone());
        let welcome = Rc::new(Welcome { generation, reported: told.reported.clone(), settings });
        self.remember(wanted.clone(), welcome.clone());
        Some(welcome)
    }

    fn remember(&self, wanted: Welcoming, welcome: Rc<Welcome>) {
        let mut welcomes = self.welcomes.borrow_mut();
        if welcomes.len() >= MOST_WELCOMES {
            welcomes.clear();
        }
        welcomes.insert(wanted, welcome);
    }

    /// Finds out what a client with these startup parameters is told, by setting them on a connection.
    ///
    /// # Errors
    /// The server refuses a parameter, or is lost.
    pub async fn learn_welcome(
        &self,
        member: &mut Member,
        wanted: Welcoming,
    ) -> Result<Rc<Welcome>, exchange::ExchangeError> {
        let interner = self.surroundings.interner();
        // A server reports what changes, so it begins where it was at its login.
        let server = &mut member.server;
        let back = server.change_settings(None, &interner.intern(ParameterSet::default()));
        if !back.is_empty() {
            server.tainted = true;
            simple_query(server, &back).await?;
            server.tainted = false;
        }
        let settings = interner.intern(ParameterSet::from_pairs(wanted.iter().map(|(n, v)| (n, v))));
        let statements = server.change_settings(None, &settings);
        let mut reported: Vec<(String, String)> = Vec::clone(&server.welcome);
        let mut known = ParameterSet::clone(&settings);
        if !statements.is_empty() {
            server.tainted = true;
            let answer = simple_query(server, &statements).await?;
            server.tainted = false;
            for (name, value) in answer.reported {
                if settings.value(&name).is_some() {
                    known.put(&name, &value);
                }
                match reported.iter_mut().find(|(known, _)| *known == name) {
                    Some(entry) => entry.1 = value,
                    None => reported.push((name, value)),
                }
            }
        }
        let settings = interner.intern(known);
        server.settings = settings.clone();
        let generation = server.generation;
        let welcome = Rc::new(Welcome { generation, reported, settings });
        if self.told.len() >= MOST_WELCOMES {
            self.told.clear();
        }
        let (reported, settings) = (welcome.reported.clone(), ParameterSet::clone(&welcome.settings));
        let told = ToldOnce { generation, reported, settings };
        self.told.insert(wanted.clone(), Arc::new(told));
        self.remember(wanted, welcome.clone());
        Ok(welcome)
    }
}
