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
    pub(super) words: Option<String>,
}

/// What the cluster tells one of its probes.
#[derive(Debug, Default)]
pub(super) struct Rein {
    wake: Notify,
    pace: Cell<Duration>,
    gap: Cell<Duration>,
    reconnect: Cell<bool>,
}

impl Rein {
    /// Ask now.
    pub(super) fn ask(&self) {
        self.ask_after(Duration::ZERO);
    }

    /// Ask as soon as this long has passed since the last question.
    pub(super) fn ask_after(&self, gap: Duration) {
        self.gap.set(gap);
        self.wake.notify_one();
    }

    /// Ask this often from now on; at once, if that is more often than before.
    pub(super) fn set_pace(&self, pace: Duration) {
        let before = self.pace.replace(pace);
        if pace < before {
            self.wake.notify_one();
        }
    }

    /// Log in anew at the next question: the address leads elsewhere, or the credentials have changed.
    pub(super) fn reconnect(&self) {
        self.reconnect.set(true);
        self.wake.notify_one();
    }
}

/// The probe of one host.
pub(super) struct Probe {
    pub(super) host: HostId,
    pub(super) address: HostAddress,
    pub(super) rein: Rc<Rein>,
    pub(super) common: Rc<Common>,
}

/// Why there is no answer.
struct Failure {
    outcome: Outcome,
    words: String,
}

impl Probe {
    /// Asks until it is aborted.
    pub(super) async fn run(self) {
        let mut connection: Option<ServerConnection> = None;
        let mut last = Instant::now();
        let mut first = true;
        loop {
            if !first {
                let due = last + self.jittered(self.rein.pace.get());
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.rein.wake.notified() => {}
                    () = stirs(&mut connection) => {}
                }
                tokio::time::sleep_until(last + self.rein.gap.take().max(LEAST_GAP)).await;
            }
            first = false;
            last = Instant::now();
            if self.rein.reconnect.take()
                && let Some(connection) = connection.take()
            {
                connection.close();
            }
            let report = self.ask(&mut connection).await;
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
    async fn ask(&self, kept: &mut Option<ServerConnection>) -> Report {
        let timeout = self.common.health.borrow().timeout;
        if let Some(mut connection) = kept.take() {
            let asked = Moment::now();
            match tokio::time::timeout(timeout, question(&mut connection)).await {
                Ok(Ok(answer)) => {
                    *kept = Some(connection);
                    return self.report(asked, Outcome::Answered(answer), None);
                }
                Ok(Err(_)) => connection.close(),
                Err(_) => {
                    connection.close();
                    let words = format!("no answer within {timeout:?}");
                    return self.report(asked, Outcome::Failed(DownReason::Silent), Some(words));
                }
            }
        }
        let mut asked = Moment::now();
        let attempt = async {
            let mut connection = self.connect(timeout).await?;
            asked = Moment::now();
            let answer = question(&mut connection).await?;
            Ok::<_, Failure>((connection, answer))
        };
        match tokio::time::timeout(timeout, attempt).await {
            Ok(Ok((connection, answer))) => {
                *kept = Some(connection);
                self.report(asked, Outcome::Answered(answer), None)
            }
            Ok(Err(Failure { outcome, words })) => self.report(asked, outcome, Some(words)),
            Err(_) => {
                let words = format!("no answer within {timeout:?}");
                self.report(asked, Outcome::Failed(DownReason::Silent), Some(words))
            }
        }
    }

    fn report(&self, asked: Moment, outcome: Outcome, words: Option<String>) -> Report {
        Report { seen: Observation { host: self.host, asked, heard: Moment::now(), outcome }, words }
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
async fn stirs(connection: &mut Option<ServerConnection>) {
    match connection {
        Some(connection) => {
            let _ = std::future::poll_fn(|cx| connection.stream.poll_readable(cx)).await;
        }
        None => std::future::pending().await,
    }
}

async fn question(connection: &mut ServerConnection) -> Result<Answer, Failure> {
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
        DialError::Exchange(ExchangeError::Refused(body)) => refused(body),
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
        // While a server starts it says so in its own language, and the word for both is the same SQLSTATE. What
        // follows a start is an answer, and what follows a shutdown is the end of the connection.
        b"57P03" => Outcome::Failed(DownReason::StartingUp),
        b"57P01" | b"57P02" => Outcome::Failed(DownReason::ShuttingDown),
        _ => Outcome::Mute,
    }
}
