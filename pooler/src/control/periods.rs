//! Averages over the last whole period. Pure.

use hawser_admin::door::facts::{Stats, Totals};
use std::collections::BTreeMap;
use std::time::Instant;

/// Counters of each database at the end of the last period, and the averages of that.
#[derive(Debug)]
pub(super) struct Periods {
    ended: Instant,
    last: BTreeMap<String, Totals>,
    averages: BTreeMap<String, Totals>,
}

impl Periods {
    pub(super) fn new(now: Instant) -> Self {
        Self { ended: now, last: BTreeMap::new(), averages: BTreeMap::new() }
    }

    /// A period ends with these counters.
    pub(super) fn end(&mut self, totals: BTreeMap<String, Totals>, now: Instant) {
        let period = now.duration_since(self.ended);
        let average = |(database, totals): (&String, &Totals)| {
            let before = self.last.get(database).copied().unwrap_or_default();
            (database.clone(), totals.since(&before).averages(period))
        };
        self.averages = totals.iter().map(average).collect();
        self.last = totals;
        self.ended = now;
    }

    /// These counters with the averages of the last period.
    pub(super) fn stats(&self, totals: BTreeMap<String, Totals>) -> Vec<Stats> {
        let stats = |(database, totals): (String, Totals)| {
            let averages = self.averages.get(&database).copied().unwrap_or_default();
            Stats { database, totals, averages }
        };
        totals.into_iter().map(stats).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn totals(transactions: u64) -> BTreeMap<String, Totals> {
        [("app".to_owned(), Totals { transactions, ..Totals::default() })].into()
    }

    #[test]
    fn an_average_is_of_the_last_period_alone() {
        let start = Instant::now();
        let mut periods = Periods::new(start);
        assert_eq!(periods.stats(totals(5))[0].averages, Totals::default());
        periods.end(totals(600), start + Duration::from_secs(60));
        periods.end(totals(1800), start + Duration::from_secs(120));
        let stats = &periods.stats(totals(1805))[0];
        assert_eq!((stats.totals.transactions, stats.averages.transactions), (1805, 20));
    }
}
