//! Asks one host what it is, over and over, on one connection that it keeps.
//!
//! An answer counts as life, a connection does not: a frozen host accepts and acknowledges. While the probe has nothing
//! to do it listens to its connection, so that the end of a server is known when it happens and not at the next tick.

use super::judge::{Observation, Outcome};
use super::moment::Moment;
use super::question::{self, Answer};
use super::snapshot::DownReason;
use crate::config::settings::{HealthSettings, HostAddress, HostOrder, Target};
use crate::ids::HostId;
use crate::server::connection::ServerConnection;
use crate::server::dial::{self, DialError, DialPlan, Local};
use crate::server::exchange::{ExchangeError, simple_query};
use hawser_wire::backend::error_fields;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// However much there is to ask, one host is asked at most this often.
const LEAST_GAP: Duration = Duration::from_millis(2);

/// What the probes of one cluster have in common.
#[derive(Debug)]
pub(super) struct Common {
    /// How to ask.
    pub(super) health: RefCell<HealthSettings>,
    /// What to log in with, best first; their hosts are replaced.
    pub(super) plans: RefCell<Vec<DialPlan>>,
    /// Scram keys and the like.
    pub(super) local: Rc<Local>,
    /// Where reports go.
    pub(super) reports: mpsc::UnboundedSender<Report>,
}

/// One observation, with words for the log if it failed.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) seen: Observation,
    /// When the connection was begun on which the host answered; `None` if it did not.
    pub(super) begun: Option<Moment>,
    pub(super) words: Option<String>,
}

/// What the cluster tells one of its probes.
#[derive(Debug, Default)]
pub(super) struct Rein {
    wake: Notify,
    pace: Cell<Duration>,
    gap: Cell<Duration>,
    /// Everything is wanted, and not only the position.
    everything: Cell<bool>,
    reconnect: Cell<bool>,
}

impl Rein {
    /// Ask everything now.
    pub(super) fn ask(&self) {
        self.everything.set(true);
        self.gap.set(Duration::ZERO);
        self.wake.notify_one();
    }

    /// Ask how far the log is, as soon as this long has passed since the last question.
    pub(super) fn ask_position(&self, gap: Duration) {
        self.gap.set(gap);
        self.wake.notify_one();
    }

    /// Ask this often from now on; at once, if that is more often than before.
    pub(super) fn set_pace(&self, pace: Duration) {
        let before = self.pace.replace(pace);
        if pace < before {
            self.ask();
        }
    }

    /// Log in anew at the next question: the address leads elsewhere, or the credentials have changed.
    pub(super) fn reconnect(&self) {
        self.reconnect.set(true);
        self.ask();
    }
}

/// The probe of one host.
pub(super) struct Probe {
    pub(super) host: HostId,
    pub(super) address: HostAddress,
    pub(super) rein: Rc<Rein>,
    pub(super) common: Rc<Common>,
}

/// A connection, and what was said on it last.
struct Kept {
    server: ServerConnection,
    before: Answer,
    begun: Moment,
}

/// Why there is no answer.
struct Failure {
    outcome: Outcome,
    words: String,
}

impl Probe {
    /// Asks until it is aborted.
    pub(super) async fn run(self) {
        let mut connection: Option<Kept> = None;
        let mut last: Option<Instant> = None;
        let mut due = Instant::now();
        loop {
            let stirred = tokio::select! {
                () = tokio::time::sleep_until(due) => false,
                () = self.rein.wake.notified() => false,
                () = stirs(&mut connection) => true,
            };
            if let Some(last) = last {
                tokio::time::sleep_until(last + self.rein.gap.take().max(LEAST_GAP)).await;
            }
            let now = Instant::now();
            last = Some(now);
            if self.rein.reconnect.take()
                && let Some(connection) = connection.take()
            {
                connection.server.close();
            }
            // However often the position is asked for, everything is asked in its time.
            let everything = self.rein.everything.take() || stirred || now >= due;
            if everything {
                due = now + self.jittered(self.rein.pace.get());
            }
            let report = self.ask(&mut connection, everything).await;
            if self.common.reports.send(report).is_err() {
                return;
            }
        }
    }

    /// A little more or less each time, so that the probes of many poolers do not fall into step.
    fn jittered(&self, pace: Duration) -> Duration {
        let jitter = self.common.health.borrow().jitter;
        pace.mul_f64((1.0 + jitter * (rand::random::<f64>() * 2.0 - 1.0)).max(0.0))
    }

    /// One question, with a second try on a new connection where the old one broke: that one connection ended does not
    /// mean that the server did.
    async fn ask(&self, kept: &mut Option<Kept>, everything: bool) -> Report {
        let timeout = self.common.health.borrow().timeout;
        if let Some(Kept { mut server, before, begun }) = kept.take() {
            let asked = Moment::now();
            let before = (!everything).then_some(&before);
            match tokio::time::timeout(timeout, question(&mut server, before)).await {
                Ok(Ok(answer)) => {
                    *kept = Some(Kept { server, before: answer, begun });
                    return self.report(asked, begun, Outcome::Answered(answer), None);
                }
                Ok(Err(_)) => server.close(),
                Err(_) => {
                    server.close();
                    let words = format!("no answer within {timeout:?}");
                    return self.report(asked, begun, Outcome::Failed(DownReason::Silent), Some(words));
                }
            }
        }
        let begun = Moment::now();
        let mut asked = begun;
        let attempt = async {
            let mut server = self.connect(timeout).await?;
            asked = Moment::now();
            let answer = question(&mut server, None).await?;
            Ok::<_, Failure>((server, answer))
        };
        match tokio::time::timeout(timeout, attempt).await {
            Ok(Ok((server, answer))) => {
                *kept = Some(Kept { server, before: answer, begun });
                self.report(asked, begun, Outcome::Answered(answer), None)
            }
            Ok(Err(Failure { outcome, words })) => self.report(asked, begun, outcome, Some(words)),
            Err(_) => {
                let words = format!("no answer within {timeout:?}");
                self.report(asked, begun, Outcome::Failed(DownReason::Silent), Some(words))
            }
        }
    }

    fn report(&self, asked: Moment, begun: Moment, outcome: Outcome, words: Option<String>) -> Report {
        let begun = (!matches!(outcome, Outcome::Failed(_))).then_some(begun);
        Report { seen: Observation { host: self.host, asked, heard: Moment::now(), outcome }, begun, words }
    }

    /// Logs in with the first credentials that will do, and moves them to the front.
    async fn connect(&self, timeout: Duration) -> Result<ServerConnection, Failure> {
        let plans = self.common.plans.borrow().clone();
        let mut last =
            Failure { outcome: Outcome::Mute, words: "there is nothing to log in with yet".to_owned() };
        for (number, mut plan) in plans.into_iter().enumerate() {
            plan.hosts = vec![self.address.clone()];
            plan.order = HostOrder::InOrder;
            plan.target = Target::Any;
            plan.preferred = Arc::new(AtomicUsize::new(0));
            plan.timeout = timeout;
            match dial::dial(&plan, &self.common.local, 0).await {
                Ok(connection) => {
                    if number > 0 {
                        self.prefer(number);
                    }
                    return Ok(connection);
                }
                Err(error) => {
                    last = failure(&error);
                    if last.outcome != Outcome::Mute {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    fn prefer(&self, number: usize) {
        let mut plans = self.common.plans.borrow_mut();
        if let Some(part) = plans.get_mut(..=number) {
            part.rotate_right(1);
        }
    }
}

/// Waits until something arrives on the connection, most likely its end.
async fn stirs(connection: &mut Option<Kept>) {
    match connection {
        Some(kept) => {
            let _ = std::future::poll_fn(|cx| kept.server.stream.poll_readable(cx)).await;
        }
        None => std::future::pending().await,
    }
}

/// Asks only for the position, if it is known what the host said `before`.
async fn question(connection: &mut ServerConnection, before: Option<&Answer>) -> Result<Answer, Failure> {
    if let Some(before) = before {
        let answer = simple_query(connection, question::POSITION).await;
        let answer = answer.map_err(|error| failure(&DialError::Exchange(error)))?;
        if let Some(answer) = question::read_position(&answer.rows, before) {
            return Ok(answer);
        }
    }
    match simple_query(connection, question::EVERYTHING).await {
        Ok(answer) => question::read(&answer.rows).ok_or_else(|| Failure {
            outcome: Outcome::Failed(DownReason::Garbled),
            words: "the answer is not what was asked for".to_owned(),
        }),
        Err(error) => Err(failure(&DialError::Exchange(error))),
    }
}

/// What an error says about the host.
fn failure(error: &DialError) -> Failure {
    let outcome = match error {
        DialError::Timeout(_) => Outcome::Failed(DownReason::Silent),
        DialError::Connect { .. } => Outcome::Failed(DownReason::Unreachable),
        DialError::Exchange(ExchangeError::Lost(_)) => Outcome::Failed(DownReason::Lost),
        DialError::Exchange(ExchangeError::Refused(body) | ExchangeError::Ended(body)) => refused(body),
        // Something lives there; what is wrong is between it and our settings.
        DialError::NoTls | DialError::Tls(_) | DialError::Login(_) => Outcome::Mute,
        DialError::Exchange(_) | DialError::Protocol(_) | DialError::NoPrimary => {
            Outcome::Failed(DownReason::Garbled)
        }
    };
    Failure { outcome, words: dial::explain(error) }
}

/// What a server's refusal says about it. One that has no place for us, or does not like our password, lives.
fn refused(body: &[u8]) -> Outcome {
    let fields = error_fields(body);
    match fields.sqlstate {
        // The same SQLSTATE says that it starts and that it stops. Only the words tell them apart, if they are English;
        // it makes a difference to who reads the log.
        b"57P03" if fields.message.windows(4).any(|word| word == b"shut") => {
            Outcome::Failed(DownReason::ShuttingDown)
        }
        b"57P03" => Outcome::Failed(DownReason::StartingUp),
        b"57P01" | b"57P02" => Outcome::Failed(DownReason::ShuttingDown),
        _ => Outcome::Mute,
    }
}
