//! The life of a session that is logged in: idle -> link -> relay -> release, until an end.

use super::end::End;
use super::handle::{CancelTarget, Place, Signal, Timer};
use super::idle::Idle;
use super::loss::Circumstances;
use super::notes::{Spent, Watch};
use super::outcome::Outcome;
use super::queue::Linked;
use super::refusal::{self, Refusal};
use super::rerun::Rerun;
use super::routing::{BEGIN_EARLY, Errand, Proof};
use super::{Deferred, Session};
use crate::balance::Passage;
use crate::config::settings::{CommitOutcome, LostTransactions, PoolMode};
use crate::ids::WorkerId;
use crate::mailbox::Drain;
use crate::pool::{Member, Pool, PoolPlan};
use crate::relay::{Commit, Relay, Resolve, Stop};
use crate::report::Doing;
use crate::route::decide::Nature;
use crate::server::checkin::Discard;
use crate::server::connection::Effect;
use hawser_sql_router::ending::Ending;
use hawser_wire::backend::TransactionStatus;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Makes a transaction fail on the server that has failed for the client already, so that the server itself
/// answers what comes next.
const FAILS: &str = "ROLLBACK TO SAVEPOINT hawser_refused";

/// Why a session let go of its server connection.
enum Release {
    /// Everything is answered.
    Settled,
    /// The relay cannot go on.
    Stopped(Stop),
    /// Something other than bytes.
    Signal(Signal),
    /// A transaction in statement mode.
    NotAllowed,
}

/// How the cycle ends.
pub(super) enum Cycle {
    /// With the session.
    Over(End),
    /// The session goes on on another worker.
    Moves(WorkerId, Passage),
}

impl Session {
    pub(super) async fn cycle(&mut self) -> Cycle {
        loop {
            if let Err(end) = self.idle().await {
                return Cycle::Over(end);
            }
            if let Err(end) = self.serve().await {
                return Cycle::Over(end);
            }
            if let Some((to, passage)) = self.departs() {
                return Cycle::Moves(to, passage);
            }
        }
    }

    /// Has the first batch in the input served, wherever it can be.
    async fn serve(&mut self) -> Result<(), End> {
        let since = Instant::now();
        self.handle.trace.requested.set(Some(since));
        let mut errand = Errand::new(self.pool.clone());
        loop {
            if let Some(proof) = self.route(&mut errand, since) {
                Box::pin(self.wait_for_host(proof, &mut errand, since)).await;
            }
            self.handle.trace.reason.set(errand.reason);
            let mut served = match self.link(&mut errand, since).await? {
                Linked::Here(member) => self.relay(member, &mut errand, since).await?,
                Linked::Refused => return Ok(()),
                Linked::Elsewhere => Served::Again,
            };
            loop {
                served = match served {
                    Served::Lingers(member) => {
                        errand = Errand::new(self.pool.clone());
                        self.relay(member, &mut errand, since).await?
                    }
                    Served::Parted(member) if member.server.status == TransactionStatus::Failed => {
                        self.leave_failed(member, &errand);
                        return Ok(());
                    }
                    Served::Parted(member) => {
                        let now = Instant::now();
                        let Some(next) = self.goes_on(&errand) else {
                            errand = self.leave_standby(member, &errand);
                            break;
                        };
                        errand = next;
                        self.relay(member, &mut errand, now).await?
                    }
                    Served::Done => return Ok(()),
                    Served::Again => {
                        errand.fail();
                        break;
                    }
                }
            }
        }
    }

    /// A transaction that only read on a standby begins anew elsewhere, with the batch that has come.
    fn leave_standby(&mut self, member: Box<Member>, errand: &Errand) -> Errand {
        self.roll_back_on_standby(member, errand);
        self.deferred = errand.early.as_ref().map(|early| Deferred::Begun(early.begin.clone()));
        Errand::new(self.pool.clone())
    }

    /// A transaction has failed on a standby. It stays so where it might have written, until the client ends it.
    fn leave_failed(&mut self, member: Box<Member>, errand: &Errand) {
        self.roll_back_on_standby(member, errand);
        self.client.state.leave();
        let begin = errand.early.as_ref().map_or_else(|| "BEGIN".into(), |early| early.begin.clone());
        self.deferred = Some(Deferred::Failed(begin));
    }

    fn roll_back_on_standby(&self, member: Box<Member>, errand: &Errand) {
        let needs_reset = self.client.state.has_question() || member.server.listens;
        errand.pool.recover(member, None, needs_reset);
    }

    /// Waits until a standby has seen enough, or the batch goes to the primary.
    async fn wait_for_host(&mut self, proof: Proof, errand: &mut Errand, since: Instant) {
        let began = since.elapsed();
        let mut next = Some(proof);
        while let Some(proof) = next {
            proof.wait().await;
            next = self.route(errand, since);
        }
        self.note_choice(&errand.pool, began, since.elapsed());
    }

    /// Waits until there is something for a server.
    async fn idle(&mut self) -> Result<(), End> {
        self.begin_idle();
        loop {
            match poll_fn(|cx| self.poll_idle(cx)).await {
                Idle::Work => {
                    self.handle.set_deadline(None);
                    return Ok(());
                }
                Idle::Answer(answer) => {
                    self.tell(&answer).await?;
                    self.begin_idle();
                }
                Idle::Refuse(refusal) => {
                    Box::pin(self.refuse(&refusal)).await?;
                    self.begin_idle();
                }
                Idle::Left(end) => return Err(end),
                Idle::NotifyQueueFull => return Err(self.fail(&Stop::NotifyQueueFull).await),
                Idle::Violation(violation) => return Err(self.fail(&violation.into()).await),
                Idle::Signal(Signal::Cancelled | Signal::Cut | Signal::News) => {}
                Idle::Signal(Signal::TimeOut(timer)) => return Err(Box::pin(self.time_out(timer)).await),
                Idle::Signal(Signal::Drain(drain)) => return Err(Box::pin(self.drain(drain)).await),
                Idle::Signal(Signal::Kill) => return Err(Box::pin(self.killed()).await),
            }
        }
    }

    /// Serves the client with a server connection until that can go back, or until the client should go on with it.
    async fn relay(
        &mut self,
        mut member: Box<Member>,
        errand: &mut Errand,
        since: Instant,
    ) -> Result<Served, End> {
        let pool = errand.pool.clone();
        let plan = pool.plan();
        self.begin_errand(errand, since);
        let rerun = self.rerun.take();
        let (mut relay, begun) = self.equip(&mut member, errand, &plan, rerun.as_deref());
        self.handle.set_place(Place::Linked(CancelTarget {
            key: member.server.cancel_key.clone(),
            cancels: member.server.cancels.clone(),
            plan: plan.clone(),
            origin: pool.cluster().zip(member.origin),
            card: member.card.clone(),
            pool: pool.clone(),
        }));
        let mut watch = self.note_begin(&pool, &mut relay, &member, since);
        watch.since = errand.early.as_ref().map_or(since, |early| early.since);
        let release =
            poll_fn(|cx| self.poll_relay(cx, &mut relay, &mut member, &pool, &plan, &mut watch)).await;
        self.handle.set_place(Place::Detached);
        let now = Instant::now();
        self.note_end(&pool, &mut relay, &member, &mut watch, now);
        self.end_errand(errand, since, now, &relay);
        if relay.acknowledged > 0 {
            pool.note_write();
        }
        if !matches!(release, Release::Settled) {
            let parting = Parting { release, begun, rerun };
            return Box::pin(self.part(relay, member, errand, parting)).await;
        }
        if relay.has_parted() {
            return Ok(Served::Parted(member));
        }
        if self.client.state.lingers() && Box::pin(self.speaks_soon(&pool, since)).await {
            return Ok(Served::Lingers(member));
        }
        self.client.state.leave();
        pool.check_in(member, false);
        Ok(Served::Done)
    }

    /// A relay for an errand, with what must reach the server before anything of the client's. With the BEGIN, if that
    /// begins a transaction.
    fn equip(
        &mut self,
        member: &mut Member,
        errand: &Errand,
        plan: &PoolPlan,
        rerun: Option<&Rerun>,
    ) -> (Box<Relay>, Option<Box<str>>) {
        let mut relay = Box::new(Relay::new(plan.limits, plan.mode == PoolMode::Session));
        relay.confined = errand.standby.is_some();
        relay.guess = errand.is_guess();
        relay.reads = errand.only_reads();
        relay.parts = errand.is_early();
        relay.leaves_failed = errand.standby.is_some() && errand.nature == Some(Nature::Read);
        relay.resolve = resolve(plan.commit_outcome, errand);
        if let Some(known) = self.known() {
            relay.hidden = known.hidden();
        }
        if let Some(routing) = &self.routing {
            relay.own = routing.own_defaults();
            relay.clock = errand.standby.is_none().then(|| routing.write_clock());
        }
        let keeps_journal = plan.lost_transactions == LostTransactions::Replay
            && errand.standby.is_none()
            && member.server.status == TransactionStatus::Idle
            && !matches!(self.deferred, Some(Deferred::Failed(_)));
        let begun = self.prepare(&mut relay, member, errand);
        if keeps_journal {
            relay.keep_journal(begun.clone());
        }
        if let Some(rerun) = rerun {
            relay.retell(rerun.tape.clone());
        }
        (relay, begun)
    }

    /// A relay has ended that is not settled.
    async fn part(
        &mut self,
        mut relay: Box<Relay>,
        member: Box<Member>,
        errand: &mut Errand,
        parting: Parting,
    ) -> Result<Served, End> {
        let Parting { release, begun, rerun } = parting;
        if relay.has_told() {
            errand.get_on();
        }
        if let Some((rerun, left)) = rerun.zip(relay.stop_retelling())
            && (is_loss(&release) || matches!(release, Release::Stopped(Stop::Differs)))
        {
            return self.leave_rerun(&mut relay, member, errand, &release, (*rerun, left)).await;
        }
        if may_run_again(&release, errand, begun.is_some()) && relay.is_replayable() {
            self.take_back(&mut relay, member, errand, begun, &release);
            return Ok(Served::Again);
        }
        if matches!(release, Release::Stopped(Stop::ServerEnds(_)))
            && let Some(batch) = relay.take_batch_that_ended_its_server(&member.server)
        {
            errand.kept = Some(batch);
            self.take_back(&mut relay, member, errand, begun, &release);
            return Ok(Served::Again);
        }
        if is_loss(&release) && relay.may_part(&self.client, &member.server) {
            self.begin_anew(&mut relay, member, errand);
            return Ok(Served::Done);
        }
        if matches!(release, Release::Stopped(Stop::EndedItself(_))) {
            self.deliver(&mut relay).await?;
        }
        let can_speak = !relay.is_mid_reply();
        if is_loss(&release) && !relay.is_cut() {
            let begun = begun.is_some() && relay.traffic.queries == 0;
            return self.survive(&mut relay, member, errand, begun).await;
        }
        let pool = errand.pool.clone();
        self.note_unpinned(&pool);
        self.give_up(&mut relay, member, &pool, &release);
        Err(self.end(release, can_speak).await)
    }

    /// Undoes a relay of which the client has heard nothing, so that its batch can run again.
    fn take_back(
        &mut self,
        relay: &mut Relay,
        mut member: Box<Member>,
        errand: &mut Errand,
        begun: Option<Box<str>>,
        release: &Release,
    ) {
        relay.abandon(&mut self.client, &mut member.server);
        self.client.lose_server(false);
        if let Some(kept) = &errand.kept {
            self.leave_out(relay.unsent(kept.len()));
            self.put_back(kept);
        }
        if errand.is_early()
            && matches!(release, Release::Stopped(Stop::OursFailed(_)))
            && let Some(routing) = &mut self.routing
        {
            routing.give_up_early();
        }
        self.deferred = begun.map(Deferred::Begun);
        if let Release::Stopped(Stop::Misrouted(refusal)) = release {
            self.learn(errand, refusal);
            errand.pool.discard(member, Discard::Unfinished);
        } else {
            errand.note_loss();
            errand.pool.lose(member);
        }
    }

    /// The second run of a transaction ends before it has come to where the first one was. `left`: so many bytes of it are
    /// still in the input.
    async fn leave_rerun(
        &mut self,
        relay: &mut Relay,
        mut member: Box<Member>,
        errand: &mut Errand,
        release: &Release,
        (rerun, left): (Rerun, usize),
    ) -> Result<Served, End> {
        relay.abandon(&mut self.client, &mut member.server);
        self.client.lose_server(false);
        self.note_unpinned(&errand.pool);
        if is_loss(release) {
            errand.pool.lose(member);
            if errand.may_rerun() {
                return Ok(self.rerun_once_more(rerun, left));
            }
        } else {
            tracing::info!(pool = %errand.pool.key, "a transaction that was to run again has other answers by now");
            errand.pool.discard(member, Discard::Unfinished);
        }
        self.give_up_rerun(rerun, left).await.map(|()| Served::Done)
    }

    /// The standby is lost on which a transaction only read, between two of its batches: nobody need know.
    fn begin_anew(&mut self, relay: &mut Relay, mut member: Box<Member>, errand: &Errand) {
        relay.abandon(&mut self.client, &mut member.server);
        self.client.lose_server(false);
        self.deferred = errand.early.as_ref().map(|early| Deferred::Begun(early.begin.clone()));
        errand.pool.lose(member);
    }

    /// The server connection is lost, and the session goes on.
    async fn survive(
        &mut self,
        relay: &mut Relay,
        mut member: Box<Member>,
        errand: &mut Errand,
        begun: bool,
    ) -> Result<Served, End> {
        let pool = &errand.pool.clone();
        let delivered = self.deliver(relay).await;
        let server = &mut member.server;
        let failed = server.status == TransactionStatus::Failed;
        let in_transaction = begun || server.status != TransactionStatus::Idle;
        let (completion, identity) = (relay.completion(server), std::mem::take(&mut server.identity));
        let tape = relay.take_tape();
        let loss = relay.abandon(&mut self.client, server);
        self.note_unpinned(pool);
        pool.lose(member);
        delivered?;
        let outcome = match loss.commit {
            _ if failed && loss.ending == Some(Ending::Commit) => Some(Outcome::Aborted),
            // A standby has nothing that could be lost.
            _ if errand.standby.is_some() && loss.ending == Some(Ending::Commit) => Some(Outcome::Committed),
            Commit::Answered => Some(Outcome::Committed),
            Commit::Sent if completion.is_some() => Some(self.find_out(&self.pool.clone(), &identity).await?),
            Commit::Sent => Some(Outcome::Unknown),
            Commit::None | Commit::Asking | Commit::Open => None,
        };
        let outcome = match outcome {
            Some(Outcome::Committed) if completion.is_none() => Some(Outcome::Unknown),
            outcome => outcome,
        };
        let gone = self.client.lose_server(outcome == Some(Outcome::Committed));
        let circumstances = Circumstances { loss, in_transaction, outcome, gone };
        match tape.filter(|tape| circumstances.may_run_again(tape.heard.is_empty()) && errand.may_rerun()) {
            Some(tape) => Ok(self.rerun(tape, circumstances)),
            None => self.conclude(circumstances, completion.unwrap_or_default()).await.map(|()| Served::Done),
        }
    }

    /// What must reach the server before anything of the client's: its settings, and a BEGIN that waited.
    /// The BEGIN, if it begins a transaction.
    fn prepare(&mut self, relay: &mut Relay, member: &mut Member, errand: &Errand) -> Option<Box<str>> {
        let server = &mut member.server;
        relay.prepend_settings(&self.client, server);
        let early = errand.early.as_ref().filter(|_| errand.is_early());
        let Some(deferred) = self.deferred.take() else { return early.map(|early| early.begin.clone()) };
        match deferred {
            Deferred::Lost => None,
            Deferred::Begun(begin) => {
                let text = if early.is_some() { BEGIN_EARLY } else { &begin };
                relay.prepend(server, text, Effect::Ours);
                Some(begin)
            }
            Deferred::Failed(begin) => {
                relay.prepend(server, &begin, Effect::Ours);
                relay.prepend(server, FAILS, Effect::MustFail);
                Some(begin)
            }
        }
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        relay: &mut Relay,
        member: &mut Member,
        pool: &Pool,
        plan: &PoolPlan,
        watch: &mut Watch,
    ) -> Poll<Release> {
        if let Some(signal) = self.handle.take_signal(cx.waker()) {
            match signal {
                Signal::Cancelled | Signal::News => {}
                Signal::TimeOut(Timer::Pin) => self.give_up_values(pool, watch),
                Signal::Cut => return Poll::Ready(Release::Stopped(Stop::ServerCut)),
                Signal::Drain(drain) if drain != Drain::Immediately => self.handle.postpone(drain),
                signal => return Poll::Ready(Release::Signal(signal)),
            }
        }
        let mut polled = relay.poll(cx, &mut self.client, &mut member.server, &self.shared);
        if relay.needs_listener() {
            let listener = self.shared.desk.enlist(self.handle.id, &plan.dial, plan.limits.notify_queue);
            self.client.listener = Some(Box::new(listener));
            polled = relay.poll(cx, &mut self.client, &mut member.server, &self.shared);
        }
        if !relay.outward.is_empty() {
            self.act_outward(relay, &member.server, plan);
        }
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready(Release::Settled),
            Poll::Ready(Err(stop)) => Poll::Ready(Release::Stopped(stop)),
            Poll::Pending => {
                let status = member.server.status;
                // A session that keeps its server connection is never idle without it, so it looks here.
                if let Some(drain) = self.handle.postponed()
                    && status == TransactionStatus::Idle
                    && member.server.queue.is_settled()
                    && !relay.is_busy(&member.server)
                {
                    return Poll::Ready(Release::Signal(Signal::Drain(drain)));
                }
                if plan.mode == PoolMode::Statement
                    && status != TransactionStatus::Idle
                    && member.server.queue.is_settled()
                {
                    return Poll::Ready(Release::NotAllowed);
                }
                // What was flushed without a Sync is a transaction, whatever the last status was.
                let idle = status == TransactionStatus::Idle && member.server.queue.is_settled();
                let pinned = self.note_pins(pool);
                watch.note_client(relay.waits_for_reader());
                if let Some(spent) = self.watch(watch, relay.is_busy(&member.server), idle) {
                    self.note_query(pool, relay, spent, pinned);
                }
                Poll::Pending
            }
        }
    }

    /// Sets the deadline when the session begins or ends to wait for the server. How long a query took, when one
    /// is over.
    fn watch(&self, watch: &mut Watch, busy: bool, idle: bool) -> Option<Spent> {
        if watch.state == Some((busy, idle)) {
            return None;
        }
        let first = watch.state.replace((busy, idle)).is_none();
        let timeouts = &*self.timeouts;
        let (limit, timer, doing) = if busy {
            (timeouts.query, Timer::Query, Doing::Busy)
        } else if idle {
            (timeouts.client_idle, Timer::ClientIdle, Doing::Pinned)
        } else {
            (timeouts.idle_transaction, Timer::IdleTransaction, Doing::Thinking)
        };
        self.handle.trace.doing.set(doing);
        let timed = limit.is_some() || timeouts.transaction.is_some();
        if first && busy && !timed {
            self.handle.set_deadline(None);
            return None;
        }
        let now = Instant::now();
        let over = watch.time_query(busy, now);
        let limit = limit.map(|limit| (now + limit, timer));
        let whole = timeouts
            .transaction
            .filter(|_| busy || !idle)
            .map(|limit| (watch.since + limit, Timer::Transaction));
        watch.limit = limit.into_iter().chain(whole).min_by_key(|(at, _)| *at);
        self.set_deadline(watch, now);
        over
    }

    /// The session wakes up when the first of its timeouts is over, or to look whether its connection is wanted.
    pub(super) fn set_deadline(&self, watch: &Watch, now: Instant) {
        let looks = watch.is_idle().then(|| self.gives_up_at(now)).flatten().map(|at| (at, Timer::Pin));
        self.handle.set_deadline(watch.limit.into_iter().chain(looks).min_by_key(|(at, _)| *at));
    }

    /// Gives a server connection back that is in the middle of something, or closes it.
    fn give_up(&mut self, relay: &mut Relay, member: Box<Member>, pool: &Rc<Pool>, release: &Release) {
        let (server, state) = (&member.server, &self.client.state);
        let needs_reset = relay.keep || !state.pins.is_empty() || state.has_question() || server.listens;
        if is_loss(release) || is_useless(release) || relay.is_mid_message() {
            pool.discard(member, Discard::Unfinished);
        } else if server.queue.is_settled() && server.status == TransactionStatus::Idle && relay.is_drained()
        {
            pool.check_in(member, needs_reset);
        } else {
            pool.recover(member, relay.take_input(), needs_reset);
        }
    }

    /// The last words after a relay that did not end well.
    async fn end(&mut self, release: Release, can_speak: bool) -> End {
        let (end, refusal) = match release {
            Release::Settled => (End::ClientLeft, None),
            Release::NotAllowed => {
                (End::Violation("transaction in statement mode".into()), Some(Refusal::NoTransactions))
            }
            Release::Signal(Signal::TimeOut(timer)) => (End::TimeOut(timer), Some(Refusal::TimeOut(timer))),
            Release::Signal(Signal::Drain(drain)) => (End::Drained(drain), Some(Refusal::ShuttingDown)),
            Release::Signal(Signal::Kill) => (End::Killed, Some(Refusal::ShuttingDown)),
            Release::Signal(Signal::Cancelled | Signal::Cut | Signal::News) => (End::ClientLeft, None),
            Release::Stopped(stop) => (end_of(&stop), refusal::of_stop(&stop)),
        };
        if let Some(refusal) = refusal.filter(|_| can_speak) {
            self.say_last(&refusal).await;
        }
        end
    }
}

/// How a relay that the session survives ends.
pub(super) enum Served {
    Done,
    /// The batch is back in the input, to run elsewhere.
    Again,
    /// The client goes on with the server connection.
    Lingers(Box<Member>),
    /// The client goes on with its transaction, which is on a standby and need not stay there.
    Parted(Box<Member>),
}

/// Whether a batch may run again whose relay ended like this, provided that the client has heard nothing.
fn may_run_again(release: &Release, errand: &Errand, begun: bool) -> bool {
    if errand.kept.is_none() {
        return false;
    }
    match release {
        Release::Stopped(Stop::Misrouted(_)) => true,
        Release::Stopped(Stop::OursFailed(_)) => errand.standby.is_some(),
        _ => is_loss(release) && (errand.only_reads() || begun) && errand.may_lose_another(),
    }
}

/// Which commits of an errand must be known.
const fn resolve(wanted: CommitOutcome, errand: &Errand) -> Resolve {
    match wanted {
        _ if errand.standby.is_some() => Resolve::Nothing,
        CommitOutcome::Unknown => Resolve::Nothing,
        CommitOutcome::Resolve => Resolve::Transactions,
        CommitOutcome::ResolveAll => Resolve::Everything,
    }
}

/// How a relay ended that is not settled.
struct Parting {
    release: Release,
    /// The BEGIN that went ahead of what the client sent.
    begun: Option<Box<str>>,
    /// The transaction that ran again.
    rerun: Option<Box<Rerun>>,
}

/// Whether a session let go because its server connection is lost.
const fn is_loss(release: &Release) -> bool {
    matches!(
        release,
        Release::Stopped(Stop::ServerLeft | Stop::ServerLost(_) | Stop::ServerEnds(_) | Stop::ServerCut)
    )
}

/// Whether a session let go of a server connection that is there, and cannot serve anybody.
const fn is_useless(release: &Release) -> bool {
    matches!(
        release,
        Release::Stopped(
            Stop::ServerViolation(_)
                | Stop::ServerFraming(_)
                | Stop::OursFailed(_)
                | Stop::Misrouted(_)
                | Stop::Differs
                | Stop::EndedItself(_)
        )
    )
}

pub(super) fn end_of(stop: &Stop) -> End {
    match stop {
        Stop::ClientLeft => End::ClientLeft,
        Stop::EndedItself(_) => End::ServerEnded,
        Stop::ClientLost(error) => End::ClientLost(error.kind()),
        Stop::Violation(violation) => End::Violation(violation.to_string()),
        Stop::ServerLeft
        | Stop::ServerLost(_)
        | Stop::ServerEnds(_)
        | Stop::ServerCut
        | Stop::ServerViolation(_)
        | Stop::ServerFraming(_) => End::ServerLost,
        Stop::OursFailed(_) | Stop::Misrouted(_) | Stop::Differs => End::SettingsRefused,
        Stop::NotifyQueueFull => End::NotifyQueueFull,
    }
}
