//! Orders of the operator, carried out.

use super::Desk;
use crate::config::pgbouncer;
use crate::config::reference::{self, Change};
use crate::ids::SessionId;
use crate::mailbox::{Drain, Order};
use crate::pool::halt::{Scope, Stance};
use crate::report::Wanted;
use crate::runtime::Runtime;
use hawser_admin::door::facts::Ban;
use hawser_admin::door::{self, Refused, Shutdown};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Pause between two looks whether an order is carried out.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl Desk {
    /// Carries an order out.
    pub(super) async fn obey(&self, order: door::Order) -> Result<(), Refused> {
        match order {
            door::Order::Pause(of) => self.pause(&of).await,
            door::Order::Suspend => self.suspend().await,
            door::Order::Hold(of) => self.hold(&of).await,
            door::Order::Release(of) => self.release(&of),
            door::Order::Resume(of) => self.resume(&of),
            door::Order::Ban(host) => self.ban(&host, Ban::Banned).await.map(drop),
            door::Order::Unban(host) => self.ban(&host, Ban::None).await.map(drop),
            door::Order::Drain(host) => self.drain_host(&host).await,
            door::Order::Disable(name) => self.set_disabled(name, true),
            door::Order::Enable(name) => self.set_disabled(name, false),
            door::Order::Reconnect(of) => {
                let scope = self.scope(&of, "reconnect")?;
                self.facilities().reconnect(&scope);
                Ok(())
            }
            door::Order::WaitClose(of) => self.wait_close(&of).await,
            door::Order::Kill(of) => self.kill(&of).await,
            door::Order::KillClient(id) => self.kill_client(id).await,
            door::Order::Reload => self.reload_all(),
            door::Order::Set(key, value) => self.set(&key, &value),
            door::Order::Shutdown(how) => self.shut_down(how),
        }
    }

    /// What an order is about, if it exists; `order` is the order in words.
    pub(super) fn scope(&self, of: &door::Scope, order: &'static str) -> Result<Scope, Refused> {
        match of {
            door::Scope::All => Ok(Scope::All),
            door::Scope::Database(name) if self.runtime().is_console(name) => {
                Err(Refused::IsConsole { order, database: name.clone() })
            }
            door::Scope::Database(name) if self.runtime().database(name).is_some() => {
                Ok(Scope::Database(name.clone()))
            }
            door::Scope::Database(name) => Err(Refused::NoDatabase(name.clone())),
        }
    }

    fn halt(&self, scope: &Scope, stance: Stance) {
        if *scope == Scope::All {
            self.suspended.set(false);
        }
        self.halts.borrow_mut().set(scope, stance);
        self.mailboxes.send_all(|| Order::Halt(scope.clone(), stance));
    }

    fn stance(&self, scope: &Scope) -> Stance {
        match scope {
            Scope::All => self.halts.borrow().of_all(),
            Scope::Database(name) => self.halts.borrow().of(name),
        }
    }

    /// Waits until no pool has anything under way, and fails when somebody changes the order meanwhile.
    async fn rest(&self, scope: &Scope, stance: Stance) -> Result<(), Refused> {
        loop {
            let mut at_rest = true;
            for answer in self.mailboxes.ask_all(|reply| Order::IsAtRest(scope.clone(), reply)) {
                at_rest &= answer.await.unwrap_or(true);
            }
            if self.stance(scope) != stance {
                return Err(Refused::Resumed);
            }
            if at_rest {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn pause(&self, of: &door::Scope) -> Result<(), Refused> {
        let scope = self.scope(of, "pause")?;
        if self.halts.borrow().of_all() != Stance::Open {
            return Err(Refused::AlreadyPaused);
        }
        self.halt(&scope, Stance::Paused);
        self.rest(&scope, Stance::Paused).await
    }

    async fn suspend(&self) -> Result<(), Refused> {
        let (all, any) = (self.halts.borrow().of_all(), self.halts.borrow().is_any());
        match all {
            Stance::Open if any => return Err(Refused::DatabasesPaused),
            Stance::Open => {}
            Stance::Suspended | Stance::Paused => return Err(Refused::AlreadyPaused),
        }
        self.halt(&Scope::All, Stance::Suspended);
        self.suspended.set(true);
        self.rest(&Scope::All, Stance::Suspended).await
    }

    /// A suspension is for an operator who is about to do something: it ends when nobody is left who could end it.
    pub(super) fn end_lonely_suspension(&self) {
        if self.consoles.len() == 0 && self.suspended.replace(false) {
            tracing::info!("the last operator has left: the suspension ends");
            self.halt(&Scope::All, Stance::Open);
        }
    }

    fn resume(&self, of: &door::Scope) -> Result<(), Refused> {
        if *of == door::Scope::All && self.draining.get() {
            return Err(Refused::Leaving);
        }
        let scope = self.scope(of, "resume")?;
        let halted = match &scope {
            Scope::All => self.halts.borrow().is_any(),
            Scope::Database(name) => self.halts.borrow().names(name),
        };
        match (halted, of) {
            (true, _) => self.halt(&scope, Stance::Open),
            (false, door::Scope::All) => return Err(Refused::NotPaused),
            (false, door::Scope::Database(name)) => return Err(Refused::DatabaseNotPaused(name.clone())),
        }
        Ok(())
    }

    fn set_disabled(&self, name: String, disabled: bool) -> Result<(), Refused> {
        let of = door::Scope::Database(name);
        if let Scope::Database(name) = self.scope(&of, if disabled { "disable" } else { "enable" })? {
            self.facilities().set_disabled(&name, disabled);
        }
        Ok(())
    }

    async fn wait_close(&self, of: &door::Scope) -> Result<(), Refused> {
        let scope = self.scope(of, "wait in")?;
        loop {
            let reports = self.survey(Wanted { servers: true, ..Wanted::default() }).await;
            let mut servers = reports.iter().flat_map(|report| &report.servers);
            if !servers.any(|(key, server)| server.outdated && scope.has(&key.database)) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn kill(&self, of: &door::Scope) -> Result<(), Refused> {
        let scope = self.scope(of, "kill")?;
        self.halt(&scope, Stance::Paused);
        self.mailboxes.send_all(|| Order::Kill(scope.clone()));
        self.rest(&scope, Stance::Paused).await
    }

    async fn kill_client(&self, id: u32) -> Result<(), Refused> {
        if self.consoles.kill(id) {
            return Ok(());
        }
        let session = SessionId(id);
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.mailboxes.send(self.mailboxes.worker_of(session), Order::KillSession(session, reply));
        if answer.await.unwrap_or(false) { Ok(()) } else { Err(Refused::NoClient(id)) }
    }

    fn shut_down(&self, how: Shutdown) -> Result<(), Refused> {
        let drain = match how {
            Shutdown::Immediate => Drain::Immediately,
            Shutdown::WaitForServers => Drain::WaitForTransactions,
            Shutdown::WaitForClients => Drain::WaitForClients,
        };
        self.endings.send(drain).map_err(|_| Refused::Leaving)
    }

    fn set(&self, key: &str, value: &str) -> Result<(), Refused> {
        let assigned = match reference::find(reference::GLOBAL, key) {
            Some(setting) => vec![(setting.name, value.to_owned())],
            None => match pgbouncer::assign(key, value) {
                None => return Err(Refused::NoSetting(key.to_owned())),
                Some(Err(why)) => return Err(Refused::WrongSettings(vec![why])),
                Some(Ok(assigned)) if assigned.is_empty() => {
                    return Err(Refused::NeedsRestart(key.to_owned()));
                }
                Some(Ok(assigned)) => assigned,
            },
        };
        let fixed = |name: &str| {
            reference::find(reference::GLOBAL, name).is_none_or(|setting| setting.change == Change::Restart)
        };
        if assigned.iter().all(|(name, _)| fixed(name)) {
            return Err(Refused::NeedsRestart(key.to_owned()));
        }
        let before = self.overrides.borrow().clone();
        {
            let mut overrides = self.overrides.borrow_mut();
            overrides.retain(|(known, _)| !assigned.iter().any(|(name, _)| name == known));
            overrides.extend(assigned.into_iter().filter(|(name, _)| !fixed(name)));
        }
        self.apply().inspect_err(|_| *self.overrides.borrow_mut() = before).map_err(Refused::WrongSettings)
    }

    /// Reads the settings again. What was set by hand is forgotten, unless they are wrong.
    fn reload_all(&self) -> Result<(), Refused> {
        let before = self.overrides.take();
        self.apply().inspect_err(|_| *self.overrides.borrow_mut() = before).map_err(Refused::WrongSettings)
    }

    /// As RELOAD, by a signal: nobody waits for the answer.
    pub fn reload(&self) {
        if self.reload_all().is_err() {
            tracing::error!("reload failed, the running settings stay");
        }
    }

    /// Reads the settings with what was set by hand, and hands them to the workers.
    fn apply(&self) -> Result<(), Vec<String>> {
        tracing::info!("reloading the settings");
        let _ = sd_notify::NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[sd_notify::NotifyState::Reloading, now]));
        let outcome = self.read_settings();
        self.settings_wrong.set(outcome.is_err());
        match &outcome {
            Ok(()) => {
                self.settings_read.set(SystemTime::now());
                tracing::info!("settings reloaded");
            }
            Err(problems) => problems.iter().for_each(|problem| tracing::error!("reload: {problem}")),
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        outcome
    }

    fn read_settings(&self) -> Result<(), Vec<String>> {
        let running = self.runtime();
        let reloaded = (self.reload.borrow_mut())(&running.settings, &self.overrides.borrow())?;
        let runtime = Runtime::load(reloaded.settings, running.facilities.clone());
        let runtime = Arc::new(runtime.map_err(|error| vec![error.to_string()])?);
        *self.runtime.borrow_mut() = runtime.clone();
        *self.sources.borrow_mut() = reloaded.sources;
        self.mailboxes.send_all(|| Order::Apply(runtime.clone()));
        self.topology.borrow_mut().apply(&runtime);
        self.forget_bans();
        for change in reloaded.changes {
            tracing::info!("reload: {change}");
        }
        Ok(())
    }
}
