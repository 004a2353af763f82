//! What is done to a connection before it is lent again: the check, the reset, and what brings one to rest whose client
//! vanished. Meanwhile the ledger counts it as resetting.

use super::card::Stage;
use super::{Member, Pool, PoolPlan, ledger};
use crate::server::checkin::{self, Circumstances, Verdict};
use crate::server::connection::{Doubt, ServerConnection};
use crate::server::exchange::{self, simple_query};
use std::rc::Rc;
use std::time::Instant;

/// Cleans up after a session. A reset query that leaves settings or statements is followed by what removes them,
/// so that what we believe of the connection afterwards is true.
async fn clean_up(server: &mut ServerConnection, reset_query: &str) -> Result<(), exchange::ExchangeError> {
    simple_query(server, reset_query).await?;
    let words = reset_query.trim().trim_end_matches(';').split_ascii_whitespace();
    if !words.map(str::to_ascii_lowercase).eq(["discard", "all"]) {
        simple_query(server, "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL").await?;
    }
    if !server.base.query.is_empty() {
        let base = server.base.clone();
        simple_query(server, &base.query).await?;
    }
    Ok(())
}

impl Pool {
    /// The connection's client vanished in the middle of something: ends that, or closes the connection.
    pub fn recover(
        self: &Rc<Self>,
        mut member: Box<Member>,
        input: Option<crate::stream::Buffer>,
        needs_reset: bool,
    ) {
        self.begin_reset(&member);
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let plan = pool.plan();
            let settled = crate::server::recover::recover(&mut member.server, input, &plan.dial).await;
            let needs_reset = plan.wants_reset(&mut member.server, needs_reset);
            member.server.cancels.quiet().await;
            pool.end_reset(member, settled, needs_reset);
        });
    }

    fn begin_reset(&self, member: &Member) {
        member.card.client.set(None);
        member.card.stage.set(Stage::Resetting);
        self.ledger.borrow_mut().begin_reset();
    }

    pub(super) fn check(self: &Rc<Self>, mut member: Box<Member>) {
        self.begin_reset(&member);
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let plan = pool.plan();
            let query = simple_query(&mut member.server, &plan.check_query);
            let alive =
                tokio::time::timeout(plan.dial.timeout, query).await.is_ok_and(|answer| answer.is_ok());
            member.server.released = Instant::now();
            pool.end_reset(member, alive, false);
        });
    }

    pub(super) fn await_cancels(self: &Rc<Self>, member: Box<Member>) {
        self.begin_reset(&member);
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            member.server.cancels.quiet().await;
            pool.end_reset(member, true, false);
        });
    }

    pub(super) fn reset(self: &Rc<Self>, member: Box<Member>, plan: Rc<PoolPlan>) {
        self.begin_reset(&member);
        self.run_reset(member, plan);
    }

    pub(super) fn run_reset(self: &Rc<Self>, mut member: Box<Member>, plan: Rc<PoolPlan>) {
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            member.server.cancels.quiet().await;
            let queries = clean_up(&mut member.server, &plan.reset_query);
            let clean =
                tokio::time::timeout(plan.dial.timeout, queries).await.is_ok_and(|answer| answer.is_ok());
            if clean {
                // Whatever the reset query leaves, the next client's settings are made anew from here.
                member.server.settings = pool.surroundings.interner().intern(Default::default());
                member.server.doubt = Doubt::None;
                member.server.sequences = None;
                member.server.statements.clear();
                member.server.listens = false;
            }
            pool.end_reset(member, clean, false);
        });
    }

    /// The connection is fit again, or it is closed.
    pub(super) fn end_reset(self: &Rc<Self>, mut member: Box<Member>, fit: bool, needs_reset: bool) {
        let now = Instant::now();
        let circumstances = Circumstances { now, generation: self.budget.generation(), needs_reset };
        let verdict = checkin::verdict(&member.server, circumstances);
        if fit && verdict == Verdict::Reset {
            let plan = self.plan();
            return self.run_reset(member, plan);
        }
        if fit && verdict == Verdict::Reuse && self.fits(&member) {
            member.server.released = now;
            member.card.stage.set(Stage::Idle);
            if self.keeps_aside() {
                return self.keep_aside(member, ledger::From::Reset);
            }
            let granted = self.ledger.borrow_mut().reset(member);
            self.deliver(granted);
        } else {
            self.ledger.borrow_mut().failed_to_reset();
            self.close(member);
            self.open_more();
        }
    }
}
